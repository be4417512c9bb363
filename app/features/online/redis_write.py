"""What a batch of rows changes in Redis: read under `WATCH`, written in one transaction.

A table is one hash of states, one of tiles, one that finds the versions of a row by its row key, and a sorted set of
rows for each entity of a view with windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from struct import Struct
from typing import Any

import numpy as np

from app.features.online.base import Batch, LatestBatch, LatestRow, Span, StoredRows
from app.features.online.latest_state import merge
from app.features.online.renewal import Renewal, Renewing
from app.features.online.row_versions import Intake, Known, KnownVersion, Place, take_in

SCORE_SLACK_US = 4_096  # scores are doubles: exact up to the year 2255, beyond it this far off
_ROW = Struct("<qqqI")  # available, event, until, length of the row key
_KNOWN = Struct("<qqqqI")  # available, created, created at the source, until, length of the key


@dataclass(frozen=True)
class BatchWrite:
    """What one batch writes.

    `replaced`: entities whose keys go first. `known`: versions by row key, none where they go. `old`: what is kept of
    the versions that change. `forgotten`: by entity, until when no window reaches its rows.
    """

    table: str
    replaced: tuple[bytes, ...] | None
    states: dict[str, bytes]
    tiles: dict[str, bytes]
    intake: Intake | None = None
    known: dict[str, list[KnownVersion]] = field(default_factory=dict)
    old: tuple[tuple[Place, bytes], ...] = ()
    forgotten: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, client: Any, batch: Batch, replace: bool) -> BatchWrite:
        gone = tuple(client.hkeys(states_key(batch.table))) if replace else None
        if isinstance(batch, LatestBatch):
            rows: dict[str, list[LatestRow]] = {}
            for row in batch.rows:
                rows.setdefault(row.key, []).append(row)
            old = [None] * len(rows) if replace else packed(client, states_key(batch.table), list(rows))
            merged = {key: merge(key, state, rows[key]) for key, state in zip(rows, old, strict=True)}
            return cls(batch.table, gone, merged, {})
        found = [] if replace else packed(client, known_key(batch.table), batch.row_keys)
        known = {k: _versions(entry) for k, entry in zip(batch.row_keys, found, strict=False) if entry is not None}
        intake = take_in(batch, known)
        nothing: list[bytes | None] = [None] * len(intake.keys)
        states, tiles = (
            nothing if replace else packed(client, name(batch.table), intake.keys) for name in (states_key, tiles_key)
        )
        renewing = Renewing(intake, states, tiles)
        renewal = renewing.renewed(stored_rows(client, batch.table, renewing.spans(), batch.layout.num_words))
        reached = _reached(intake, renewal)
        forgotten, left = _forgotten(client, batch.table, renewal)
        return cls(
            batch.table, gone, dict(zip(renewal.keys, renewal.states, strict=True)),
            dict(zip(renewal.keys, renewal.tiles, strict=True)), reached, _known_after({**known, **left}, reached),
            _members(client, batch.table, [*intake.gone, *(place for place, _ in intake.ended)]), forgotten,
        )

    def add_to(self, transaction: Any) -> None:
        """Adds the commands. What is forgotten goes first: a corrected row keeps its key at another time."""
        if self.replaced is not None:
            transaction.unlink(*_names(self.table, self.replaced))
        for place, member in self.old:
            transaction.zrem(rows_key(self.table, place.key), member)
        for key, until_us in self.forgotten.items():
            transaction.zremrangebyscore(rows_key(self.table, key), "-inf", until_us - SCORE_SLACK_US)
        unknown = [row_key for row_key, versions in self.known.items() if not versions]
        if unknown:
            transaction.hdel(known_key(self.table), *unknown)
        if self.intake is not None:
            self._add_rows(transaction, self.intake)
        known = {row_key: b"".join(map(_version, versions)) for row_key, versions in self.known.items() if versions}
        for name, mapping in ((states_key, self.states), (tiles_key, self.tiles), (known_key, known)):
            if mapping:
                transaction.hset(name(self.table), mapping=mapping)

    def _add_rows(self, transaction: Any, intake: Intake) -> None:
        ended, taken = dict(intake.ended), intake.taken
        members: dict[str, dict[bytes, int]] = {}
        for place, member in self.old:
            forgotten_us = self.forgotten.get(place.key, place.available_us) - SCORE_SLACK_US
            if place in ended and place.available_us > forgotten_us:
                row_key, available, event, _, values = _unpack(member)
                again = _member(row_key, available, event, ended[place], values)
                members.setdefault(place.key, {})[again] = available
        times = (moments.tolist() for moments in (taken.available_us, taken.event_us, intake.until_us))
        for key, row_key, available, event, until, values in zip(
            taken.keys, taken.row_keys, *times, taken.values, strict=True
        ):
            members.setdefault(key, {})[_member(row_key, available, event, until, values.tobytes())] = available
        for key, scores in members.items():
            transaction.zadd(rows_key(self.table, key), scores)


def stored_rows(client: Any, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
    """See `OnlineStore.rows`."""
    pipeline = client.pipeline(transaction=False)
    for span in spans:
        pipeline.zrangebyscore(
            rows_key(table, span.key), span.after_us - SCORE_SLACK_US, span.until_us + SCORE_SLACK_US
        )
    members = [
        (span.key, *_unpack(member))
        for span, found in zip(spans, pipeline.execute() if spans else [], strict=True) for member in found
        if span.after_us < _ROW.unpack_from(member)[0] <= span.until_us
    ]
    keys, row_keys, *times, values = zip(*members, strict=True) if members else ((),) * 6
    available, event, until = (np.array(moments, dtype=np.int64) for moments in times)
    matrix = np.frombuffer(b"".join(values)).reshape(len(values), num_columns)
    return StoredRows(keys, row_keys, event, available, until, matrix)


def packed(client: Any, name: str, fields: Sequence[str]) -> list[bytes | None]:
    """Fields of a hash."""
    found: list[bytes | None] = client.hmget(name, fields) if fields else []
    return found


def _known_after(known: Known, intake: Intake) -> dict[str, list[KnownVersion]]:
    """By row key, what is known of the versions of the rows that an intake touches."""
    gone, ended, taken = set(intake.gone), dict(intake.ended), intake.taken
    after: dict[str, list[KnownVersion]] = {}
    for row_key, versions in known.items():
        stays = after.setdefault(row_key, [])
        for version in versions:
            place = Place(row_key, version.key, version.available_us)
            if place not in gone:
                stays.append(changed(version, until_us=ended.get(place, version.until_us)))
    times = (taken.available_us, taken.created_us, taken.source_created_us, intake.until_us)
    for key, row_key, *of_row in zip(taken.keys, taken.row_keys, *(t.tolist() for t in times), strict=True):
        after.setdefault(row_key, []).append(KnownVersion(key, *of_row))
    return after


def _version(version: KnownVersion) -> bytes:
    key = version.key.encode()
    times = (version.available_us, version.created_us, version.source_created_us, version.until_us)
    return _KNOWN.pack(*times, len(key)) + key


def _versions(entry: bytes) -> list[KnownVersion]:
    """The inverse of `_version`, of several."""
    versions, start = [], 0
    while start < len(entry):
        *times, length = _KNOWN.unpack_from(entry, start)
        start += _KNOWN.size + length
        versions.append(KnownVersion(entry[start - length : start].decode(), *times))
    return versions


def _members(client: Any, table: str, places: Sequence[Place]) -> tuple[tuple[Place, bytes], ...]:
    """Members of the sorted sets that hold some versions."""
    pipeline = client.pipeline(transaction=False)
    for place in places:
        low, high = place.available_us - SCORE_SLACK_US, place.available_us + SCORE_SLACK_US
        pipeline.zrangebyscore(rows_key(table, place.key), low, high)
    return tuple(
        (place, member)
        for place, found in zip(places, pipeline.execute() if places else [], strict=True)
        for member in found if _unpack(member)[:2] == (place.row_key, place.available_us)
    )


def _reached(intake: Intake, renewal: Renewal) -> Intake:
    """Without the rows that no window reaches any more."""
    after = {k: us for k, us in zip(renewal.keys, renewal.rows_after_us, strict=True) if us is not None}
    taken = intake.taken
    reached = [us > after.get(key, us - 1) for key, us in zip(taken.keys, taken.available_us.tolist(), strict=True)]
    if all(reached):
        return intake
    at = np.flatnonzero(reached)
    return changed(intake, taken=taken.take(at), until_us=intake.until_us[at])


def _forgotten(client: Any, table: str, renewal: Renewal) -> tuple[dict[str, int], dict[str, list[KnownVersion]]]:
    """Until when rows are reached by no window any more, by entity; and what stays of versions of such rows."""
    old = {key: us for key, us in zip(renewal.keys, renewal.rows_after_us, strict=True) if us is not None}
    if not old:
        return {}, {}
    pipeline = client.pipeline(transaction=False)
    for key, until_us in old.items():
        pipeline.zrangebyscore(rows_key(table, key), "-inf", until_us - SCORE_SLACK_US)
    row_keys = list(dict.fromkeys(_unpack(member)[0] for found in pipeline.execute() for member in found))
    entries = zip(row_keys, packed(client, known_key(table), row_keys), strict=True)
    return old, {
        row_key: [v for v in _versions(entry) if v.available_us > old.get(v.key, v.available_us - 1) - SCORE_SLACK_US]
        for row_key, entry in entries if entry is not None
    }


def _member(row_key: str, available_us: int, event_us: int, until_us: int, values: bytes) -> bytes:
    name = row_key.encode()
    return _ROW.pack(available_us, event_us, until_us, len(name)) + name + values


def _unpack(member: bytes) -> tuple[str, int, int, int, bytes]:
    """Row key, available and event time, until when it counts, values."""
    available, event, until, length = _ROW.unpack_from(member)
    end = _ROW.size + length
    return member[_ROW.size : end].decode(), available, event, until, member[end:]


def num_rows(batch: Batch) -> int:
    """Rows of a batch."""
    return len(batch.rows) if isinstance(batch, LatestBatch) else len(batch.keys)


def _names(table: str, keys: Sequence[bytes]) -> list[bytes | str]:
    """Every Redis key of a table with these entities."""
    prefix = rows_key(table, "").encode()
    return [states_key(table), tiles_key(table), known_key(table), *(prefix + key for key in keys)]


def states_key(table: str) -> str:
    """Where the states of a table are."""
    return f"millrace:{{{table}}}:states"


def tiles_key(table: str) -> str:
    """Where its tiles are."""
    return f"millrace:{{{table}}}:tiles"


def known_key(table: str) -> str:
    """Where the versions of its rows are."""
    return f"millrace:{{{table}}}:known"


def rows_key(table: str, key: str) -> str:
    """Where the rows of an entity are."""
    return f"millrace:{{{table}}}:rows:{key}"
