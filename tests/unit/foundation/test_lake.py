"""Append-only Iceberg tables."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from app.errors import SchemaMismatchError, UnknownNameError
from app.foundation.lake import Lake
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
