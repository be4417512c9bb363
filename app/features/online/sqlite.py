"""Online features in one SQLite file (WAL): readers never wait for the writer. Serves one host."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import SettingsError
from app.features.online.base import LATEST_KEPT, KeyTiles, LatestRow, WindowAnswer, WindowRow, WindowSpec
from app.features.online.tiles import SortedRows, answer_parts, fold_rows, pack, replace_tiles, unpack

BUSY_TIMEOUT_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS latest (
  tbl TEXT, key TEXT, event_us INTEGER, available_us INTEGER, created_us INTEGER, row_key TEXT, vals TEXT,
  PRIMARY KEY (tbl, key, event_us, row_key, available_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS window_rows (
  tbl TEXT, row_key TEXT, key TEXT, available_us INTEGER, event_us INTEGER, created_us INTEGER, vals BLOB,
  PRIMARY KEY (tbl, row_key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS window_rows_by_time ON window_rows (tbl, key, available_us, event_us);
CREATE TABLE IF NOT EXISTS window_tiles (
  tbl TEXT, key TEXT, hop_us INTEGER, newest_us INTEGER, state BLOB, PRIMARY KEY (tbl, key, hop_us)) WITHOUT ROWID;
"""
Spans = dict[str, tuple[int, int]]  # first and last moment of each key that something happened at


