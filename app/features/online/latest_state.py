"""State of an entity of a view without windows: its newest rows as bytes, best first. Pure.

A row counts from `max(event, available)` until a version of it that was written later becomes available, as in
`replaced_rows`; a version without an event time, a tombstone, only ends what was before it, as does one that is
replaced before it counts.

Layout: the number of rows, for each row its times and the lengths of its texts, then the texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from struct import Struct

from app.features.online.base import FOREVER_US, TOMBSTONE_US, LatestRow

LATEST_KEPT = 8  # rows kept that could be known when the newest was written: the one in force and those before it
FORECASTS_KEPT = 256  # rows kept that happen or become available later, the nearest first
_COUNT = Struct("<H")
_ROW = Struct("<qqqqqHI")  # event, available, until, created, source created, length of row key, length of values
_FIRST = Struct("<HqqqqqHI")


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row that counts before `until_us`."""

    row: LatestRow
    until_us: int = FOREVER_US

    @property
    def visible_us(self) -> int:
        return max(self.row.event_us, self.row.available_us)

    @property
    def rank(self) -> tuple[int, int, int, str, int]:
        """The order of `point_in_time`."""
        row = self.row
        return row.event_us, row.created_us, row.source_created_us, row.row_key, row.available_us


def merge(key: str, state: bytes | None, rows: Iterable[LatestRow]) -> bytes:
    """The state after further rows, in whatever order and however often they come."""
    versions: dict[str, list[KeptRow]] = {}
    for kept in (*unpack(key, state), *map(KeptRow, rows)):
        versions.setdefault(kept.row.row_key, []).append(kept)
    living, tombstones = [], []
    for of_row in versions.values():
        for kept in _until_replaced(of_row):
            if kept.until_us > kept.visible_us and kept.row.event_us != TOMBSTONE_US:
                living.append(kept)
            elif kept.until_us > kept.row.available_us:
                tombstones.append(kept)
    written_us = max(min(k.row.available_us, k.row.created_us) for k in (*living, *tombstones))
    ordered = sorted(living, key=lambda kept: kept.rank, reverse=True)
    steps = _steps(ordered)
    future = [kept for kept in steps if kept.visible_us > written_us]
    past = [kept for kept in steps if kept.visible_us <= written_us]
    if len(past) > LATEST_KEPT:  # what is behind the last one kept must not answer for what is left out
        ordered = ordered[: ordered.index(past[LATEST_KEPT])]
    in_reserve = [kept for kept in ordered if kept not in steps][:LATEST_KEPT]  # should what is better be taken back
    chosen = [*future[-FORECASTS_KEPT:], *past[:LATEST_KEPT], *in_reserve]
    tombstones.sort(key=lambda kept: kept.row.available_us, reverse=True)
    of_no_more = [KeptRow(replace(kept.row, event_us=TOMBSTONE_US, values="")) for kept in tombstones[:LATEST_KEPT]]
    return pack([*sorted(chosen, key=lambda kept: kept.rank, reverse=True), *of_no_more])


def _until_replaced(versions: list[KeptRow]) -> list[KeptRow]:
    """Versions of one row, each until the first moment at which one written later is available."""
    if len(versions) == 1:
        return versions
    ordered = sorted(versions, key=_version, reverse=True)
    result, until_us = [], FOREVER_US
    for place, kept in enumerate(ordered):
        if place and _version(kept) == _version(ordered[place - 1]):
            continue  # it came twice
        result.append(KeptRow(kept.row, min(kept.until_us, until_us)))
        until_us = min(until_us, kept.row.available_us)
    return result


def _version(kept: KeptRow) -> tuple[int, int, int, int]:
    row = kept.row
    return row.source_created_us, row.created_us, row.available_us, row.event_us


def _steps(ordered: list[KeptRow]) -> list[KeptRow]:
    """Of rows, best first, those that are the best at some moment: none that stays is better and known as soon."""
    steps: list[KeptRow] = []
    hidden_us = FOREVER_US
    for kept in ordered:
        if kept.visible_us < hidden_us:
            steps.append(kept)
            if kept.until_us == FOREVER_US:
                hidden_us = kept.visible_us
    return steps


def newest(state: bytes, at_us: int) -> tuple[int, bytes] | None:
    """Event time and values of the best row that counts at a moment: greatest event, then created.

    Nothing for a moment before the oldest row that is kept.
    """
    count, event_us, available_us, until_us, _, _, key_length, values_length = _FIRST.unpack_from(state)
    start: int = _COUNT.size + count * _ROW.size
    place = 0
    while event_us > at_us or available_us > at_us or until_us <= at_us:
        start += key_length + values_length
        place += 1
        if place == count:
            return None
        head = _COUNT.size + place * _ROW.size
        event_us, available_us, until_us, _, _, key_length, values_length = _ROW.unpack_from(state, head)
    start += key_length
    return event_us, state[start : start + values_length]


def pack(rows: list[KeptRow]) -> bytes:
    """Rows, best first, as bytes; a tombstone counts at no moment."""
    heads, texts = [_COUNT.pack(len(rows))], []
    for kept in rows:
        row = kept.row
        row_key, values = row.row_key.encode(), row.values.encode()
        until_us = TOMBSTONE_US if row.event_us == TOMBSTONE_US else kept.until_us
        times = (row.event_us, row.available_us, until_us, row.created_us, row.source_created_us)
        heads.append(_ROW.pack(*times, len(row_key), len(values)))
        texts += [row_key, values]
    return b"".join([*heads, *texts])


def unpack(key: str, state: bytes | None) -> list[KeptRow]:
    """The inverse of `pack`; nothing of nothing."""
    if state is None:
        return []
    (count,) = _COUNT.unpack_from(state)
    start = _COUNT.size + count * _ROW.size
    rows = []
    for place in range(count):
        head = _COUNT.size + place * _ROW.size
        event, available, until, created, source_created, *lengths = _ROW.unpack_from(state, head)
        row_key, values = (state[start : start + lengths[0]], state[start + lengths[0] : start + sum(lengths)])
        start += sum(lengths)
        row = LatestRow(key, event, available, created, row_key.decode(), values.decode(), source_created)
        rows.append(KeptRow(row, FOREVER_US if event == TOMBSTONE_US else until))
    return rows
