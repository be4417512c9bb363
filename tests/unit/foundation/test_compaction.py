"""Small files become large ones: the same rows, earlier snapshots as they were, and nothing lost that others append."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.errors import FeatureStoreError, StateConflictError
from app.foundation.lake import CompactionPolicy, Lake
from app.foundation.lake import compaction as module
from app.foundation.lake.compaction import KnownFile, decide_compaction
from app.foundation.lake.staging import newest_with_rows
from app.settings import Settings, load_settings

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([("name", pa.string()), ("n", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])
BUCKETED, WHOLE = "test.bucketed", "test.whole"
MB = 2**20


def rows(first: int, number: int = 40) -> pa.Table:
    """Rows in no order of time, some of nobody."""
    of = range(first, first + number)
    names = [None if n % 11 == 0 else f"n{n % 23}" for n in of]
    moments = [START + timedelta(seconds=(n * 37) % 1_000) for n in of]
    return pa.table([names, list(of), moments], schema=SCHEMA)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.open(settings)
    lake.ensure_table(BUCKETED, SCHEMA, bucket_by=("name",), num_buckets=4, sort_by="at")
    lake.ensure_table(WHOLE, SCHEMA)
    for table in (BUCKETED, WHOLE):
        for number in range(6):
            lake.append(table, rows(number * 100), {"n": str(number)})
    return lake


def numbers(lake: Lake, table: str, snapshot_id: int | None = None) -> list[int]:
    return sorted(lake.read(table, snapshot_id=snapshot_id)["n"].to_pylist())


def file(path: str, size_mb: float, order: int = 0, bucket: int = 0, num_rows: int = 10) -> KnownFile:
    return KnownFile(path, bucket, int(size_mb * MB), num_rows, (order,))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([file("a", 1), file("b", 1), file("c", 1)], []),
        ([file("a", 1, 4), file("b", 1, 3), file("c", 1, 2), file("d", 1, 1)], ["dcba"]),
        ([file("a", 1), file("b", 1), file("c", 1, bucket=1), file("d", 1, bucket=1)], []),
        ([*(file(p, 1) for p in "abcd"), file("e", 8), *(file(p, 1, bucket=1) for p in "fghi")], ["abcd", "fghi"]),
        ([file(p, 7.9, i) for i, p in enumerate("abcdefghijklm")], ["abcdefgh", "ijklm"]),
        ([file(p, 1, i, num_rows=300_000) for i, p in enumerate("abcdef")], []),
        ([file(p, 1, i, num_rows=250_000) for i, p in enumerate("abcdef")], ["abcd"]),
    ],
    ids=["few", "in order", "few in each bucket", "large ones stay", "by size", "large rows", "by rows"],
)
def test_what_is_put_together(files: list[KnownFile], expected: list[str]) -> None:
    assert ["".join(f.path for f in group) for group in decide_compaction(files, CompactionPolicy())] == expected


@pytest.mark.parametrize("table", [BUCKETED, WHOLE])
def test_rows_stay_files_get_fewer_and_earlier_snapshots_are_read_as_before(lake: Lake, table: str) -> None:
    before, snapshot = numbers(lake, table), lake.current_snapshot_id(table)
    done = lake.compact(table)
    assert (done.files_before, done.files_after) == ((30, 5) if table == BUCKETED else (6, 1))
    assert done.rows == len(before) == 240
    assert len(lake.scan_buckets(table).files) == done.files_after
    assert numbers(lake, table) == numbers(lake, table, snapshot) == before
    assert lake.compact(table).rewritten == 0
    assert [c.compacts for c in lake.commits(table)] == [False] * 6 + [True]
    assert newest_with_rows(lake.commits(table)) == 6


def test_each_new_file_is_of_one_bucket_and_in_the_tables_order(lake: Lake) -> None:
    lake.compact(BUCKETED)
    scan = lake.scan_buckets(BUCKETED)
    buckets = {b: scan.read(["name", "at"], [b]) for b in scan.files}
    assert all(pc.all(pc.equal(r["at"], r.sort_by("at")["at"])).as_py() for r in buckets.values())
    assert len(buckets) == 5 and set(buckets[-1]["name"].to_pylist()) == {None}
    named = [set(found["name"].to_pylist()) for found in buckets.values()]
    assert sum(map(len, named)) == len(set.union(*named)), "no name lies in two buckets"


def test_a_table_without_an_order_keeps_the_rows_in_the_order_of_their_commits(lake: Lake) -> None:
    lake.compact(WHOLE)
    assert lake.read(WHOLE)["n"].to_pylist() == [n for i in range(6) for n in range(i * 100, i * 100 + 40)]


def test_columns_added_later_are_null_in_older_rows(lake: Lake) -> None:
    lake.ensure_table(BUCKETED, pa.schema([*SCHEMA, ("more", pa.float64())]))
    lake.append(BUCKETED, rows(900).append_column("more", pa.array([0.5] * 40)), {})
    lake.compact(BUCKETED)
    found = lake.read(BUCKETED)
    assert (found.num_rows, found["more"].null_count, pc.sum(found["more"]).as_py()) == (280, 240, 20.0)


def test_what_another_appends_between_the_rewrite_and_the_commit_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []
    real = module.newest_with_rows

    def meanwhile(commits: Any) -> int:
        attempts.append(len(commits))
        if len(attempts) <= 2:
            lake.append(BUCKETED, rows(1_000 * len(attempts)), {})
        return real(commits)

    monkeypatch.setattr(module, "newest_with_rows", meanwhile)
    before = numbers(lake, BUCKETED)
    done = lake.compact(BUCKETED)
    assert attempts == [6, 7, 8], "twice another one was first"
    assert numbers(lake, BUCKETED) == sorted([*before, *range(1_000, 1_040), *range(2_000, 2_040)])
    assert (done.files_before, done.files_after) == (40, 15)
    assert newest_with_rows(lake.commits(BUCKETED)) == 8


def _append(home: str, writer: int, start: Any) -> None:
    lake = Lake.open(load_settings({"MILLRACE_HOME": home}, in_job=False))
    start.wait()
    for number in range(8):
        lake.append(BUCKETED, rows(10_000 * (writer + 1) + number * 100, 10), {})


def test_writers_and_compactions_at_once_lose_no_row(lake: Lake, settings: Settings) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(3)
    writers = [spawn.Process(target=_append, args=(str(settings.home), w, start)) for w in range(2)]
    for writer in writers:
        writer.start()
    expected = numbers(lake, BUCKETED) + [
        10_000 * (w + 1) + n * 100 + i for w in range(2) for n in range(8) for i in range(10)
    ]
    start.wait()
    compacted = 0
    while any(writer.is_alive() for writer in writers):
        compacted += lake.compact(BUCKETED, CompactionPolicy(at_least=2)).rewritten > 0
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert numbers(lake, BUCKETED) == sorted(expected)
    assert compacted >= 1
    assert lake.commits(BUCKETED)[-1].properties["total-records"] == str(len(expected))


def test_of_two_compactions_at_once_one_counts_and_the_other_leaves_nothing(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = module.rewritten, []

    def after_another(*arguments: Any) -> Any:
        if not started:
            started.append(lake)
            assert lake.compact(BUCKETED).rewritten == 30
        return real(*arguments)

    monkeypatch.setattr(module, "rewritten", after_another)
    second = lake.compact(BUCKETED)
    assert (second.rewritten, second.files_after) == (0, 5)
    assert len(numbers(lake, BUCKETED)) == 240
    assert len(data_files(settings)) == 36 + 5, "those of the second are deleted"


def test_who_always_loses_says_so_and_leaves_no_files(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.newest_with_rows

    def always_another(commits: Any) -> int:
        lake.append(WHOLE, rows(0, 1), {})
        return real(commits)

    monkeypatch.setattr(module, "newest_with_rows", always_another)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with pytest.raises(StateConflictError, match="kept losing"):
        lake.compact(WHOLE)
    assert len(data_files(settings)) == 36 + 2


def test_a_file_that_was_changed_stops_it(lake: Lake, settings: Settings) -> None:
    import pyarrow.parquet as pq

    (path, *_) = [p for p in data_files(settings) if "/whole/" in str(p)]
    pq.write_table(rows(0, 3), path)
    with pytest.raises(FeatureStoreError, match="203 rows, its metadata says 240"):
        lake.compact(WHOLE)
    assert len(data_files(settings)) == 36


def data_files(settings: Settings) -> list[Path]:
    return sorted(settings.home.rglob("data/**/*.parquet"))
