"""What Ray around this process was started with, of the proxy's settings."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private import constants

from app.serving.haproxy import IN_FORCE


def started_with() -> dict[str, str]:
    """The variables of `IN_FORCE` as Ray read them here: switches as 0 or 1, of the wrapper's path the name."""
    return {name: _as_text(getattr(constants, name)) for name in IN_FORCE}


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else Path(str(value)).name
