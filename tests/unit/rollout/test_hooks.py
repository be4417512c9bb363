"""A function of the project before and after steps: it lets the rollout go on, waits, or gives it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.errors import ProjectError, RolloutError
from app.rollout.decide import Phase
from app.rollout.policy_check import check_policy
from app.rollout.policy_json import policy_from_json, policy_to_json
from app.spec.policies import Hook, HookCall, RolloutPolicy, SetWeight
from tests.unit.rollout.world import DAY, NOTHING, START, World

HERE = "tests.unit.rollout.test_hooks"
HOUR = timedelta(hours=1)
WAIT_S = 30.0
calls: list[HookCall] = []
answers: list[object] = []
may_answer = threading.Event()
has_answered = threading.Semaphore(0)


def listed(call: HookCall) -> object:
    """Says what is next in the list; an error there is raised."""
    calls.append(call)
    said = answers.pop(0)
    if isinstance(said, Exception):
        raise said
    return said


def hanging(call: HookCall) -> object:
    """Hangs until the test lets it go."""
    calls.append(call)
    may_answer.wait(WAIT_S)
    has_answered.release()
    return answers.pop(0)


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    calls.clear()
    answers.clear()
    may_answer.clear()
    yield
    may_answer.set()


BEFORE, AFTER = Hook("warm", f"{HERE}:listed"), Hook("smoke", f"{HERE}:listed", 2 * HOUR)
POLICY = RolloutPolicy(steps=(BEFORE, SetWeight(10), AFTER, SetWeight(50)))
HANGS = Hook("warm", f"{HERE}:hanging", 2 * HOUR, answer_within_s=0.05)


def begin(world: World, policy: RolloutPolicy = POLICY) -> str:
    world.controller = world.new_controller(policy)
    return world.controller.start("m", "2", START)


def reason_of_abort(world: World, rollout: str) -> str:
    return next(t.reason for t in world.controller.record.transitions(rollout) if t.to_phase is Phase.DEGRADED)


def test_both_say_yes(world: World) -> None:
    answers.extend([True, True])
    assert world.controller.tick(begin(world), START, NOTHING) is Phase.HEALTHY
    assert [(call.step_index, call.weight_percent) for call in calls] == [(0, 0.0), (2, 10.0)]
    assert (calls[0].model, calls[0].champion, calls[0].candidate, calls[0].event_time) == ("m", "1", "2", START)


def test_no_traffic_before_the_first_says_yes(world: World) -> None:
    answers.extend([None, None, False])
    rollout = begin(world)
    assert world.controller.tick(rollout, START, NOTHING) is Phase.PROGRESSING
    assert world.controller.tick(rollout, START + HOUR / 2, NOTHING) is Phase.PROGRESSING
    assert world.routing.current("m").weight_percent == 0
    assert world.controller.tick(rollout, START + HOUR, NOTHING) is Phase.ABORTED
    assert reason_of_abort(world, rollout) == "hook warm: do not go on"
    assert world.routing.current("m").candidate is None


def test_one_that_raises_is_asked_again_until_its_time_is_over(world: World) -> None:
    answers.extend([True, ConnectionError("no route"), "yes", ConnectionError("no route")])
    rollout = begin(world)
    for hours in (0, 2):
        assert world.controller.tick(rollout, START + hours * HOUR, NOTHING) is Phase.PROGRESSING
        assert world.routing.current("m").weight_percent == 10
    assert world.controller.tick(rollout, START + 2.1 * HOUR, NOTHING) is Phase.ABORTED
    reason = f"hook smoke: {HERE}:listed raised ConnectionError; the driver's log says more"
    assert reason_of_abort(world, rollout) == reason


def test_one_that_hangs_is_given_up_when_its_time_is_over(world: World) -> None:
    rollout = begin(world, RolloutPolicy(steps=(SetWeight(10), HANGS)))
    for hours in (0, 1, 2):
        assert world.controller.tick(rollout, START + hours * HOUR, NOTHING) is Phase.PROGRESSING
        assert world.routing.current("m").weight_percent == 10
    assert world.controller.tick(rollout, START + 2.1 * HOUR, NOTHING) is Phase.ABORTED
    assert reason_of_abort(world, rollout).startswith(f"hook warm: {HERE}:hanging has not answered for ")
    assert world.routing.current("m").candidate is None
    assert len(calls) == 1, "it was asked again while it hung"


def test_while_one_hangs_other_rollouts_go_on_and_a_person_can_abort(world: World) -> None:
    rollout = begin(world, RolloutPolicy(steps=(SetWeight(10), HANGS)))
    world.controller.tick(rollout, START, NOTHING)
    world.add("n")
    other = world.controller.record.create("n", "1", "2", RolloutPolicy(steps=(SetWeight(30),)), START)
    assert world.controller.tick(other.rollout_id, START, NOTHING) is Phase.HEALTHY
    assert world.controller.abort(rollout, "enough", START + HOUR) is Phase.ABORTED
    answers.append(True)
    may_answer.set()
    assert has_answered.acquire(timeout=WAIT_S)
    assert world.controller.tick(rollout, START + HOUR, NOTHING) is Phase.ABORTED
    assert world.routing.current("m").candidate is None


def test_one_that_takes_longer_is_heard_at_the_next_look(world: World) -> None:
    rollout = begin(world, RolloutPolicy(steps=(HANGS, SetWeight(10))))
    assert world.controller.tick(rollout, START, NOTHING) is Phase.PROGRESSING
    answers.append(True)
    may_answer.set()
    assert has_answered.acquire(timeout=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while world.controller.tick(rollout, START + HOUR, NOTHING) is not Phase.HEALTHY:
        assert time.monotonic() < deadline
    assert len(calls) == 1


def test_a_step_that_starts_anew_asks_anew(world: World) -> None:
    rollout = begin(world, RolloutPolicy(steps=(HANGS, SetWeight(10))))
    world.controller.tick(rollout, START, NOTHING)
    world.controller.pause(rollout, "it hangs", START + HOUR)
    world.controller.resume(rollout, "mended", START + 2 * HOUR)
    world.controller.tick(rollout, START + 2 * HOUR, NOTHING)
    assert [call.event_time for call in calls] == [START, START + 2 * HOUR]


def test_promoted_by_a_person_asks_no_hook(world: World) -> None:
    answers.append(None)
    rollout = begin(world)
    world.controller.tick(rollout, START, NOTHING)
    assert world.controller.promote(rollout, "now", START + DAY / 48) is Phase.HEALTHY
    assert len(calls) == 1


def test_is_kept_with_the_rollout() -> None:
    assert policy_from_json(policy_to_json(POLICY)) == POLICY


def test_one_that_cannot_work_is_refused() -> None:
    with pytest.raises(ProjectError, match="has no 'absent'"):
        check_policy(RolloutPolicy(steps=(Hook("x", f"{HERE}:absent"), SetWeight(10))))
    for hook in (Hook("x", f"{HERE}:listed", timedelta(0)), Hook("x", f"{HERE}:listed", answer_within_s=float("inf"))):
        with pytest.raises(RolloutError, match="above 0"):
            check_policy(RolloutPolicy(steps=(hook, SetWeight(10))))
