"""What a person may ask, and what they see."""

from __future__ import annotations

import json

import pytest

from app.errors import RolloutError, UnknownNameError
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, driver_name
from app.rollout.record import Driver
from tests.unit.rollout.world import DAY, NOTHING, POLICY, START, World


@pytest.fixture
def operations(world: World) -> RolloutOperations:
    return RolloutOperations(world.database, "m", POLICY, principal="ada", clock=world, num_replicas=2)


def test_start_is_the_platforms_to_drive(world: World, operations: RolloutOperations) -> None:
    view = operations.start("2")
    assert (view.state.phase, view.state.driver, view.driver_alive) == (Phase.PENDING, Driver.PLATFORM, False)
    assert [s.rollout_id for s in world.controller.record.driven_by(Driver.PLATFORM)] == ["m-2-r1"]
    world.routing.acknowledge(driver_name("m"), "driver", "boot", 0, ())
    assert operations.status().driver_alive
    assert world.controller.record.driven_by(Driver.REPLAY) == ()


def test_rollback_goes_to_the_champion_before(world: World, operations: RolloutOperations) -> None:
    asked = operations.start("2")
    world.controller.tick(asked.state.rollout_id, world.now(), NOTHING)
    promoted = operations.drive(operations.promote("good enough").state.rollout_id, 30)
    assert (promoted.state.phase, promoted.route.champion) == (Phase.HEALTHY, "2")
    back = operations.drive(operations.rollback(None, "no, it is not").state.rollout_id, 30)
    assert (back.state.phase, back.route.champion) == (Phase.HEALTHY, "1")
    assert back.state.policy.strategy == "rollback"
    reasons = [t.reason for t in operations.status("m-2-r1").transitions]
    assert "ada: good enough" in reasons


def test_nothing_to_go_back_to(operations: RolloutOperations) -> None:
    with pytest.raises(RolloutError, match="no champion before"):
        operations.rollback(None, "away")


def test_verbs_without_a_rollout(operations: RolloutOperations) -> None:
    for verb in (operations.pause, operations.resume, operations.promote, operations.abort):
        with pytest.raises(RolloutError, match="no rollout of model 'm' is in flight"):
            verb("why not")
    with pytest.raises(UnknownNameError, match="has had no rollout"):
        operations.status()


def test_pause_resume_abort(world: World, operations: RolloutOperations) -> None:
    asked = operations.start("2")
    world.controller.tick(asked.state.rollout_id, world.now(), NOTHING)
    assert operations.pause("lunch").state.phase is Phase.PAUSED
    assert operations.status().weight_percent == 10
    assert operations.resume("back").state.phase is Phase.PROGRESSING
    ended = operations.drive(operations.abort("no").state.rollout_id, 30)
    assert (ended.state.phase, ended.is_over, ended.weight_percent) == (Phase.ABORTED, True, 0)
    with pytest.raises(RolloutError, match="in flight"):
        operations.resume("yes")


def test_a_person_may_abort_what_a_replay_drives(world: World, operations: RolloutOperations) -> None:
    """The replay's event time stands where its step began; the wall clock is years later."""
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START + DAY / 2, NOTHING)
    view = operations.drive(operations.abort("stop").state.rollout_id, 30)
    assert view.state.finished_at == START + DAY / 2


def test_view_is_json(world: World, operations: RolloutOperations) -> None:
    asked = operations.start("2")
    world.controller.tick(asked.state.rollout_id, world.now(), NOTHING)
    found = json.loads(json.dumps(operations.status().to_json()))
    assert found["steps"] == ["weight 10%", "pause 1 day, 0:00:00", "analysis", "weight 50%", "pause 1 day, 0:00:00",
                              "analysis"]
    assert (found["phase"], found["weight_percent"], found["step_index"]) == ("Progressing", 10, 1)
    assert [t["to"] for t in found["transitions"]] == ["Progressing", "Progressing"]


def test_watch_ends_with_the_rollout(world: World, operations: RolloutOperations) -> None:
    asked = operations.start("2")
    seen = []
    for view in operations.watch(asked.state.rollout_id, 1.0):
        seen.append(view.state.phase)
        if len(seen) == 3:
            operations.drive(operations.abort("enough").state.rollout_id, 30)
    assert seen[-1] is Phase.ABORTED
    assert Phase.ABORTED not in seen[:-1]


def test_drive_says_who_does_not_follow(
    world: World, operations: RolloutOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = operations.start("2")
    world.controller.tick(asked.state.rollout_id, world.now(), NOTHING)
    operations.promote("go")
    monkeypatch.setattr(world, "sleep", lambda duration_s: None)  # nobody follows any more
    with pytest.raises(RolloutError, match=r"is Promoting after 0.2 s; live replicas: a, b\. The order stands"):
        operations.drive(asked.state.rollout_id, 0.2)
