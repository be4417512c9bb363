"""What came from what: code, environment, decisions."""

from app.foundation.lineage.code_diff import require_committed
from app.foundation.lineage.decisions import record_decision
from app.foundation.lineage.hardware import hardware
from app.foundation.lineage.provenance import provenance

__all__ = ["hardware", "provenance", "record_decision", "require_committed"]
