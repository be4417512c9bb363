"""Every verb of rollouts over HTTP under generated requests, good ones and broken ones: no 5xx, no stack trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.assembly.rollout_api import build_rollout_api, build_rollout_verbs
from app.foundation.access import TokenRegistry
from app.foundation.state import StateDatabase
from app.rollout.operations import RolloutOperations
from app.serving.routing import RoutingTable
from app.settings import Settings
from tests.cluster.serving_project import PROJECT
from tests.unit.serving.fuzzing import Fuzzed, generate

SHORT, FULL = 30, 300  # cases for each operation and mode
NUM_OPERATIONS = 5


@pytest.fixture
def fuzzed(settings: Settings) -> Iterator[Fuzzed]:
    database = StateDatabase.open(settings.state_url)
    RoutingTable(database).write("shop", 0, champion="1", reason="first")
    for version in ("0", "1", "2"):  # what generated texts are shrunk to is among them
        (settings.artefacts / "shop" / version).mkdir(parents=True)
    RolloutOperations(database, "shop", PROJECT.rollout, principal="ada").start("2")
    token, _ = TokenRegistry(database).create("fuzzer", ["rollout"], "test")
    found = Fuzzed(build_rollout_api(PROJECT, settings), token)
    yield found
    found.loop.close()


@pytest.mark.parametrize("num_cases", [SHORT, pytest.param(FULL, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
def test_generated_requests_never_fail_the_service(settings: Settings, fuzzed: Fuzzed, num_cases: int) -> None:
    document = build_rollout_verbs(PROJECT, settings, StateDatabase.open(settings.state_url)).openapi()
    generate(fuzzed, document, NUM_OPERATIONS, num_cases)
    seen = {status for _, status in fuzzed.statuses}
    assert {200, 202, 401, 404, 409, 422} <= seen, seen
