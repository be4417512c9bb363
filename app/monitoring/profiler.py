"""A Ray actor that profiles what is served, window by window of event time.

Batches are held as columns and turned into a profile tens of thousands of rows at a time: the cost of a sketch is per
call, and each profile is merged into that of its window, which grows to half a megabyte a column. Observing the same
window again after `reset` starts it afresh, so a replay that was killed and goes on from a window's start counts no row
twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.actor import ActorHandle

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name
from app.profiles import merge_profiles, profile_table

BUFFERED_VALUES = 1_000_000  # about 8 MB a window
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ProfileCollector:
    """Buffers columns per window and merges profiles; plain Python, run by the actor."""

    def __init__(self, origin: datetime, window: timedelta) -> None:
        self._origin = origin.astimezone(UTC)
        self._window = window
        self._buffers: dict[datetime, list[pa.Table]] = defaultdict(list)
        self._profiles: dict[datetime, bytes] = {}

    def observe_tables(self, batches: Sequence[tuple[pa.Array, pa.Table]]) -> None:
        """Adds tables whose rows have moments of their own [B]."""
        for moments, table in batches:
            windows = self._windows(moments)
            for window in np.unique(windows):
                start = self._origin + int(window) * self._window
                self._add(start, table if len(table) == (windows == window).sum() else table.filter(windows == window))

    def _windows(self, moments: pa.Array) -> npt.NDArray[np.int64]:
        """Which window each moment is in, counted from the origin."""
        micros: npt.NDArray[np.int64] = moments.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        width = self._window // timedelta(microseconds=1)
        return (micros - (self._origin - EPOCH) // timedelta(microseconds=1)) // width

    def _add(self, start: datetime, table: pa.Table) -> None:
        self._buffers[start].append(table)
        if sum(part.num_rows * part.num_columns for part in self._buffers[start]) >= BUFFERED_VALUES:
            self._flush(start)

    def profile(self, start: datetime, end: datetime) -> bytes | None:
        """Profile of the windows that begin in `[start, end)`; `None` when nothing was served."""
        for window in list(self._buffers):
            self._flush(window)
        found = [profile for window, profile in sorted(self._profiles.items()) if start <= window < end]
        return merge_profiles(found) if found else None

    def reset(self, start: datetime) -> None:
        """Forgets every window from `start` on."""
        for kept in (self._buffers, self._profiles):
            for window in [w for w in kept if w >= start]:
                del kept[window]

    def _flush(self, window: datetime) -> None:
        parts = self._buffers.pop(window, [])
        if not parts:
            return
        fresh = profile_table(pa.concat_tables(parts, promote_options="permissive"))
        before = self._profiles.get(window)
        self._profiles[window] = fresh if before is None else merge_profiles([before, fresh])


def start_profiler(model: str, origin: datetime, window: timedelta) -> ActorHandle[ProfileCollector]:
    """The model's profiler, started when there is none; it outlives its starter until killed."""
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(ProfileCollector)
    options = actor.options(
        name=collector_name(model), namespace=COLLECTOR_NAMESPACE, lifetime="detached", get_if_exists=True
    )
    handle: ActorHandle[ProfileCollector] = options.remote(origin, window)
    return handle
