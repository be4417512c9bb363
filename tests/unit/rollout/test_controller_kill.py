"""A controller that dies before or after any of its writes leaves one outcome, the same as without the death."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import polars as pl
import pytest

from app.foundation.state import StateDatabase
from app.rollout.controller import RolloutController
from app.rollout.decide import Phase
from app.settings import Settings
from tests.unit.rollout.world import DAY, START, World, answers

WRITES = (("routing", "write"), ("record", "create"), ("record", "change"), ("record", "keep_analysis"))


class Killed(BaseException):
    """SIGKILL: nothing after it runs, nothing catches it."""


@dataclass
class Outcome:
    """What is left of a rollout: phase, traffic, every transition and analysis, each weight that was ever in force."""

    phase: Phase
    champion: str
    candidate: str | None
    transitions: list[tuple[Phase, int]]
    analyses: dict[int, str]
    weights: list[float]


def dies(controller: RolloutController, at_write: int, after: bool, counter: Any) -> None:
    """Makes the controller die at its n-th write, before it is done or right after."""
    for owner_name, method in WRITES:
        owner = controller.record if owner_name == "record" else controller._routing
        setattr(owner, method, _dying(getattr(owner, method), at_write, after, counter))


def _dying(write: Callable[..., Any], at_write: int, after: bool, counter: Any) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        number = next(counter)
        if number == at_write and not after:
            raise Killed
        result = write(*args, **kwargs)
        if number == at_write:
            raise Killed
        return result

    return wrapped


def walk(world: World, rows: pl.DataFrame, at_write: int, after: bool) -> tuple[Outcome, bool]:
    """A whole rollout over four days, looked at twice a day; gives what is left and whether the controller died."""
    counter, died, rollout, half_days = count(), False, "m-2-r1", 0
    controller = world.new_controller()
    dies(controller, at_write, after, counter)
    while half_days <= 8:
        at = START + half_days * DAY / 2
        try:
            controller.start("m", "2", START) if half_days == 0 else None
            phase = controller.tick(rollout, at, rows)
        except Killed:
            died, controller = True, world.new_controller()
            world.routing = controller._routing
            continue  # a new process comes up and does what the dead one was to do
        if phase in (Phase.HEALTHY, Phase.ABORTED):
            break
        half_days += 1
    record, route = controller.record, world.routing.current("m")
    analyses = {step: str(found["metrics"]) for step, found in record.analyses(rollout).items()}
    return Outcome(
        record.get(rollout).phase, route.champion, route.candidate,
        [(t.to_phase, t.step_index) for t in record.transitions(rollout)], analyses,
        list(dict.fromkeys(world.weights)),
    ), died


def fresh_world(settings: Settings, name: str) -> World:
    """On a database of its own; making its schema each time would take longer than all else."""
    empty, own = settings.home / "empty.db", settings.home / f"{name}.db"
    if not empty.exists():
        settings.home.mkdir(parents=True, exist_ok=True)
        StateDatabase.open(f"sqlite:///{empty}")
    shutil.copy(empty, own)
    return World(replace(settings, state_url=f"sqlite:///{own}"))


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("good", [True, False], ids=["good candidate", "bad candidate"])
def test_one_outcome_whichever_write_it_dies_at(settings: Settings, good: bool, after: bool) -> None:
    days = [answers(START + day * DAY / 4, 30, 0 if good else 30) for day in range(1, 12)]
    expected, died = walk(fresh_world(settings, "undisturbed"), pl.concat(days), at_write=-1, after=after)
    assert not died
    assert expected.phase is (Phase.HEALTHY if good else Phase.ABORTED)
    num_killed = 0
    for at_write in count():
        found, died = walk(fresh_world(settings, f"killed-{at_write}"), pl.concat(days), at_write, after)
        assert found == expected, f"killed at write {at_write}"
        if not died:
            break
        num_killed += 1
    assert num_killed > len(expected.transitions)
