"""Composes a model's Serve application and takes it up and down."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import httpx
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig, HTTPOptions
from ray.serve.schema import LoggingConfig

from app.assembly.scale import candidate_scale, counts_requests, ingress_scale
from app.errors import ModelError, StateConflictError
from app.foundation.access import headers_for_a_while
from app.foundation.access.scopes import ADMIN
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.serving.address import model_url
from app.serving.candidate import CandidateReplica
from app.serving.haproxy import verify_in_force
from app.serving.ingress import Ingress
from app.serving.routing import Route, RoutingTable
from app.settings import Settings

NUM_CPUS_PER_REPLICA = 0.5
QUEUED_REQUESTS = 256  # that Serve holds for a replica beyond those it answers; the gate has refused before
BUSY_RETRY_S = 1.0
READY_TIMEOUT_S = 120.0
SHUTDOWN_GRACE_S = 5.0


def build_application(project_ref: str, settings: Settings, num_replicas: int | None = None) -> Application:
    """The ingress with the champion inside, and the candidate's deployment beside it."""
    project = load_project(project_ref)
    policy = project.serving
    shared: dict[str, Any] = {
        "max_ongoing_requests": policy.max_in_flight + 1,  # so that the gate says no first, with a code
        "max_queued_requests": QUEUED_REQUESTS,
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=BUSY_RETRY_S),
        "max_surge_percent": 100,  # an update starts the new replicas before it stops the old ones
        "graceful_shutdown_timeout_s": SHUTDOWN_GRACE_S,
        "ray_actor_options": {"num_cpus": NUM_CPUS_PER_REPLICA},
        # A line for each request would cost more than the prediction log, which says more of it; at level INFO Serve
        # makes the line before it is left out.
        "logging_config": LoggingConfig(enable_access_log=False, log_level="WARNING"),
    }
    candidate = cast(Deployment, CandidateReplica).options(**candidate_scale(project, settings), **shared)
    ingress = cast(Deployment, Ingress).options(**ingress_scale(policy, num_replicas), **shared)
    straight = not counts_requests(project)
    return ingress.bind(project_ref, settings, candidate.bind(project.name, settings, straight), straight)


def deploy(
    project_ref: str, settings: Settings, champion: str | None = None, num_replicas: int | None = None
) -> Route:
    """Brings the application up and gives the traffic it follows. Again with the same arguments changes nothing.

    Args:
        champion: version that answers; needed the first time. Later versions come by rollout.
        num_replicas: default: what the project's serving policy says.

    Raises:
        StateConflictError: another version than `champion` answers already.
        UnknownNameError: no champion was given and the model was never deployed.
        SettingsError: Ray runs without HAProxy.
    """
    project = load_project(project_ref)
    name = project.name
    database = StateDatabase.open(settings.state_url)
    routing = RoutingTable(database)
    route = routing.find(name)
    if route is None and champion is not None:
        route = routing.write(name, 0, champion=champion, reason="first deployment")
    route = route or routing.current(name)
    if champion is not None and route.champion != champion:
        raise StateConflictError(
            f"model {name!r} already answers with version {route.champion}; version {champion} must come by a rollout.",
            champion=route.champion,
            asked=champion,
        )
    serve.start(http_options=HTTPOptions(host=settings.http_host, port=settings.http_port))
    application = build_application(project_ref, settings, num_replicas)
    serve.run(application, name=application_name(name), route_prefix=project.serving.route_prefix)
    with headers_for_a_while(settings, database, (ADMIN,), "deploy") as headers:
        wait_ready(model_url(settings, project.serving), headers)
    return route


def wait_ready(url: str, headers: Mapping[str, str], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Waits until the application at `url` answers over HTTP and checks how Ray was started.

    Raises:
        ModelError: it does not answer in time.
        SettingsError: Ray runs without HAProxy.
    """
    deadline = time.monotonic() + timeout_s
    last = "nothing answered"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{url}/v1/status", headers=headers, timeout=5.0)
        except httpx.HTTPError as error:
            last = repr(error)
        else:
            if response.status_code == 200:
                verify_in_force(response.json()["started_with"])
                return
            last = f"status {response.status_code}"
        time.sleep(0.2)
    raise ModelError(f"{url} was not ready within {timeout_s:g} s ({last}). See Serve's log.")


def shutdown(project_name: str) -> None:
    """Takes the model's application down; other applications stay."""
    serve.delete(application_name(project_name))


def application_name(project_name: str) -> str:
    """Name of the model's Serve application."""
    return f"millrace-{project_name}"
