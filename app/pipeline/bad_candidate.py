"""A deliberately bad version, to prove on every run that the analysis aborts one.

It learned the opposite of the truth, loads and answers as any other: only what it answers is wrong. The gates would
refuse it, so it is registered past them, and the audit trail says so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np

from app.foundation.lineage import record_decision
from app.models.registry import LoggedRun
from app.pipeline.fit import first_training_rows
from app.pipeline.session import Session
from app.training.train import train

ROWS = 20_000


def register_bad_candidate(session: Session, at: datetime) -> str:
    """Trains the baseline's estimator on reversed labels and gives its version."""
    rows = first_training_rows(session)
    frame = rows.frame.tail(ROWS).reset_index(drop=True)
    label = frame["label"].to_numpy(dtype=np.float64)
    reversed_rows = replace(rows, frame=frame.assign(label=label.min() + label.max() - label))
    trained = train(session.project, session.project.baseline, reversed_rows, session.settings, f"{session.run_id}-bad")
    version = session.registry.register(
        session.project.name,
        trained.folder,
        LoggedRun(
            params=trained.config,
            tags={"run_id": session.run_id, "purpose": "deliberately bad: reversed labels", "gates_passed": "skipped"},
            record=session.provenance,
        ),
    )
    record_decision(
        session.database,
        actor="loop",
        subject=session.project.name,
        decision="roll out past the gates",
        reason="a deliberately bad version, to prove that the analysis aborts it",
        event_at=at,
        run_id=session.run_id,
        detail={"version": version},
    )
    return version
