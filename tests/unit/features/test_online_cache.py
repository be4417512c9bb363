"""Reads from memory: never older than stated, never after an own write, never more than the bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.features.online import LatestBatch, LatestRow, OnlineStore, open_store
from app.features.online.cache import CachedOnlineStore
from app.features.online.latest_state import newest
from app.settings import load_settings


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def behind(tmp_path: Path) -> OnlineStore:
    return open_store(f"sqlite:///{tmp_path}/online.db")


@pytest.fixture
def cached(behind: OnlineStore, clock: Clock) -> CachedOnlineStore:
    return CachedOnlineStore(behind, staleness_s=10.0, max_entries=3, now=clock)


def put(store: OnlineStore, key: str, event: int, replace: bool = False) -> None:
    store.put([LatestBatch("t", [LatestRow(key, event, event, 0, f"r{event}", str(event))])], replace=replace)


def values(store: OnlineStore, *keys: str) -> list[str | None]:
    (states,) = store.states([("t", keys)])
    found = [None if state is None else newest(state, 1_000) for state in states]
    return [None if row is None else row[1].decode() for row in found]


def test_what_others_write_is_seen_after_the_stated_time(
    cached: CachedOnlineStore, behind: OnlineStore, clock: Clock
) -> None:
    put(behind, "k", 1)
    assert values(cached, "k", "unknown") == ["1", None]
    put(behind, "k", 2)
    put(behind, "unknown", 2)
    clock.now = 9.9
    assert values(cached, "k", "unknown") == ["1", None]
    clock.now = 10.0
    assert values(cached, "k", "unknown") == ["2", "2"]
    assert (cached.use.hits, cached.use.misses, cached.use.hit_rate) == (2, 4, 2 / 6)


def test_own_writes_are_seen_at_once(cached: CachedOnlineStore) -> None:
    put(cached, "k", 1)
    put(cached, "m", 1)
    assert values(cached, "k", "m") == ["1", "1"]
    put(cached, "k", 2)
    assert values(cached, "k", "m") == ["2", "1"]
    assert cached.use.hits == 1
    put(cached, "k", 3, replace=True)
    assert values(cached, "k", "m") == ["3", None]
    cached.clear("t")
    assert values(cached, "k") == [None]


def test_a_write_during_a_read_is_not_hidden_by_it(cached: CachedOnlineStore, behind: OnlineStore) -> None:
    put(behind, "k", 1)
    read = behind.states

    def slow(asks):
        found = read(asks)
        put(cached, "k", 2)
        return found

    behind.states = slow  # type: ignore[method-assign]
    assert values(cached, "k") == ["1"]
    behind.states = read  # type: ignore[method-assign]
    assert values(cached, "k") == ["2"]


def test_memory_is_bounded_and_keeps_what_is_read(cached: CachedOnlineStore) -> None:
    for key in "abc":
        values(cached, key)
    values(cached, "a")
    values(cached, "d")
    assert cached.use.entries == 3
    before = cached.use.hits
    values(cached, "a", "c", "d")
    assert cached.use.hits - before == 3


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    home = {"MILLRACE_HOME": str(tmp_path)}
    settings = load_settings(home)
    assert not isinstance(open_store(settings.online_url, settings.online_cache_s), CachedOnlineStore)
    settings = load_settings({**home, "MILLRACE_ONLINE_CACHE_S": "2.5", "MILLRACE_ONLINE_CACHE_ENTRIES": "7"})
    assert (settings.online_cache_s, settings.online_cache_entries) == (2.5, 7)
    for wrong in ("-1", "soon", "nan", "inf"):
        with pytest.raises(SettingsError, match="MILLRACE_ONLINE_CACHE_S"):
            load_settings({**home, "MILLRACE_ONLINE_CACHE_S": wrong})
