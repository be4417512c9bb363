"""What every online store keeps: order and repetition of writes do not matter; answers are those of a moment."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import SettingsError, StoreUnavailableError
from app.features.online import LatestBatch, LatestRow, OnlineStore, WindowBatch, open_store
from app.features.online.answers import window_values
from app.features.online.base import TOMBSTONE_US, Span
from app.features.online.folded_state import StateReader
from app.features.online.latest_state import FORECASTS_KEPT, LATEST_KEPT, newest
from app.features.online.sqlite import SqliteOnlineStore
from app.features.online.tiles import unpack_tiles
from app.features.window_layout import WindowLayout
from app.features.window_rows import row_columns
from app.spec.features import Aggregation
from tests.contract.redis_server import free_port

US = timedelta(microseconds=1)
AGGREGATIONS = (
    Aggregation("x", "sum", 40 * US, 10 * US), Aggregation("x", "last", 100 * US, 50 * US),
    Aggregation("x", "count", 60 * US, 20 * US), Aggregation("x", "max", 40 * US, 10 * US),
    Aggregation("x", "quantile", 60 * US, 20 * US, quantile=0.5), Aggregation("x", "distinct_count", 40 * US, 10 * US),
)
LAYOUT = WindowLayout.of(AGGREGATIONS)


@pytest.fixture(params=["sqlite", "redis", "cached sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStore:
    if request.param.endswith("sqlite"):
        return open_store(f"sqlite:///{tmp_path}/online.db", cache_s=60.0 if "cached" in request.param else 0.0)
    store = open_store(request.getfixturevalue("redis_url"))
    store.clear("t")
    store.clear("u")
    return store


def latest(
    key: str, event: int, available: int, created: int, values: str, row_key: str | None = None
) -> LatestRow:
    return LatestRow(key, event, available, created, f"r{event}" if row_key is None else row_key, values)


def put_latest(store: OnlineStore, *rows: LatestRow, table: str = "t") -> None:
    store.put([LatestBatch(table, rows)])


def known(store: OnlineStore, keys: Sequence[str], at: int, table: str = "t") -> dict[str, str]:
    """Values of the keys that have any at a moment."""
    (states,) = store.states([(table, keys)])
    found = {key: None if state is None else newest(state, at) for key, state in zip(keys, states, strict=True)}
    return {key: row[1].decode() for key, row in found.items() if row is not None}


Row = tuple[str, int, float, str, int]  # key, available, x, row key, created


def windows(*rows: Row, table: str = "t") -> WindowBatch:
    keys, available, x, row_keys, created = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    moments = np.array(available, dtype=np.int64)
    values = row_columns(LAYOUT, pl.DataFrame({"x": pl.Series(x, dtype=pl.Float64)})).words(LAYOUT)
    written = np.array(created, dtype=np.int64)
    return WindowBatch(table, LAYOUT, keys, row_keys, moments, moments, written, written, values)


def asked(store: OnlineStore, keys: list[str], at: int) -> dict[str, list[float]]:
    (states,) = store.states([("t", keys)])
    values = window_values(store, "t", StateReader(LAYOUT, states), AGGREGATIONS, keys, at)
    return {name: column.tolist() for name, column in values.items()}


SUM, LAST, COUNT = (aggregation.name for aggregation in AGGREGATIONS[:3])


def test_an_older_event_never_replaces_a_newer(store: OnlineStore) -> None:
    put_latest(store, latest("k", 20, 20, 1, "new"))
    put_latest(store, latest("k", 10, 30, 2, "old"))
    assert known(store, ["k"], 100) == {"k": "new"}


def test_a_correction_wins_and_a_late_copy_of_what_it_corrected_does_not(store: OnlineStore) -> None:
    put_latest(store, latest("k", 20, 20, 5, "corrected"))
    put_latest(store, latest("k", 20, 20, 3, "first"))
    assert known(store, ["k"], 100) == {"k": "corrected"}


def test_only_what_was_known_answers(store: OnlineStore) -> None:
    put_latest(store, latest("k", 10, 10, 1, "a"), latest("k", 20, 25, 1, "b"), latest("k", 90, 20, 1, "future"))
    assert [known(store, ["k"], at) for at in (5, 24, 25, 90)] == [{}, {"k": "a"}, {"k": "b"}, {"k": "future"}]


def test_several_tables_are_read_at_once_and_do_not_mix(store: OnlineStore) -> None:
    store.put([LatestBatch("t", [latest("k", 1, 1, 1, "t")]), LatestBatch("u", [latest("k", 1, 1, 1, "u")])])
    of_t, of_u, of_nothing = store.states([("t", ["missing", "k"]), ("u", ["k"]), ("v", ["k"])])
    assert of_t[0] is None and of_t[1] is not None and of_u[0] is not None and of_nothing == [None]
    store.clear("u")
    assert known(store, ["k", "missing"], 9) == {"k": "t"}
    assert known(store, ["k"], 9, "u") == {}


def test_a_table_is_replaced_whole(store: OnlineStore) -> None:
    put_latest(store, latest("k", 1, 1, 1, "old"), latest("m", 1, 1, 1, "old"))
    store.put([LatestBatch("t", [latest("k", 1, 1, 1, "new")])], replace=True)
    assert known(store, ["k", "m"], 9) == {"k": "new"}


def test_history_of_a_key_is_bounded(store: OnlineStore) -> None:
    put_latest(store, *(latest("k", n, n, n, str(n)) for n in range(100)))
    assert known(store, ["k"], 99 - LATEST_KEPT) == {}
    assert known(store, ["k"], 100 - LATEST_KEPT) == {"k": str(100 - LATEST_KEPT)}


def test_forecasts_do_not_push_out_what_holds_now(store: OnlineStore) -> None:
    put_latest(store, latest("k", 10, 10, 10, "now"))
    put_latest(store, *(latest("k", 11 + n, 10, 10, str(n)) for n in range(FORECASTS_KEPT + 5)))
    assert known(store, ["k"], 10) == {"k": "now"}
    assert known(store, ["k"], 13) == {"k": "2"}


@pytest.mark.parametrize("together", [True, False])
def test_rows_that_become_available_later_do_not_push_out_what_holds_now(store: OnlineStore, together: bool) -> None:
    put_latest(store, latest("k", 10, 10, 10, "now"))
    for n in range(LATEST_KEPT + 5):
        put_latest(store, latest("k", 11 + n, 500 if together else 500 + n, 20, str(n), f"r{n}"))
    assert known(store, ["k"], 21) == {"k": "now"}
    assert known(store, ["k"], 1_000) == {"k": str(LATEST_KEPT + 4)}


EVENT = st.one_of(st.just(TOMBSTONE_US), st.integers(0, 5))
MOMENTS = st.tuples(EVENT, st.integers(0, 9), st.integers(0, 2), st.integers(0, 2), st.sampled_from("abc"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MOMENTS, min_size=1, max_size=LATEST_KEPT), st.data())
def test_the_best_row_known_at_each_moment_answers(
    store: OnlineStore, moments: list[tuple[int, int, int, int, str]], data: st.DataObject
) -> None:
    """As in training: the version known last of each row; of rows the greatest event, then created, created at the
    source, row key. While nothing must be left out."""
    rows = [
        LatestRow("k", event, available, created, row_key, f"{event} {created} {source} {row_key}", source)
        for event, available, created, source, row_key in dict.fromkeys(moments)
    ]
    store.clear("t")
    for row in data.draw(st.permutations(rows)):
        put_latest(store, row)
    for at in range(11):
        known_by_then = sorted((r for r in rows if r.available_us <= at), key=version)
        of_rows = {r.row_key: r for r in known_by_then}.values()
        seen = [r for r in of_rows if TOMBSTONE_US < r.event_us <= at]
        assert known(store, ["k"], at) == ({"k": max(seen, key=rank).values} if seen else {})


def rank(row: LatestRow) -> tuple[int, int, int, str]:
    return row.event_us, row.created_us, row.source_created_us, row.row_key


def version(row: LatestRow) -> tuple[int, int, int, int]:
    return row.source_created_us, row.created_us, row.available_us, row.event_us


def test_a_correction_replaces_a_row_from_its_available_time_on(store: OnlineStore) -> None:
    """Whether it moves the row's event back or takes the row away; what was best before answers again."""
    put_latest(store, latest("k", 10, 10, 1, "before"), latest("k", 20, 20, 1, "wrong", "r"))
    put_latest(store, latest("k", 12, 30, 5, "moved", "r"))
    assert [known(store, ["k"], at)["k"] for at in (20, 29, 30)] == ["wrong", "wrong", "moved"]
    put_latest(store, latest("k", TOMBSTONE_US, 40, 6, "", "r"))
    put_latest(store, latest("k", 20, 20, 1, "wrong", "r"))
    assert [known(store, ["k"], at)["k"] for at in (29, 30, 39, 40)] == ["wrong", "moved", "moved", "before"]


