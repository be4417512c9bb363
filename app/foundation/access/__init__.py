"""Who may do what, and what is kept out of sight."""

from app.foundation.access.redaction import redact
from app.foundation.access.roles import Action, require_role

__all__ = ["Action", "redact", "require_role"]
