"""A durable loop run: which steps are done, what each gave, and where to go on after a kill.

A step's output is small JSON and is written in one transaction when the step has finished; large results
live in tables and artefacts that the output names. A step that was cut off runs again from its start, so every step
must be safe to repeat.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from app.clock import Clock
from app.errors import UnknownNameError
from app.foundation.state import StateDatabase
from app.foundation.state import models as m

Output = dict[str, Any]


class LoopRunLog:
    """The steps of one run, kept in the state database."""

    def __init__(self, database: StateDatabase, clock: Clock, run_id: str) -> None:
        self._database = database
        self._clock = clock
        self.run_id = run_id

    @classmethod
    def start_or_resume(cls, database: StateDatabase, clock: Clock, project: str) -> LoopRunLog:
        """The project's unfinished run, or a new one when there is none."""
        with database.session() as session:
            running = session.scalars(
                select(m.LoopRun)
                .where(m.LoopRun.project == project, m.LoopRun.status == "running")
                .order_by(m.LoopRun.started_at.desc())
            ).first()
            if running is not None:
                return cls(database, clock, running.run_id)
            started_at = clock.now()
            run_id = f"{project}-{started_at:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
            session.add(m.LoopRun(run_id=run_id, project=project, status="running", started_at=started_at, detail={}))
        return cls(database, clock, run_id)

    @classmethod
    def latest(cls, database: StateDatabase, clock: Clock, project: str) -> LoopRunLog:
        """The project's newest run, finished or not.

        Raises:
            UnknownNameError: the project has never been run here.
        """
        with database.session() as session:
            newest = session.scalars(
                select(m.LoopRun).where(m.LoopRun.project == project).order_by(m.LoopRun.started_at.desc())
            ).first()
            if newest is None:
                raise UnknownNameError(
                    f"project {project!r} has no run in this home. Start one with jobs/loop.py or jobs/ingest.py.",
                    project=project,
                )
            return cls(database, clock, newest.run_id)

    def step(self, name: str, action: Callable[[], Output]) -> Output:
        """The output of step `name`: remembered when it is done, else `action()`'s, then remembered."""
        done = self.output(name)
        return self.perform(name, action) if done is None else done

    def perform(self, name: str, action: Callable[[], Output]) -> Output:
        """Runs `action` whether or not the step was done before, and remembers its output."""
        started_at = self._clock.now()
        output = action()
        with self._database.session() as session:
            session.merge(
                m.LoopStep(
                    run_id=self.run_id,
                    step=name,
                    status="succeeded",
                    started_at=started_at,
                    finished_at=self._clock.now(),
                    output=output,
                )
            )
        return output

    def output(self, name: str) -> Output | None:
        """What a finished step gave, or `None`."""
        with self._database.session() as session:
            row = session.get(m.LoopStep, (self.run_id, name))
            return None if row is None or row.status != "succeeded" else dict(row.output)

    def require(self, name: str, job: str) -> Output:
        """Like `output`, for a step that another job must have run.

        Raises:
            UnknownNameError: the step has not run; the message says which job runs it.
        """
        output = self.output(name)
        if output is None:
            raise UnknownNameError(
                f"run {self.run_id} has no finished step {name!r}. Run jobs/{job}.py first.", step=name
            )
        return output

    def durations_s(self) -> list[tuple[str, float]]:
        """Wall seconds of each finished step, in the order they began."""
        with self._database.session() as session:
            rows = session.scalars(
                select(m.LoopStep).where(m.LoopStep.run_id == self.run_id).order_by(m.LoopStep.started_at)
            )
            return [
                (row.step, (row.finished_at - row.started_at).total_seconds())
                for row in rows
                if row.finished_at is not None
            ]

    def finish(self, status: str, detail: Output | None = None) -> None:
        """Closes the run as succeeded, failed or aborted."""
        with self._database.session() as session:
            row = session.get_one(m.LoopRun, self.run_id)
            row.status = status
            row.finished_at = self._clock.now()
            row.detail = detail or {}
