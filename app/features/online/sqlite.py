"""Online features in one SQLite file (WAL): readers never wait for the writer. Serves one host."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import StoreUnavailableError
from app.features.online.base import Batch, LatestBatch, Span, StoredRows, WindowBatch
from app.features.online.latest_state import merge
from app.features.online.renewal import Renewing, no_rows, take_in

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
CREATE TABLE IF NOT EXISTS rows (
  tbl INTEGER, row_key TEXT, key TEXT, available_us INTEGER, event_us INTEGER, created_us INTEGER, vals BLOB,
  UNIQUE (tbl, row_key));
CREATE INDEX IF NOT EXISTS rows_by_time ON rows (tbl, key, available_us);
"""  # with row ids: in tables without them large values are slow to find
STATES = (
    "SELECT asked.key, states.state FROM json_each(?2) asked CROSS JOIN states "
    "ON states.tbl = ?1 AND states.key = asked.value"
)
ROWS = (
    "SELECT r.key, r.row_key, r.event_us, r.available_us, r.vals FROM json_each(?2) s CROSS JOIN rows r "
    "ON r.tbl = ?1 AND r.key = s.value ->> 0 AND r.available_us > s.value ->> 1 AND r.available_us <= s.value ->> 2"
)
KNOWN = (
    "SELECT row_key, key, available_us, created_us FROM rows WHERE tbl = ?1 "
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
            store._connection().executescript(SCHEMA)
        return store

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
            return [_states(connection, self._number(table), _escaped(keys)) for table, keys in asks]

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
    connection.execute("DELETE FROM states WHERE tbl = ?", (table,))
    connection.execute("DELETE FROM rows WHERE tbl = ?", (table,))


def _put_latest(connection: sqlite3.Connection, table: int, batch: LatestBatch) -> None:
    by_key: dict[str, list[Any]] = {}
    for row in batch.rows:
        by_key.setdefault(_escape(row.key), []).append(row)
    old = _states(connection, table, list(by_key))
    _write_states(
        connection, table,
        [(key, merge(key, state, rows)) for (key, rows), state in zip(by_key.items(), old, strict=True)],
    )


def _put_windows(connection: sqlite3.Connection, table: int, batch: WindowBatch) -> None:
    if not batch.keys:
        return
    batch = replace(batch, keys=_escaped(batch.keys), row_keys=_escaped(batch.row_keys))
    known = {
        row_key: (key, available_us, created_us)
        for row_key, key, available_us, created_us in connection.execute(KNOWN, (table, _json(batch.row_keys)))
    }
    intake = take_in(batch, known)
    keys, taken = intake.keys, intake.taken
    renewing = Renewing(intake, _states(connection, table, keys))
    spans = renewing.spans()
    kept = _rows(connection, table, spans, batch.layout.num_words) if spans else no_rows(batch.layout)
    renewal = renewing.renewed(kept)
    values = taken.values.tobytes()
    size = batch.layout.num_words * 8
    connection.executemany(
        "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?,?,?)",
        [
            (table, row_key, key, available_us, event_us, created_us, values[i * size : (i + 1) * size])
            for i, (row_key, key, available_us, event_us, created_us) in enumerate(
                zip(
                    taken.row_keys, taken.keys, taken.available_us.tolist(), taken.event_us.tolist(),
                    taken.created_us.tolist(), strict=True,
                )
            )
        ],
    )
    _write_states(connection, table, zip(renewal.keys, renewal.states, strict=True))
    connection.executemany(
        "DELETE FROM rows WHERE tbl = ? AND key = ? AND available_us <= ?",
        [
            (table, key, after)
            for key, after in zip(renewal.keys, renewal.rows_after_us, strict=True) if after is not None
        ],
    )


def _states(connection: sqlite3.Connection, table: int, keys: Sequence[str]) -> list[bytes | None]:
    result: list[bytes | None] = [None] * len(keys)
    for place, state in connection.execute(STATES, (table, json.dumps(keys))):
        result[place] = state
    return result


def _write_states(connection: sqlite3.Connection, table: int, states: Iterable[tuple[str, bytes]]) -> None:
    connection.executemany(
        "INSERT INTO states VALUES (?,?,?) ON CONFLICT DO UPDATE SET state = excluded.state",
        [(table, key, state) for key, state in states],
    )


def _rows(connection: sqlite3.Connection, table: int, spans: Sequence[Span], num_columns: int) -> StoredRows:
    asked = json.dumps([[span.key, span.after_us, span.until_us] for span in spans])
    found = connection.execute(ROWS, (table, asked)).fetchall()
    keys, row_keys, event, available, values = zip(*found, strict=True) if found else ((), (), (), (), ())
    return StoredRows(
        keys, row_keys, np.array(event, dtype=np.int64), np.array(available, dtype=np.int64),
        np.frombuffer(b"".join(values)).reshape(len(values), num_columns),
    )


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


def _json(texts: Iterable[str]) -> str:
    return json.dumps(list(texts))
