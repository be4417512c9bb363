"""The controller's process is killed with SIGKILL before and after each of its commits: one outcome."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.rollout.controller import RolloutController
from app.rollout.decide import Phase
from app.settings import Settings
from tests.unit.rollout.killed_controller import MODEL, ROLLOUT, walk, world_at

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.unit.rollout.killed_controller"])


@dataclass
class Outcome:
    """Everything a rollout leaves behind."""

    phase: Phase
    transitions: list[tuple[Phase, Phase, int]]
    analyses: dict[int, str]
    traffic: list[tuple[str, str | None, float]]  # of each routing epoch: champion, candidate, weight


def outcome_of(settings: Settings, path: Path) -> Outcome:
    world = world_at(settings, path)
    record = world.controller.record
    with world.database.session() as session:
        epochs = session.scalars(select(m.RoutingState).order_by(m.RoutingState.epoch)).all()
    return Outcome(
        record.get(ROLLOUT).phase,
        [(t.from_phase, t.to_phase, t.step_index) for t in record.transitions(ROLLOUT)],
        {step: str(found["metrics"]) for step, found in record.analyses(ROLLOUT).items()},
        [(e.champion, e.candidate, e.weight_percent) for e in epochs],
    )


def walk_through_death(settings: Settings, path: Path, *how: Any) -> bool:
    """Walks in one process, and when that was killed to the end in another; whether it was killed."""
    process = PROCESSES.Process(target=walk, args=(settings, path, *how))
    process.start()
    process.join(60)
    if process.exitcode == 0:
        return False
    assert process.exitcode == -signal.SIGKILL
    walk_again = PROCESSES.Process(target=walk, args=(settings, path, how[0], -1, False))
    walk_again.start()
    walk_again.join(60)
    assert walk_again.exitcode == 0
    return True


def check_every(settings: Settings, good: bool, after: bool, commits: range | count[int]) -> int:
    """Kills at each of `commits` that there is; gives how many there were."""
    settings.home.mkdir(parents=True, exist_ok=True)
    empty = settings.home / "empty.db"
    StateDatabase.open(f"sqlite:///{empty}")

    def database(name: str) -> Path:
        return Path(shutil.copy(empty, settings.home / f"{name}.db"))

    undisturbed = database("undisturbed")
    assert not walk_through_death(settings, undisturbed, good, -1, after)
    expected = outcome_of(settings, undisturbed)
    assert expected.phase is (Phase.HEALTHY if good else Phase.ABORTED)
    num_killed = 0
    for at_commit in commits:
        path = database(f"killed-{at_commit}")
        if not walk_through_death(settings, path, good, at_commit, after):
            break
        assert outcome_of(settings, path) == expected, f"killed {'after' if after else 'before'} commit {at_commit}"
        num_killed += 1
    if not good:
        check_final(settings, undisturbed)
    return num_killed


def check_final(settings: Settings, path: Path) -> None:
    """No later tick moves a weight after the abort."""
    world = world_at(settings, path)
    epoch = world.routing.current(MODEL).epoch
    controller = RolloutController(world.database, world.routing, world.controller._policy, clock=world)
    assert controller.tick(ROLLOUT, world.now(), []) is Phase.ABORTED
    assert world.routing.current(MODEL).epoch == epoch


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_some_commits(settings: Settings, after: bool) -> None:
    assert check_every(settings, False, after, range(1, 12, 4)) >= 3


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("good", [True, False], ids=["good candidate", "bad candidate"])
def test_killed_at_every_commit(settings: Settings, good: bool, after: bool) -> None:
    assert check_every(settings, good, after, count()) > 10
