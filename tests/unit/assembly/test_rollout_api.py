"""Rollouts over HTTP: who may, what is refused, what is written down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from sqlalchemy import select

from app.assembly.rollout_api import build_rollout_api
from app.clock import WallClock
from app.foundation.access import TokenRegistry
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.rollout.record import RolloutRecord
from app.serving.request import MAX_BODY_BYTES
from app.serving.routing import RoutingTable
from app.settings import Settings
from tests.cluster.serving_project import PROJECT

AS_JSON = {"content-type": "application/json"}


@pytest.fixture
def database(settings: Settings) -> StateDatabase:
    database = StateDatabase.open(settings.state_url)
    RoutingTable(database).write("shop", 0, champion="1", reason="first")
    for version in ("1", "2"):
        (settings.artefacts / "shop" / version).mkdir(parents=True)
    return database


@pytest.fixture
def http(settings: Settings, database: StateDatabase) -> Iterator[TestClient]:
    token, _ = TokenRegistry(database).create("eve", ["rollout"], "test")
    with TestClient(build_rollout_api(PROJECT, settings), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_start_look_abort(http: TestClient) -> None:
    assert http.get("/").json() == []
    assert code(http.get("/current")) == (404, "name_unknown")
    started = http.post("/", json={"version": "2"})
    assert (started.status_code, started.json()["phase"], started.json()["driver"]) == (202, "Pending", "platform")
    assert http.get("/shop-2-r1").json() == http.get("/current").json() == started.json()
    aborted = http.post("/current/abort", json={"reason": "no"}).json()
    assert (aborted["phase"], aborted["reason"]) == ("Degraded", "eve: no")


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/", {"version": "1"}, (409, "rollout_refused")),
        ("POST", "/", {"version": "9"}, (404, "name_unknown")),
        ("POST", "/", {"version": ".."}, (404, "name_unknown")),
        ("POST", "/rollback", {"version": "9"}, (404, "name_unknown")),
        ("POST", "/", {"version": 2}, (422, "request_invalid")),
        ("POST", "/", {"version": "2", "force": True}, (422, "request_invalid")),
        ("POST", "/current/pause", {}, (409, "rollout_refused")),
        ("POST", "/current/explode", {}, (422, "request_invalid")),
        ("POST", "/rollback", {}, (409, "rollout_refused")),
        ("GET", "/nobody-1-r1", None, (404, "name_unknown")),
    ],
)
def test_refusals(http: TestClient, method: str, path: str, body: Any, expected: tuple[int, str]) -> None:
    assert code(http.request(method, path, json=body)) == expected


def test_a_version_that_nobody_registered_is_refused_with_those_there_are(
    http: TestClient, settings: Settings, database: StateDatabase
) -> None:
    error = http.post("/", json={"version": "9"}).json()["error"]
    assert error["detail"] == {"field": "version", "model": "shop", "version": "9"}
    assert "expected a registered version of model 'shop': none is registered yet" in error["message"]
    client = MlflowClient(tracking_uri=settings.mlflow_url)
    client.create_registered_model("shop")
    for _ in range(12):
        client.create_model_version("shop", "file:///nowhere")
    error = http.post("/", json={"version": "13"}).json()["error"]
    assert error["message"].endswith("of model 'shop': 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, ….")
    assert RolloutRecord(database, WallClock()).in_flight("shop") is None
    assert http.post("/", json={"version": "9"}).status_code == 202, "registered, its files elsewhere"


def test_only_the_scope_opens(settings: Settings, database: StateDatabase) -> None:
    token, _ = TokenRegistry(database).create("bob", ["predict"], "test")
    with TestClient(build_rollout_api(PROJECT, settings)) as client:
        assert code(client.get("/"))[0] == 401
        assert code(client.get("/", headers={"Authorization": "Bearer foreign"}))[0] == 401
        assert code(client.get("/", headers={"Authorization": f"Bearer {token}"})) == (403, "scope_missing")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/nowhere"])
def test_nothing_is_shown_to_nobody(http: TestClient, path: str) -> None:
    assert code(http.get(path, headers={"Authorization": ""})) == (401, "token_malformed")
    assert http.get(path).status_code == (404 if path == "/nowhere" else 200)


def test_denials_are_audited_once_for_all_of_a_kind(settings: Settings, database: StateDatabase) -> None:
    token, record = TokenRegistry(database).create("bob", ["predict"], "test")
    door = build_rollout_api(PROJECT, settings)
    with TestClient(door, headers={"Authorization": f"Bearer {token}"}) as client:
        for _ in range(3):
            assert code(client.post("/", json={"version": "2"}))[0] == 403
    door._authenticator.audit()
    with database.session() as session:
        (denied,) = session.scalars(select(m.Decision).where(m.Decision.decision == "denied"))
    assert denied.actor == f"bob (token {record.grant.token_id})"
    assert (denied.subject, denied.reason, denied.detail) == ("POST /v1/rollouts/", "scope_missing", {"times": 3})


def test_bodies_are_bounded_and_of_one_type(http: TestClient) -> None:
    assert code(http.post("/", content=b" " * (MAX_BODY_BYTES + 1), headers=AS_JSON)) == (413, "request_too_large")
    assert code(http.post("/", content=b"version=2", headers={"content-type": "text/plain"}))[0] == 415
    assert code(http.post("/", content=b"[" * 100_000, headers=AS_JSON))[0] in (400, 422)


def test_a_token_with_a_rate_is_told_when_to_come_back(settings: Settings, database: StateDatabase) -> None:
    token, _ = TokenRegistry(database).create("eve", ["rollout"], "test", rate_per_s=0.1)
    with TestClient(build_rollout_api(PROJECT, settings), headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/").status_code == 200
        late = client.get("/")
    assert code(late) == (429, "rate_limited") and int(late.headers["retry-after"]) >= 1


def test_a_revoked_token_is_refused_at_once(settings: Settings, database: StateDatabase) -> None:
    tokens = TokenRegistry(database)
    token, record = tokens.create("eve", ["rollout"], "test")
    headers = {"Authorization": f"Bearer {token}"}
    with TestClient(build_rollout_api(PROJECT, settings)) as client:
        assert client.get("/", headers=headers).status_code == 200
        tokens.revoke(record.grant.token_id, "test")
        assert client.get("/", headers=headers).status_code == 401
