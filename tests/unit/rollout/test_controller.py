"""Rollouts on a real state database with replicas that follow when the clock moves."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from app.errors import RolloutError, StateConflictError
from app.rollout.controller import RolloutController
from app.rollout.decide import Phase
from app.spec.policies import Analysis, Pause, RolloutPolicy, SetWeight
from tests.unit.rollout.world import DAY, NOTHING, POLICY, START, World, answers


def test_good_candidate_is_promoted(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    assert world.controller.tick(rollout, START, NOTHING) is Phase.PROGRESSING
    assert world.routing.current("m").weight_percent == 10
    data = answers(START + timedelta(hours=2))
    assert world.controller.tick(rollout, START + DAY, data) is Phase.PROGRESSING
    assert world.routing.current("m").weight_percent == 50
    data = pl.concat([data, answers(START + 1.5 * DAY)])
    assert world.controller.tick(rollout, START + 2 * DAY, data) is Phase.HEALTHY
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.weight_percent, route.prepare) == ("2", None, 0, None)
    assert set(world.controller.record.analyses(rollout)) == {2, 5}


def test_failing_candidate_is_aborted_for_good(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    bad = answers(START + timedelta(hours=1), 10, 40)
    assert world.controller.tick(rollout, START + DAY, bad) is Phase.ABORTED
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.weight_percent) == ("1", None, 0)
    num_weights = len(world.weights)
    for days in range(2, 6):
        phase = world.controller.tick(rollout, START + days * DAY, answers(START + 1.5 * DAY))
        assert phase is Phase.ABORTED
    assert world.weights[num_weights:] == []
    with pytest.raises(RolloutError, match="not possible"):
        world.controller.resume(rollout, "please", START + 6 * DAY)
    assert "40" not in world.controller.record.get(rollout).champion
    assert world.controller.start("m", "2", START + 7 * DAY) == "m-2-r2"


def test_no_answers_pause_and_resume(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    world.controller.tick(rollout, START + DAY, NOTHING)
    assert world.controller.tick(rollout, START + 2 * DAY, NOTHING) is Phase.PAUSED
    assert world.routing.current("m").weight_percent == 10
    assert world.controller.resume(rollout, "looked at it", START + 3 * DAY) is Phase.PROGRESSING
    data = answers(START + 2.5 * DAY)
    world.controller.tick(rollout, START + 3 * DAY, data)
    assert world.routing.current("m").weight_percent == 50


def test_candidate_that_does_not_load(world: World) -> None:
    world.can_load = False
    rollout = world.controller.start("m", "2", START)
    assert world.controller.tick(rollout, START, NOTHING) is Phase.ABORTED
    assert max(world.weights) == 0


def test_deadline(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    world.controller.pause(rollout, "holiday", START)
    assert world.controller.tick(rollout, START + 11 * DAY, NOTHING) is Phase.ABORTED


def test_killed_between_intent_and_act(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table says 10%, the controller dies before the traffic follows; another one makes it so."""
    rollout = world.controller.start("m", "2", START)
    real_write = world.routing.write
    calls = []

    def dies(*args: object, **kwargs: object) -> object:
        calls.append(kwargs)
        if kwargs["weight_percent"]:
            raise KeyboardInterrupt
        return real_write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(world.routing, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        world.controller.tick(rollout, START, NOTHING)
    monkeypatch.setattr(world.routing, "write", real_write)
    assert world.routing.current("m").weight_percent == 0
    assert world.new_controller().tick(rollout, START, NOTHING) is Phase.PROGRESSING
    assert world.routing.current("m").weight_percent == 10


def test_repeated_ticks_repeat_nothing(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    epoch = world.routing.current("m").epoch
    num_transitions = len(world.controller.record.transitions(rollout))
    for _ in range(3):
        world.new_controller().tick(rollout, START + timedelta(hours=1), NOTHING)
    assert world.routing.current("m").epoch == epoch
    assert len(world.controller.record.transitions(rollout)) == num_transitions


def test_one_at_a_time_and_start_again_is_the_same(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    assert world.controller.start("m", "2", START) == rollout
    with pytest.raises(RolloutError, match="wait for its end"):
        world.controller.start("m", "3", START)
    with pytest.raises(RolloutError, match="already is the champion"):
        world.controller.abort(rollout, "no", START)
        world.controller.start("m", "1", START)


def test_champion_changed_by_hand_aborts_and_keeps_it(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    route = world.routing.current("m")
    world.routing.write("m", route.epoch, champion="9", reason="by hand")
    assert world.controller.tick(rollout, START + DAY, NOTHING) is Phase.ABORTED
    assert world.routing.current("m").champion == "9"


def test_compare_and_set(world: World) -> None:
    with pytest.raises(StateConflictError, match="stands at epoch 1"):
        world.routing.write("m", 0, champion="2", reason="late")


def test_policy_that_cannot_be_followed(world: World) -> None:
    policy = RolloutPolicy(steps=(SetWeight(10), Analysis()))
    controller = RolloutController(world.database, world.routing, policy, clock=world)
    with pytest.raises(RolloutError, match="no metrics"):
        controller.start("m", "2", START)


def test_promotion_by_a_person_skips_the_steps(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    assert world.controller.promote(rollout, "Black Friday", START) is Phase.HEALTHY
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.weight_percent) == ("2", None, 0)
    reasons = [t.reason for t in world.controller.record.transitions(rollout)]
    assert reasons[1:3] == ["weight 10% is in force", "Black Friday"]


def test_promotion_of_a_paused_rollout(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    world.controller.pause(rollout, "look", START)
    assert world.controller.promote(rollout, "looked", START) is Phase.HEALTHY


def test_no_promotion_before_the_candidate_is_loaded(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    with pytest.raises(RolloutError, match="not possible"):
        world.controller.promote(rollout, "now", START)


def test_rollback_goes_through_prepare_and_switch(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    world.controller.promote(rollout, "go", START)
    back = world.controller.rollback("m", "1", "2 is rude", START + DAY)
    assert world.controller.tick(back, START + DAY, NOTHING) is Phase.HEALTHY
    assert world.routing.current("m").champion == "1"
    assert [s.policy.strategy for s in world.controller.record.history("m")] == ["canary", "rollback"]
    with pytest.raises(RolloutError, match="already is the champion"):
        world.controller.rollback("m", "1", "again", START + DAY)


def test_rollback_aborts_a_rollout_in_flight(world: World) -> None:
    rollout = world.controller.start("m", "2", START)
    world.controller.tick(rollout, START, NOTHING)
    back = world.controller.rollback("m", "0", "both are rude", START)
    assert world.controller.record.get(rollout).phase is Phase.ABORTED
    world.controller.tick(back, START, NOTHING)
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.weight_percent) == ("0", None, 0)


def test_rollback_killed_after_each_write_ends_as_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies right after the n-th write of traffic; a new controller finds the rollback and finishes it."""
    for kill_at in (1, 2):
        route = world.routing.current("m")
        world.routing.write("m", route.epoch, champion="1", reason="reset")
        real_write, calls = world.routing.write, []

        def dies(*args: object, **kwargs: object) -> object:
            calls.append(kwargs)  # noqa: B023
            written = real_write(*args, **kwargs)  # type: ignore[arg-type]  # noqa: B023
            if len(calls) == kill_at:  # noqa: B023
                raise KeyboardInterrupt
            return written

        back = world.controller.rollback("m", "0", "away", START)
        monkeypatch.setattr(world.routing, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            world.controller.tick(back, START, NOTHING)
        monkeypatch.setattr(world.routing, "write", real_write)
        assert world.new_controller().tick(back, START, NOTHING) is Phase.HEALTHY
        assert world.routing.current("m").champion == "0"


def test_two_starts_at_once_leave_one_rollout(world: World) -> None:
    """The second has looked before the first wrote: the database refuses it."""
    world.controller.start("m", "2", START)
    with pytest.raises(RolloutError, match="wait for its end"):
        world.controller.record.create("m", "1", "3", POLICY, START)


BLUE_GREEN = RolloutPolicy(
    strategy="blue-green",
    steps=(SetWeight(100), Pause(DAY), Analysis()),
    metrics=POLICY.metrics,
    progress_deadline=10 * DAY,
)


def test_green_comes_up_at_full_size_and_takes_all_traffic_at_once(world: World) -> None:
    world.num_candidates = 2
    controller = world.new_controller(BLUE_GREEN)
    rollout = controller.start("m", "2", START)
    assert controller.tick(rollout, START, NOTHING) is Phase.PROGRESSING
    assert set(world.weights) == {0, 100}
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.weight_percent) == ("1", "2", 100)
    assert controller.tick(rollout, START + DAY, answers(START + timedelta(hours=1))) is Phase.HEALTHY
    assert world.routing.current("m").champion == "2"


def test_blue_takes_over_again_in_one_epoch(world: World) -> None:
    world.num_candidates = 2
    controller = world.new_controller(BLUE_GREEN)
    rollout = controller.start("m", "2", START)
    controller.tick(rollout, START, NOTHING)
    epoch = world.routing.current("m").epoch
    assert controller.abort(rollout, "no", START) is Phase.ABORTED
    route = world.routing.current("m")
    assert (route.champion, route.weight_percent, route.epoch) == ("1", 0, epoch + 1)


def test_green_without_its_replicas_gets_no_traffic(world: World) -> None:
    controller = world.new_controller(BLUE_GREEN)
    rollout = controller.start("m", "2", START)
    assert controller.tick(rollout, START, NOTHING) is Phase.ABORTED
    assert set(world.weights) == {0}
    assert any("not loaded in 2 of its replicas" in t.reason for t in controller.record.transitions(rollout))


def test_green_by_halves_is_refused(world: World) -> None:
    policy = RolloutPolicy(strategy="blue-green", steps=(SetWeight(50), SetWeight(100)))
    with pytest.raises(RolloutError, match="weights of 50%, 100%"):
        world.new_controller(policy).start("m", "2", START)
