"""What every online store keeps: order and repetition of writes do not matter; answers are those of a moment."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from app.errors import SettingsError
from app.features.online import LatestRow, OnlineStore, WindowRow, WindowSpec, open_store
from app.features.online.base import LATEST_KEPT, SLACK_US
from app.features.windows import window_features
from app.spec.features import Aggregation

US = timedelta(microseconds=1)
SPEC = WindowSpec(("x",), (10, 50), (40 + 2 * 10 + SLACK_US, 100 + 2 * 50 + SLACK_US))
AGGREGATIONS = [Aggregation("x", "sum", 40 * US, 10 * US), Aggregation("x", "last", 100 * US, 50 * US)]


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStore:
    return open_store(f"sqlite:///{tmp_path}/online.db")


def latest(key: str, event: int, available: int, created: int, values: str, row_key: str = "r") -> LatestRow:
    return LatestRow(key, event, available, created, row_key, values)


def window_row(key: str, at: int, x: float, row_key: str, created: int = 0) -> WindowRow:
    return WindowRow(key, at, at, created, row_key, np.array([x]).tobytes())


def asked(store: OnlineStore, keys: list[str], at: int) -> dict[str, list[float]]:
    answer = store.get_windows("t", keys, at, SPEC)
    values = window_features(AGGREGATIONS, np.arange(len(keys)), np.full(len(keys), at), answer.tiles_and_heads)
    return {name: column.tolist() for name, column in values.items()}


def test_an_older_event_never_replaces_a_newer(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", 20, 20, 1, "new")])
    store.put_latest("t", [latest("k", 10, 30, 2, "old")])
    assert store.get_latest("t", ["k"], 100)["k"].values == "new"


def test_a_correction_wins_and_a_late_copy_of_what_it_corrected_does_not(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", 20, 20, 5, "corrected")])
    store.put_latest("t", [latest("k", 20, 20, 3, "first")])
    assert store.get_latest("t", ["k"], 100)["k"].values == "corrected"


def test_only_what_was_known_answers(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", 10, 10, 1, "a"), latest("k", 20, 25, 1, "b"), latest("k", 90, 20, 1, "future")])
    assert {at: [r.values for r in store.get_latest("t", ["k"], at).values()] for at in (5, 24, 25, 90)} == {
        5: [],
        24: ["a"],
        25: ["b"],
        90: ["future"],
    }


def test_keys_and_tables_do_not_mix(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", 1, 1, 1, "t")])
    store.put_latest("u", [latest("k", 1, 1, 1, "u")])
    store.clear("u")
    assert list(store.get_latest("t", ["k", "missing"], 9)) == ["k"]
    assert store.get_latest("u", ["k"], 9) == {}


def test_history_of_a_key_is_bounded(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", n, n, 1, str(n)) for n in range(100)])
    assert store.get_latest("t", ["k"], 99 - LATEST_KEPT) == {}
    assert store.get_latest("t", ["k"], 100 - LATEST_KEPT)["k"].values == str(100 - LATEST_KEPT)


def test_windows_in_any_order_and_twice(store: OnlineStore) -> None:
    rows = [window_row("k", at, 0.1 * at, f"r{at}") for at in (3, 11, 12, 38, 60, 61, 100)]
    expected = None
    for order in (rows, rows[::-1], rows[::2] + rows, [*rows, rows[0]]):
        store.clear("t")
        for row in order:
            store.put_windows("t", [row], SPEC)
        found = [asked(store, ["k", "nobody"], at) for at in (12, 60, 61, 99, 100, 5_000)]
        expected = expected or found
        assert str(found) == str(expected)
    assert expected is not None
    assert expected[2]["x_sum_0d"][0] == 0.1 * 38 + (0.1 * 60) + (0.1 * 61)


def test_a_moment_before_the_newest_row_sees_only_its_past(store: OnlineStore) -> None:
    store.put_windows("t", [window_row("k", at, 1.0, f"r{at}") for at in (51, 55, 59, 70)], SPEC)
    assert [asked(store, ["k"], at)["x_sum_0d"][0] for at in (50, 51, 55, 58, 59, 70)][1:] == [1, 2, 2, 3, 4]


def test_a_corrected_row_moves_between_tiles_and_keys(store: OnlineStore) -> None:
    store.put_windows("t", [window_row("k", 15, 1.0, "r", created=1), window_row("k", 16, 2.0, "s", created=1)], SPEC)
    store.put_windows("t", [window_row("m", 25, 7.0, "r", created=2)], SPEC)
    store.put_windows("t", [window_row("k", 15, 1.0, "r", created=1)], SPEC)
    assert asked(store, ["k", "m"], 30)["x_sum_0d"] == [2.0, 7.0]


def test_what_no_window_reaches_is_forgotten(store: OnlineStore) -> None:
    store.put_windows("t", [window_row("k", 15, 1.0, "r")], SPEC)
    store.put_windows("t", [window_row("k", 15 + SPEC.keep_us + 100, 1.0, "s")], SPEC)
    answer = store.get_windows("t", ["k"], 15 + SPEC.keep_us + 100, SPEC)
    assert len(answer.tiles_and_heads("x", 10)[0].index) == 1


def test_a_pickled_copy_sees_the_same(store: OnlineStore) -> None:
    store.put_latest("t", [latest("k", 1, 1, 1, "a")])
    assert pickle.loads(pickle.dumps(store)).get_latest("t", ["k"], 1)["k"].values == "a"


def test_other_urls_are_refused() -> None:
    with pytest.raises(SettingsError, match="expected sqlite:///"):
        open_store("redis://localhost")
