"""Online stores: the newest values of each entity, found by its key."""

from app.errors import SettingsError
from app.features.online.base import Batch, LatestBatch, LatestRow, OnlineStore, WindowBatch
from app.features.online.redis import RedisOnlineStore
from app.features.online.sqlite import SqliteOnlineStore

__all__ = [
    "Batch", "LatestBatch", "LatestRow", "OnlineStore", "RedisOnlineStore", "SqliteOnlineStore", "WindowBatch",
    "open_store",
]


def open_store(url: str) -> OnlineStore:
    """The store behind a URL: `sqlite:///path` on one host, `redis://host:port/number` shared by many.

    Raises:
        SettingsError: a kind of URL that is not supported.
        StoreUnavailableError: the file cannot be opened; a server is first asked when it is used.
    """
    if url.startswith("sqlite:///"):
        return SqliteOnlineStore.open(url)
    if url.startswith(("redis://", "rediss://", "unix://")):
        return RedisOnlineStore(url)
    kind = url.split(":", 1)[0]
    raise SettingsError(
        f"MILLRACE_ONLINE_URL is of the kind {kind!r}; expected sqlite:///path/of/online.db or redis://host:port/0.",
        variable="MILLRACE_ONLINE_URL",
    )
