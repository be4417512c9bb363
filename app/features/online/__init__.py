"""Online stores: the newest values of each entity, found by its key."""

from app.errors import SettingsError
from app.features.online.base import Batch, LatestBatch, LatestRow, OnlineStore, WindowBatch
from app.features.online.cache import CachedOnlineStore, CacheUse
from app.features.online.redis import RedisOnlineStore
from app.features.online.sqlite import SqliteOnlineStore

__all__ = [
    "Batch", "CacheUse", "CachedOnlineStore", "LatestBatch", "LatestRow", "OnlineStore", "RedisOnlineStore",
    "SqliteOnlineStore", "WindowBatch", "cache_use", "open_store",
]


def open_store(url: str, cache_s: float = 0.0, cache_entries: int = 100_000) -> OnlineStore:
    """The store behind a URL: `sqlite:///path` on one host, `redis://host:port/number` shared by many.

    Args:
        url: where it is.
        cache_s: how old a state may be that is answered from this process's memory; 0: none is.
        cache_entries: states kept in memory.

    Raises:
        SettingsError: a kind of URL that is not supported.
        StoreUnavailableError: the file cannot be opened; a server is first asked when it is used.
    """
    store = _store(url)
    return CachedOnlineStore(store, cache_s, cache_entries) if cache_s > 0 else store


def cache_use(store: OnlineStore) -> CacheUse | None:
    """How the store's cache did; `None` where there is none."""
    return store.use if isinstance(store, CachedOnlineStore) else None


def _store(url: str) -> OnlineStore:
    if url.startswith("sqlite:///"):
        return SqliteOnlineStore.open(url)
    if url.startswith(("redis://", "rediss://", "unix://")):
        return RedisOnlineStore(url)
    kind = url.split(":", 1)[0]
    raise SettingsError(
        f"MILLRACE_ONLINE_URL is of the kind {kind!r}; expected sqlite:///path/of/online.db or redis://host:port/0.",
        variable="MILLRACE_ONLINE_URL",
    )
