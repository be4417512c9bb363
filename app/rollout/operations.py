"""What a person may ask of a model's rollouts, and what they see of one.

Each verb writes the state database and returns: the state is the intent. Whoever drives the rollout makes the traffic
follow, so a verb works from any process that reaches the database, and a driver that dies loses no order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from app.clock import Clock, WallClock
from app.errors import RolloutError, StateConflictError, UnknownNameError
from app.foundation.state import StateDatabase
from app.rollout.controller import RolloutController
from app.rollout.decide import FINAL
from app.rollout.plan import describe_step, weight_at
from app.rollout.record import Driver, RolloutState, Transition
from app.serving.routing import Acknowledgement, Route, RoutingTable, candidate_name
from app.spec.policies import RolloutPolicy

DRIVE_STEP_S = 0.1


def driver_name(model: str) -> str:
    """Under which name the platform's driver says that it is alive."""
    return f"{model}/rollout-driver"


@dataclass(frozen=True)
class RolloutView:
    """One rollout as a person looks at it, with the traffic and the replicas of its model now."""

    state: RolloutState
    route: Route
    transitions: tuple[Transition, ...]
    analyses: dict[int, dict[str, Any]]
    champions: tuple[Acknowledgement, ...]
    candidates: tuple[Acknowledgement, ...]
    driver_alive: bool

    @property
    def is_over(self) -> bool:
        """Nothing will change any more."""
        return self.state.phase in FINAL

    @property
    def weight_percent(self) -> float:
        """Share of the entity rows the candidate gets by the step that is in force."""
        return 0.0 if self.is_over else weight_at(self.state.policy, self.state.step_index)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; moments are text."""
        state = self.state
        return {
            "rollout": state.rollout_id, "model": state.model, "revision": state.revision,
            "strategy": state.policy.strategy, "champion": state.champion, "candidate": state.candidate,
            "phase": state.phase.value, "reason": state.reason, "driver": state.driver.value,
            "driver_alive": self.driver_alive, "started_at": state.started_at.isoformat(),
            "finished_at": None if state.finished_at is None else state.finished_at.isoformat(),
            "step_index": state.step_index, "steps": [describe_step(step) for step in state.policy.steps],
            "epoch": self.route.epoch, "serving": self.route.champion, "weight_percent": self.weight_percent,
            "replicas": {a.replica_id: a.epoch for a in (*self.champions, *self.candidates)},
            "analyses": {str(step): found for step, found in self.analyses.items()},
            "transitions": [
                {
                    "at": t.event_at.isoformat(), "from": t.from_phase.value, "to": t.to_phase.value,
                    "step_index": t.step_index, "action": t.action.value, "reason": t.reason,
                }
                for t in self.transitions
            ],
        }


class RolloutOperations:
    """A person's hands on the rollouts of one model.

    Args:
        policy: of rollouts started here.
        principal: who asks; kept with every change.
        num_replicas: champion replicas that must follow before a change counts as made.
    """

    def __init__(
        self,
        database: StateDatabase,
        model: str,
        policy: RolloutPolicy,
        *,
        principal: str,
        num_replicas: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or WallClock()
        self._model = model
        self._principal = principal
        self._routing = RoutingTable(database, self._clock)
        self._controller = RolloutController(
            database, self._routing, policy, clock=self._clock, num_replicas=num_replicas, replica_timeout_s=0.0,
            driver=Driver.PLATFORM,
        )

    def start(self, candidate: str) -> RolloutView:
        """Begins to roll a version out by the project's policy.

        Raises:
            RolloutError: another rollout is not over, or `candidate` is the champion.
            UnknownNameError: the model was never deployed.
        """
        return self.status(self._controller.start(self._model, candidate, self._now()))

    def pause(self, reason: str) -> RolloutView:
        """Keeps the weight where it is. Raises: RolloutError: nothing is in flight, or it cannot be paused now."""
        state = self._in_flight()
        self._controller.pause(state.rollout_id, self._said(reason), self._moment(state))
        return self.status(state.rollout_id)

    def resume(self, reason: str) -> RolloutView:
        """Starts the paused step again. Raises: RolloutError: nothing is paused."""
        state = self._in_flight()
        self._controller.resume(state.rollout_id, self._said(reason), self._moment(state))
        return self.status(state.rollout_id)

    def promote(self, reason: str) -> RolloutView:
        """Makes the candidate champion without the steps left. Raises: RolloutError: nothing can be promoted now."""
        state = self._in_flight()
        self._controller.promote(state.rollout_id, self._said(reason), self._moment(state))
        return self.status(state.rollout_id)

    def abort(self, reason: str) -> RolloutView:
        """Takes all traffic from the candidate, for good. Raises: RolloutError: nothing is in flight."""
        state = self._in_flight()
        self._controller.abort(state.rollout_id, self._said(reason), self._moment(state))
        return self.status(state.rollout_id)

    def rollback(self, version: str | None, reason: str) -> RolloutView:
        """Begins to go back to `version`, by default to the champion before this one.

        Raises:
            RolloutError: that version is the champion, or there was none before.
        """
        version = version or self._champion_before()
        return self.status(self._controller.rollback(self._model, version, self._said(reason), self._now()))

    def status(self, rollout_id: str | None = None) -> RolloutView:
        """A rollout, by default the one in flight, else the last.

        Raises:
            UnknownNameError: there is none.
        """
        record = self._controller.record
        state = record.get(rollout_id) if rollout_id is not None else self._latest()
        return RolloutView(
            state, self._routing.current(self._model), record.transitions(state.rollout_id),
            record.analyses(state.rollout_id), self._routing.acknowledgements(self._model),
            self._routing.acknowledgements(candidate_name(self._model)),
            driver_alive=bool(self._routing.acknowledgements(driver_name(self._model))),
        )

    def history(self) -> tuple[RolloutState, ...]:
        """All rollouts of the model, oldest first."""
        return self._controller.record.history(self._model)

    def watch(self, rollout_id: str, every_s: float) -> Iterator[RolloutView]:
        """Looks again and again, the last time when the rollout is over."""
        while not (view := self.status(rollout_id)).is_over:
            yield view
            self._clock.sleep(every_s)
        yield view

    def drive(self, rollout_id: str, timeout_s: float) -> RolloutView:
        """Makes the traffic follow from here until the rollout is over, beside any other driver.

        Meant for what needs no answers to be judged: promotion, abort and rollback.

        Raises:
            RolloutError: replicas have not followed within `timeout_s`; the order stands and the driver goes on.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            state = self._controller.record.get(rollout_id)
            try:
                phase = self._controller.tick(rollout_id, self._moment(state), pl.DataFrame())
            except StateConflictError:
                continue  # the driver wrote first; look at what it wrote
            if phase in FINAL:
                return self.status(rollout_id)
            if time.monotonic() > deadline:
                live = ", ".join(a.replica_id for a in self._routing.acknowledgements(self._model)) or "none"
                raise RolloutError(
                    f"rollout {rollout_id} is {phase} after {timeout_s:g} s; live replicas: {live}."
                    " The order stands: watch it with `millrace rollout watch`.",
                    rollout=rollout_id,
                )
            self._clock.sleep(DRIVE_STEP_S)

    def _champion_before(self) -> str:
        now = self._routing.current(self._model).champion
        before = [s.champion for s in self.history() if s.candidate == now and s.champion != now]
        if not before:
            raise RolloutError(
                f"model {self._model!r} has had no champion before version {now}; name the version to go back to.",
                champion=now,
            )
        return before[-1]

    def _in_flight(self) -> RolloutState:
        state = self._controller.record.in_flight(self._model)
        if state is None:
            raise RolloutError(f"no rollout of model {self._model!r} is in flight.", model=self._model)
        return state

    def _latest(self) -> RolloutState:
        running = self._controller.record.in_flight(self._model)
        if running is not None:
            return running
        history = self.history()
        if not history:
            raise UnknownNameError(f"model {self._model!r} has had no rollout yet.", model=self._model)
        return history[-1]

    def _now(self) -> datetime:
        return self._clock.now()

    def _moment(self, state: RolloutState) -> datetime:
        """Now by the clock that drives the rollout: a replay's stands where its last step began."""
        return self._now() if state.driver is Driver.PLATFORM else state.step_started_at

    def _said(self, reason: str) -> str:
        return f"{self._principal}: {reason}"
