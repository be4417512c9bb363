"""The lake read and written by Ray's workers gives what it gives in one process."""

from __future__ import annotations

import pyarrow as pa
import pytest
import ray
import ray.data

from app.errors import SchemaMismatchError
from app.features.sources import original_errors
from app.foundation.lake import Lake
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("ray_head")

ROWS = pa.table({"name": [f"n{i % 7}" for i in range(100)], "n": list(range(100))})


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.open(settings)
    lake.ensure_table("test.rows", ROWS.schema, bucket_by=("name",), num_buckets=4)
    return lake


def test_a_dataset_is_one_commit_and_reads_back_as_written(lake: Lake) -> None:
    snapshot = lake.append("test.rows", ray.data.from_arrow([ROWS.slice(0, 50), ROWS.slice(50)]), {"run_id": "1"})
    assert snapshot is not None and snapshot == lake.find_commit("test.rows", "run_id", "1")
    assert lake.read("test.rows").sort_by("n").equals(ROWS)
    read = lake.dataset("test.rows", ["n", "name"], row_filter="n >= 90", snapshot_id=snapshot)
    table = pa.concat_tables(ray.get(read.to_arrow_refs()))
    assert table.sort_by("n").equals(ROWS.slice(90).select(["n", "name"]))


def test_no_rows_keep_their_schema_and_make_no_snapshot(lake: Lake) -> None:
    assert lake.append("test.rows", ray.data.from_arrow(ROWS).filter(lambda row: False), {}) is None
    assert lake.current_snapshot_id("test.rows") is None
    assert lake.dataset("test.rows").schema().names == ["name", "n"]


def test_a_refused_dataset_leaves_neither_rows_nor_columns(lake: Lake) -> None:
    with pytest.raises(SchemaMismatchError, match="no column 'extra'"), original_errors():
        lake.append("test.rows", ray.data.from_arrow(ROWS.append_column("extra", ROWS["n"])), {})
    assert lake.read("test.rows").schema == ROWS.schema.empty_table().schema
    assert lake.current_snapshot_id("test.rows") is None


def test_nanoseconds_and_other_types_are_conformed_by_the_workers(lake: Lake) -> None:
    lake.ensure_table("test.moments", pa.schema([("at", pa.timestamp("us", tz="UTC")), ("text", pa.string())]))
    rows = pa.table({"text": pa.array(["a"], pa.large_string()), "at": pa.array([1_999], pa.timestamp("ns"))})
    lake.append("test.moments", ray.data.from_arrow(rows), {})
    assert lake.read("test.moments")["at"].cast(pa.int64()).to_pylist() == [1]


def test_writers_at_once_are_told_their_own_snapshots(lake: Lake) -> None:
    @ray.remote
    def write(lake: Lake, writer: int) -> list[int | None]:
        return [lake.append("test.rows", ROWS.slice(0, 2), {"by": f"{writer}-{i}"}) for i in range(3)]

    written = ray.get([write.remote(lake, writer) for writer in range(3)])
    assert written == [[lake.find_commit("test.rows", "by", f"{w}-{i}") for i in range(3)] for w in range(3)]
    assert lake.read("test.rows").num_rows == 18


def test_workers_write_one_file_for_each_bucket(lake: Lake) -> None:
    many_blocks = ray.data.from_arrow([ROWS.slice(i, 5) for i in range(0, 100, 5)])
    lake.append("test.rows", many_blocks, {})
    assert {len(files) for files in lake.scan_buckets("test.rows").files.values()} == {1}
    assert lake.read("test.rows").sort_by("n").equals(ROWS)
