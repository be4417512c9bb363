"""Append-only Iceberg tables."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

import pyarrow as pa
import pytest

from app.errors import MissingColumnError, SchemaMismatchError, UnknownNameError
from app.foundation.lake import Lake
from app.foundation.lake.table_schema import TIMESTAMP
from app.settings import Settings

ROWS = pa.table({"name": ["a", "b"], "value": [1.0, None]})


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.open(settings)
    lake.ensure_table("test.rows", ROWS.schema, bucket_by=("name",), num_buckets=4)
    return lake


def test_appended_rows_are_read_back_with_nulls_kept(lake: Lake) -> None:
    lake.append("test.rows", ROWS, {})
    assert lake.read("test.rows").sort_by("name").to_pydict() == ROWS.to_pydict()


def test_an_older_snapshot_reads_what_was_there_then(lake: Lake) -> None:
    first = lake.append("test.rows", ROWS, {})
    lake.append("test.rows", ROWS, {})
    assert lake.read("test.rows").num_rows == 4
    assert lake.read("test.rows", snapshot_id=first).num_rows == 2


def test_no_rows_make_no_snapshot(lake: Lake) -> None:
    assert lake.append("test.rows", ROWS.slice(0, 0), {}) is None
    assert lake.current_snapshot_id("test.rows") is None
    assert lake.read("test.rows").num_rows == 0


def test_a_commit_is_found_by_its_property(lake: Lake) -> None:
    snapshot = lake.append("test.rows", ROWS, {"run_id": "7"})
    assert snapshot is not None
    assert lake.find_commit("test.rows", "run_id", "7") == snapshot
    assert lake.find_commit("test.rows", "run_id", "8") is None
    assert lake.properties("test.rows", snapshot)["run_id"] == "7"


def test_two_openers_append_without_losing_rows(lake: Lake) -> None:
    other = pickle.loads(pickle.dumps(lake))
    for _ in range(3):
        lake.append("test.rows", ROWS, {})
        other.append("test.rows", ROWS, {})
    assert lake.read("test.rows").num_rows == 12


def test_new_columns_are_added_and_old_rows_have_nulls_there(lake: Lake) -> None:
    lake.append("test.rows", ROWS, {})
    lake.ensure_table("test.rows", pa.schema([("name", pa.string()), ("more", pa.int64())]))
    assert lake.read("test.rows", ["more"]).to_pydict() == {"more": [None, None]}


def test_a_changed_type_is_refused(lake: Lake) -> None:
    with pytest.raises(SchemaMismatchError, match="'value' as double"):
        lake.ensure_table("test.rows", pa.schema([("value", pa.string())]))


def test_an_unknown_table_is_named(lake: Lake) -> None:
    with pytest.raises(UnknownNameError, match=r"test\.nothing"):
        lake.read("test.nothing")


def test_types_are_kept_one_way_whoever_wrote_them(lake: Lake) -> None:
    moment = datetime(2013, 1, 1, 5, tzinfo=UTC)
    lake.ensure_table(
        "test.types",
        pa.schema([("n", pa.int16()), ("text", pa.large_string()), ("naive", pa.timestamp("ns"))]),
    )
    lake.append(
        "test.types",
        pa.table(
            {
                "text": pa.array(["a"], pa.large_string()).dictionary_encode(),
                "naive": pa.array([moment.replace(tzinfo=None)], pa.timestamp("ns")),
                "n": pa.array([1], pa.int32()),
            }
        ),
        {},
    )
    rows = lake.read("test.types", ["text", "naive", "n"])
    assert rows.schema.types == [pa.string(), TIMESTAMP, pa.int64()]
    assert rows.to_pylist() == [{"text": "a", "naive": moment, "n": 1}]


@pytest.mark.parametrize("arrives", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.int32())])
def test_a_table_with_lists_is_declared_again(lake: Lake, arrives: pa.DataType) -> None:
    """As every ingest and backfill does."""
    rows = pa.table({"tags": pa.array([["1", "2"], None] if "string" in str(arrives) else [[1, 2], None], arrives)})
    for _ in range(2):
        lake.ensure_table("test.lists", rows.schema)
        lake.append("test.lists", rows, {})
    kept = pa.string() if "string" in str(arrives) else pa.int64()
    assert lake.read("test.lists").schema.types == [pa.list_(kept)]
    assert lake.read("test.lists")["tags"].to_pylist() == rows["tags"].to_pylist() * 2


def test_digits_below_the_microsecond_are_dropped_never_rounded_up(lake: Lake) -> None:
    lake.ensure_table("test.moments", pa.schema([("at", TIMESTAMP)]))
    lake.append("test.moments", pa.table({"at": pa.array([1_999, -1], pa.timestamp("ns"))}), {})
    assert lake.read("test.moments")["at"].cast(pa.int64()).to_pylist() == [1, -1]


def test_a_column_nobody_declared_is_refused_and_not_dropped(lake: Lake) -> None:
    with pytest.raises(SchemaMismatchError, match="no column 'extra'"):
        lake.append("test.rows", ROWS.append_column("extra", pa.array([1, 2])), {})
    assert lake.read("test.rows").num_rows == 0


def test_a_value_of_another_type_is_refused_by_the_name_of_its_column(lake: Lake) -> None:
    with pytest.raises(SchemaMismatchError, match=r"test\.rows: column 'value' is kept as double"):
        lake.append("test.rows", pa.table({"name": ["a"], "value": ["much"]}), {})


def test_columns_come_in_the_order_asked_for_and_filters_may_use_others(lake: Lake) -> None:
    lake.append("test.rows", ROWS, {})
    assert lake.read("test.rows", ["value", "name"]).column_names == ["value", "name"]
    assert lake.read("test.rows", ["name"], row_filter="value > 0.5").to_pydict() == {"name": ["a"]}


def test_what_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(MissingColumnError, match="'nothing'"):
        lake.read("test.rows", ["nothing"])
    with pytest.raises(UnknownNameError, match="no snapshot 7"):
        lake.read("test.rows", snapshot_id=7)
    with pytest.raises(UnknownNameError, match="no snapshot 7"):
        lake.tag("test.rows", 7, "trained")
    with pytest.raises(UnknownNameError, match=r"expected 'namespace\.name'"):
        lake.read("rows")
    assert not lake.exists("rows")


def _write(lake: Lake, writer: int) -> list[int | None]:
    """In a process of its own: makes the table unless it is there, with a column of its own, and appends thrice."""
    schema = pa.schema([("n", pa.int64()), (f"of_{writer}", pa.int64())])
    lake.ensure_table("test.shared", schema, bucket_by=("n",))
    return [lake.append("test.shared", pa.table({"n": [writer * 10 + i]}), {"by": str(writer)}) for i in range(3)]


def test_processes_make_a_table_at_once_and_lose_no_row_or_column(settings: Settings) -> None:
    lake = Lake.open(settings)
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        written = list(pool.map(_write, [lake] * 3, range(3)))
    rows = lake.read("test.shared")
    assert set(rows.column_names) == {"n", "of_0", "of_1", "of_2"}
    assert sorted(rows["n"].to_pylist()) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert len({snapshot for snapshots in written for snapshot in snapshots}) == 9
    assert all(lake.properties("test.shared", s or 0)["by"] == str(w) for w, ids in enumerate(written) for s in ids)
