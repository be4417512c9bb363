"""A rollout walked in a process of its own that SIGKILLs itself at one of its commits."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import polars as pl
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.rollout.decide import FINAL
from app.settings import Settings
from tests.unit.rollout.world import DAY, START, World, answers

MODEL, ROLLOUT = "m", "m-2-r1"
NUM_HALF_DAYS = 9


def world_at(settings: Settings, path: Path) -> World:
    """The world whose state database is `path`."""
    return World(replace(settings, state_url=f"sqlite:///{path}"))


def observations(good: bool) -> pl.DataFrame:
    """What the candidate answered over the days of the walk."""
    return pl.concat([answers(START + day * DAY / 4, 30, 0 if good else 30) for day in range(1, 12)])


def walk(settings: Settings, path: Path, good: bool, at_commit: int, after: bool) -> None:
    """Goes on with the rollout from where the database and the calendar beside it stand, to its end.

    Args:
        at_commit: number of the commit at which the process dies; -1: none.
        after: dies right after it, else right before.
    """
    world, rows = world_at(settings, path), observations(good)
    _die_at(at_commit, after)
    controller, calendar = world.controller, path.with_suffix(".day")
    first = int(calendar.read_text()) if calendar.exists() else 0
    for half_days in range(first, NUM_HALF_DAYS):
        calendar.write_text(str(half_days))
        if not controller.record.history(MODEL):
            controller.start(MODEL, "2", START)
        if controller.tick(ROLLOUT, START + half_days * DAY / 2, rows) in FINAL:
            break


def _die_at(at_commit: int, after: bool) -> None:
    """Commits of transactions that only read are no writes and do not count."""
    commits = count()

    def die_before(session: Session) -> None:
        session.flush()
        session.info["wrote"] = session.info.pop("flushed", False)
        if session.info["wrote"] and next(commits) == at_commit and not after:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(session: Session, *_: object) -> None:
        session.info["flushed"] = True

    def die_after(session: Session) -> None:
        if session.info.pop("wrote", False) and after and next(after_commits) == at_commit:
            os.kill(os.getpid(), signal.SIGKILL)

    after_commits = count()
    event.listen(Session, "after_flush", note)
    event.listen(Session, "before_commit", die_before)
    event.listen(Session, "after_commit", die_after)
