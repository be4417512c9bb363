"""Control state: rollouts, loop runs, registry, audit."""

from app.foundation.state.database import StateDatabase

__all__ = ["StateDatabase"]
