"""The HTTP front of a model: a Serve deployment whose replicas answer as champion themselves.

Champion rows cost one hop. Rows of the candidate go on to its own deployment; if it fails, is late or gives no finite
number, the champion answers and the failure is recorded against the candidate. Everything that blocks runs in a
worker thread, because in throughput mode the replica's event loop is also its router: pushes, which may commit to
tables, in one of their own, so that predictions do not wait for them.

Annotations are evaluated in this file: FastAPI cannot resolve postponed ones in a class that Serve copies
by value. For the same reason the class uses nothing that is defined below it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve._private import constants as serve_constants
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter, Histogram

from app.features.store import FeatureStore
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.models.artefact import ServableModel
from app.predictionlog.segment import SegmentWriter, segment_folder
from app.serving.answer import CandidateAnswer
from app.serving.feature_requests import online_answer, parse_online, parse_push, push_answer
from app.serving.follower import Followed, RouteFollower
from app.serving.loading import load_version
from app.serving.predictor import Answered, Pending, Predictor
from app.serving.profiling import ProfilerFeed
from app.serving.request import check_fields, parse_body
from app.serving.routing import RoutingTable, needs_champion, wants_prepared
from app.serving.schema import RequestSchema, check_list
from app.serving.traffic import OVERRIDE_HEADER
from app.serving.wire import answer_errors_as_json, parse_label, read_body
from app.settings import Settings

logger = logging.getLogger(__name__)
http = FastAPI(title="Millrace", docs_url=None, redoc_url=None)
answer_errors_as_json(http)
ResultT = TypeVar("ResultT")

CANDIDATE_TIMEOUT_S = 2.0
LATENCY_BUCKETS_MS = [2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 1_000.0, 5_000.0]


def _cache_status(store: FeatureStore) -> dict[str, Any] | None:
    """The replica's cache of online features, with its hit rate; null while it is off."""
    use = store.online_cache
    return None if use is None else {**asdict(use), "hit_rate": use.hit_rate}


