"""Online stores: the newest values of each entity, found by its key."""

from app.features.online.base import Batch, LatestBatch, LatestRow, OnlineStore, WindowBatch
from app.features.online.sqlite import SqliteOnlineStore

__all__ = ["Batch", "LatestBatch", "LatestRow", "OnlineStore", "SqliteOnlineStore", "WindowBatch", "open_store"]


def open_store(url: str) -> OnlineStore:
    """The store behind a URL.

    Raises:
        SettingsError: a kind of URL that is not supported.
        StoreUnavailableError: the store cannot be reached.
    """
    return SqliteOnlineStore.open(url)