def test_windows_in_any_order_and_twice(store: OnlineStore) -> None:
    rows = [("k", at, 0.1 * at, f"r{at}", 0) for at in (3, 11, 12, 38, 60, 61, 100)]
    expected = None
    for order in (rows, rows[::-1], rows[::2] + rows, [*rows, rows[0]]):
        store.clear("t")
        for row in order:
            store.put([windows(row)])
        found = [asked(store, ["k", "nobody"], at) for at in (12, 60, 61, 99, 100, 5_000)]
        expected = expected or found
        assert str(found) == str(expected)
    assert expected is not None
    assert expected[2][SUM][0] == 0.1 * 38 + (0.1 * 60) + (0.1 * 61)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["k", "m"]), st.integers(-30, 130), st.sampled_from([0.1, 0.2, -0.7, 1e9, np.nan]),
        st.sampled_from([f"r{i}" for i in range(12)]), st.integers(0, 3),
    ),
    min_size=1, max_size=14,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.lists(st.integers(1, 5), max_size=6), st.lists(st.integers(-40, 150), min_size=1, max_size=4))
def test_at_each_moment_the_versions_known_by_then_count(
    store: OnlineStore, rows: list[Row], sizes: list[int], moments: list[int]
) -> None:
    """Whatever is corrected, moved to another entity, late or repeated: bit for bit as if only what counts had come."""
    store.clear("t")
    rest = rows
    for size in [*sizes, len(rows)]:
        part, rest = rest[:size], rest[size:]
        store.put([windows(*part)])
    found = [asked(store, ["k", "m"], at) for at in moments]
    store.put([windows(*rows)], replace=True)
    assert str(found) == str([asked(store, ["k", "m"], at) for at in moments])
    for at, answers in zip(moments, found, strict=True):
        known_by_then = sorted((row for row in rows if row[1] <= at), key=lambda row: (row[4], row[1]))
        counts = {row[3]: row for row in known_by_then}  # of equal versions the one sent last
        store.clear("t")
        for row in sorted(counts.values(), key=lambda row: (row[1], row[3])):
            store.put([windows(row)])
        assert str(answers) == str(asked(store, ["k", "m"], at))


