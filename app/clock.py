"""Time that can be injected: event time and wall time are different things.

Pure rules take a moment as an argument; effects ask a `Clock`. Tests use `FakeClock`.
All moments are timezone-aware UTC.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is UTC.

    >>> as_utc(datetime(2013, 1, 1)).isoformat()
    '2013-01-01T00:00:00+00:00'
    """
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Clock(Protocol):
    """Where a component gets the current moment and how it waits."""

    def now(self) -> datetime: ...

    def sleep(self, duration_s: float) -> None: ...


class WallClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


class FakeClock:
    """A clock that moves only when told to; `sleep` moves it and returns at once."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def sleep(self, duration_s: float) -> None:
        self._now += timedelta(seconds=duration_s)

    def advance_to(self, moment: datetime) -> None:
        """Moves forward to `moment`.

        Raises:
            ValueError: when `moment` lies in the past.
        """
        if moment < self._now:
            raise ValueError(f"clock stands at {self._now}, cannot go back to {moment}")
        self._now = moment
