"""What is said when an online store was filled by a release that keeps features in another way."""

from __future__ import annotations

from app.errors import StoreUnavailableError
from app.features.online.base import LAYOUT


def other_layout(name: str, found: object) -> StoreUnavailableError:
    """The error for a store with another layout than this release's."""
    return StoreUnavailableError(
        f"the online store {name} was filled in layout {found}; this release keeps features in layout {LAYOUT} and can "
        "neither read nor change it. Let MILLRACE_ONLINE_URL name an empty store, run `millrace features load-online` "
        "(it brings back what the views' tables hold), then delete the old store.",
        store=name, found=found, expected=LAYOUT,
    )