def test_a_correction_counts_from_its_available_time_on(store: OnlineStore) -> None:
    """As in training; until then the row that it corrects does, for another entity too."""
    store.put([windows(("k", 15, 1.0, "q", 1), ("k", 16, 2.0, "r", 1), ("m", 16, 7.0, "s", 1))])
    store.put([windows(("k", 30, 5.0, "r", 2), ("k", 30, 9.0, "s", 2))])
    assert [asked(store, ["k", "m"], at)[SUM] for at in (16, 29)] == [[3.0, 7.0]] * 2
    assert [asked(store, ["k", "m"], at)[COUNT] for at in (29, 30)] == [[2.0, 1.0], [3.0, 0.0]]
    assert asked(store, ["k"], 30)[SUM] == [15.0]


def test_a_moment_before_the_newest_row_sees_only_its_past(store: OnlineStore) -> None:
    store.put([windows(*(("k", at, 1.0, f"r{at}", 0) for at in (51, 55, 59, 70)))])
    assert [asked(store, ["k"], at)[SUM][0] for at in (50, 51, 55, 58, 59, 70)][1:] == [1, 2, 2, 3, 4]


def test_a_corrected_row_moves_between_tiles_and_keys(store: OnlineStore) -> None:
    store.put([windows(("k", 15, 1.0, "r", 1), ("k", 16, 2.0, "s", 1))])
    store.put([windows(("m", 25, 7.0, "r", 2))])
    store.put([windows(("k", 15, 1.0, "r", 1))])
    assert asked(store, ["k", "m"], 30)[SUM] == [2.0, 7.0]


def test_what_no_window_reaches_is_forgotten(store: OnlineStore) -> None:
    later = 15 + LAYOUT.keep_us + 10_000
    store.put([windows(("k", 15, 1.0, "r", 0))])
    store.put([windows(("k", later, 1.0, "s", 0))])
    tiles = unpack_tiles(LAYOUT, store.tiles("t", ["k"]))
    assert [len(of_hop.index) for of_hop in tiles] == [1, 1, 1]
    assert store.rows("t", [Span("k", 0, later)], LAYOUT.num_words).row_keys == ("s",)


def test_a_row_corrected_to_a_time_far_later_counts_once(store: OnlineStore) -> None:
    later = 15 + 2 * LAYOUT.keep_us
    store.put([windows(("k", 15, 5.0, "q", 1), ("k", 16, 1.0, "r", 1))])
    for created in (2, 3):
        store.put([windows(("k", later, 5.0, "q", created))])
        assert (asked(store, ["k"], later)[SUM], asked(store, ["k"], later)[COUNT]) == ([5.0], [1.0])


def test_texts_with_control_characters_are_keys_like_others(store: OnlineStore) -> None:
    keys = ["a", "a\0", "a\0b", "a\x01", "a\x010", "a\x011"]
    for _ in range(2):
        store.put([windows(*((key, 15 + n, float(n), key, 1) for n, key in enumerate(keys)))])
        store.put([LatestBatch("u", [latest(key, 1, 1, 1, str(n)) for n, key in enumerate(keys)])])
    assert asked(store, keys, 25)[SUM] == [float(n) for n in range(len(keys))]
    assert asked(store, keys, 18)[COUNT] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert known(store, keys, 1, "u") == {key: str(n) for n, key in enumerate(keys)}


