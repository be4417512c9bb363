"""The batches of one data-parallel rank, step by step, from a position to the end of a run.

A rank whose lanes fit into one window reads them from the files by itself, one epoch ahead: to start a stream of Ray
Data would take longer than the reading. Larger sets stream through Ray Data, one task for each window, a few windows
ahead. Both give the same batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.training.arrays import Arrays
from app.training.data_plan import DataPlan
from app.training.encoded_rows import EncodedRows

WINDOWS_AHEAD = 2
DATA_CPUS = 0.5  # of the one CPU that each worker asks for


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` steps of `epoch` are done, both from 0."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Batch:
    """A rank's rows of one step, and how long the rank waited for them."""

    epoch: int
    step: int
    rows: Arrays
    wait_s: float


@dataclass(frozen=True)
class RankStream:
    """What a rank reads: `lanes` of `rows` as the plan says."""

    rows: EncodedRows
    plan: DataPlan
    lanes: tuple[int, ...]

    def batches(self, epochs: int, start: Position = Position(), *, through_ray: bool | None = None) -> Iterator[Batch]:
        """All batches from `start` to the end of the last epoch.

        Args:
            epochs: of the whole run.
            start: where to go on.
            through_ray: whether Ray Data streams the windows; by default only where an epoch is larger than a window.
        """
        beginnings = [
            (epoch, window.first_step)
            for epoch in range(start.epoch, epochs)
            for window in self.plan.windows(self.lanes[0], epoch, start.step if epoch == start.epoch else 0)
        ]
        if through_ray is None:
            through_ray = not self.plan.in_one_window
        windows = self._through_ray(beginnings) if through_ray else self._in_a_thread(beginnings)
        size = self.plan.share * len(self.lanes)
        for epoch, first_step in beginnings:
            asked_s = time.perf_counter()
            rows = next(windows)
            wait_s = time.perf_counter() - asked_s
            for i in range(len(rows.label) // size):
                step = first_step + i
                if epoch == start.epoch and step < start.step:
                    continue  # done before the run was cut off
                yield Batch(epoch, step, _slice(rows, i * size, (i + 1) * size), wait_s)
                wait_s = 0.0

    def read(self, epoch: int, first_step: int) -> Arrays:
        """The rows of one window of all lanes, in the order of the steps."""
        parts = []
        for lane in self.lanes:
            window = next(self.plan.windows(lane, epoch, first_step))
            parts.append((self.rows.read(window, self.plan.seed), window.num_steps))
        if len(parts) == 1:
            return parts[0][0]
        num_steps = parts[0][1]

        def by_step(name: str) -> np.ndarray:
            columns = [getattr(lane, name) for lane, _ in parts]
            shared = [c.reshape(num_steps, self.plan.share, *c.shape[1:]) for c in columns]
            return np.concatenate(shared, axis=1).reshape(-1, *columns[0].shape[1:])

        return Arrays(by_step("numeric"), by_step("codes"), by_step("label"))

    def _in_a_thread(self, beginnings: list[tuple[int, int]]) -> Iterator[Arrays]:
        with ThreadPoolExecutor(1) as thread:
            coming = deque(thread.submit(self.read, *beginning) for beginning in beginnings[:1])
            for following in beginnings[1:]:
                ready = coming.popleft().result()
                coming.append(thread.submit(self.read, *following))
                yield ready
            yield from (last.result() for last in coming)

    def _through_ray(self, beginnings: list[tuple[int, int]]) -> Iterator[Arrays]:
        import ray.data
        from ray.data import ExecutionOptions
        from ray.data._internal.execution.interfaces import ExecutionResources
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        items = [{"epoch": epoch, "first_step": step} for epoch, step in beginnings]
        windows = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _read_window,  # type: ignore[arg-type]
            fn_kwargs={"stream": self},
            batch_size=1,
            batch_format="numpy",
            num_cpus=DATA_CPUS,
            scheduling_strategy=here,
        )
        context = windows.context
        context.enable_progress_bars = False
        memory = self.plan.window_bytes * len(self.lanes) * (WINDOWS_AHEAD + 2)
        context.execution_options = ExecutionOptions(
            preserve_order=True, resource_limits=ExecutionResources(cpu=1, object_store_memory=memory)
        )
        for found in windows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=WINDOWS_AHEAD):
            yield _from_columns(found)


def _read_window(item: Any, stream: RankStream) -> dict[str, np.ndarray]:
    """A task's work; a column without a width (no numbers or no categories) is left out, since Ray keeps none."""
    read = stream.read(int(item["epoch"][0]), int(item["first_step"][0]))
    columns = {"numeric": read.numeric, "codes": read.codes, "label": read.label}
    return {name: values for name, values in columns.items() if values.ndim == 1 or values.shape[1]}


def _from_columns(found: Any) -> Arrays:
    label = found["label"]
    numeric = found.get("numeric", np.zeros((len(label), 0), np.float32))
    return Arrays(numeric, found.get("codes", np.zeros((len(label), 0), np.int64)), label)


def _slice(rows: Arrays, start: int, stop: int) -> Arrays:
    return Arrays(rows.numeric[start:stop], rows.codes[start:stop], rows.label[start:stop])
