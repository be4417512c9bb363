"""Shows a candidate copies of what the champion answered, and records how its scores compare.

Nobody waits for it: a copy goes out after the answer, its result never reaches a caller, and when the candidate cannot
keep up copies are left out, not queued. What is recorded is therefore a sample, never a debt. Of Arrow tables the first
rows are shown (`table_copy.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

from app.predictionlog.segment import SegmentWriter
from app.serving.answer import CandidateAnswer
from app.serving.predictor import Answered
from app.serving.routing import Route
from app.serving.schema import Row
from app.serving.traffic import position

logger = logging.getLogger(__name__)

MAX_WAITING = 32  # copies under way in a replica
SALT = "mirror"

Ask = Callable[[str, list[Row]], Awaitable[CandidateAnswer]]


def mirrored_places(answered: Answered) -> list[int]:
    """Rows of an answer that the candidate is shown: the champion's own, a sticky share of them by key. Pure."""
    route = answered.route
    if route.candidate is None or route.mirror_percent <= 0:
        return []
    return [
        place
        for place, p in enumerate(answered.predictions)
        if p.variant == "champion" and is_shown(p.key, route)
    ]


def is_shown(key: str, route: Route) -> bool:
    """Whether a key is of the share that is mirrored: the same for a whole rollout, dealt apart from the split."""
    return position(key, f"{SALT}:{route.salt}") < route.mirror_percent


class Mirror:
    """One replica's copies. Used on its event loop.

    Args:
        ask: gives the candidate's answer, a failure included, within a time limit.
        log: where comparisons are written.
        writer: runs what blocks.
    """

    def __init__(self, ask: Ask, log: SegmentWriter, writer: Executor) -> None:
        self._ask = ask
        self._log = log
        self._writer = writer
        self._under_way: set[asyncio.Task[None]] = set()
        self.num_shown = 0
        self.num_left_out = 0

    def show(self, answered: Answered, num_left_out: int = 0) -> None:
        """Starts a copy of an answered request, if the traffic asks for one; `num_left_out`: rows it lacks already."""
        self.num_left_out += num_left_out
        places = mirrored_places(answered)
        if not places:
            return
        if len(self._under_way) >= MAX_WAITING:
            self.num_left_out += len(places)
            return
        self.num_shown += len(places)
        copy = asyncio.ensure_future(self._compare(answered, places))
        self._under_way.add(copy)
        copy.add_done_callback(self._done)

    async def _compare(self, answered: Answered, places: list[int]) -> None:
        assert answered.route.candidate is not None
        began = time.perf_counter()
        answer = await self._ask(answered.route.candidate, [answered.rows[place] for place in places])
        latency_s = time.perf_counter() - began
        record = comparison(answered, places, answer, latency_s)
        await asyncio.get_running_loop().run_in_executor(self._writer, self._log.append, record)

    def _done(self, copy: asyncio.Task[None]) -> None:
        self._under_way.discard(copy)
        if not copy.cancelled() and (error := copy.exception()) is not None:
            logger.error("a mirrored request could not be recorded", exc_info=error)


def comparison(
    answered: Answered, places: list[int], answer: CandidateAnswer, latency_s: float
) -> dict[str, Any]:
    """The record of one mirrored request. Pure."""
    failures = answer.usable(len(places))
    scores = answer.scores if answer.error is None and len(answer.scores) == len(places) else (None,) * len(places)
    return {
        "request_id": answered.request_id,
        "at": answered.at.isoformat(),
        "epoch": answered.route.epoch,
        "rollout_id": answered.route.rollout_id,
        "version": answered.route.champion,
        "mirror_version": answered.route.candidate,
        "latency_ms": answered.latency_s * 1_000,
        "mirror_latency_ms": latency_s * 1_000,
        "logged_timestamp": datetime.now(UTC).isoformat(),
        "rows": [
            {
                "key": answered.predictions[place].key,
                "score": answered.predictions[place].score,
                "mirror_score": score if failure is None else None,
                "mirror_error": failure,
            }
            for place, score, failure in zip(places, scores, failures, strict=True)
        ],
    }