@serve.deployment(name="ingress")
@serve.ingress(http)
class Ingress:
    """One replica: routes, features, champion, log.

    Args:
        project_ref: `module:NAME` of the project; it is loaded here.
        candidate: handle of the candidate's deployment.
    """

    def __init__(self, project_ref: str, settings: Settings, candidate: DeploymentHandle[Any]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="millrace-answer")
        self._push_thread = ThreadPoolExecutor(1, thread_name_prefix="millrace-push")
        self._replica_id = serve.get_replica_context().replica_id.unique_id
        self._candidate = candidate
        # The store's SQLite connections belong to the thread that opens them.
        self._thread.submit(self._open, project_ref, settings).result()
        self._push_thread.submit(self._open_for_pushes, settings).result()
        self._answers = Counter(
            "millrace_predictions", "Rows answered.", tag_keys=("model", "version", "assigned", "answered_by")
        )
        self._latency = Histogram(
            "millrace_predict_latency_ms", "Time of a request in the replica.", LATENCY_BUCKETS_MS, tag_keys=("model",)
        )

    def _open(self, project_ref: str, settings: Settings) -> None:
        project = load_project(project_ref)
        self._project = project
        self._schema = RequestSchema.of(project)
        self._store = FeatureStore(project, settings)
        self._labels = SegmentWriter(segment_folder(settings.segments, project.name, "labels"))
        self._predictor = Predictor(
            self._schema,
            project.service,
            self._store,
            SegmentWriter(segment_folder(settings.segments, project.name, "predictions")),
            ProfilerFeed(project.name),
        )
        self._follower: RouteFollower[ServableModel] = RouteFollower(
            RoutingTable(StateDatabase.open(settings.state_url)),
            model=project.name,
            name=project.name,
            replica_id=self._replica_id,
            essential=needs_champion,
            wanted=wants_prepared,
            load=partial(load_version, settings, project.name),
            remembered=settings.home / "routing" / f"{project.name}.json",
            beside=self._follow_rollbacks,
        )

    def _open_for_pushes(self, settings: Settings) -> None:
        self._push_store = FeatureStore(self._project, settings, online=self._store.online)
        self._follower.start()

    def _follow_rollbacks(self) -> None:
        for store in (self._store, self._push_store):
            if store.follow_rollbacks():
                logger.info("follows a rollback of features")

    def check_health(self) -> None:
        """Serve replaces a replica that has no champion."""
        _ = self._follower.state

    @http.post("/v1/predict")
    async def predict(self, request: Request) -> Response:
        """Scores for entities (features are looked up) or for full feature rows."""
        body = await read_body(request)
        followed = self._follower.state
        override = request.headers.get(OVERRIDE_HEADER)
        if followed.route.candidate is None:
            answered = await self._in_thread(self._answer_alone, body, override, followed)
        else:
            pending = await self._in_thread(self._predictor.prepare, body, override, followed)
            answer = await self._ask_candidate(pending)
            answered = await self._in_thread(self._predictor.finish, pending, answer)
        self._count(answered)
        return JSONResponse(answered.body)

    @http.post("/v1/labels")
    async def labels(self, request: Request) -> Response:
        """Takes true outcomes: `{"labels": [{"key", "label", "available_timestamp"}]}`."""
        body = parse_body(await read_body(request))
        check_fields(body, {"labels"})
        rows = [parse_label(row, number) for number, row in enumerate(check_list(body.get("labels"), "labels"))]
        record = {"logged_timestamp": datetime.now(UTC).isoformat(), "rows": rows}
        await self._in_thread(self._labels.append, record)
        return JSONResponse({"accepted": len(rows)})

    @http.post("/v1/features/push")
    async def push(self, request: Request) -> Response:
        """Feeds fresh rows to every view on a source, or to one view: see `feature_requests`."""
        asked = parse_push(parse_body(await read_body(request)), self._project)
        push = self._push_store.push_source if asked.view is None else self._push_store.push
        result = await asyncio.get_running_loop().run_in_executor(
            self._push_thread, push, asked.view or asked.source, asked.rows, asked.to
        )
        return JSONResponse(push_answer(result))

    @http.post("/v1/features/online")
    async def online(self, request: Request) -> Response:
        """Features of entities, now or at a moment: see `feature_requests`."""
        asked = parse_online(parse_body(await read_body(request)), self._project)
        found = await self._in_thread(
            self._store.get_online_features, asked.features, asked.rows, asked.at, asked.full_feature_names
        )
        return Response(online_answer(found), media_type="application/json")

    @http.get("/v2/health/live")
    async def live(self) -> Response:
        """The process answers."""
        return JSONResponse({"live": True})

    @http.get("/v2/health/ready")
    async def ready(self) -> Response:
        """A champion is loaded."""
        _ = self._follower.state
        return JSONResponse({"ready": True})

    @http.get("/v1/status")
    async def status(self) -> Response:
        """What this replica follows and has loaded, and how Ray was started."""
        state = self._follower.state
        return JSONResponse(
            {
                "replica_id": self._replica_id,
                "model": self._project.name,
                "epoch": state.route.epoch,
                "champion": state.route.champion,
                "candidate": state.route.candidate,
                "weight_percent": state.route.weight_percent,
                "loaded": list(state.models),
                "failed": state.failed,
                "stale": state.stale,
                "online_cache": _cache_status(self._store),
                "haproxy": bool(serve_constants.RAY_SERVE_ENABLE_HA_PROXY),
                "throughput_optimized": bool(serve_constants.RAY_SERVE_THROUGHPUT_OPTIMIZED),
            }
        )

    def _answer_alone(self, body: bytes, override: str | None, followed: Followed[ServableModel]) -> Answered:
        return self._predictor.finish(self._predictor.prepare(body, override, followed), CandidateAnswer())

    async def _ask_candidate(self, pending: Pending) -> CandidateAnswer:
        """The candidate's scores or its failure; whatever it raises is a value here."""
        rows = pending.candidate_rows
        if not rows:
            return CandidateAnswer()
        task = asyncio.ensure_future(self._candidate.predict.remote(pending.route.candidate, rows))
        await asyncio.wait([task], timeout=CANDIDATE_TIMEOUT_S)
        if not task.done():
            task.cancel()
            return CandidateAnswer(error=f"no answer within {CANDIDATE_TIMEOUT_S:g} s")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("candidate %s failed: %r", pending.route.candidate, error)
            return CandidateAnswer(error=type(error).__name__)
        return CandidateAnswer(tuple(task.result()))

    async def _in_thread(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _count(self, answered: Answered) -> None:
        self._latency.observe(answered.latency_s * 1_000, tags={"model": self._project.name})
        sides: dict[tuple[str, str, str], int] = {}
        for p in answered.predictions:
            side = (p.version, p.variant, p.answered_by)
            sides[side] = sides.get(side, 0) + 1
        for (version, assigned, answered_by), num_rows in sides.items():
            tags = {
                "model": self._project.name, "version": version, "assigned": assigned, "answered_by": answered_by
            }
            self._answers.inc(num_rows, tags=tags)
