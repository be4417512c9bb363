"""State of an entity of a view without windows: its newest rows as bytes, best first. Pure.

Layout: the number of rows, for each row its times and the lengths of its texts, then the texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from struct import Struct

from app.features.online.base import LatestRow

LATEST_KEPT = 8  # rows kept that lie in the past of the newest available time
FORECASTS_KEPT = 256  # rows kept whose event lies after it, the nearest first
_COUNT = Struct("<H")
_ROW = Struct("<qqqHI")  # event, available, created, length of row key, length of values
_FIRST = Struct("<HqqqHI")


def merge(key: str, state: bytes | None, rows: Iterable[LatestRow]) -> bytes:
    """The state after further rows, in whatever order and however often they come.

    Of a row that was written twice (same event, row key and available time) the one created last stays.
    """
    kept: dict[tuple[int, str, int], LatestRow] = {}
    for row in (*unpack(key, state), *rows):
        identity = (row.event_us, row.row_key, row.available_us)
        if identity not in kept or row.created_us >= kept[identity].created_us:
            kept[identity] = row
    ordered = sorted(kept.values(), key=_rank, reverse=True)
    known_us = max(row.available_us for row in ordered)
    past = islice((r for r in ordered if r.event_us <= known_us), LATEST_KEPT)
    future = [r for r in ordered if r.event_us > known_us][-FORECASTS_KEPT:]
    return pack([*future, *past])


def newest(state: bytes, at_us: int) -> tuple[int, bytes] | None:
    """Event time and values of the best row known at a moment: greatest event, then created."""
    count, event_us, available_us, _, key_length, values_length = _FIRST.unpack_from(state)
    start: int = _COUNT.size + count * _ROW.size
    place = 0
    while event_us > at_us or available_us > at_us:
        start += key_length + values_length
        place += 1
        if place == count:
            return None
        event_us, available_us, _, key_length, values_length = _ROW.unpack_from(state, _COUNT.size + place * _ROW.size)
    start += key_length
    return event_us, state[start : start + values_length]


def pack(rows: list[LatestRow]) -> bytes:
    """Rows, best first, as bytes."""
    heads, texts = [_COUNT.pack(len(rows))], []
    for row in rows:
        row_key, values = row.row_key.encode(), row.values.encode()
        heads.append(_ROW.pack(row.event_us, row.available_us, row.created_us, len(row_key), len(values)))
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
        event, available, created, *lengths = _ROW.unpack_from(state, _COUNT.size + place * _ROW.size)
        row_key, values = (state[start : start + lengths[0]], state[start + lengths[0] : start + sum(lengths)])
        start += sum(lengths)
        rows.append(LatestRow(key, event, available, created, row_key.decode(), values.decode()))
    return rows


def _rank(row: LatestRow) -> tuple[int, int, str, int]:
    return row.event_us, row.created_us, row.row_key, row.available_us
