"""The tables of a catalog and their snapshots: which there are, what is recorded with each, which are named.

SQLAlchemy engines are not picklable: a copy connects for itself when first used.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError

from app.errors import UnknownNameError
from app.foundation.lake.catalog import open_catalog
from app.foundation.lake.warehouse import files_of, warehouse_properties

if TYPE_CHECKING:
    from pyiceberg.table import Table

CATALOG_NAME = "millrace"
LOCK_TIMEOUT_S = 30  # how long a commit waits for another process's hold of a SQLite catalog


class TableSnapshots:
    """What a lake says of its tables without reading rows. Picklable."""

    def __init__(self, catalog_url: str, warehouse: str) -> None:
        if catalog_url.startswith("sqlite") and "?" not in catalog_url:
            catalog_url = f"{catalog_url}?timeout={LOCK_TIMEOUT_S}"
        self._properties = {"type": "sql", "uri": catalog_url, **warehouse_properties(warehouse)}
        self._catalog: SqlCatalog | None = None

    def table_properties(self, identifier: str) -> dict[str, str]:
        """What is kept with the table itself.

        Raises:
            UnknownNameError: no such table.
        """
        return dict(self._load(identifier).properties)

    def exists(self, identifier: str) -> bool:
        """Whether there is such a table."""
        with self._files(identifier):
            return "." in identifier and self._connected().table_exists(identifier)

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
        snapshot = existing_snapshot(self._load(identifier), identifier, snapshot_id)
        if snapshot.summary is None:
            return {}
        return {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}

    def tag(self, identifier: str, snapshot_id: int, name: str) -> None:
        """Names a snapshot so that it is never expired.

        Raises:
            UnknownNameError: no such table or snapshot.
        """
        table = self._load(identifier)
        existing_snapshot(table, identifier, snapshot_id)
        table.manage_snapshots().create_tag(snapshot_id, name).commit()

    def pin(self, identifier: str, snapshot_id: int) -> None:
        """Tags a snapshot under a name of its own, once, so that what was read of it can be read again.

        Raises:
            UnknownNameError: no such table or snapshot.
        """
        if f"pinned-{snapshot_id}" not in self._load(identifier).refs():
            self.tag(identifier, snapshot_id, f"pinned-{snapshot_id}")

    def _load(self, identifier: str) -> Table:
        if "." not in identifier:
            raise UnknownNameError(f"{identifier!r} names no table; expected 'namespace.name'.", table=identifier)
        try:
            with self._files(identifier):
                return self._connected().load_table(identifier)
        except NoSuchTableError as error:
            raise UnknownNameError(
                f"there is no table {identifier!r}. Has it been ingested or materialised yet?", table=identifier
            ) from error

    def _files(self, identifier: str) -> AbstractContextManager[None]:
        """Within it a warehouse that does not answer is named."""
        return files_of(identifier, self._properties["warehouse"])

    def _connected(self) -> SqlCatalog:
        if self._catalog is None:
            self._catalog = open_catalog(CATALOG_NAME, self._properties)
        return self._catalog

    def __getstate__(self) -> dict[str, Any]:
        return {"_properties": self._properties, "_catalog": None}


def existing_snapshot(table: Table, identifier: str, snapshot_id: int) -> Any:
    """Raises: UnknownNameError: the table has no such snapshot."""
    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise UnknownNameError(
            f"table {identifier} has no snapshot {snapshot_id}.", table=identifier, snapshot_id=snapshot_id
        )
    return snapshot
