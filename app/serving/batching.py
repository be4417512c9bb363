"""Scores requests together that wait for a busy model.

While the model works on one batch the next gathers, so batches grow with the load and a lone request waits for
nothing. `decide_wait_s` may hold a batch back a little where company is likely.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from app.serving.answer import CandidateAnswer
from app.serving.predictor import Answered, Pending
from app.spec.serving import Batching

Finish = Callable[[Sequence[tuple[Pending, CandidateAnswer]]], Awaitable[list[Answered | Exception]]]
SMOOTHING = 0.1  # weight of the newest gap between requests


def decide_wait_s(num_waiting: int, gap_s: float, policy: Batching) -> float:
    """How long to hold a batch back: until the next request or two may have come, if they come soon enough.

    Args:
        num_waiting: requests gathered.
        gap_s: usual time between requests.

    >>> decide_wait_s(1, 0.001, Batching(max_wait_s=0.005))
    0.002
    >>> decide_wait_s(1, 0.5, Batching(max_wait_s=0.005)), decide_wait_s(9, 0.001, Batching(max_wait_s=0.005))
    (0.0, 0.0)
    """
    if num_waiting >= 8 or 2 * gap_s > policy.max_wait_s:
        return 0.0
    return 2 * gap_s


class Batcher:
    """Gathers requests on one event loop.

    Args:
        finish: scores several; runs elsewhere, one call at a time.
    """

    def __init__(self, policy: Batching, finish: Finish) -> None:
        self._policy = policy
        self._finish = finish
        self._waiting: list[tuple[Pending, CandidateAnswer, asyncio.Future[Answered]]] = []
        self._task: asyncio.Task[None] | None = None
        self._gap_s = 1.0
        self._came_at = float("-inf")
        self.num_batches = 0
        self.num_requests = 0

    async def finish(self, pending: Pending, candidate: CandidateAnswer) -> Answered:
        """The answer to one request, scored with whoever else waits.

        Raises:
            Exception: what the model or the log raised for this request.
        """
        now = time.perf_counter()
        self._gap_s += SMOOTHING * (min(1.0, now - self._came_at) - self._gap_s)
        self._came_at = now
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((pending, candidate, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            wait_s = decide_wait_s(len(self._waiting), self._gap_s, self._policy)
            if wait_s:
                await asyncio.sleep(wait_s)
            batch = self._take()
            if not batch:
                continue
            self.num_batches += 1
            self.num_requests += len(batch)
            try:
                results = await self._finish([(pending, candidate) for pending, candidate, _ in batch])
            except Exception as error:  # noqa: BLE001 nobody may wait for ever
                results = [error] * len(batch)
            for (_, _, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _take(self) -> list[tuple[Pending, CandidateAnswer, asyncio.Future[Answered]]]:
        """The oldest waiting, up to `max_rows` rows and at least one; those whose caller has gone are dropped."""
        taken: list[tuple[Pending, CandidateAnswer, asyncio.Future[Answered]]] = []
        num_rows = 0
        while self._waiting:
            pending, _, future = self._waiting[0]
            if future.cancelled():
                self._waiting.pop(0)
                continue
            if taken and num_rows + len(pending.rows) > self._policy.max_rows:
                break
            num_rows += len(pending.rows)
            taken.append(self._waiting.pop(0))
        return taken
