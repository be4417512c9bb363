"""The Serve deployment that answers: a replica's `ModelService` behind its gate.

Champion rows cost one hop. Rows of the candidate go on to its own deployment; if it fails, is late or gives no finite
number, the champion answers and the failure is recorded against the candidate.
"""

from __future__ import annotations

import gc
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from app.foundation.projects import load_project
from app.serving.api import build_api
from app.serving.candidate_line import AskCandidate, CandidateLines, line_folder
from app.serving.gate import Gate
from app.serving.metrics import RayMetrics
from app.serving.profiling import ProfilerFeed
from app.serving.schema import Row
from app.serving.service import ModelService
from app.serving.spans import open_spans
from app.settings import Settings


@serve.deployment(name="ingress")
@serve.ingress()
class Ingress:
    """One replica: routes, features, champion, log.

    Args:
        project_ref: `module:NAME` of the project; it is loaded here.
        candidate: handle of the candidate's deployment.
        straight: ask candidates of this host past Serve.
    """

    def __init__(
        self, project_ref: str, settings: Settings, candidate: DeploymentHandle[Any], straight: bool
    ) -> None:
        self._candidate = candidate
        ask: AskCandidate = self._ask
        if straight:
            ask = CandidateLines(line_folder(settings, load_project(project_ref).name), self._ask).ask
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._service = ModelService(project_ref, settings, replica_id, ask, ProfilerFeed, RayMetrics)
        self._spans = open_spans(settings.traces, self._service.project.name)
        gc.collect()
        gc.freeze()  # what was loaded stays: a full collection that walks it again and again stops all requests

    def __serve_build_asgi_app__(self) -> Gate:
        return Gate(self._service, build_api(self._service), self._spans)

    def check_health(self) -> None:
        """Serve replaces a replica that has no champion or is stuck."""
        self._service.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the latency policy of autoscaling looks at."""
        return {"latency_ms": self._service.metrics.mean_latency_ms()}

    def __del__(self) -> None:
        service = getattr(self, "_service", None)
        if service is not None:
            service.close()

    async def _ask(self, version: str | None, rows: list[Row]) -> list[float]:
        scores: list[float] = await self._candidate.predict.remote(version, rows)
        return scores
