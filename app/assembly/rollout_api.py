"""Rollouts over HTTP, for callers with the scope `rollout`: the verbs of `millrace rollout`.

| request | what it does |
|---|---|
| `GET /v1/rollouts` | every rollout of the model |
| `GET /v1/rollouts/{id}` | one of them; `current`: the one in flight, else the last |
| `POST /v1/rollouts` | starts one: `{"version"}` |
| `POST /v1/rollouts/current/pause`, `…/resume`, `…/promote`, `…/abort` | steers the one in flight: `{"reason"}` |
| `POST /v1/rollouts/rollback` | goes back: `{"version"?, "reason"}` |

An answer says what was written down; the platform's driver makes the traffic follow. A deployment of its own, so that
the replicas which answer predictions carry none of this.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from app.assembly.rollout_door import GRANT, RolloutDoor
from app.foundation.access import Authenticator, Grant, TokenRegistry
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.models.registered import require_registered
from app.rollout.operations import RolloutOperations
from app.serving.wire import answer_errors_as_json
from app.settings import Settings
from app.spec import Project

PREFIX = "/v1/rollouts"
NUM_CPUS = 0.1
MAX_TEXT = 500


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field("asked over HTTP", max_length=MAX_TEXT)


class Start(BaseModel):
    """Body of a start."""

    model_config = ConfigDict(extra="forbid")
    version: str = Field(max_length=MAX_TEXT)


class Steer(_Asked):
    """Body of a verb on the rollout in flight."""


class Rollback(_Asked):
    """Body of a rollback. Without `version`: to the champion before this one."""

    version: str | None = Field(None, max_length=MAX_TEXT)


def build_rollout_api(project: Project, settings: Settings) -> RolloutDoor:
    """The ASGI application behind its door."""
    database = StateDatabase.open(settings.state_url)
    authenticator = Authenticator(TokenRegistry(database), database, settings.home / "routing" / "rollout-tokens.json")
    return RolloutDoor(settings, authenticator, PREFIX, build_rollout_verbs(project, settings, database))


def build_rollout_verbs(project: Project, settings: Settings, database: StateDatabase) -> FastAPI:
    """What is behind the door; it asks nobody who they are."""
    told = HTTPBearer(auto_error=False, description="a token with the scope `rollout`")  # the door looks at it
    http = FastAPI(title=f"Millrace rollouts: {project.name}", redoc_url=None, dependencies=[Depends(told)])
    answer_errors_as_json(http)

    def operations(request: Request) -> RolloutOperations:
        grant: Grant = request.scope[GRANT]
        return RolloutOperations(database, project.name, project.rollout, principal=grant.principal)

    @http.get("/")
    def history(allowed: RolloutOperations = Depends(operations)) -> list[dict[str, Any]]:
        """Every rollout, oldest first."""
        return [allowed.status(state.rollout_id).to_json() for state in allowed.history()]

    @http.get("/{rollout_id}")
    def status(rollout_id: str, allowed: RolloutOperations = Depends(operations)) -> dict[str, Any]:
        """Where a rollout stands."""
        return allowed.status(None if rollout_id == "current" else rollout_id).to_json()

    @http.post("/", status_code=202)
    def start(body: Start, allowed: RolloutOperations = Depends(operations)) -> dict[str, Any]:
        """Begins to roll a registered version out."""
        require_registered(settings, project.name, body.version)
        return allowed.start(body.version).to_json()

    @http.post("/current/{verb}", status_code=202)
    def steer(
        verb: Literal["pause", "resume", "promote", "abort"],
        body: Steer,
        allowed: RolloutOperations = Depends(operations),
    ) -> dict[str, Any]:
        """Steers the rollout in flight."""
        act = {
            "pause": allowed.pause, "resume": allowed.resume, "promote": allowed.promote, "abort": allowed.abort
        }[verb]
        return act(body.reason).to_json()

    @http.post("/rollback", status_code=202)
    def rollback(body: Rollback, allowed: RolloutOperations = Depends(operations)) -> dict[str, Any]:
        """Goes back to an earlier version."""
        if body.version is not None:
            require_registered(settings, project.name, body.version)
        return allowed.rollback(body.version, body.reason).to_json()

    return http


@serve.deployment(name="rollouts")
@serve.ingress()
class RolloutReplica:
    """Answers for one model."""

    def __init__(self, project_ref: str, settings: Settings) -> None:
        self._project, self._settings = load_project(project_ref), settings

    def __serve_build_asgi_app__(self) -> RolloutDoor:
        door = build_rollout_api(self._project, self._settings)
        door.audit_in_background()
        return door


def deploy_rollout_api(project_ref: str, settings: Settings) -> None:
    """Brings the rollouts' own application up beside the model's."""
    project = load_project(project_ref)
    deployment: Any = RolloutReplica
    serve.run(
        deployment.options(num_replicas=1, ray_actor_options={"num_cpus": NUM_CPUS}).bind(project_ref, settings),
        name=f"millrace-{project.name}-rollouts",
        route_prefix=f"{project.serving.route_prefix.rstrip('/')}{PREFIX}",
    )
