"""Which rows each step of each epoch learns from: pure, from the seed alone.

Rows lie in chunks. An epoch shuffles the chunks, cuts their rows into as many equal lanes as the model has workers that
share rows, and each lane into windows of steps, whose rows are shuffled again when a window is read. A batch is one
share of each lane. A worker reads the lanes that are its own: all of them, where it is alone. So the rows of a step
never depend on how many workers there are, or on whether a run was cut off before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

WINDOW_BYTES = 32 * 1024**2  # what a worker holds of one lane, a few times over; also how far rows are mixed


@dataclass(frozen=True)
class Part:
    """Rows `[start, stop)` of a chunk."""

    chunk: int
    start: int
    stop: int


@dataclass(frozen=True)
class Window:
    """Consecutive steps of one lane in one epoch, `first_step` counted within the epoch."""

    epoch: int
    lane: int
    first_step: int
    num_steps: int
    parts: tuple[Part, ...]

    def order(self, seed: int, num_rows: int) -> np.ndarray:
        """The shuffled positions of the window's rows."""
        return np.random.default_rng((seed, self.epoch, self.lane, self.first_step)).permutation(num_rows)


@dataclass(frozen=True)
class DataPlan:
    """How rows become batches. `row_bytes`: of an encoded row; `batch_size`: of all lanes together."""

    chunk_rows: tuple[int, ...]
    batch_size: int
    num_lanes: int
    seed: int
    row_bytes: int
    window_bytes: int = WINDOW_BYTES

    @property
    def num_rows(self) -> int:
        return sum(self.chunk_rows)

    @property
    def share(self) -> int:
        """Rows of a batch that come from each lane."""
        return self.batch_size // self.num_lanes

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; what is left of an epoch is other rows in each."""
        return self.num_rows // self.batch_size

    @property
    def steps_per_window(self) -> int:
        return max(1, self.window_bytes // (self.row_bytes * self.share))

    @property
    def in_one_window(self) -> bool:
        """Whether an epoch is so small that ranks read it without Ray Data."""
        return self.steps_per_epoch * self.num_lanes <= self.steps_per_window

    def windows(self, lane: int, epoch: int, first_step: int = 0) -> Iterator[Window]:
        """The windows of a lane in an epoch, from the one that holds `first_step` on."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.chunk_rows))
        ends = np.cumsum(np.array(self.chunk_rows, dtype=np.int64)[order])
        lane_start = lane * self.steps_per_epoch * self.share
        for step in range(first_step - first_step % self.steps_per_window, self.steps_per_epoch, self.steps_per_window):
            num_steps = min(self.steps_per_window, self.steps_per_epoch - step)
            start = lane_start + step * self.share
            yield Window(epoch, lane, step, num_steps, _parts(order, ends, start, start + num_steps * self.share))

    def lanes_of(self, rank: int, num_workers: int) -> range:
        """The lanes that a data-parallel rank reads.

        Raises:
            ValueError: the lanes cannot be shared evenly.
        """
        each, rest = divmod(self.num_lanes, num_workers)
        if rest:
            raise ValueError(f"{self.num_lanes} lanes cannot be shared by {num_workers} workers")
        return range(rank * each, (rank + 1) * each)


def _parts(order: np.ndarray, ends: np.ndarray, start: int, stop: int) -> tuple[Part, ...]:
    """Rows `[start, stop)` of the chunks laid end to end in `order`."""
    parts = []
    for position in range(int(np.searchsorted(ends, start, side="right")), len(order)):
        begins = int(ends[position - 1]) if position else 0
        if begins >= stop:
            break
        first, last = max(start, begins) - begins, min(stop, int(ends[position])) - begins
        if first < last:
            parts.append(Part(int(order[position]), first, last))
    return tuple(parts)


def fitting_batch(batch_size: int, num_rows: int, multiple: int) -> int:
    """The batch size, or the largest smaller multiple that so few rows can fill; 0 where they fill none.

    >>> fitting_batch(1_024, 300, 4), fitting_batch(1_024, 5_000, 4), fitting_batch(8, 3, 4)
    (300, 1024, 0)
    """
    return min(batch_size, num_rows // multiple * multiple)


def possible_workers(most: int, least: int) -> Sequence[int]:
    """Numbers of workers that can share the lanes of `most` evenly, largest first.

    >>> possible_workers(4, 1), possible_workers(6, 2)
    ([4, 2, 1], [6, 3, 2])
    """
    return [n for n in range(most, least - 1, -1) if most % n == 0]
