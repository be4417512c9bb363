"""Online features in one SQLite file (WAL): readers never wait for the writer. Serves one host."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import StoreUnavailableError
from app.features.online.base import LAYOUT, Batch, LatestBatch, Span, StoredRows, WindowBatch
from app.features.online.latest_state import merge
from app.features.online.old_layout import other_layout
from app.features.online.renewal import Renewing, no_rows
from app.features.online.row_versions import Intake, KnownVersion, take_in

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30.0
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "mmap_size = 1073741824",  # a look-up then costs no system call
    "wal_autocheckpoint = 4000",
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS tables (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS states (tbl INTEGER, key TEXT, state BLOB, UNIQUE (tbl, key));
CREATE TABLE IF NOT EXISTS tiles (tbl INTEGER, key TEXT, state BLOB, UNIQUE (tbl, key));
CREATE TABLE IF NOT EXISTS rows (
  tbl INTEGER, row_key TEXT, key TEXT, available_us INTEGER, event_us INTEGER, created_us INTEGER,
  source_created_us INTEGER, until_us INTEGER, vals BLOB, UNIQUE (tbl, row_key, available_us));
CREATE INDEX IF NOT EXISTS rows_by_time ON rows (tbl, key, available_us);
"""  # with row ids: in tables without them large values are slow to find
STATES, TILES = (
    f"SELECT asked.key, s.state FROM json_each(?2) asked CROSS JOIN {kind} s "
    "ON s.tbl = ?1 AND s.key = asked.value"
    for kind in ("states", "tiles")
)
WRITE_STATES, WRITE_TILES = (
    f"INSERT INTO {kind} VALUES (?,?,?) ON CONFLICT DO UPDATE SET state = excluded.state"
    for kind in ("states", "tiles")
)
ROWS = (
    "SELECT r.key, r.row_key, r.event_us, r.available_us, r.until_us, r.vals "
    "FROM json_each(?2) s CROSS JOIN rows r "
    "ON r.tbl = ?1 AND r.key = s.value ->> 0 AND r.available_us > s.value ->> 1 AND r.available_us <= s.value ->> 2"
)
KNOWN = (
    "SELECT row_key, key, available_us, created_us, source_created_us, until_us FROM rows WHERE tbl = ?1 "
    "AND row_key IN (SELECT value FROM json_each(?2))"
)


