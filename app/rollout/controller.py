"""Walks a rollout through its policy: observes, decides by the table, writes the intent, makes the traffic follow.

Everything is repeatable: the traffic wanted follows from phase and step in the database, and each tick compares it
with the routing table first. A controller that died between intent and act is mended by the next tick.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from app.clock import Clock, WallClock
from app.errors import RolloutError
from app.foundation.state import StateDatabase
from app.rollout.analysis import Seen, Verdict, analyse
from app.rollout.decide import FINAL, Action, Observation, Phase, decide
from app.rollout.experiment import run_experiment
from app.rollout.hooks import HookQuestions, decide_hook
from app.rollout.plan import candidate_replicas, describe_step, switched, wanted_route, weight_at, weight_step
from app.rollout.policy_check import check_policy
from app.rollout.record import BEFORE_FIRST_STEP, Driver, RolloutRecord, RolloutState, in_flight_error
from app.serving.routing import Route, RoutingTable, candidate_name
from app.spec.policies import Analysis, Experiment, Hook, HookCall, Mirror, Pause, RolloutPolicy, SetWeight

if TYPE_CHECKING:  # a command that goes back must not wait for what it does not use
    import pandas as pd
    import pyarrow as pa

Rows: TypeAlias = "pa.Table | pd.DataFrame | pl.DataFrame"
Found: TypeAlias = tuple[Observation, str]

ROLLBACK = RolloutPolicy(strategy="rollback", steps=(), progress_deadline=timedelta(minutes=2))
WAITING: Found = (Observation.WAITING, "")
VERDICTS = {
    Verdict.FAILED: Observation.ANALYSIS_FAILED,
    Verdict.ERROR: Observation.ANALYSIS_ERROR,
    Verdict.INCONCLUSIVE: Observation.ANALYSIS_INCONCLUSIVE,
}


class RolloutController:
    """Rollouts of models, each by the policy it was started with.

    Args:
        policy: of the rollouts that are started here.
        num_replicas: champion replicas that must follow a change before it counts as made.
        replica_timeout_s: wall seconds to wait for them within a tick, once for each routing epoch. A candidate
            that has not loaded by then is given up.
        driver: who moves the rollouts on that are started here.
    """

    def __init__(
        self,
        database: StateDatabase,
        routing: RoutingTable,
        policy: RolloutPolicy,
        *,
        clock: Clock | None = None,
        num_replicas: int = 2,
        replica_timeout_s: float = 60.0,
        driver: Driver = Driver.REPLAY,
    ) -> None:
        self._routing = routing
        self._policy = policy
        self._driver = driver
        self._num_replicas = num_replicas
        self._replica_timeout_s = replica_timeout_s
        self._waited: set[tuple[str, int]] = set()
        self._hooks = HookQuestions()
        self.record = RolloutRecord(database, clock or WallClock())

    def start(self, model: str, candidate: str, event_time: datetime) -> str:
        """Begins to roll `candidate` out and gives the rollout's id; the same one when it is already under way.

        Raises:
            RolloutError: another rollout of the model is not over, or the policy cannot be followed.
            UnknownNameError: the model has no champion yet.
        """
        check_policy(self._policy)
        champion = self._routing.current(model).champion
        running = self.record.in_flight(model)
        if running is not None and running.candidate == candidate:
            return running.rollout_id
        if running is not None:
            raise in_flight_error(running)
        if candidate == champion:
            raise _already_champion(model, candidate)
        return self.record.create(
            model, champion, candidate, self._policy, event_time, driver=self._driver
        ).rollout_id

    def rollback(self, model: str, version: str, reason: str, event_time: datetime) -> str:
        """Begins to make an earlier version the champion again, without steps, and gives the rollout's id.

        A rollout in flight is aborted first: whoever asks for this wants the candidate gone too. `tick` moves it on;
        a version that is not loaded everywhere within `ROLLBACK_DEADLINE` is given up and the champion stays.

        Raises:
            RolloutError: `version` is the champion already.
            UnknownNameError: the model was never deployed.
        """
        running = self.record.in_flight(model)
        if running is not None and running.policy.strategy == "rollback" and running.candidate == version:
            return running.rollout_id
        if running is not None:
            self.abort(running.rollout_id, f"rollback to {version}: {reason}", event_time)
        champion = self._routing.current(model).champion
        if champion == version:
            raise _already_champion(model, version)
        return self.record.create(
            model, champion, version, ROLLBACK, event_time, phase=Phase.PROMOTING, step_index=0, reason=reason,
            driver=self._driver,
        ).rollout_id

    def tick(
        self, rollout_id: str, event_time: datetime, observations: Rows, mirrored: Rows | None = None
    ) -> Phase:
        """Moves the rollout as far as it can go at `event_time`.

        Args:
            observations: predictions since the rollout's start with `assigned`, `answered_by`, `score`, `error`,
                `latency_ms`, `prediction_timestamp`, and `label` with `label_available_timestamp` where known.
            mirrored: what the candidate was shown since then, see `mirror_measures`.
        """
        rows = Seen(_frame(observations), pl.DataFrame() if mirrored is None else _frame(mirrored))
        state = self.record.get(rollout_id)
        while state.phase not in FINAL:
            route = self._make_traffic_follow(state)
            observation, reason = self._observe(state, route, rows, event_time)
            after = self._apply(state, observation, reason, event_time)
            if after is None:
                break
            state = after
        return state.phase

    def abort(self, rollout_id: str, reason: str, event_time: datetime) -> Phase:
        """Takes all traffic from the candidate, for good.

        Raises:
            RolloutError: the candidate already is the champion.
        """
        state = self.record.get(rollout_id)
        if switched(state.policy, state.phase, state.step_index):
            raise RolloutError(
                f"rollout {rollout_id} has already switched to {state.candidate}; roll {state.champion} out instead.",
                rollout=rollout_id,
            )
        return self._ask(state, Observation.ABORT_ASKED, reason, event_time)

    def pause(self, rollout_id: str, reason: str, event_time: datetime) -> Phase:
        """Keeps the weight where it is until `resume`."""
        return self._ask(self.record.get(rollout_id), Observation.PAUSE_ASKED, reason, event_time)

    def resume(self, rollout_id: str, reason: str, event_time: datetime) -> Phase:
        """Starts the paused step again, its analysis too."""
        return self._ask(self.record.get(rollout_id), Observation.RESUME_ASKED, reason, event_time)

    def promote(self, rollout_id: str, reason: str, event_time: datetime) -> Phase:
        """Makes the candidate champion now; the steps that are left are not walked."""
        state = self.record.get(rollout_id)
        return self._ask(state, Observation.PROMOTE_ASKED, reason, event_time, step_index=len(state.policy.steps))

    def _ask(
        self, state: RolloutState, observation: Observation, reason: str, at: datetime, step_index: int | None = None
    ) -> Phase:
        after = self._apply(state, observation, reason, at, step_index)
        if after is None:
            if state.phase is Phase.DEGRADED and observation is Observation.ABORT_ASKED:
                return self.tick(state.rollout_id, at, pl.DataFrame())
            raise RolloutError(
                f"rollout {state.rollout_id} is {state.phase}: {observation.value} is not possible now.",
                rollout=state.rollout_id, phase=state.phase.value,
            )
        if after.phase in (Phase.DEGRADED, Phase.PROMOTING):
            return self.tick(state.rollout_id, at, pl.DataFrame())
        self._make_traffic_follow(after)
        return after.phase

    def _apply(
        self, state: RolloutState, observation: Observation, reason: str, at: datetime, step_index: int | None = None
    ) -> RolloutState | None:
        """Writes what the table says; `None` when it says to wait. `step_index`: where to, if not to the next."""
        decision = decide(state.phase, observation)
        if decision.action is Action.WAIT:
            return None
        moves = decision.action in (Action.BEGIN, Action.ADVANCE, Action.PREPARE)
        index = state.step_index + moves if step_index is None else step_index
        return self.record.change(state, decision, index, reason or observation.value, at)

    def _make_traffic_follow(self, state: RolloutState) -> Route:
        current = self._routing.current(state.model)
        if self._champion_was_replaced(state, current) and state.phase is not Phase.DEGRADED:
            return current
        wanted = wanted_route(
            current, state.policy, state.phase, state.step_index, rollout_id=state.rollout_id,
            champion=current.champion if state.phase is Phase.DEGRADED else state.champion, candidate=state.candidate,
        )
        if wanted.same_traffic(current):
            return current
        return self._routing.write(
            state.model, current.epoch, champion=wanted.champion, candidate=wanted.candidate,
            weight_percent=wanted.weight_percent, prepare=wanted.prepare, rollout_id=wanted.rollout_id,
            mirror_percent=wanted.mirror_percent,
            reason=f"{state.phase}, step {state.step_index}: {state.reason}",
        )

    def _champion_was_replaced(self, state: RolloutState, route: Route) -> bool:
        allowed = {state.champion}
        if switched(state.policy, state.phase, state.step_index):
            allowed.add(state.candidate)
        return route.champion not in allowed

    def _observe(self, state: RolloutState, route: Route, rows: Seen, now: datetime) -> Found:
        over = switched(state.policy, state.phase, state.step_index)
        if state.phase is Phase.DEGRADED or over:
            ready = self._champions_follow(route)
            return (Observation.REPLICAS_READY, f"all replicas follow epoch {route.epoch}") if ready else WAITING
        if self._champion_was_replaced(state, route):
            return Observation.ABORT_ASKED, f"the champion was changed to {route.champion} meanwhile"
        if now - state.started_at > state.policy.progress_deadline:
            return Observation.DEADLINE_PASSED, f"not done within {state.policy.progress_deadline}"
        if state.phase is Phase.PAUSED:
            return WAITING
        if state.phase is Phase.PROMOTING:
            ready = self._champions_follow(route, state.candidate)
            return (Observation.STEP_DONE, f"{state.candidate} is loaded everywhere") if ready else WAITING
        if state.step_index == BEFORE_FIRST_STEP:
            return self._observe_loading(state, route)
        return self._observe_step(state, route, rows, now)

    def _observe_loading(self, state: RolloutState, route: Route) -> Found:
        name = candidate_name(state.model)
        num_replicas = candidate_replicas(state.policy, self._num_replicas)
        if self._follow(name, route, num_replicas, state.candidate) and self._champions_follow(route):
            done = Observation.REPLICAS_READY if state.phase is Phase.PENDING else Observation.STEP_DONE
            return done, f"{state.candidate} is loaded"
        return Observation.DEADLINE_PASSED, (
            f"{state.candidate} was not loaded in {num_replicas} of its replicas within {self._replica_timeout_s:g} s"
        )

    def _observe_step(self, state: RolloutState, route: Route, rows: Seen, now: datetime) -> Found:
        steps = state.policy.steps
        step = steps[state.step_index]
        last = state.step_index == len(steps) - 1
        done = Observation.LAST_STEP_DONE if last else Observation.STEP_DONE
        if isinstance(step, SetWeight | Mirror):
            return (done, f"{describe_step(step)} is in force") if self._champions_follow(route) else WAITING
        if isinstance(step, Pause):
            paused = now - state.step_started_at >= step.duration
            return (done, f"paused for {step.duration}") if paused else WAITING
        if isinstance(step, Hook):
            return self._observe_hook(state, step, now, done)
        return self._observe_analysis(state, step, rows, now, done)

    def _observe_hook(self, state: RolloutState, step: Hook, now: datetime, done: Observation) -> Found:
        call = HookCall(
            state.rollout_id, state.model, state.champion, state.candidate, state.step_index,
            weight_at(state.policy, state.step_index), now,
        )
        answer = self._hooks.ask(step, call, state.step_started_at)
        observation = decide_hook(answer.goes_on, now - state.step_started_at, step.timeout)
        return done if observation is Observation.STEP_DONE else observation, f"hook {step.name}: {answer.reason}"

    def _observe_analysis(
        self, state: RolloutState, step: Analysis | Experiment, rows: Seen, now: datetime, done: Observation
    ) -> Found:
        since = self.record.step_began(state, weight_step(state.policy, state.step_index))
        began = state.step_started_at
        if isinstance(step, Experiment):
            result = run_experiment(step, rows.answered, since=since, step_started_at=began, now=now)
        else:
            result = analyse(state.policy.metrics, rows, since=since, step_started_at=began, now=now)
        self.record.keep_analysis(state, result, now)
        if result.verdict is Verdict.RUNNING:
            return WAITING
        weight = weight_at(state.policy, state.step_index)
        return VERDICTS.get(result.verdict, done), f"{describe_step(step)} at {weight:g}%: {result.reason}"

    def _champions_follow(self, route: Route, version: str | None = None) -> bool:
        return self._follow(route.model, route, self._num_replicas, version)

    def _follow(self, name: str, route: Route, num_replicas: int, version: str | None) -> bool:
        """Waits in full the first time an epoch is asked about; later ticks only look."""
        timeout_s = 0.0 if (name, route.epoch) in self._waited else self._replica_timeout_s
        self._waited.add((name, route.epoch))
        return self._routing.wait_acknowledged(name, route.epoch, num_replicas, timeout_s, version)


def _already_champion(model: str, version: str) -> RolloutError:
    return RolloutError(f"version {version} of model {model!r} already is the champion.", version=version)


def _frame(rows: Rows) -> pl.DataFrame:
    if isinstance(rows, pl.DataFrame):
        return rows
    return pl.DataFrame(rows)
