"""State of an entity of a view without windows: its newest rows as bytes, best first. Pure.

Layout: the number of rows, for each row its times and the lengths of its texts, then the texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from app.features.online.base import LatestRow

LATEST_KEPT = 8  # rows kept that could be known when the newest was written: the one in force and those before it
FORECASTS_KEPT = 256  # rows kept that happen or become available later, the nearest first
_COUNT = Struct("<H")
_ROW = Struct("<qqqqHI")  # event, available, created, source created, length of row key, length of values
_FIRST = Struct("<HqqqqHI")


def merge(key: str, state: bytes | None, rows: Iterable[LatestRow]) -> bytes:
    """The state after further rows, in whatever order and however often they come.

    Of a row that was written twice (same event, row key and available time) the one created last stays.
    """
    kept: dict[tuple[int, str, int], LatestRow] = {}
    for row in (*unpack(key, state), *rows):
        identity = (row.event_us, row.row_key, row.available_us)
        if identity not in kept or _rank(row) >= _rank(kept[identity]):
            kept[identity] = row
    steps = _steps(sorted(kept.values(), key=_rank, reverse=True))
    written_us = max(min(row.available_us, row.created_us) for row in kept.values())
    future = [row for row in steps if _visible_us(row) > written_us]
    return pack([*future[-FORECASTS_KEPT:], *steps[len(future) :][:LATEST_KEPT]])


def _steps(ordered: list[LatestRow]) -> list[LatestRow]:
    """Of rows, best first, those that are the best at some moment: each can be known before all that beat it."""
    steps: list[LatestRow] = []
    for row in ordered:
        if not steps or _visible_us(row) < _visible_us(steps[-1]):
            steps.append(row)
    return steps


def _visible_us(row: LatestRow) -> int:
    return max(row.event_us, row.available_us)


def newest(state: bytes, at_us: int) -> tuple[int, bytes] | None:
    """Event time and values of the best row known at a moment: greatest event, then created.

    Nothing for a moment before the oldest row that is kept.
    """
    count, event_us, available_us, _, _, key_length, values_length = _FIRST.unpack_from(state)
    start: int = _COUNT.size + count * _ROW.size
    place = 0
    while event_us > at_us or available_us > at_us:
        start += key_length + values_length
        place += 1
        if place == count:
            return None
        head = _COUNT.size + place * _ROW.size
        event_us, available_us, _, _, key_length, values_length = _ROW.unpack_from(state, head)
    start += key_length
    return event_us, state[start : start + values_length]


def pack(rows: list[LatestRow]) -> bytes:
    """Rows, best first, as bytes."""
    heads, texts = [_COUNT.pack(len(rows))], []
    for row in rows:
        row_key, values = row.row_key.encode(), row.values.encode()
        times = (row.event_us, row.available_us, row.created_us, row.source_created_us)
        heads.append(_ROW.pack(*times, len(row_key), len(values)))
        texts += [row_key, values]
    return b"".join([*heads, *texts])


def unpack(key: str, state: bytes | None) -> list[LatestRow]:
    """The inverse of `pack`; nothing of nothing."""
    if state is None:
        return []
    (count,) = _COUNT.unpack_from(state)
    start = _COUNT.size + count * _ROW.size
    rows = []
    for place in range(count):
        event, available, created, source_created, *lengths = _ROW.unpack_from(state, _COUNT.size + place * _ROW.size)
        row_key, values = (state[start : start + lengths[0]], state[start + lengths[0] : start + sum(lengths)])
        start += sum(lengths)
        rows.append(LatestRow(key, event, available, created, row_key.decode(), values.decode(), source_created))
    return rows


def _rank(row: LatestRow) -> tuple[int, int, int, str, int]:
    """The order of `point_in_time`."""
    return row.event_us, row.created_us, row.source_created_us, row.row_key, row.available_us