def test_a_pickled_copy_sees_the_same(store: OnlineStore) -> None:
    put_latest(store, latest("k", 1, 1, 1, "a"))
    assert known(pickle.loads(pickle.dumps(store)), ["k"], 1) == {"k": "a"}


def put_numbers(store: OnlineStore, first: int) -> None:
    for n in range(first, first + 20):
        store.put([windows(("k", n, 1.0, f"r{n}", 0)), LatestBatch("u", [latest("k", n, n, 0, str(n), f"r{n}")])])


def test_writers_at_once_lose_nothing(store: OnlineStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(put_numbers, store), (0, 20, 40, 60)))
    assert asked(store, ["k"], 79)[AGGREGATIONS[2].name] == [79]  # (0, 79]: row 0 lies outside
    assert known(store, ["k"], 79, "u") == {"k": "79"}
    assert known(store, ["k"], 79 - LATEST_KEPT + 1, "u") == {"k": str(79 - LATEST_KEPT + 1)}


@pytest.mark.parametrize("url", ["mysql://user:secret@localhost", "redis://user:secret#@localhost:6379/0"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"expected .*redis://host:port/0") as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


def test_a_server_that_is_down_is_named() -> None:
    store = open_store(f"redis://user:secret@127.0.0.1:{free_port()}/0")
    for use in (lambda: store.states([("t", ["k"])]), lambda: put_latest(store, latest("k", 1, 1, 1, "a"))):
        with pytest.raises(StoreUnavailableError, match=r"online store redis://127\.0\.0\.1:\d+/0") as refused:
            use()
        assert "secret" not in str(refused.value)


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match=r"online store .*file/online\.db"):
        open_store(f"sqlite:///{tmp_path}/file/online.db")


def test_a_store_that_breaks_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    store = open_store(f"sqlite:///{path}")
    path.with_suffix(".db-wal").unlink(missing_ok=True)
    path.write_bytes(b"no database" * 1_000)
    fresh = pickle.loads(pickle.dumps(store))
    with pytest.raises(StoreUnavailableError, match=r"online\.db"):
        fresh.states([("t", ["k"])])


@pytest.mark.parametrize("broken", [False, True])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, broken: bool) -> None:
    """`broken`: the transaction cannot be undone either; what failed first is what is told."""
    store = open_store(f"sqlite:///{tmp_path}/online.db")
    assert isinstance(store, SqliteOnlineStore)
    connection = FailingConnection(store._connection(), ("COMMIT", "ROLLBACK") if broken else ("COMMIT",))
    store._local.connection = connection
    with pytest.raises(StoreUnavailableError, match="COMMIT failed"):
        put_latest(store, latest("k", 1, 1, 1, "a"))
    connection.failing = ()
    put_latest(store, latest("m", 1, 1, 1, "b"))
    assert known(store, ["k", "m"], 1) == {"m": "b"}


class FailingConnection:
    """A connection that fails at some statements, as on a full or broken disk."""

    def __init__(self, connection: sqlite3.Connection, failing: tuple[str, ...]) -> None:
        self._connection = connection
        self.failing = failing

    def execute(self, statement: str, *parameters: object) -> object:
        if statement in self.failing:
            raise sqlite3.OperationalError(f"{statement} failed")
        return self._connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    """Whether it says so itself or is of the time when none did; and neither read nor changed."""
    for number, said in enumerate(("", "PRAGMA user_version = 9;")):
        with sqlite3.connect(tmp_path / f"{number}.db") as connection:
            connection.executescript(f"CREATE TABLE states (tbl INTEGER);{said}")
        with pytest.raises(StoreUnavailableError, match=r"layout .*load-online"):
            open_store(f"sqlite:///{tmp_path}/{number}.db")


@pytest.mark.parametrize("key", ["millrace:layout", "millrace:{t}:states"])
def test_a_redis_of_another_layout_is_refused(redis_url: str, key: str) -> None:
    url = redis_url.removesuffix("/0") + "/7"
    client = redis.Redis.from_url(url)
    client.flushdb()
    client.set(key, "9")
    store = open_store(url)
    for act in (lambda: store.states([("t", ["k"])]), lambda: put_latest(store, latest("k", 1, 1, 1, "a"))):
        with pytest.raises(StoreUnavailableError, match=r"layout \d.*load-online"):
            act()
    assert client.keys() == [key.encode()]
    client.flushdb()
    put_latest(store, latest("k", 1, 1, 1, "a"))
    assert known(open_store(url), ["k"], 1) == {"k": "a"}
    client.flushdb()
