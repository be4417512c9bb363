"""Checks a principal against the project's access policy and writes denials to the audit trail."""

from __future__ import annotations

from typing import Literal

from app.errors import FeatureStoreError
from app.foundation.lineage import record_decision
from app.foundation.state import StateDatabase
from app.spec.policies import AccessPolicy

Action = Literal["read_pii", "write"]


def require_role(policy: AccessPolicy, principal: str, action: Action, subject: str, database: StateDatabase) -> None:
    """Passes when the policy lets `principal` do `action`, or names nobody for it.

    Raises:
        FeatureStoreError: denied; the denial is in the audit trail.
    """
    allowed = policy.pii_readers if action == "read_pii" else policy.writers
    if not allowed or principal in allowed:
        return
    reason = f"{action} is for {', '.join(allowed)}"
    record_decision(database, actor=principal, subject=subject, decision="denied", reason=reason)
    raise FeatureStoreError(
        f"{principal!r} may not {action.replace('_', ' ')} {subject!r}: {reason}.", principal=principal, action=action
    )
