"""Everything one replica needs to answer, whatever carries the requests to it.

What blocks runs in a worker thread, because in throughput mode the replica's event loop is also its router: pushes,
which may commit to tables, in one of their own, so that predictions do not wait for them. Requests that need no look-up
and a model of well under a millisecond are answered on the loop itself: handing them over would cost more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from app.errors import FeatureStoreError, MillraceError, RequestTimeoutError
from app.features.access import hidden_in_log
from app.features.store import FeatureStore
from app.foundation.access import Authenticator, TokenRegistry
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.models.artefact import ServableModel
from app.predictionlog.segment import SegmentWriter, segment_folder
from app.serving.answer import CandidateAnswer
from app.serving.batching import Batcher
from app.serving.bulk import BulkAnswered, BulkPredictor
from app.serving.caller import Caller
from app.serving.candidate_line import AskCandidate, CandidateError
from app.serving.feature_callers import FeatureCallers
from app.serving.follower import Followed, RouteFollower
from app.serving.inline import decide_inline, usual_s
from app.serving.loading import load_version
from app.serving.metrics import Metrics
from app.serving.mirror import Mirror
from app.serving.predictor import Answered, Pending, Predictor
from app.serving.request import PredictRequest
from app.serving.routing import RoutingTable, needs_champion, wants_prepared
from app.serving.schema import RequestSchema, Row
from app.serving.score_cache import ScoreCache
from app.settings import Settings

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")

CANDIDATE_TIMEOUT_S = 2.0
INLINE_BYTES = 16_384  # a body up to here is parsed on the loop
STUCK_S = 60.0


class Feed(Protocol):
    """Where answered rows go for monitoring."""

    def __call__(self, at: datetime, rows: Sequence[Row], scores: Sequence[float]) -> None: ...

    def table(self, at: datetime, features: pa.Table, scores: Sequence[float]) -> None: ...

    def flush(self) -> None: ...


class ModelService:
    """One replica's project, stores, traffic and log.

    Args:
        project_ref: `module:NAME` of the project; it is loaded here.
        replica_id: under which it acknowledges routing epochs.
        ask_candidate: gives the candidate's scores.
        feed: gets what was answered.
        metrics: counts what was answered.
    """

    def __init__(
        self, project_ref: str, settings: Settings, replica_id: str, ask_candidate: AskCandidate,
        feed: Callable[[str], Feed], metrics: Callable[[str], Metrics],
    ) -> None:
        self.settings = settings
        self.replica_id = replica_id
        self._ask = ask_candidate
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="millrace-answer")
        self._push_thread = ThreadPoolExecutor(1, thread_name_prefix="millrace-push")
        self._busy_since: float | None = None
        self._model_s = float("inf")
        # The store's SQLite connections belong to the thread that opens them.
        self._thread.submit(self._open, project_ref, feed, metrics).result()
        self._push_thread.submit(self._open_for_pushes).result()

    def _open(self, project_ref: str, feed: Callable[[str], Feed], metrics: Callable[[str], Metrics]) -> None:
        settings = self.settings
        project = self.project = load_project(project_ref)
        policy = self.policy = project.serving
        database = StateDatabase.open(settings.state_url)
        self.schema = RequestSchema.of(project)
        self.feed = feed(project.name)
        self.metrics = metrics(project.name)
        self.cache = ScoreCache(policy.cache_entries) if policy.cache_entries else None
        self.authenticator = Authenticator(
            TokenRegistry(database), database, settings.home / "routing" / "tokens.json"
        )
        self._store = FeatureStore(project, settings)
        self._prepare_lookups()
        self.readers = FeatureCallers(self._store, database)
        self._labels = SegmentWriter(segment_folder(settings.segments, project.name, "labels"))
        log = SegmentWriter(segment_folder(settings.segments, project.name, "predictions"))
        share, hidden = policy.log_features_share, hidden_in_log(project)
        self.predictor = Predictor(self.schema, project.service, self._store, log, self.feed, share, self.cache, hidden)
        self.bulk = BulkPredictor(self.schema, project.service, self._store, log, self.feed.table, share, hidden)
        mirrored = SegmentWriter(segment_folder(settings.segments, project.name, "mirrored"))
        self.mirror = Mirror(self._score_in_time, mirrored, self._thread)
        self.batcher = None if policy.batching is None else Batcher(policy.batching, self._finish_together)
        self._follower: RouteFollower[ServableModel] = RouteFollower(
            RoutingTable(database),
            model=project.name,
            name=project.name,
            replica_id=self.replica_id,
            essential=needs_champion,
            wanted=wants_prepared,
            load=partial(load_version, settings, project.name),
            remembered=settings.home / "routing" / f"{project.name}.json",
            beside=self._beside,
            always=self._always,
        )

    def _prepare_lookups(self) -> None:
        """Looks up what requests by entity need: the state database may be away when the first one comes."""
        try:
            self._store.prepare_online(self.project.service, tuple(self.schema.entity))
        except FeatureStoreError as error:  # full rows are answered nevertheless
            logger.warning("requests by entity cannot be answered yet: %s", error.message)

    def _open_for_pushes(self) -> None:
        push_store = FeatureStore(self.project, self.settings, online=self._store.online)
        self.writers = FeatureCallers(push_store, StateDatabase.open(self.settings.state_url))
        self._follower.start()

    def _beside(self) -> None:
        for callers in (self.readers, self.writers):
            if callers.follow_rollbacks():
                logger.info("follows a rollback of features")

    def _always(self) -> None:
        """A few times each second, whether the state database can be reached or not."""
        self.feed.flush()
        self.metrics.flush()
        if not self.settings.open_access:
            self.authenticator.poll()

    @property
    def followed(self) -> Followed[ServableModel]:
        """Route and models in force.

        Raises:
            UnknownNameError: nothing is loaded yet.
        """
        return self._follower.state

    def check_health(self) -> None:
        """Raises: MillraceError: no champion, or the thread that answers has been stuck for a minute."""
        _ = self.followed
        busy = self._busy_since
        if busy is not None and time.monotonic() - busy > STUCK_S:
            raise MillraceError(f"the answering thread has been busy with one request for more than {STUCK_S:g} s.")

    def close(self) -> None:
        """Writes what is still in memory; the follower's thread ends."""
        self._follower.stop()
        self.feed.flush()
        self.metrics.flush()
        self.authenticator.audit()

    async def predict_json(self, body: bytes, caller: Caller, override: str | None) -> Answered:
        """The answer to a JSON body of `/v1/predict`.

        Raises:
            RequestError: the caller must change the request.
            RequestTimeoutError: no answer in time.
        """
        followed = self.followed
        if len(body) <= INLINE_BYTES:
            request = self.predictor.parse(body, caller, followed)
        else:
            request = await self._in_time(self._in_thread(self.predictor.parse, body, caller, followed))
        return await self.predict(request, caller, override, followed)

    async def predict(
        self, request: PredictRequest, caller: Caller, override: str | None, followed: Followed[ServableModel]
    ) -> Answered:
        """The answer to a request that was parsed against `followed`.

        Raises:
            RequestError: the caller must change the request.
            RequestTimeoutError: no answer in time.
        """
        if decide_inline(request.has_features, len(request.rows), self._model_s):
            pending = self.predictor.begin(request, caller, override, followed)
            if pending.route.candidate is None or "candidate" not in pending.assigned:
                answered = self.predictor.finish(pending, CandidateAnswer())
            else:
                answered = self.predictor.finish(pending, await self._ask_candidate(pending))
        else:
            answered = await self._in_time(self._predict_in_thread(request, caller, override, followed))
        if answered.model_s:
            self._model_s = usual_s(self._model_s, answered.model_s)
        self.metrics.answered(answered.latency_s, answered.predictions)
        self.mirror.show(answered)
        return answered

    async def predict_table(self, body: bytes, caller: Caller, override: str | None) -> BulkAnswered:
        """The answer to an Arrow body of `/v1/predict`.

        Raises:
            RequestError: the caller must change the request.
            RequestTimeoutError: no answer in time.
        """
        return await self._in_time(self._predict_table(body, caller, override))

    async def label(self, rows: list[dict[str, Any]]) -> None:
        """Writes true outcomes to the log.

        Raises:
            OSError: the log could not be written.
        """
        await self._in_thread(
            self._labels.append, {"logged_timestamp": datetime.now(UTC).isoformat(), "rows": rows}
        )

    async def read_features(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Runs a read of the feature store in the thread that may.

        Raises:
            RequestTimeoutError: no answer in time.
        """
        return await self._in_time(self._in_thread(function, *arguments))

    async def push(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Runs a push in its own thread. It has no time limit: cut off, nobody would know what was written."""
        return await asyncio.get_running_loop().run_in_executor(self._push_thread, function, *arguments)

    def status(self) -> dict[str, Any]:
        """What this replica follows, has loaded, and how its caches do."""
        state, online = self.followed, self._store.online_cache
        scores = None if self.cache is None else self.cache.use
        return {
            "replica_id": self.replica_id,
            "model": self.project.name,
            "epoch": state.route.epoch,
            "champion": state.route.champion,
            "candidate": state.route.candidate,
            "weight_percent": state.route.weight_percent,
            "mirror_percent": state.route.mirror_percent,
            "mirrored": {"shown": self.mirror.num_shown, "left_out": self.mirror.num_left_out},
            "loaded": list(state.models),
            "failed": state.failed,
            "stale": state.stale,
            "online_cache": None if online is None else {**asdict(online), "hit_rate": online.hit_rate},
            "score_cache": None if scores is None else {**asdict(scores), "hit_rate": scores.hit_rate},
            "open_access": self.settings.open_access,
        }

    async def _predict_in_thread(
        self, request: PredictRequest, caller: Caller, override: str | None, followed: Followed[ServableModel]
    ) -> Answered:
        if followed.route.candidate is None and self.batcher is None:
            return await self._in_thread(self._answer_alone, request, caller, override, followed)
        pending = await self._in_thread(self.predictor.begin, request, caller, override, followed)
        answer = await self._ask_candidate(pending)
        if self.batcher is not None:
            return await self.batcher.finish(pending, answer)
        return await self._in_thread(self.predictor.finish, pending, answer)

    def _answer_alone(
        self, request: PredictRequest, caller: Caller, override: str | None, followed: Followed[ServableModel]
    ) -> Answered:
        pending = self.predictor.begin(request, caller, override, followed)
        return self.predictor.finish(pending, CandidateAnswer())

    async def _finish_together(
        self, waiting: Sequence[tuple[Pending, CandidateAnswer]]
    ) -> list[Answered | Exception]:
        return await self._in_thread(self.predictor.finish_together, waiting)

    async def _predict_table(self, body: bytes, caller: Caller, override: str | None) -> BulkAnswered:
        pending = await self._in_thread(self.bulk.begin, body, caller, override, self.followed)
        answer = await self._ask_candidate(pending)
        answered = await self._in_thread(self.bulk.finish, pending, answer)
        if answered.copy is not None:
            self.mirror.show(answered.copy.answered, answered.copy.num_left_out)
        self.metrics.answered_table(answered.latency_s, answered.rows)
        return answered

    async def _ask_candidate(self, pending: Any) -> CandidateAnswer:
        """The candidate's scores or its failure; whatever it raises is a value here."""
        rows = pending.candidate_rows
        if not rows:
            return CandidateAnswer()
        return await self._score_in_time(pending.route.candidate, rows)

    async def _score_in_time(self, candidate: str | None, rows: list[Row]) -> CandidateAnswer:
        task = asyncio.ensure_future(self._ask(candidate, rows))
        try:
            await asyncio.wait([task], timeout=CANDIDATE_TIMEOUT_S)
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            return CandidateAnswer(error=f"no answer within {CANDIDATE_TIMEOUT_S:g} s")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("candidate %s failed: %r", candidate, error)
            said = error.kind if isinstance(error, CandidateError) else type(error).__name__
            return CandidateAnswer(error=said)
        return CandidateAnswer(tuple(task.result()))

    async def _in_time(self, work: Awaitable[ResultT]) -> ResultT:
        timeout_s = self.policy.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"no answer within {timeout_s:g} s. Send fewer rows at once, or again in a moment.", timeout_s=timeout_s
            ) from error

    async def _in_thread(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, function, *arguments)

    def _watched(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        self._busy_since = time.monotonic()
        try:
            return function(*arguments)
        finally:
            self._busy_since = None
