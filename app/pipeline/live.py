"""Live operation on replayed history: answer, watch, retrain, roll out.

The clock is event time. It stands still while a model trains and runs during a canary, and every decision counts
event time and rows, so a slow and a fast machine decide the same. A window is the unit of progress: a run that was
killed goes on at the start of the window it was in, with the same request ids, so nothing counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import ray
from sqlalchemy import select

from app.errors import RolloutError
from app.foundation.access import headers_for_a_while
from app.foundation.lineage import record_decision
from app.foundation.state import models as m
from app.foundation.telemetry import StepProgress
from app.monitoring.profiler import start_profiler
from app.pipeline.answers import answers, mirrored_answers, ship
from app.pipeline.bad_candidate import register_bad_candidate
from app.pipeline.calendar import Window, windows
from app.pipeline.feed import HistoryFeed
from app.pipeline.live_client import LiveClient
from app.pipeline.monitor import close_window
from app.pipeline.retrain import retrain
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.pipeline.triggers import WindowOutcome, decide_retrain
from app.rollout.controller import RolloutController
from app.rollout.decide import Phase
from app.serving.address import model_url
from app.serving.routing import RoutingTable

CHECK_INTERVAL = timedelta(hours=6)  # event time between looks at a rollout
BAD = "bad candidate"
REPLAY_SCOPES = ("predict", "labels", "features:push:*")


@dataclass
class Live:
    """What the replay carries from tick to tick."""

    session: Session
    client: LiveClient
    feed: HistoryFeed
    routing: RoutingTable
    controller: RolloutController
    next_check: datetime
    rollout_id: str | None = None
    finished: list[Output] = field(default_factory=list)  # rollouts that ended in this window


def replay_history(session: Session) -> None:
    """Replays the live stretch window by window against the running application."""
    timeline, policy = session.project.timeline, session.project.drift
    stretches = list(windows(timeline.validation_end, timeline.replay_end, policy.window))
    first = next((i for i, w in enumerate(stretches) if session.run.output(step_name(w)) is None), None)
    if first is None:
        return
    begin = stretches[first].start
    session.store.materialize_incremental(begin)
    session.store.load_online(begin, replace=True)  # a stopped replay has pushed what comes later
    profiler = start_profiler(session.project.name, timeline.validation_end, policy.window)
    ray.get(profiler.reset.remote(begin))
    routing = RoutingTable(session.database)
    url = model_url(session.settings, session.project.serving)
    with (
        session.progress.step("Live replay", total=len(stretches)) as progress,
        headers_for_a_while(session.settings, session.database, REPLAY_SCOPES, f"run {session.run_id}") as headers,
        LiveClient(url, session.run_id, headers=headers) as client,
    ):
        progress.advance(first)
        live = Live(
            session,
            client,
            HistoryFeed(session.project, session.lake, begin, timeline.replay_end),
            routing,
            RolloutController(session.database, routing, session.project.rollout),
            next_check=begin,
        )
        for window in stretches[first:]:
            session.run.step(step_name(window), partial(_run_window, live, window, progress))
            progress.advance(1, f"{window.start:%d %b}–{window.end:%d %b}")


def step_name(window: Window) -> str:
    """Name of a window's step in the run."""
    return f"window {window.name}"


def window_outputs(session: Session) -> list[Output]:
    """What each closed window of the run said, in order."""
    timeline = session.project.timeline
    names = [step_name(w) for w in windows(timeline.validation_end, timeline.replay_end, session.project.drift.window)]
    return [output for output in map(session.run.output, names) if output is not None]


def _run_window(live: Live, window: Window, progress: StepProgress) -> Output:
    session, before = live.session, live.client.num_rows
    champion = live.routing.current(session.project.name).champion
    live.finished = []
    live.next_check = window.start
    _resume_or_start(live, window.start, _challenger_of(window_outputs(session)))
    bad_at = session.project.timeline.bad_candidate_at
    for tick in live.feed.ticks(window.start, window.end):
        if bad_at is not None and window.start <= bad_at <= tick.at and live.rollout_id is None:
            if session.run.output(BAD) is None:
                version = session.run.step(BAD, lambda at=tick.at: {"version": register_bad_candidate(session, at)})  # type: ignore[misc]
                _resume_or_start(live, tick.at, version["version"])
            bad_at = None
        live.client.send(tick)
        if live.rollout_id is not None and tick.at >= live.next_check:
            live.next_check = tick.at + CHECK_INTERVAL
            _check_rollout(live, tick.at)
            progress.note(f"{tick.at:%d %b %H:%M}, rollout {live.rollout_id or 'over'}")
    ship(session)
    output = close_window(session, window, champion, live.client.num_rows - before)
    output["rollouts"] = live.finished
    output["requests"] = {
        "sent": live.client.num_requests,
        "failed": live.client.num_failed,
        "fallbacks": live.client.num_fallbacks,
    }
    return {**output, **_decide(live, window, output, progress)}


