"""The candidate's own deployment: it loads the version the traffic names, and its failures stay its own."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ray import serve

from app.errors import ModelError
from app.foundation.state import StateDatabase
from app.models.artefact import ServableModel
from app.serving.candidate_line import CandidateListener, line_folder
from app.serving.follower import RouteFollower
from app.serving.inline import decide_inline, usual_s
from app.serving.loading import load_version
from app.serving.routing import RoutingTable, candidate_name, needs_nothing, wants_candidate
from app.serving.schema import Row
from app.settings import Settings


@serve.deployment(name="candidate")
class CandidateReplica:
    """Scores rows with the candidate version. Without a candidate it idles.

    Args:
        straight: champion replicas of this host may ask past Serve, which then does not count those requests.
    """

    # Serve awaits both `__init__` and `__del__`; the type checker knows neither.
    async def __init__(self, model: str, settings: Settings, straight: bool) -> None:  # type: ignore[misc]
        self._model = model
        self._follower: RouteFollower[ServableModel] = RouteFollower(
            RoutingTable(StateDatabase.open(settings.state_url)),
            model=model,
            name=candidate_name(model),
            replica_id=serve.get_replica_context().replica_id.unique_id,
            essential=needs_nothing,
            wanted=wants_candidate,
            load=partial(load_version, settings, model),
        )
        self._follower.start()
        self._model_s: dict[str, float] = {}
        self._listener = CandidateListener(line_folder(settings, model), self.predict)
        if straight:
            await self._listener.start()

    async def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None:
            await listener.drain()

    async def predict(self, version: str, rows: list[Row]) -> list[float]:
        """Scores of `rows` by `version`.

        Raises:
            ModelError: that version is not loaded here.
        """
        state = self._follower.state
        loaded = state.models.get(version)
        if loaded is None:
            reason = state.failed.get(version, "it is not the candidate of the epoch followed here")
            raise ModelError(f"version {version} of {self._model!r} is not loaded: {reason}.", version=version)
        began, usual = time.perf_counter(), self._model_s.get(version, float("inf"))
        if decide_inline(True, len(rows), usual):
            scores = loaded.predict(rows)
        else:
            scores = await asyncio.to_thread(loaded.predict, rows)
        self._model_s[version] = usual_s(usual, time.perf_counter() - began)
        return [float(score) for score in scores]

    async def state(self) -> dict[str, Any]:
        """Epoch followed and versions loaded."""
        state = self._follower.state
        return {"epoch": state.route.epoch, "loaded": list(state.models), "failed": state.failed}
