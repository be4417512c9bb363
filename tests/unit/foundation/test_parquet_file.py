"""Data files we write say of themselves what pyiceberg's say, and read back the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.foundation.lake import Lake
from app.foundation.lake.parquet_file import decide_encodings
from app.foundation.lake.table_schema import TIMESTAMP

BASE = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = pa.table(
    {
        "key": pa.array([f"k{i % 3}" for i in range(300)] + [None], pa.string()),
        "at": pa.array([BASE + timedelta(seconds=i) for i in range(301)], TIMESTAMP),
        "number": pa.array([*range(300), None], pa.int64()),
        "value": pa.array([i / 7 for i in range(300)] + [float("nan")], pa.float64()),
        "list of": pa.array([[i, i + 1] for i in range(300)] + [None], pa.list_(pa.int64())),
    }
)


def written(folder: Path, bucketed: bool) -> tuple[pa.Table, list[dict[str, object]], list[str]]:
    lake = Lake(f"sqlite:///{folder}/catalog.db", f"file://{folder}")
    lake.ensure_table("a.t", ROWS.schema, ("key",) if bucketed else (), num_buckets=1, sort_by="at")
    lake.append("a.t", ROWS, {})
    files = lake._load("a.t").inspect.files().to_pylist()
    return lake.read("a.t").sort_by("at"), files, [file["file_path"].removeprefix("file://") for file in files]


def test_metadata_and_values_equal_those_of_pyiceberg(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, files, _ = written(tmp_path / "ours", bucketed=True)
    theirs, (file,), _ = written(tmp_path / "theirs", bucketed=False)
    assert str(ours.to_pylist()) == str(theirs.to_pylist()) == str(ROWS.to_pylist())  # as texts: NaN differs from NaN
    assert sum(f["record_count"] for f in files) == file["record_count"]
    (nobody,) = [f for f in files if f["record_count"] == 1]
    (whole,) = [f for f in files if f["record_count"] == 300]
    texts_and_lists = {1, 6}  # of which nothing is told
    for told in ("lower_bounds", "value_counts", "null_value_counts"):
        of_pyiceberg = {k: v for k, v in file[told] if k not in texts_and_lists}
        less = 1 if told == "value_counts" else 0
        nulls = {3: 1} if told == "null_value_counts" else {}
        assert {k: v for k, v in whole[told]} == {
            k: v if told == "lower_bounds" else v - less - nulls.get(k, 0) for k, v in of_pyiceberg.items()
        }
    assert dict(nobody["null_value_counts"]) == {2: 0, 3: 1, 4: 0}


def test_columns_keep_their_ids_in_the_file(tmp_path: Path) -> None:
    _, _, paths = written(tmp_path, bucketed=True)
    schema = pq.read_schema(paths[0])
    assert [int(field.metadata[b"PARQUET:field_id"]) for field in schema] == [1, 2, 3, 4, 5]


def test_what_repeats_gets_a_dictionary_and_moments_differences() -> None:
    assert decide_encodings(ROWS) == {
        "use_dictionary": ["key"], "column_encoding": {"at": "DELTA_BINARY_PACKED", "number": "DELTA_BINARY_PACKED"},
        "write_statistics": ["at", "number", "value"],
    }
