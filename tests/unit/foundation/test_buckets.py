"""Buckets of a table: Iceberg's own numbers, one file each, read apart and together."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import DateType, LongType, StringType, TimestamptzType

from app.foundation.lake import NOBODY, Buckets, Lake, bucket_numbers, split_by_bucket
from app.settings import Settings

BASE = datetime(2013, 1, 1, tzinfo=UTC)
MOMENT = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("kind", "arrow", "values"),
    [
        (LongType(), pa.int64(), [34, 0, -1, 2**63 - 1, None, 34]),
        (StringType(), pa.string(), ["iceberg", "", "ä", None, "1:1"]),
        (TimestamptzType(), MOMENT, [BASE, BASE + timedelta(microseconds=1), None]),
        (DateType(), pa.date32(), [date(2017, 11, 16), None]),
    ],
)
@pytest.mark.parametrize("number", [1, 7, 64])
def test_numbers_are_those_every_iceberg_reader_computes(kind, arrow, values, number: int) -> None:
    one_by_one = BucketTransform(number).transform(kind)
    expected = [NOBODY if v is None else one_by_one(v) for v in values]
    assert bucket_numbers(pa.array(values, arrow), number).tolist() == expected


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 30)), st.integers(0, 5))), st.integers(1, 9))
def test_splitting_loses_nothing_and_sorts_within_each_bucket(rows, number: int) -> None:
    table = pa.table(
        {
            "k": pa.array([k for k, _ in rows], pa.int64()), "n": pa.array(range(len(rows)), pa.int64()),
            "at": pa.array([BASE + timedelta(microseconds=us) for _, us in rows], MOMENT),
        }
    )
    pieces = split_by_bucket(table, Buckets("k", number), "at")
    assert sorted(n for piece in pieces.values() for n in piece["n"].to_pylist()) == list(range(len(rows)))
    for bucket, piece in pieces.items():
        assert set(bucket_numbers(piece["k"], number).tolist()) == {bucket}
        assert piece["at"].to_pylist() == sorted(piece["at"].to_pylist())


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A table of 100 rows in four buckets, written in two commits."""
    lake = Lake.open(settings)
    rows = pa.table(
        {
            "k": pa.array([None if i % 10 == 0 else f"k{i % 13}" for i in range(100)], pa.string()),
            "at": pa.array([BASE + timedelta(hours=(i * 37) % 100) for i in range(100)], MOMENT),
            "n": pa.array(range(100), pa.int64()),
        }
    )
    lake.ensure_table("test.rows", rows.schema, bucket_by=("k",), num_buckets=4, sort_by="at")
    lake.append("test.rows", rows.slice(0, 60), {"part": "1"})
    lake.append("test.rows", rows.slice(60), {"part": "2"})
    return lake


def test_a_commit_makes_one_file_for_each_bucket(lake: Lake) -> None:
    scan = lake.scan_buckets("test.rows")
    assert {bucket: len(files) for bucket, files in scan.files.items()} == dict.fromkeys([NOBODY, 0, 1, 2, 3], 2)
    assert scan.num_rows() == 100
    first = lake.scan_buckets("test.rows", snapshot_id=lake.find_commit("test.rows", "part", "1"))
    assert {len(files) for files in first.files.values()} == {1}
    moments = first.read(["at"], [2])["at"].to_pylist()
    assert moments == sorted(moments)


def test_buckets_read_apart_are_the_table(lake: Lake) -> None:
    condition = f"at > '{(BASE + timedelta(hours=50)).isoformat()}'"
    scan = pickle.loads(pickle.dumps(lake.scan_buckets("test.rows", condition)))
    apart = [scan.read(["n", "k"], [bucket]) for bucket in scan.files]
    for bucket, rows in zip(scan.files, apart, strict=True):
        assert set(bucket_numbers(rows["k"], 4).tolist()) <= {bucket}
    assert pa.concat_tables(apart).sort_by("n").equals(lake.read("test.rows", ["n", "k"], condition).sort_by("n"))
    part = scan.read(["n"], stretch=f"at <= '{(BASE + timedelta(hours=60)).isoformat()}'")
    assert part.num_rows == 10
    assert scan.read(["n"], [99]).num_rows == 0
    assert len(scan.sample("at", [0, 1, 2, 3, NOBODY], every=7)) > 0


def test_a_column_added_later_is_null_in_earlier_files(lake: Lake) -> None:
    lake.ensure_table("test.rows", pa.schema([("x", pa.float64())]))
    assert lake.scan_buckets("test.rows").read(["x"])["x"].null_count == 100


def test_a_table_without_buckets_is_one(lake: Lake) -> None:
    lake.ensure_table("test.whole", pa.schema([("n", pa.int64())]))
    assert lake.scan_buckets("test.whole").read(["n"]).num_rows == 0
    lake.append("test.whole", pa.table({"n": [1, 2]}), {})
    scan = lake.scan_buckets("test.whole")
    assert (scan.buckets, list(scan.files), scan.num_rows()) == (None, [NOBODY], 2)
