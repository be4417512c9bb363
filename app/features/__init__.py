"""The feature store. `from app.features import FeatureStore`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.features.store import FeatureStore

__all__ = ["FeatureStore"]


def __getattr__(name: str) -> Any:
    """Loads the store when it is asked for, so that a pure module of the package costs no Ray."""
    if name == "FeatureStore":
        from app.features.store import FeatureStore

        return FeatureStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
