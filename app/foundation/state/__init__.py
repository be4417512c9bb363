"""Control state: rollouts, loop runs, registry, audit."""

from app.foundation.state import registry_models as registry_models  # its tables belong to the schema
from app.foundation.state.database import StateDatabase

__all__ = ["StateDatabase"]
