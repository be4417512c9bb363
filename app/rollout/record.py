"""A rollout in the state database: where it stands, and every change written before it is acted on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.clock import Clock
from app.errors import RolloutError, StateConflictError, UnknownNameError
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.rollout.analysis import AnalysisResult, Verdict
from app.rollout.decide import FINAL, Action, Decision, Phase
from app.rollout.policy_json import policy_from_json, policy_to_json
from app.spec.policies import RolloutPolicy

BEFORE_FIRST_STEP = -1


class Driver(StrEnum):
    """Who moves a rollout on, and by which clock."""

    REPLAY = "replay"  # the loop, on the event time of replayed history
    PLATFORM = "platform"  # the running platform, on the wall clock


@dataclass(frozen=True)
class RolloutState:
    """Where one rollout stands. `step_started_at` and the other moments are event time."""

    rollout_id: str
    model: str
    revision: int
    champion: str
    candidate: str
    phase: Phase
    step_index: int
    step_started_at: datetime
    started_at: datetime
    finished_at: datetime | None
    reason: str
    policy: RolloutPolicy
    driver: Driver


@dataclass(frozen=True)
class Transition:
    """One change of a rollout."""

    from_phase: Phase
    to_phase: Phase
    step_index: int
    action: Action
    reason: str
    event_at: datetime


class RolloutRecord:
    """Reads and writes rollouts."""

    def __init__(self, database: StateDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def get(self, rollout_id: str) -> RolloutState:
        """Raises: UnknownNameError: there is no such rollout."""
        with self._database.session() as session:
            row = session.get(m.Rollout, rollout_id)
            if row is None:
                raise UnknownNameError(f"there is no rollout {rollout_id!r}.", rollout=rollout_id)
            return _state(row)

    def in_flight(self, model: str) -> RolloutState | None:
        """The model's rollout that is not over."""
        with self._database.session() as session:
            row = session.scalars(
                select(m.Rollout).where(m.Rollout.model == model, m.Rollout.phase.not_in([p.value for p in FINAL]))
            ).first()
            return None if row is None else _state(row)

    def create(
        self,
        model: str,
        champion: str,
        candidate: str,
        policy: RolloutPolicy,
        at: datetime,
        *,
        phase: Phase = Phase.PENDING,
        step_index: int = BEFORE_FIRST_STEP,
        reason: str = "started",
        driver: Driver = Driver.REPLAY,
    ) -> RolloutState:
        """A new revision, by default Pending before its first step.

        Raises:
            RolloutError: another rollout of the model is not over.
        """
        try:
            return self._create(model, champion, candidate, policy, at, phase, step_index, reason, driver)
        except IntegrityError as error:
            running = self.in_flight(model)
            if running is None:
                raise
            raise in_flight_error(running) from error

    def _create(
        self, model: str, champion: str, candidate: str, policy: RolloutPolicy, at: datetime, phase: Phase,
        step_index: int, reason: str, driver: Driver,
    ) -> RolloutState:
        with self._database.session() as session:
            before = session.scalar(
                select(func.max(m.Rollout.revision)).where(m.Rollout.model == model, m.Rollout.candidate == candidate)
            )
            revision = (before or 0) + 1
            now = self._clock.now()
            row = m.Rollout(
                driver=driver.value,
                rollout_id=f"{model}-{candidate}-r{revision}", model=model, revision=revision, champion=champion,
                candidate=candidate, phase=phase.value, step_index=step_index, step_started_at=at,
                paused=False, policy=policy_to_json(policy), reason=reason, created_at=now, updated_at=now,
                started_event_at=at, finished_event_at=None,
            )
            session.add(row)
            detail = {"champion": champion, "candidate": candidate, "policy": row.policy}
            self._audit(session, row.rollout_id, "start", f"{candidate} beside {champion}: {reason}", at, detail)
            return _state(row)

    def change(
        self, state: RolloutState, decision: Decision, step_index: int, reason: str, at: datetime
    ) -> RolloutState:
        """Writes a decision, in one transaction with its audit.

        Raises:
            StateConflictError: the rollout moved since `state` was read.
        """
        with self._database.session() as session:
            row = session.get(m.Rollout, state.rollout_id, with_for_update=True)
            if row is None or (row.phase, row.step_index) != (state.phase.value, state.step_index):
                raise StateConflictError(
                    f"rollout {state.rollout_id} moved while it was decided on. Try again.", rollout=state.rollout_id
                )
            row.phase, row.step_index, row.step_started_at = decision.phase.value, step_index, at
            row.paused = decision.phase is Phase.PAUSED
            row.reason, row.updated_at = reason, self._clock.now()
            row.finished_event_at = at if decision.phase in FINAL else None
            session.add(
                m.RolloutTransition(
                    rollout_id=state.rollout_id, from_phase=state.phase.value, to_phase=decision.phase.value,
                    step_index=step_index, action=decision.action.value, reason=reason, detail={},
                    at=self._clock.now(), event_at=at,
                )
            )
            if decision.action is Action.RESUME:
                session.execute(
                    delete(m.AnalysisRun).where(
                        m.AnalysisRun.rollout_id == state.rollout_id, m.AnalysisRun.step == state.step_index
                    )
                )
            detail = {"phase": decision.phase.value, "step_index": step_index}
            self._audit(session, state.rollout_id, decision.action.value, reason, at, detail)
            return _state(row)

    def history(self, model: str) -> tuple[RolloutState, ...]:
        """Every rollout of a model, oldest first."""
        with self._database.session() as session:
            rows = session.scalars(
                select(m.Rollout).where(m.Rollout.model == model).order_by(m.Rollout.created_at, m.Rollout.rollout_id)
            )
            return tuple(_state(row) for row in rows)

    def driven_by(self, driver: Driver) -> tuple[RolloutState, ...]:
        """The rollouts of all models that are not over and that `driver` moves on."""
        with self._database.session() as session:
            rows = session.scalars(
                select(m.Rollout).where(
                    m.Rollout.driver == driver.value, m.Rollout.phase.not_in([p.value for p in FINAL])
                )
            )
            return tuple(_state(row) for row in rows)

    def transitions(self, rollout_id: str) -> tuple[Transition, ...]:
        """Every change, oldest first."""
        with self._database.session() as session:
            rows = session.scalars(
                select(m.RolloutTransition)
                .where(m.RolloutTransition.rollout_id == rollout_id)
                .order_by(m.RolloutTransition.id)
            )
            return tuple(
                Transition(
                    Phase(r.from_phase), Phase(r.to_phase), r.step_index, Action(r.action), r.reason, r.event_at
                )
                for r in rows
            )

    def step_began(self, state: RolloutState, step_index: int) -> datetime:
        """Event time at which a step began, the rollout's start for the time before the first."""
        moments = [
            t.event_at
            for t in self.transitions(state.rollout_id)
            if t.step_index == step_index and t.action in (Action.BEGIN, Action.ADVANCE)
        ]
        return moments[-1] if moments else state.started_at

    def keep_analysis(self, state: RolloutState, result: AnalysisResult, at: datetime) -> None:
        """Writes the analysis of the current step, keyed by rollout (with its revision) and step."""
        with self._database.session() as session:
            session.merge(
                m.AnalysisRun(
                    rollout_id=state.rollout_id, revision=state.revision, step=state.step_index,
                    verdict=result.verdict.value, measurements=result.to_json(),
                    started_event_at=state.step_started_at,
                    finished_event_at=None if result.verdict is Verdict.RUNNING else at,
                )
            )

    def analyses(self, rollout_id: str) -> dict[int, dict[str, Any]]:
        """What each analysis step measured, by step."""
        with self._database.session() as session:
            rows = session.scalars(select(m.AnalysisRun).where(m.AnalysisRun.rollout_id == rollout_id))
            return {row.step: dict(row.measurements) for row in rows}

    def _audit(
        self, session: Session, rollout_id: str, decision: str, reason: str, at: datetime, detail: dict[str, Any]
    ) -> None:
        session.add(
            m.Decision(
                at=self._clock.now(), event_at=at, run_id=None, actor="rollout", subject=rollout_id,
                decision=decision, reason=reason, detail=detail,
            )
        )


def in_flight_error(running: RolloutState) -> RolloutError:
    """Says which rollout stands in the way."""
    return RolloutError(
        f"rollout {running.rollout_id} of model {running.model!r} is {running.phase}; wait for its end or abort it.",
        rollout=running.rollout_id,
    )


def _state(row: m.Rollout) -> RolloutState:
    return RolloutState(
        row.rollout_id, row.model, row.revision, row.champion, row.candidate, Phase(row.phase), row.step_index,
        row.step_started_at or row.started_event_at, row.started_event_at, row.finished_event_at, row.reason,
        policy_from_json(row.policy), Driver(row.driver),
    )
