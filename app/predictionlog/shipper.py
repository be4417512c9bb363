"""Ships complete segment lines to the lake, each exactly once.

A batch is a stretch of bytes of each segment. Its plan is written to `cursor.json` *before* the commit, and the
commit carries the batch's id and offsets as snapshot properties. Whoever continues after a crash looks for that id
among the snapshots: there means shipped, not there means ship the same stretch again. A lock file lets one
shipper at a time work on a folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from app.foundation.lake import Retention
from app.foundation.lake.expiry import Needed
from app.foundation.lake.staging import Commit
from app.predictionlog.segment import SUFFIX, Kind, has_writer, read_lines, segment_folder
from app.predictionlog.tables import SCHEMAS, rows_of, table_name
from app.settings import Settings

BATCH_PROPERTY = "millrace.segments.batch"
OFFSETS_PROPERTY = "millrace.segments.offsets"
MAX_BATCH_BYTES = 32 * 1024 * 1024
RETENTION = Retention(num_newest=50, younger_than=timedelta(hours=1), at_least=50)  # a commit every few seconds


class Tables(Protocol):
    """What the shipper needs of the lake."""

    def ensure_table(self, identifier: str, schema: pa.Schema) -> None: ...

    def append(self, identifier: str, data: pa.Table, properties: dict[str, str]) -> int | None: ...

    def find_commit(self, identifier: str, key: str, value: str) -> int | None: ...

    def expire_snapshots(self, identifier: str, retention: Retention, needed: Needed) -> int: ...


@dataclass
class Cursor:
    """How far each segment was shipped, and the batch that may be under way.

    `pending`: offsets after the batch under way; its start is `offsets`.
    """

    shipper_id: str
    batch: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] | None = None

    @property
    def batch_id(self) -> str:
        return f"{self.shipper_id}-{self.batch}"


def last_batches(commits: Sequence[Commit]) -> set[int]:
    """Each shipper's newest commit, by which it knows after a crash whether its batch is there."""
    last = {
        c.properties[BATCH_PROPERTY].rpartition("-")[0]: c.snapshot_id
        for c in sorted(commits, key=lambda c: c.sequence_number)
        if BATCH_PROPERTY in c.properties
    }
    return set(last.values())


class Shipper:
    """Moves one project's segments of one kind from this host to the lake."""

    def __init__(
        self,
        lake: Tables,
        settings: Settings,
        project: str,
        kind: Kind,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._lake = lake
        self._kind: Kind = kind
        self._table = table_name(project, kind)
        self._folder = segment_folder(settings.segments, project, kind)
        self._max_batch_bytes = max_batch_bytes

    def ship(self) -> int:
        """Ships all complete lines that are there now; gives the number of rows that became visible.

        Segments that are shipped whole and have no writer any more are removed.

        What is written meanwhile is left for the next call: under steady load a shipper that chased the end would
        never come back.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / "shipper.lock"):
            self._lake.ensure_table(self._table, SCHEMAS[self._kind])
            cursor = self._load()
            ends = {path.name: path.stat().st_size for path in self._segments()}
            num_rows = self._finish(cursor) if cursor.pending is not None else 0
            while self._plan(cursor, ends):
                num_rows += self._finish(cursor)
            if num_rows:
                self._lake.expire_snapshots(self._table, RETENTION, last_batches)
            self._sweep(cursor)
            return num_rows

    def unshipped_bytes(self) -> int:
        """Bytes in the segments that no batch has shipped: what the loss of this host would lose."""
        offsets = self._load().offsets
        return sum(p.stat().st_size - offsets.get(p.name, 0) for p in self._segments())

    def _plan(self, cursor: Cursor, ends: dict[str, int]) -> bool:
        """Writes down the next batch of what lies before `ends`; false when nothing is left."""
        pending = dict(cursor.offsets)
        budget = self._max_batch_bytes
        for path in self._segments():
            start, end = pending.get(path.name, 0), ends.get(path.name, 0)
            if budget > 0 and end > start:
                _, reached = read_lines(path, start, min(budget, end - start))
                if reached > start:
                    pending[path.name] = reached
                    budget -= reached - start
        if pending == cursor.offsets:
            return False
        cursor.batch += 1
        cursor.pending = pending
        self._save(cursor)
        return True

    def _finish(self, cursor: Cursor) -> int:
        """Commits the planned batch unless its commit is already there."""
        assert cursor.pending is not None
        num_rows = 0
        if self._lake.find_commit(self._table, BATCH_PROPERTY, cursor.batch_id) is None:
            rows = rows_of(self._kind, self._records(cursor))
            properties = {
                BATCH_PROPERTY: cursor.batch_id,
                OFFSETS_PROPERTY: json.dumps(_stretches(cursor)),
            }
            self._lake.append(self._table, rows, properties)
            num_rows = rows.num_rows
        cursor.offsets, cursor.pending = cursor.pending, None
        self._save(cursor)
        return num_rows

    def _sweep(self, cursor: Cursor) -> None:
        """Removes segments that are shipped whole and that no process writes to: the lake has what they held."""
        for path in self._segments():
            shipped = cursor.offsets.get(path.name, 0)
            if shipped and not has_writer(path) and path.stat().st_size == shipped:
                path.unlink()
        there = {path.name for path in self._segments()}
        if not there.issuperset(cursor.offsets):
            cursor.offsets = {name: offset for name, offset in cursor.offsets.items() if name in there}
            self._save(cursor)

    def _records(self, cursor: Cursor) -> Iterator[dict[str, Any]]:
        for name, (start, end) in _stretches(cursor).items():
            records, reached = read_lines(self._folder / name, start, end - start)
            assert reached == end, f"segment {name} changed under its plan"
            yield from records

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def _load(self) -> Cursor:
        path = self._folder / "cursor.json"
        if not path.exists():
            return Cursor(uuid.uuid4().hex)
        return Cursor(**json.loads(path.read_text()))

    def _save(self, cursor: Cursor) -> None:
        path = self._folder / "cursor.json"
        draft = path.with_suffix(".draft")
        with draft.open("w") as file:
            file.write(json.dumps(asdict(cursor)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def ship_all(lake: Tables, settings: Settings, project: str) -> dict[Kind, int]:
    """Ships predictions, labels and what was mirrored; rows that became visible, by kind."""
    kinds: tuple[Kind, ...] = ("predictions", "labels", "mirrored")
    return {kind: Shipper(lake, settings, project, kind).ship() for kind in kinds}


def _stretches(cursor: Cursor) -> dict[str, tuple[int, int]]:
    assert cursor.pending is not None
    return {
        name: (cursor.offsets.get(name, 0), end)
        for name, end in cursor.pending.items()
        if end > cursor.offsets.get(name, 0)
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
