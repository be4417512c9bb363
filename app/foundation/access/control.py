"""Checks one principal against the project's access policy and writes denials to the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.errors import AccessDeniedError
from app.foundation.access.roles import allows, decide_access, short_form
from app.foundation.lineage import record_decision
from app.foundation.state import StateDatabase
from app.spec.policies import AccessAction, AccessPolicy

VERBS: dict[AccessAction, str] = {
    "apply": "change the definition of",
    "materialize": "materialise",
    "read": "read",
    "read_pii": "read personal data of",
    "push": "push rows to",
    "delete": "delete",
}


class AccessControl:
    """What `principal` may do. The audit trail gets names of views and fields, never values."""

    def __init__(self, policy: AccessPolicy, principal: str, database: StateDatabase, project: str) -> None:
        self._policy = policy
        self.principal = principal
        self._database = database
        self._project = project

    def allows(self, action: AccessAction, *, view: str | None = None, tags: Mapping[str, str] | None = None) -> bool:
        """Whether the policy allows it; asking is no denial."""
        return decide_access(self._policy, self.principal, action, view, tags or {})

    def require(
        self, action: AccessAction, subject: str, *, view: str | None = None,
        tags: Mapping[str, str] | None = None, fields: Sequence[str] = (),
    ) -> None:
        """Passes when the policy allows it.

        Args:
            action: what is to be done.
            subject: to what, in words.
            view: its name when it is a view.
            tags: its tags.
            fields: which of its fields.

        Raises:
            AccessDeniedError: denied; the denial is in the audit trail.
        """
        if self.allows(action, view=view, tags=tags):
            return
        roles = [role.name for role in self._policy.roles if allows(role, action, view, tags or {})]
        named = [*short_form(self._policy, action), *(f"role {name}" for name in roles)]
        reason = f"the right {action!r} here is with {', '.join(named) or 'nobody'}"
        record_decision(
            self._database, actor=self.principal, subject=subject, decision="denied", reason=reason,
            detail={"project": self._project, "action": action, "view": view, "fields": list(fields)},
        )
        which = f" (field {', '.join(fields)})" if fields else ""
        raise AccessDeniedError(
            f"{self.principal!r} may not {VERBS[action]} {subject}{which}: {reason}. Ask the project's owner for a "
            "role in Project(access=AccessPolicy(…)).",
            principal=self.principal, action=action, view=view, fields=list(fields),
        )
