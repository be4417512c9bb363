"""Sweeps files that failed or killed writes left beside a table.

A file is swept only when no snapshot refers to it *and* it is older than an age limit, since a write in flight has
files that no snapshot refers to yet. The folder is listed before the table is read, so what is committed meanwhile
counts as referred to. The limit must be longer than any write takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow.fs
from pyiceberg.io.pyarrow import PyArrowFileIO

from app.errors import FeatureStoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.table import Table

MIN_AGE = timedelta(hours=1)  # below this a slow write could lose its files
DEFAULT_AGE = timedelta(days=3)


@dataclass(frozen=True)
class SweepResult:
    """Files and bytes deleted, and orphans that are still too young."""

    table: str
    files: int
    size_bytes: int
    too_young: int


def sweep_orphans(
    load: Callable[[], Table], identifier: str, older_than: timedelta = DEFAULT_AGE, now: datetime | None = None
) -> SweepResult:
    """Deletes data files, manifests and manifest lists that no snapshot refers to.

    Args:
        load: gives the table as it is now.
        identifier: its name, for the result.
        older_than: age from which an orphan is swept.
        now: the present; injected by tests.

    Raises:
        FeatureStoreError: an age limit below `MIN_AGE`, or the table's own files are not where they are looked for.
    """
    if older_than < MIN_AGE:
        raise FeatureStoreError(
            f"orphans younger than {MIN_AGE} may belong to a write in flight; {older_than} is too short an age limit.",
            table=identifier,
        )
    before = load()
    io = before.io
    assert isinstance(io, PyArrowFileIO)
    scheme, netloc, root = io.parse_location(before.location())
    files = io.fs_by_scheme(scheme, netloc)
    folders = [
        pyarrow.fs.FileSelector(f"{root}/{name}", recursive=True, allow_not_found=True) for name in ("data", "metadata")
    ]
    listed = [
        info
        for folder in folders
        for info in files.get_file_info(folder)
        if info.type == pyarrow.fs.FileType.File and not info.path.endswith(".metadata.json")
    ]
    known = referred_files(load(), io)
    if known and listed and known.isdisjoint(info.path for info in listed):
        raise FeatureStoreError(
            f"none of the {len(known)} files that {identifier} refers to was found under {before.location()}; without "
            "knowing them nothing is swept.", table=identifier,
        )
    orphans = [info for info in listed if info.path not in known]
    limit = (datetime.now(UTC) if now is None else now) - older_than
    old = [info for info in orphans if info.mtime is not None and info.mtime < limit]
    for info in old:
        files.delete_file(info.path)
    return SweepResult(identifier, len(old), sum(info.size for info in old), len(orphans) - len(old))


def referred_files(table: Table, io: PyArrowFileIO) -> set[str]:
    """Paths, as `io` names them, of everything that some snapshot needs."""
    paths = {file.statistics_path for file in table.metadata.statistics}
    for snapshot in table.snapshots():
        paths.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in paths:
                paths.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                paths.update(entry.data_file.file_path for entry in entries)
    return {io.parse_location(path)[2] for path in paths}
