"""What a closed monitoring window says: drift from profiles, performance from labels."""

from __future__ import annotations

import time

import ray

from app.foundation.state import models as m
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name
from app.monitoring.performance import window_performance
from app.monitoring.verdict import judge_window
from app.pipeline.answers import answers
from app.pipeline.calendar import Window
from app.pipeline.candidates import reference_path
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.profiles import summary

PROFILE_TIMEOUT_S = 20.0
POLL_S = 0.1


def close_window(session: Session, window: Window, champion: str, num_rows: int) -> Output:
    """Judges `window` against the champion's reference and keeps the verdict.

    The window's profile stays as a file of the run: a real whylogs profile that whylogs can read.

    Args:
        num_rows: rows answered in the window; replicas report them without waiting, so the last may be on their way.
    """
    profile = _served_profile(session, window, num_rows)
    path = session.settings.home / "profiles" / session.run_id / f"{window.name}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(profile)
    served = summary(profile)
    drift = judge_window(summary(reference_path(session, champion).read_bytes()), served, session.project.drift)
    labelled = answers(session, window.start, window.end, window.end).to_pandas()
    performance = window_performance(labelled, session.project.label.task)
    with session.database.session() as transaction:
        transaction.merge(
            m.MonitoringWindow(
                run_id=session.run_id,
                model=session.project.name,
                window_start=window.start,
                window_end=window.end,
                drift=drift.to_json(),
                performance=performance.to_json(),
                profile_path=str(path),
                created_at=session.clock.now(),
            )
        )
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "champion": champion,
        "drift": drift.to_json(),
        "performance": performance.to_json(),
        "profiled_rows": max(c.count for c in served.values()),
        "answered_rows": num_rows,
    }


def _served_profile(session: Session, window: Window, num_rows: int) -> bytes:
    """The window's profile once it holds every row, or what it holds when the time is up."""
    profiler = ray.get_actor(collector_name(session.project.name), COLLECTOR_NAMESPACE)
    deadline = time.monotonic() + PROFILE_TIMEOUT_S
    while True:
        asked: ray.ObjectRef[bytes | None] = profiler.profile.remote(window.start, window.end)
        profile = ray.get(asked, timeout=PROFILE_TIMEOUT_S)
        seen = 0 if profile is None else max(c.count for c in summary(profile).values())
        late = time.monotonic() > deadline
        if profile is not None and (seen >= num_rows or late):
            return profile
        if late:
            raise TimeoutError(f"no profile of window {window.name} after {PROFILE_TIMEOUT_S:g} s; is anything served?")
        time.sleep(POLL_S)
