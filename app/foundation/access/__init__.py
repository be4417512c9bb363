"""Who may do what, and what is kept out of sight."""

from app.foundation.access.control import AccessControl
from app.foundation.access.redaction import redact
from app.foundation.access.roles import decide_access

__all__ = ["AccessControl", "decide_access", "redact"]
