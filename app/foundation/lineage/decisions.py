"""The audit trail: every decision with its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from app.foundation.state import StateDatabase
from app.foundation.state import models as m


def record_decision(
    database: StateDatabase,
    *,
    actor: str,
    subject: str,
    decision: str,
    reason: str,
    event_at: datetime | None = None,
    run_id: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Writes one decision. `event_at`: the moment of the data it was about."""
    with database.session() as session:
        session.add(
            m.Decision(
                at=datetime.now(UTC),
                event_at=event_at,
                run_id=run_id,
                actor=actor,
                subject=subject,
                decision=decision,
                reason=reason,
                detail=detail or {},
            )
        )


def decisions_of(database: StateDatabase, run_id: str) -> list[m.Decision]:
    """All decisions of a run, oldest first."""
    with database.session() as session:
        return list(session.scalars(select(m.Decision).where(m.Decision.run_id == run_id).order_by(m.Decision.id)))
