"""Append-only Iceberg tables with snapshots.

Rows are never changed: a filtered overwrite takes several snapshots and an empty one does nothing, and an
upsert lets duplicate and null keys through. So rows are only ever appended, and readers resolve
what is newest by `created_timestamp`. `compact` puts the same rows into fewer files. `delete_before` is for what may
not be kept: it rewrites whole files, so that no table ever has delete files.

Traps, and what is done about them:
    An append of no rows makes no snapshot, so its properties are recorded nowhere: `append` gives `None`.
    Ray's writer adds columns it does not know to the table, and keeps them when the write fails; Ray's reader of a
    table without files gives a dataset without a schema. Rows are conformed before the write and after the read.
    Ray's writer makes a file for each task and bucket: bucketed tables are written by `clustered_write`.
    Ray fuses the last step before a write into it, and the writer then looks at what enters that step: rows not yet
    conformed. Steps that ask for different resources are not fused, hence `WRITE_RESOURCES`.
    SQLAlchemy engines are not picklable: a copy of a lake connects for itself when first used.
"""

from __future__ import annotations

import random
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    TableAlreadyExistsError,
)
from pyiceberg.expressions import AlwaysTrue, parser
from pyiceberg.transforms import BucketTransform, IdentityTransform
from sqlalchemy.exc import IntegrityError

from app.errors import StateConflictError, UnknownNameError
from app.foundation.lake.bucket_scan import BucketScan, scan_of
from app.foundation.lake.buckets import Buckets
from app.foundation.lake.catalog import named
from app.foundation.lake.clustered_write import commit, write_dataset, write_table
from app.foundation.lake.compaction import COMPACTION, CompactionPolicy, CompactionResult, compact
from app.foundation.lake.expiry import Needed, Retention, expire_snapshots
from app.foundation.lake.orphans import DEFAULT_AGE, SweepResult, sweep_orphans
from app.foundation.lake.row_deletion import delete_before
from app.foundation.lake.snapshots import CATALOG_NAME, TableSnapshots, existing_snapshot
from app.foundation.lake.staging import Commit, StagedRows, Wanted, commit_staged, commits, stage_rows
from app.foundation.lake.table_schema import add_columns, conform, kept_schema, require_columns
from app.settings import Settings

if TYPE_CHECKING:
    import ray.data
    from pyiceberg.table import DataScan

WRITE_ID = "millrace.write_id"  # marks a dataset's commit, since Ray's writer does not say which snapshot it made
WRITE_RESOURCES = {"num_cpus": 0.5}  # differs from a map's 1, which keeps the two apart
EVOLVE_ATTEMPTS = 8
MAX_READ_TASKS = 200
TABLE_PROPERTIES = {
    "commit.retry.num-retries": "20", "commit.retry.max-wait-ms": "2000",  # 4 retries are too few
    "write.parquet.row-group-limit": "262144",  # rows; what a reader can skip by its times
    "commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "50",  # else one for each commit
    "write.metadata.delete-after-commit.enabled": "true",  # else each commit leaves a copy of all metadata
}


