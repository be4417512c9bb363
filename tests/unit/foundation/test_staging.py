"""Staged rows are committed once, whole, and only while they are wanted; what is left behind can be swept."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from app.errors import FeatureStoreError
from app.foundation.lake import Lake
from app.foundation.lake.staging import Commit
from app.settings import Settings, load_settings

ROWS = pa.table({"name": [f"n{i % 7}" for i in range(100)], "n": list(range(100))})
TABLE = "test.rows"


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.open(settings)
    lake.ensure_table(TABLE, ROWS.schema, bucket_by=("name",), num_buckets=4)
    return lake


def always(_commits: object) -> bool:
    return True


def test_staged_rows_show_with_the_commit_and_not_before(lake: Lake) -> None:
    staged = [lake.stage(TABLE, ROWS.slice(0, 50)), lake.stage(TABLE, ROWS.slice(50))]
    assert lake.read(TABLE).num_rows == 0
    snapshot = lake.commit_staged(TABLE, staged, {"mark": "1"}, always)
    assert lake.read(TABLE).sort_by("n").equals(ROWS)
    assert [(c.snapshot_id, c.properties["mark"]) for c in lake.commits(TABLE)] == [(snapshot, "1")]


def test_no_rows_make_a_commit_too(lake: Lake) -> None:
    assert lake.commit_staged(TABLE, [], {"mark": "nothing there"}, always) is not None
    assert lake.commit_staged(TABLE, [lake.stage(TABLE, ROWS)], {}, always) is not None
    assert [c.sequence_number for c in lake.commits(TABLE)] == [1, 2]
    assert lake.read(TABLE).num_rows == 100


def test_what_is_no_longer_wanted_is_deleted(lake: Lake, settings: Settings) -> None:
    lake.append(TABLE, ROWS.slice(0, 3), {"mark": "1"})
    there = set(files(settings))

    def unless_there(commits: list[Commit]) -> bool:
        return all(c.properties.get("mark") != "1" for c in commits)

    assert lake.commit_staged(TABLE, [lake.stage(TABLE, ROWS)], {"mark": "1"}, unless_there) is None
    assert lake.read(TABLE).num_rows == 3
    assert set(files(settings)) == there


def _commit_unless_there(home: str, mark: str, start: object, results: object) -> None:
    lake = Lake.open(load_settings({"MILLRACE_HOME": home}, in_job=False))
    staged = [lake.stage(TABLE, ROWS.slice(0, 10))]
    start.wait()
    done = lake.commit_staged(
        TABLE, staged, {"mark": mark}, lambda cs: all(c.properties.get("mark") != mark for c in cs)
    )
    results.put((mark, done is not None))


def test_of_processes_that_commit_the_same_at_once_one_wins_and_others_all_land(
    lake: Lake, settings: Settings
) -> None:
    spawn = multiprocessing.get_context("spawn")
    marks = ["same", "same", "same", "other"]
    start, results = spawn.Barrier(len(marks)), spawn.Queue()
    writers = [
        spawn.Process(target=_commit_unless_there, args=(str(settings.home), m, start, results)) for m in marks
    ]
    for writer in writers:
        writer.start()
    landed = [results.get(timeout=120) for _ in marks]
    for writer in writers:
        writer.join()
    assert sorted(landed) == [("other", True), ("same", False), ("same", False), ("same", True)]
    assert lake.read(TABLE).num_rows == 20


def files(settings: Settings) -> list[Path]:
    return [p for p in Path(settings.warehouse).rglob("*") if p.is_file() and not p.name.endswith(".metadata.json")]


def test_orphans_are_swept_by_age_and_what_is_referred_to_never(lake: Lake, settings: Settings) -> None:
    for i in range(3):
        lake.append(TABLE, ROWS.slice(i * 10, 10), {})
    kept = set(files(settings))
    orphan = lake.stage(TABLE, ROWS)
    assert orphan.num_rows == 100
    young = lake.sweep_orphans(TABLE, timedelta(hours=2))
    assert (young.files, young.too_young) == (0, len(orphan.files))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    swept = lake.sweep_orphans(TABLE, timedelta(hours=2), now=tomorrow)
    assert (swept.files, swept.too_young) == (len(orphan.files), 0)
    assert swept.size_bytes > 0
    assert set(files(settings)) == kept
    assert lake.read(TABLE).num_rows == 30


def test_a_write_in_flight_is_not_swept(lake: Lake) -> None:
    staged = lake.stage(TABLE, ROWS)
    lake.sweep_orphans(TABLE, timedelta(hours=1))
    lake.commit_staged(TABLE, [staged], {}, always)
    assert lake.read(TABLE).num_rows == 100
    with pytest.raises(FeatureStoreError, match="too short an age limit"):
        lake.sweep_orphans(TABLE, timedelta(minutes=59))
