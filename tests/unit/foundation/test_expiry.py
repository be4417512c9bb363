"""Old snapshots are forgotten, rows and what somebody needs are not; a kill or another writer changes nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

from app.errors import UnknownNameError
from app.foundation.lake import Lake, Retention
from app.foundation.lake.expiry import KnownSnapshot, decide_expiry

NOW = datetime(2024, 5, 1, tzinfo=UTC)
FEW = Retention(num_newest=2, younger_than=timedelta(0), at_least=1)
TABLE = "a.t"


def known(*ages_h: int, tagged: int | None = None) -> list[KnownSnapshot]:
    """Snapshots 0, 1… with falling ages."""
    return [KnownSnapshot(i, i + 1, NOW - timedelta(hours=age), i == tagged) for i, age in enumerate(ages_h)]


@pytest.mark.parametrize(
    ("retention", "needed", "tagged", "expected"),
    [
        (FEW, (), None, [0, 1, 2]),
        (FEW, (1,), None, [0, 2]),
        (FEW, (), 2, [0, 1]),
        (Retention(2, timedelta(hours=35), 1), (), None, [0, 1]),
        (Retention(2, timedelta(hours=40), 1), (), None, [0, 1]),
        (Retention(5, timedelta(0), 1), (), None, []),
        (Retention(0, timedelta(0), 1), (), None, [0, 1, 2, 3]),
        (Retention(2, timedelta(0), 4), (), None, []),
    ],
    ids=["old", "needed", "tagged", "young", "just old enough", "few", "never the newest", "not worth it"],
)
def test_what_is_forgotten(retention: Retention, needed: tuple[int, ...], tagged: int | None, expected: list) -> None:
    assert decide_expiry(known(50, 40, 30, 20, 10, tagged=tagged), needed, retention, NOW) == expected


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}")
    found.ensure_table(TABLE, pa.schema([("n", pa.int64())]))
    for n in range(6):
        append(found, n)
    return found


def append(lake: Lake, n: int) -> int | None:
    return lake.append(TABLE, pa.table({"n": pa.array([n], pa.int64())}), {"n": str(n)})


def numbers(lake: Lake, snapshot_id: int | None = None) -> list[int]:
    return sorted(lake.read(TABLE, snapshot_id=snapshot_id)["n"].to_pylist())


def marks(lake: Lake) -> list[str]:
    return [c.properties["n"] for c in lake.commits(TABLE)]


def test_no_row_is_lost_and_a_tagged_snapshot_reads_as_it_was(lake: Lake) -> None:
    tagged = lake.commits(TABLE)[1].snapshot_id
    forgotten = lake.commits(TABLE)[0].snapshot_id
    lake.tag(TABLE, tagged, "monday")
    assert lake.expire_snapshots(TABLE, FEW, lambda commits: {commits[2].snapshot_id}) == 2
    assert marks(lake) == ["1", "2", "4", "5"]
    assert numbers(lake) == list(range(6))
    assert numbers(lake, tagged) == [0, 1]
    with pytest.raises(UnknownNameError, match="has no snapshot"):
        lake.read(TABLE, snapshot_id=forgotten)
    append(lake, 6)
    lake.sweep_orphans(TABLE, timedelta(hours=1), datetime.now(UTC) + timedelta(days=1))
    assert numbers(lake) == list(range(7))
    assert numbers(lake, tagged) == [0, 1]


def test_killed_before_or_after_its_commit_the_table_is_whole(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = SqlCatalog.commit_table
    for after, left in ((False, 6), (True, 2)):
        def killed(self: SqlCatalog, *request: Any, after: bool = after) -> None:
            if after:
                commit(self, *request)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(SqlCatalog, "commit_table", killed)
            lake.expire_snapshots(TABLE, FEW)
        assert numbers(lake) == list(range(6))
        assert len(marks(lake)) == left
    assert lake.expire_snapshots(TABLE, FEW) == 0


def test_a_writer_that_commits_meanwhile_loses_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's rows and tag, made between our look and our commit, are there afterwards."""
    commit = SqlCatalog.commit_table
    tagged = lake.commits(TABLE)[0].snapshot_id
    tries: list[int] = []

    def beaten(self: SqlCatalog, *request: Any) -> Any:
        monkeypatch.setattr(SqlCatalog, "commit_table", lambda *r: tries.append(1) or commit(*r))
        append(lake, 6)
        lake.tag(TABLE, tagged, "theirs")
        tries.clear()
        return SqlCatalog.commit_table(self, *request)

    monkeypatch.setattr(SqlCatalog, "commit_table", beaten)
    assert lake.expire_snapshots(TABLE, FEW) == 4
    assert len(tries) == 2
    assert numbers(lake) == list(range(7))
    assert numbers(lake, tagged) == [0]
    assert marks(lake) == ["0", "5", "6"]


def test_whoever_keeps_losing_leaves_it_for_the_next_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(self: SqlCatalog, *request: Any) -> None:
        raise CommitFailedException("another was first")

    monkeypatch.setattr(SqlCatalog, "commit_table", loses)
    assert lake.expire_snapshots(TABLE, FEW) == 0
    assert len(marks(lake)) == 6