class SqliteOnlineStore:
    """See `OnlineStore`. Each thread has its own connection; a pickled copy connects for itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()

    @classmethod
    def open(cls, url: str) -> SqliteOnlineStore:
        """Opens `sqlite:///path`, creating the file and its tables.

        Raises:
            StoreUnavailableError: the file cannot be opened.
        """
        store = cls(url.removeprefix("sqlite:///"))
        with store._named("open"):
            Path(store._path).parent.mkdir(parents=True, exist_ok=True)
            connection = store._connection()
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            is_new = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            if is_new or layout == LAYOUT:
                connection.executescript(f"{SCHEMA}PRAGMA user_version = {LAYOUT};")
                return store
        raise other_layout(store._path, layout)

    def put(self, batches: Sequence[Batch], *, replace: bool = False) -> None:
        with self._writing() as connection:
            for batch in batches:
                table = _table(connection, batch.table)
                if replace:
                    _clear(connection, table)
                if isinstance(batch, LatestBatch):
                    _put_latest(connection, table, batch)
                else:
                    _put_windows(connection, table, batch)

    def states(self, asks: Sequence[tuple[str, Sequence[str]]]) -> list[list[bytes | None]]:
        with self._named("read"):
            connection = self._connection()
            return [_found(connection, STATES, self._number(table), _escaped(keys)) for table, keys in asks]

    def tiles(self, table: str, keys: Sequence[str]) -> list[bytes | None]:
        with self._named("read"):
            return _found(self._connection(), TILES, self._number(table), _escaped(keys))

    def rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        with self._named("read"):
            asked = [Span(_escape(span.key), span.after_us, span.until_us) for span in spans]
            found = _rows(self._connection(), self._number(table), asked, num_columns)
            return replace(found, keys=_unescaped(found.keys), row_keys=_unescaped(found.row_keys))

    def clear(self, table: str) -> None:
        with self._writing() as connection:
            _clear(connection, _table(connection, table))

    def _number(self, table: str) -> int:
        """Number of a table, remembered; 0 for one that nothing was put into."""
        numbers: dict[str, int] = self._local.numbers
        if table not in numbers:
            found = self._connection().execute("SELECT id FROM tables WHERE name = ?", (table,)).fetchone()
            if found is None:
                return 0
            numbers[table] = found[0]
        return numbers[table]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._named("write to"):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise

    def _undo(self, connection: sqlite3.Connection) -> None:
        """Ends the transaction, if SQLite has not done so itself; a connection that cannot is not used again."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:  # the caller's error is the cause, and is what is raised
            logger.warning("the online store %s could not undo a write: %s", self._path, error)
            self._local.connection = None
            connection.close()

    @contextmanager
    def _named(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            raise StoreUnavailableError(
                f"cannot {action} the online store {self._path}: {error}. Nothing was changed. Check that the file and "
                "its folder can be written and that the disk is not full, or set MILLRACE_ONLINE_URL.",
                store=self._path,
            ) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._local.connection = connection
            self._local.numbers = {}
        return connection

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state["path"]
        self._local = threading.local()


def _table(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT INTO tables (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    number: int = connection.execute("SELECT id FROM tables WHERE name = ?", (name,)).fetchone()[0]
    return number


def _clear(connection: sqlite3.Connection, table: int) -> None:
    for kind in ("states", "tiles", "rows"):
        connection.execute(f"DELETE FROM {kind} WHERE tbl = ?", (table,))


def _put_latest(connection: sqlite3.Connection, table: int, batch: LatestBatch) -> None:
    by_key: dict[str, list[Any]] = {}
    for row in batch.rows:
        by_key.setdefault(_escape(row.key), []).append(row)
    old = _found(connection, STATES, table, list(by_key))
    merged = [(table, key, merge(key, state, rows)) for (key, rows), state in zip(by_key.items(), old, strict=True)]
    connection.executemany(WRITE_STATES, merged)


def _put_windows(connection: sqlite3.Connection, table: int, batch: WindowBatch) -> None:
    if not batch.keys:
        return
    batch = replace(batch, keys=_escaped(batch.keys), row_keys=_escaped(batch.row_keys))
    known: dict[str, list[KnownVersion]] = {}
    for row_key, *version in connection.execute(KNOWN, (table, json.dumps(batch.row_keys))):
        known.setdefault(row_key, []).append(KnownVersion(*version))
    intake = take_in(batch, known)
    keys = intake.keys
    old = (_found(connection, kind, table, keys) for kind in (STATES, TILES))
    renewing = Renewing(intake, *old)
    spans = renewing.spans()
    kept = _rows(connection, table, spans, batch.layout.num_words) if spans else no_rows(batch.layout)
    renewal = renewing.renewed(kept)
    _write_rows(connection, table, intake)
    for statement, packed in ((WRITE_STATES, renewal.states), (WRITE_TILES, renewal.tiles)):
        connection.executemany(statement, [(table, *pair) for pair in zip(renewal.keys, packed, strict=True)])
    connection.executemany(
        "DELETE FROM rows WHERE tbl = ? AND key = ? AND available_us <= ?",
        [
            (table, key, after)
            for key, after in zip(renewal.keys, renewal.rows_after_us, strict=True) if after is not None
        ],
    )


def _write_rows(connection: sqlite3.Connection, table: int, intake: Intake) -> None:
    """What is gone goes first: a version may come again at the same time for another entity."""
    taken = intake.taken
    connection.executemany(
        "DELETE FROM rows WHERE tbl = ? AND row_key = ? AND available_us = ?",
        [(table, place.row_key, place.available_us) for place in intake.gone],
    )
    connection.executemany(
        "UPDATE rows SET until_us = ? WHERE tbl = ? AND row_key = ? AND available_us = ?",
        [(until_us, table, place.row_key, place.available_us) for place, until_us in intake.ended],
    )
    times = (taken.available_us, taken.event_us, taken.created_us, taken.source_created_us, intake.until_us)
    values, size = taken.values.tobytes(), taken.layout.num_words * 8
    columns = zip(taken.row_keys, taken.keys, *(moments.tolist() for moments in times), strict=True)
    connection.executemany(
        "INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?)",
        [(table, *row, values[i * size : (i + 1) * size]) for i, row in enumerate(columns)],
    )


def _found(connection: sqlite3.Connection, statement: str, table: int, keys: Sequence[str]) -> list[bytes | None]:
    result: list[bytes | None] = [None] * len(keys)
    for place, state in connection.execute(statement, (table, json.dumps(keys))):
        result[place] = state
    return result


def _rows(connection: sqlite3.Connection, table: int, spans: Sequence[Span], num_columns: int) -> StoredRows:
    asked = json.dumps([[span.key, span.after_us, span.until_us] for span in spans])
    found = connection.execute(ROWS, (table, asked)).fetchall()
    keys, row_keys, *times, values = zip(*found, strict=True) if found else ((),) * 6
    event, available, until = (np.array(moments, dtype=np.int64) for moments in times)
    matrix = np.frombuffer(b"".join(values)).reshape(len(values), num_columns)
    return StoredRows(keys, row_keys, event, available, until, matrix)


def _escape(text: str) -> str:
    r"""A text without NUL, at which SQLite's JSON functions cut; different for different texts, in the same order.

    >>> _escape("a\0b\x01")
    'a\x010b\x011'
    """
    return text.replace("\x01", "\x011").replace("\0", "\x010") if "\0" in text or "\x01" in text else text


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    together = "".join(texts)
    return [_escape(text) for text in texts] if "\0" in together or "\x01" in together else texts


def _unescaped(texts: Sequence[str]) -> Sequence[str]:
    if "\x01" not in "".join(texts):
        return texts
    return [text.replace("\x010", "\0").replace("\x011", "\x01") for text in texts]
