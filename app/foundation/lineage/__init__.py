"""What came from what: code, environment, decisions."""

from app.foundation.lineage.decisions import record_decision
from app.foundation.lineage.provenance import provenance

__all__ = ["provenance", "record_decision"]
