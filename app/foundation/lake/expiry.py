"""Forgets snapshots nobody needs, so that a commit costs the same however many came before.

pyiceberg copies a table's whole metadata at each commit, every snapshot in it. History is append-only: the rows of an
old snapshot are all in the newest one, so forgetting it loses no row, only the way to read the table as it was. Never
forgotten are the newest snapshot, tagged ones (`Lake.tag`), those whose properties somebody still reads (`needed`),
and, as `Retention` says, a number of newest and of young ones.

Manifests and lists that only forgotten snapshots used become orphans; `orphans.py` sweeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import RemoveSnapshotsUpdate, ValidatableTableRequirement

from app.foundation.lake.staging import Commit, commits

if TYPE_CHECKING:
    from pyiceberg.table import Table

ATTEMPTS = 5  # a table that others keep committing to is tidied the next time
Needed = Callable[[Sequence[Commit]], Collection[int]]


@dataclass(frozen=True)
class Retention:
    """What is kept of a table's snapshots.

    `num_newest`: so many. `younger_than`: how long one may be read by its id without a tag. `at_least`: fewer than
    these are not worth a commit of their own.
    """

    num_newest: int = 100
    younger_than: timedelta = timedelta(days=7)
    at_least: int = 50


@dataclass(frozen=True)
class KnownSnapshot:
    """A snapshot as the decision sees it. `tagged`: a tag or branch names it."""

    snapshot_id: int
    sequence_number: int
    moment: datetime
    tagged: bool


def decide_expiry(
    snapshots: Sequence[KnownSnapshot], needed: Collection[int], retention: Retention, now: datetime
) -> list[int]:
    """Ids of the snapshots to forget, oldest first; none when there are too few to bother.

    Args:
        snapshots: all of a table.
        needed: ids of those whose properties are still read.
        retention: what is kept besides.
        now: the present.
    """
    in_order = sorted(snapshots, key=lambda s: s.sequence_number)
    old = in_order[: max(len(in_order) - max(retention.num_newest, 1), 0)]
    limit = now - retention.younger_than
    expired = [s.snapshot_id for s in old if not s.tagged and s.snapshot_id not in needed and s.moment <= limit]
    return expired if len(expired) >= max(retention.at_least, 1) else []


def expire_snapshots(
    load: Callable[[], Table], retention: Retention, needed: Needed = lambda _: (), now: datetime | None = None
) -> int:
    """Forgets what `decide_expiry` says in one commit, and gives their number; 0 when others kept committing first.

    Args:
        load: gives the table as it is now.
        retention: what is kept.
        needed: of all commits, the ids of those whose properties are still read.
        now: the present; injected by tests.
    """
    for _ in range(ATTEMPTS):
        table = load()
        expired = decide_expiry(known_snapshots(table), needed(commits(table)), retention, now or datetime.now(UTC))
        if not expired:
            return 0
        try:
            requirement: Any = _StillUnnamed(snapshot_ids=expired)
            update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": expired})
            table.catalog.commit_table(table, (requirement,), (update,))
        except CommitFailedException:
            continue
        return len(expired)
    return 0


class _StillUnnamed(ValidatableTableRequirement):
    """No tag or branch names one of the snapshots when the commit is made.

    `table.maintenance.expire_snapshots()` demands nothing: it would forget what another tagged since we looked. Checked
    in this process, as the SQL catalog does; a REST catalog would have to know it.
    """

    type: Literal["assert-still-unnamed"] = "assert-still-unnamed"
    snapshot_ids: list[int]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # pydantic's old name
        """Raises `CommitFailedException` when one is named."""
        named = {r.snapshot_id for r in base_metadata.refs.values()} if base_metadata is not None else set()
        if named.intersection(self.snapshot_ids):
            raise CommitFailedException("a snapshot was tagged meanwhile")


def known_snapshots(table: Table) -> list[KnownSnapshot]:
    """The snapshots of a table."""
    named = {reference.snapshot_id for reference in table.metadata.refs.values()}
    return [
        KnownSnapshot(
            s.snapshot_id, s.sequence_number or 0, datetime.fromtimestamp(s.timestamp_ms / 1_000, UTC),
            s.snapshot_id in named,
        )
        for s in table.snapshots()
    ]
