"""What every result file says of the code it was measured on."""

from __future__ import annotations

from typing import Any

from app.foundation.lineage import provenance


def code_state() -> dict[str, Any]:
    """Commit, lock and versions; of uncommitted changes only that there were some, not their text."""
    return {key: value for key, value in provenance().items() if key != "code_diff"}