def _resume_or_start(live: Live, at: datetime, challenger: str | None) -> None:
    """Takes up a rollout that is under way, else starts the challenger's unless it has had one."""
    model = live.session.project.name
    running = live.controller.record.in_flight(model)
    if running is not None:
        live.rollout_id = running.rollout_id
        return
    live.rollout_id = None
    if challenger is None or challenger == live.routing.current(model).champion:
        return
    with live.session.database.session() as transaction:
        tried = transaction.scalars(
            select(m.Rollout).where(m.Rollout.model == model, m.Rollout.candidate == challenger)
        ).first()
    if tried is None:
        live.rollout_id = live.controller.start(model, challenger, at)
        live.next_check = at


def _check_rollout(live: Live, at: datetime) -> None:
    """Shows the rollout what was answered since it began; notes its end."""
    assert live.rollout_id is not None
    session, model = live.session, live.session.project.name
    ship(session)
    began = live.controller.record.get(live.rollout_id).started_at
    end = at + timedelta(seconds=1)
    phase = live.controller.tick(
        live.rollout_id, at, answers(session, began, end, at), mirrored_answers(session, began, end, at)
    )
    if phase not in (Phase.HEALTHY, Phase.ABORTED):
        return
    state = live.controller.record.get(live.rollout_id)
    if phase is Phase.HEALTHY:
        if live.routing.current(model).champion != state.candidate:
            raise RolloutError(f"rollout {live.rollout_id} is healthy, but {state.candidate} is not the champion.")
        session.registry.set_alias(model, "champion", state.candidate)
    live.finished.append(
        {
            "rollout": live.rollout_id,
            "candidate": state.candidate,
            "phase": phase.value,
            "reason": state.reason,
            "from": began.isoformat(),
            "to": at.isoformat(),
            "transitions": [
                {"to": str(t.to_phase), "reason": t.reason, "at": t.event_at.isoformat()}
                for t in live.controller.record.transitions(live.rollout_id)
            ],
        }
    )
    live.rollout_id = None


def _challenger_of(closed: list[Output]) -> str | None:
    """The version that the last window's retraining registered."""
    version: str | None = (closed[-1].get("retrain") or {}).get("version") if closed else None
    return version


def _decide(live: Live, window: Window, output: Output, progress: StepProgress) -> dict[str, Any]:
    """Whether to retrain now, and the retraining if so."""
    session = live.session
    closed = [*window_outputs(session), output]
    retrained = [o["retrain"] for o in closed if o.get("retrain")]
    decision = decide_retrain(
        [_outcome(session, o) for o in closed],
        session.project.drift,
        session.project.retrain,
        last_retrain=datetime.fromisoformat(retrained[-1]["at"]) if retrained else None,
        num_retrains=len(retrained),
        rollout_active=live.rollout_id is not None,
    )
    record_decision(
        session.database,
        actor="monitor",
        subject=session.project.name,
        decision=decision.cause or "no retraining",
        reason=decision.reason,
        event_at=window.end,
        run_id=session.run_id,
    )
    if decision.cause is None or window.end >= session.project.timeline.replay_end:
        return {"decision": decision.reason, "retrain": None}
    progress.note(f"{window.end:%d %b}: retraining, {decision.reason}")
    champion = live.routing.current(session.project.name).champion
    return {"decision": decision.reason, "retrain": retrain(session, window.end, champion, decision.reason)}


def _outcome(session: Session, output: Output) -> WindowOutcome:
    loss = output["performance"]["metrics"].get("log_loss")
    expected = _validation_loss(session, output["champion"])
    increase = loss["value"] - expected if loss is not None and expected is not None else None
    drift = output["drift"]
    return WindowOutcome(datetime.fromisoformat(output["end"]), drift["drifted"], drift["broken"], increase)


def _validation_loss(session: Session, version: str) -> float | None:
    """Log loss of a version on the frozen rows it was judged on."""
    judged = [
        session.run.require("train", "train"),
        *(o["retrain"] for o in window_outputs(session) if o.get("retrain")),
    ]
    for output in judged:
        if output["version"] == version and "log_loss" in output["metrics"]["challenger"]:
            return float(output["metrics"]["challenger"]["log_loss"]["value"])
    return None
