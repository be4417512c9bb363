"""Append-only Iceberg tables with snapshots.

History is never rewritten: a filtered overwrite takes several snapshots and an empty one does nothing, and an
upsert lets duplicate and null keys through. So the only write is `append`, and readers resolve
what is newest by `created_timestamp`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.expressions import parser
from pyiceberg.transforms import BucketTransform

from app.errors import SchemaMismatchError, StateConflictError, UnknownNameError
from app.settings import Settings

if TYPE_CHECKING:
    import ray.data
    from pyiceberg.table import Table

COMMIT_ATTEMPTS = 8
CATALOG_NAME = "millrace"


class Lake:
    """The tables of one catalog. Identifiers are `namespace.name`. Picklable: a copy connects for itself."""

    def __init__(self, catalog_url: str, warehouse: str) -> None:
        self._properties = {"type": "sql", "uri": catalog_url, "warehouse": warehouse}
        self._catalog: SqlCatalog | None = None

    @classmethod
    def open(cls, settings: Settings) -> Lake:
        """The lake the settings name; local folders are made."""
        settings.home.mkdir(parents=True, exist_ok=True)
        warehouse = settings.warehouse
        if "://" not in warehouse:
            Path(warehouse).mkdir(parents=True, exist_ok=True)
            warehouse = f"file://{warehouse}"
        return cls(settings.catalog_url, warehouse)

    @property
    def catalog_properties(self) -> dict[str, str]:
        """What another process needs to connect, Ray Data's Iceberg reader and writer included."""
        return dict(self._properties)

    def ensure_table(
        self, identifier: str, schema: pa.Schema, bucket_by: tuple[str, ...] = (), num_buckets: int = 8
    ) -> None:
        """Creates the table, or adds columns that are new.

        `bucket_by` partitions a new table by an Iceberg bucket of each column's value.

        Raises:
            SchemaMismatchError: a column exists with another type.
        """
        catalog = self._connected()
        catalog.create_namespace_if_not_exists(identifier.split(".")[0])
        if catalog.table_exists(identifier):
            self._evolve(catalog.load_table(identifier), schema)
            return
        table = catalog.create_table_if_not_exists(identifier, schema=schema)
        if bucket_by and not table.spec().fields:
            with table.update_spec() as update:
                for column in bucket_by:
                    update.add_field(column, BucketTransform(num_buckets), f"{column}_bucket")

    def append(self, identifier: str, data: pa.Table | ray.data.Dataset, properties: dict[str, str]) -> int | None:
        """Appends rows in one commit and gives its snapshot id, or `None` when there were no rows.

        Args:
            identifier: an existing table.
            data: rows with the table's columns; a Ray dataset is written by its workers.
            properties: recorded with the snapshot; `find_commit` finds it by them.

        Raises:
            StateConflictError: others kept committing first, `COMMIT_ATTEMPTS` times.
        """
        if not isinstance(data, pa.Table):
            return self._append_dataset(identifier, data, properties)
        if data.num_rows == 0:
            return None
        for _ in range(COMMIT_ATTEMPTS):
            table = self._load(identifier)
            try:
                table.append(conform(data, table.schema().as_arrow()), snapshot_properties=properties)
            except CommitFailedException:
                continue
            snapshot = table.current_snapshot()
            assert snapshot is not None
            return snapshot.snapshot_id
        raise StateConflictError(
            f"{COMMIT_ATTEMPTS} commits to {identifier} lost to other writers. Try again.", table=identifier
        )

    def read(
        self,
        identifier: str,
        columns: list[str] | None = None,
        row_filter: Any = None,
        snapshot_id: int | None = None,
    ) -> pa.Table:
        """Rows of the table, an empty one with its schema when there are none.

        Raises:
            UnknownNameError: no such table.
        """
        scan = self._load(identifier).scan(
            row_filter=row_filter if row_filter is not None else "true",
            selected_fields=tuple(columns) if columns else ("*",),
            snapshot_id=snapshot_id,
        )
        rows = scan.to_arrow()
        rows = rows.select(columns) if columns else rows
        return conform(rows, _plain_schema(rows.schema))

    def dataset(
        self,
        identifier: str,
        columns: list[str] | None = None,
        row_filter: Any = None,
        snapshot_id: int | None = None,
    ) -> ray.data.Dataset:
        """The table as a Ray dataset, read by its workers."""
        import ray.data

        self._load(identifier)
        return ray.data.read_iceberg(
            table_identifier=identifier,
            selected_fields=tuple(columns) if columns else ("*",),
            # Ray's reader takes expressions only, where pyiceberg's own scan takes text too.
            row_filter=parser.parse(row_filter) if isinstance(row_filter, str) else row_filter,
            snapshot_id=snapshot_id,
            catalog_kwargs={"name": CATALOG_NAME, **self._properties},
        )

    def exists(self, identifier: str) -> bool:
        """Whether there is such a table."""
        return self._connected().table_exists(identifier)

    def current_snapshot_id(self, identifier: str) -> int | None:
        """Newest snapshot, `None` for a table never written to."""
        snapshot = self._load(identifier).current_snapshot()
        return None if snapshot is None else snapshot.snapshot_id

    def find_commit(self, identifier: str, key: str, value: str) -> int | None:
        """Newest snapshot whose property `key` is `value`: a write that is already there need not be repeated."""
        if not self.exists(identifier):
            return None
        for snapshot in reversed(self._load(identifier).snapshots()):
            if snapshot.summary is not None and snapshot.summary.get(key) == value:
                return snapshot.snapshot_id
        return None

    def properties(self, identifier: str, snapshot_id: int) -> dict[str, str]:
        """What was recorded with a snapshot, the figures Iceberg adds included.

        Raises:
            UnknownNameError: no such table or snapshot.
        """
        snapshot = self._load(identifier).snapshot_by_id(snapshot_id)
        if snapshot is None or snapshot.summary is None:
            raise UnknownNameError(
                f"table {identifier} has no snapshot {snapshot_id}.", table=identifier, snapshot_id=snapshot_id
            )
        return {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}

    def newest_property(self, identifier: str, key: str) -> str | None:
        """The value of `key` in the newest snapshot that has it."""
        for snapshot in reversed(self._load(identifier).snapshots()):
            value = None if snapshot.summary is None else snapshot.summary.get(key)
            if value is not None:
                return str(value)
        return None

    def tag(self, identifier: str, snapshot_id: int, name: str) -> None:
        """Names a snapshot so that it is never expired."""
        self._load(identifier).manage_snapshots().create_tag(snapshot_id, name).commit()

    def _append_dataset(self, identifier: str, data: ray.data.Dataset, properties: dict[str, str]) -> int | None:
        before = self.current_snapshot_id(identifier)
        data.write_iceberg(
            table_identifier=identifier,
            catalog_kwargs={"name": CATALOG_NAME, **self._properties},
            snapshot_properties=properties,
        )
        after = self.current_snapshot_id(identifier)
        return None if after == before else after

    def _evolve(self, table: Table, schema: pa.Schema) -> None:
        present = _plain_schema(table.schema().as_arrow())
        for column in schema:
            index = present.get_field_index(column.name)
            if index >= 0 and present.field(index).type != _plain_type(column.type):
                raise SchemaMismatchError(
                    f"table {'.'.join(table.name())} has column {column.name!r} as {present.field(index).type}; the "
                    f"declaration says {column.type}. Declare the old type or rename the column.",
                    column=column.name,
                )
        if any(present.get_field_index(column.name) < 0 for column in schema):
            with table.update_schema() as update:
                update.union_by_name(schema)

    def _load(self, identifier: str) -> Table:
        try:
            return self._connected().load_table(identifier)
        except NoSuchTableError as error:
            raise UnknownNameError(
                f"there is no table {identifier!r}. Has it been ingested or materialised yet?", table=identifier
            ) from error

    def _connected(self) -> SqlCatalog:
        if self._catalog is None:
            self._catalog = SqlCatalog(CATALOG_NAME, **self._properties)
        return self._catalog

    def __getstate__(self) -> dict[str, Any]:
        return {"_properties": self._properties, "_catalog": None}


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns in the order and types of `schema`; columns it lacks become nulls."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) else kind


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, _plain_type(f.type)) for f in schema])
