"""Monitoring windows of a stretch of history. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Window:
    """Half-open stretch of event time `[start, end)`."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """Sorts as text like the windows sort in time."""
        return f"{self.start:%Y-%m-%dT%H%M}"


def windows(start: datetime, end: datetime, length: timedelta) -> Iterator[Window]:
    """Consecutive windows of `length` from `start`; the last one ends at `end`.

    A rest shorter than half a window joins the one before it.

    >>> from datetime import UTC
    >>> day = timedelta(days=1)
    >>> begin = datetime(2013, 9, 1, tzinfo=UTC)
    >>> [(w.end - w.start) // day for w in windows(begin, begin + 17 * day, 7 * day)]
    [7, 10]
    """
    while start < end:
        stop = start + length
        if end - stop < length / 2:
            stop = end
        yield Window(start, stop)
        start = stop
