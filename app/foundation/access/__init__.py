"""Who may do what, and what is kept out of sight."""

from app.foundation.access.authenticator import Authenticator, require_scope
from app.foundation.access.control import AccessControl
from app.foundation.access.redaction import redact
from app.foundation.access.roles import decide_access
from app.foundation.access.tokens import Grant, TokenRecord, TokenRegistry, headers_for_a_while

__all__ = [
    "AccessControl", "Authenticator", "Grant", "TokenRecord", "TokenRegistry", "decide_access",
    "headers_for_a_while", "redact", "require_scope",
]
