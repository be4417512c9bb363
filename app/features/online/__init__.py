"""Online stores: the newest values of each entity, found by its key."""

from app.features.online.base import LatestRow, OnlineStore, WindowAnswer, WindowRow, WindowSpec
from app.features.online.sqlite import SqliteOnlineStore

__all__ = ["LatestRow", "OnlineStore", "SqliteOnlineStore", "WindowAnswer", "WindowRow", "WindowSpec", "open_store"]


def open_store(url: str) -> OnlineStore:
    """The store behind a URL.

    Raises:
        SettingsError: a kind of URL that is not supported.
    """
    return SqliteOnlineStore.open(url)