class SqliteOnlineStore:
    """See `OnlineStore`. Each thread has its own connection; a pickled copy connects for itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()

    @classmethod
    def open(cls, url: str) -> SqliteOnlineStore:
        """Opens `sqlite:///path`, creating the file and its tables.

        Raises:
            SettingsError: another kind of URL.
        """
        if not url.startswith("sqlite:///"):
            raise SettingsError(
                f"MILLRACE_ONLINE_URL is {url!r}; expected sqlite:///path/of/online.db.", variable="MILLRACE_ONLINE_URL"
            )
        path = url.removeprefix("sqlite:///")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        store = cls(path)
        store._connection().executescript(SCHEMA)
        return store

    def put_latest(self, table: str, rows: Sequence[LatestRow]) -> None:
        with self._writing() as connection:
            connection.executemany(
                "INSERT INTO latest VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET created_us = excluded.created_us, "
                "vals = excluded.vals WHERE excluded.created_us >= created_us",
                [(table, r.key, r.event_us, r.available_us, r.created_us, r.row_key, r.values) for r in rows],
            )
            connection.execute(
                "DELETE FROM latest WHERE tbl = ?1 AND key IN (SELECT value FROM json_each(?2)) AND event_us < ("
                "SELECT n.event_us FROM latest n WHERE n.tbl = ?1 AND n.key = latest.key "
                f"ORDER BY n.event_us DESC LIMIT 1 OFFSET {LATEST_KEPT - 1})",
                (table, _json_list(r.key for r in rows)),
            )

    def get_latest(self, table: str, keys: Sequence[str], at_us: int) -> dict[str, LatestRow]:
        found = self._connection().execute(
            "SELECT key, event_us, available_us, created_us, row_key, vals FROM latest "
            "WHERE tbl = ?1 AND key IN (SELECT value FROM json_each(?2)) AND event_us <= ?3 AND available_us <= ?3 "
            "ORDER BY event_us, created_us, row_key, available_us",
            (table, _json_list(keys), at_us),
        )
        return {row[0]: LatestRow(*row) for row in found}  # the last one of a key stays

    def put_windows(self, table: str, rows: Sequence[WindowRow], spec: WindowSpec) -> None:
        newest = {r.row_key: r for r in sorted(rows, key=lambda r: r.created_us)}
        with self._writing() as connection:
            before = connection.execute(
                "SELECT row_key, key, available_us, created_us FROM window_rows WHERE tbl = ? "
                "AND row_key IN (SELECT value FROM json_each(?))", (table, _json_list(newest)),
            ).fetchall()
            touched = []
            for row_key, key, available_us, created_us in before:
                if created_us > newest[row_key].created_us:
                    del newest[row_key]
                else:
                    touched.append((key, available_us))
            taken = newest.values()
            connection.executemany(
                "INSERT OR REPLACE INTO window_rows VALUES (?,?,?,?,?,?,?)",
                [(table, r.row_key, r.key, r.available_us, r.event_us, r.created_us, r.values) for r in taken],
            )
            spans: Spans = {}
            for key, at in [*touched, *((r.key, r.available_us) for r in taken)]:
                low, high = spans.get(key, (at, at))
                spans[key] = (min(low, at), max(high, at))
            for hop_us, keep_us in zip(spec.hops_us, spec.keep_tiles_us, strict=True):
                newest_us = _renew_tiles(connection, table, spans, spec, hop_us, keep_us)
            connection.executemany(
                "DELETE FROM window_rows WHERE tbl = ? AND key = ? AND available_us <= ?",
                [(table, key, newest - spec.keep_us) for key, newest in newest_us.items()],
            )

    def get_windows(self, table: str, keys: Sequence[str], at_us: int, spec: WindowSpec) -> WindowAnswer:
        place = {key: i for i, key in enumerate(keys)}
        states: dict[int, list[KeyTiles | None]] = {hop: [None] * len(keys) for hop in spec.hops_us}
        behind: set[str] = set()
        connection = self._connection()
        for key, hop_us, newest_us, state in connection.execute(
            "SELECT key, hop_us, newest_us, state FROM window_tiles WHERE tbl = ? "
            "AND key IN (SELECT value FROM json_each(?))", (table, _json_list(keys)),
        ):
            if hop_us in states:
                states[hop_us][place[key]] = unpack(newest_us, state, len(spec.columns))
                if newest_us > at_us:
                    behind.add(key)
        spans = {key: (at_us, at_us) for key in sorted(behind, key=place.__getitem__)}
        rows = _rows_of_tiles(connection, table, spans, place, spec, spec.hops_us[-1])
        parts = {}
        for hop_us in spec.hops_us:
            parts.update(answer_parts(states[hop_us], spec, hop_us, at_us, rows))
        return WindowAnswer(parts)

    def clear(self, table: str) -> None:
        with self._writing() as connection:
            for name in ("latest", "window_rows", "window_tiles"):
                connection.execute(f"DELETE FROM {name} WHERE tbl = ?", (table,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = connection
        return connection

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state["path"]
        self._local = threading.local()


def _renew_tiles(
    connection: sqlite3.Connection, table: str, spans: Spans, spec: WindowSpec, hop_us: int, keep_us: int
) -> dict[str, int]:
    """Computes anew, from the rows, the tiles that each key's span touches; gives each key's newest moment."""
    place = {key: i for i, key in enumerate(spans)}
    rows = _rows_of_tiles(connection, table, spans, place, spec, hop_us)
    owner, index, cells = fold_rows(rows, hop_us)
    tile_bounds = np.searchsorted(owner, np.arange(len(spans) + 1))
    row_bounds = np.searchsorted(rows.entity, np.arange(len(spans) + 1))
    old = {
        key: unpack(newest_us, state, len(spec.columns))
        for key, newest_us, state in connection.execute(
            "SELECT key, newest_us, state FROM window_tiles WHERE tbl = ? AND hop_us = ? "
            "AND key IN (SELECT value FROM json_each(?))", (table, hop_us, _json_list(spans)),
        )
    }
    changed = []
    newest = {}
    for key, (first, last) in spans.items():
        i = place[key]
        part = slice(tile_bounds[i], tile_bounds[i + 1])
        of_key = rows.available_us[row_bounds[i] : row_bounds[i + 1]]
        newest_us = max([last, *of_key[-1:].tolist(), *([old[key].newest_us] if key in old else [])])
        tiles = replace_tiles(
            old.get(key), _tile(first, hop_us), _tile(last, hop_us),
            KeyTiles(newest_us, index[part], cells[part]), _tile(newest_us - keep_us, hop_us),
        )
        newest[key] = newest_us
        changed.append((table, key, hop_us, newest_us, pack(tiles)))
    connection.executemany("INSERT OR REPLACE INTO window_tiles VALUES (?,?,?,?,?)", changed)
    return newest


def _rows_of_tiles(
    connection: sqlite3.Connection, table: str, spans: Spans, place: Mapping[str, int], spec: WindowSpec, hop_us: int
) -> SortedRows:
    """All rows of the tiles that each key's span touches, in the order in which they are folded."""
    ranges = [
        [place[key], key, _tile(first, hop_us) * hop_us, (_tile(last, hop_us) + 1) * hop_us]
        for key, (first, last) in spans.items()
    ]
    found = connection.execute(
        "SELECT s.value ->> 0 AS place, r.available_us, r.vals FROM json_each(?2) s CROSS JOIN window_rows r "
        "ON r.tbl = ?1 AND r.key = s.value ->> 1 "
        "AND r.available_us > s.value ->> 2 AND r.available_us <= s.value ->> 3 "
        "ORDER BY place, r.available_us, r.event_us, r.row_key", (table, json.dumps(ranges)),
    ).fetchall() if ranges else []
    entity, available, values = zip(*found, strict=True) if found else ((), (), ())
    return SortedRows(
        np.array(entity, dtype=np.int64),
        np.array(available, dtype=np.int64),
        np.frombuffer(b"".join(values)).reshape(len(values), len(spec.columns)),
    )


def _tile(moment_us: int, hop_us: int) -> int:
    """`tile_index` of one moment."""
    return -(-moment_us // hop_us) - 1


def _json_list(keys: Iterable[str]) -> str:
    return json.dumps(list(dict.fromkeys(keys)))