class Lake(TableSnapshots):
    """The tables of one catalog. Identifiers are `namespace.name`. Picklable: a copy connects for itself."""

    @classmethod
    def open(cls, settings: Settings) -> Lake:
        """The lake the settings name; local folders are made."""
        settings.home.mkdir(parents=True, exist_ok=True)
        warehouse = settings.warehouse
        if "://" not in warehouse:
            Path(warehouse).mkdir(parents=True, exist_ok=True)
            warehouse = f"file://{warehouse}"
        return cls(settings.catalog_url, warehouse)

    def ensure_table(
        self, identifier: str, schema: pa.Schema, bucket_by: tuple[str, ...] = (), num_buckets: int = 8,
        sort_by: str | None = None, properties: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Creates the table, or adds columns that are new. Types are kept as `table_schema` says.

        `bucket_by` partitions a new table by an Iceberg bucket of each column's value, `sort_by` orders the rows within
        each file by a column of moments, `properties` are kept with it; an existing table stays as it is.

        Raises:
            SchemaMismatchError: a column exists with another type.
            StateConflictError: others kept changing the table first.
        """
        schema = kept_schema(schema)
        catalog = self._connected()
        if not self.exists(identifier):
            with suppress(IntegrityError):  # another process made it between pyiceberg's look and its insert
                catalog.create_namespace_if_not_exists(identifier.split(".")[0])
            try:
                # One commit: a table seen without its partitions would take rows that never get a bucket.
                with (
                    self._files(identifier),
                    catalog.create_table_transaction(
                        identifier, schema, properties={**TABLE_PROPERTIES, **properties}
                    ) as creation,
                    creation.update_spec() as spec,
                    creation.update_sort_order() as order,
                ):
                    if sort_by is not None:
                        order.asc(sort_by, IdentityTransform())
                    for column in bucket_by:
                        spec.add_field(column, BucketTransform(num_buckets), f"{column}_bucket")
                return
            except (TableAlreadyExistsError, CommitFailedException):
                pass  # another process made it first; it may lack a column of ours
        for _ in range(EVOLVE_ATTEMPTS):
            try:
                return add_columns(self._load(identifier), schema, identifier)
            except CommitFailedException:
                continue
        raise StateConflictError(f"others kept changing the schema of {identifier}. Try again.", table=identifier)

    def set_property(self, identifier: str, key: str, value: str) -> None:
        """Keeps a property with the table, if it is not there already.

        Raises:
            UnknownNameError: no such table.
            StateConflictError: others kept committing first.
        """
        for attempt in range(EVOLVE_ATTEMPTS):
            table = self._load(identifier)
            if table.properties.get(key) == value:
                return
            try:
                with table.transaction() as transaction:
                    transaction.set_properties({key: value})
                return
            except CommitFailedException:
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise StateConflictError(f"others kept changing {identifier}. Try again.", table=identifier)

    def append(self, identifier: str, data: pa.Table | ray.data.Dataset, properties: dict[str, str]) -> int | None:
        """Appends rows in one commit and gives its snapshot id, or `None` when there were no rows.

        Args:
            identifier: an existing table.
            data: rows with the table's columns, any of which may be absent (null); a Ray dataset is written by its
                workers.
            properties: recorded with the snapshot; `find_commit` finds it by them.

        Raises:
            SchemaMismatchError: a column or type the table has not.
            StateConflictError: others kept committing first.
        """
        table = self._load(identifier)
        schema = table.schema().as_arrow()
        buckets = Buckets.of(table.spec(), table.schema())
        to_schema = partial(conform, schema=schema, where=f"table {identifier}")
        try:
            if not isinstance(data, pa.Table):
                if buckets is None:
                    return self._append_dataset(identifier, data, schema, properties)
                with self._files(identifier):
                    files = write_dataset(table, buckets, data, to_schema)
                    return commit(table, files, properties) if files else None
            rows = to_schema(data)
            if rows.num_rows == 0:
                return None
            with self._files(identifier):
                if buckets is not None:
                    return commit(table, write_table(table, buckets, rows), properties)
                table.append(rows, snapshot_properties=properties)
        except CommitFailedException as error:
            raise StateConflictError(
                f"a commit to {identifier} kept losing to other writers: {error}. Try again.", table=identifier
            ) from error
        snapshot = table.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id

    def stage(self, identifier: str, rows: pa.Table) -> StagedRows:
        """Writes rows as data files that `commit_staged` makes part of the table; workers may stage, one commits.

        Raises:
            SchemaMismatchError: a column or type the table has not.
        """
        table = self._load(identifier)
        conformed = conform(rows, table.schema().as_arrow(), f"table {identifier}")
        with self._files(identifier):
            return stage_rows(table, identifier, conformed)

    def commit_staged(
        self, identifier: str, staged: Sequence[StagedRows], properties: dict[str, str], wanted: Wanted
    ) -> int | None:
        """Makes staged rows part of the table in one commit, even of no rows, while `wanted` says so.

        Returns:
            The snapshot's id; `None` when `wanted` refused, whereupon the files are deleted.

        Raises:
            StateConflictError: others kept committing first.
        """
        with self._files(identifier):
            return commit_staged(partial(self._load, identifier), staged, properties, wanted)

    def commits(self, identifier: str) -> list[Commit]:
        """The snapshots of a table with their properties, oldest first; none for a table that is not there."""
        try:
            return commits(self._load(identifier))
        except UnknownNameError:
            return []

    def sweep_orphans(
        self, identifier: str, older_than: timedelta = DEFAULT_AGE, now: datetime | None = None
    ) -> SweepResult:
        """Deletes files beside the table that no snapshot refers to and that are older than the limit.

        Raises:
            FeatureStoreError: a limit so short that a write in flight could lose its files.
        """
        return sweep_orphans(partial(self._load, identifier), identifier, older_than, now)

    def expire_snapshots(
        self, identifier: str, retention: Retention, needed: Needed = lambda _: (), now: datetime | None = None
    ) -> int:
        """Forgets old snapshots that are not tagged and not `needed`, and gives their number. No row is lost."""
        return expire_snapshots(partial(self._load, identifier), retention, needed, now)

    def compact(self, identifier: str, policy: CompactionPolicy = COMPACTION) -> CompactionResult:
        """Rewrites small data files into larger ones in one commit. No row is lost, no earlier snapshot changes.

        Raises:
            FeatureStoreError: the table has deleted rows, or a file does not hold the rows it should.
            StateConflictError: others kept committing first.
        """
        return compact(partial(self._load, identifier), identifier, policy)

    def delete_before(self, identifier: str, column: str, moment: datetime) -> int:
        """Deletes the rows whose `column` lies before `moment` and gives their number; earlier snapshots keep them.

        Raises:
            StateConflictError: others kept committing first.
        """
        return delete_before(partial(self._load, identifier), identifier, column, moment)

    def tables(self, namespace: str) -> list[str]:
        """Identifiers of the tables of a namespace, none when it is not there."""
        try:
            return sorted(".".join(found) for found in self._connected().list_tables(namespace))
        except NoSuchNamespaceError:
            return []

    def max_rows(self, identifier: str, row_filter: Any = None, snapshot_id: int | None = None) -> int:
        """At most so many rows match: the rows of all files that may hold one. Reads no data."""
        scan = self._scan(identifier, None, row_filter, snapshot_id)
        return sum(task.file.record_count for task in scan.plan_files())

    def read(
        self,
        identifier: str,
        columns: list[str] | None = None,
        row_filter: Any = None,
        snapshot_id: int | None = None,
    ) -> pa.Table:
        """Rows of the table, an empty one with its schema when there are none.

        Raises:
            MissingColumnError: no such column.
            UnknownNameError: no such table or snapshot.
        """
        scan = self._scan(identifier, columns, row_filter, snapshot_id)
        with self._files(identifier):
            rows = scan.to_arrow()
        rows = rows.select(columns) if columns else rows
        return conform(rows, kept_schema(rows.schema), f"table {identifier}")

    def dataset(
        self,
        identifier: str,
        columns: list[str] | None = None,
        row_filter: Any = None,
        snapshot_id: int | None = None,
    ) -> ray.data.Dataset:
        """The rows that `read` gives as a Ray dataset, read by its workers.

        Raises:
            MissingColumnError: no such column.
            UnknownNameError: no such table or snapshot.
        """
        import ray.data

        scan = self._scan(identifier, columns, row_filter, snapshot_id)
        projection = scan.projection().as_arrow()
        schema = kept_schema(pa.schema([projection.field(name) for name in columns]) if columns else projection)
        num_files = len(list(scan.plan_files()))
        if not num_files:
            return ray.data.from_arrow(schema.empty_table())
        with named(self._properties["uri"]), warnings.catch_warnings():
            # Ray wants its own expressions in a later `filter`; ours are Iceberg's, the same ones `read` takes.
            warnings.filterwarnings("ignore", message="The '(row_filter|selected_fields)' parameter is deprecated")
            rows = ray.data.read_iceberg(
                table_identifier=identifier,
                selected_fields=tuple(columns) if columns else ("*",),
                # Ray's reader takes expressions only, where pyiceberg's own scan takes text too.
                row_filter=parser.parse(row_filter) if isinstance(row_filter, str) else row_filter,
                snapshot_id=snapshot_id,
                catalog_kwargs={"name": CATALOG_NAME, **self._properties},
                override_num_blocks=min(num_files, MAX_READ_TASKS),  # Ray warns when it wants more tasks than files
            )
        return _conformed(rows, schema, f"table {identifier}")

    def scan_buckets(
        self, identifier: str, row_filter: str | None = None, snapshot_id: int | None = None
    ) -> BucketScan:
        """The table's files by bucket (of the newest snapshot unless told), for tasks that read only their own.

        Raises:
            UnknownNameError: no such table or snapshot.
        """
        scan = self._scan(identifier, None, row_filter, snapshot_id)
        condition = AlwaysTrue() if row_filter is None else parser.parse(row_filter)
        return scan_of(self._load(identifier), identifier, scan, condition)

    def _append_dataset(
        self, identifier: str, data: ray.data.Dataset, schema: pa.Schema, properties: dict[str, str]
    ) -> int | None:
        write_id = uuid.uuid4().hex
        with named(self._properties["uri"]):
            _conformed(data, schema, f"table {identifier}").write_iceberg(
                table_identifier=identifier,
                catalog_kwargs={"name": CATALOG_NAME, **self._properties},
                snapshot_properties={**properties, WRITE_ID: write_id},
                ray_remote_args=WRITE_RESOURCES,
            )
        return self.find_commit(identifier, WRITE_ID, write_id)

    def _scan(self, identifier: str, columns: list[str] | None, row_filter: Any, snapshot_id: int | None) -> DataScan:
        table = self._load(identifier)
        if snapshot_id is not None:
            existing_snapshot(table, identifier, snapshot_id)
        scan = table.scan(row_filter=row_filter if row_filter is not None else "true", snapshot_id=snapshot_id)
        if not columns:
            return scan
        require_columns(scan.projection().as_arrow(), columns, f"table {identifier}")
        return scan.select(*columns)

def _conformed(rows: ray.data.Dataset, schema: pa.Schema, where: str) -> ray.data.Dataset:
    to_schema = partial(conform, schema=schema, where=where)
    return rows.map_batches(to_schema, batch_format="pyarrow", batch_size=None, zero_copy_batch=True)
