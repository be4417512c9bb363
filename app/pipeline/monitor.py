"""What a closed monitoring window says: drift from profiles, performance from labels, and what follows."""

from __future__ import annotations

from datetime import datetime

import ray

from app.monitoring.performance import window_performance
from app.monitoring.profiler import profiler_name
from app.monitoring.verdict import judge_window
from app.pipeline.calendar import Window
from app.pipeline.candidates import reference_path
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.predictionlog.reader import read_labels, read_predictions
from app.profiles import summary

PROFILER_TIMEOUT_S = 60.0


def close_window(session: Session, window: Window, champion: str) -> Output:
    """Judges drift and performance of `window` against the champion's reference.

    The window's profile is kept as a file of the run: a real whylogs profile that whylogs can read.
    """
    profile = _served_profile(session, window.start)
    path = session.settings.home / "profiles" / session.run_id / f"{window.name}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(profile)
    reference = summary(reference_path(session, champion).read_bytes())
    drift = judge_window(reference, summary(profile), session.project.drift)
    predictions = read_predictions(session.lake, session.project.name, window.start, window.end)
    labels = read_labels(session.lake, session.project.name)
    performance = window_performance(predictions, labels, session.project.label.task)
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "champion": champion,
        "drift": drift.to_json(),
        "performance": performance.to_json(),
        "profile": str(path),
    }


def _served_profile(session: Session, window_start: datetime) -> bytes:
    profiler = ray.get_actor(profiler_name(session.project.name))
    profile: bytes = ray.get(profiler.profile.remote(window_start), timeout=PROFILER_TIMEOUT_S)
    return profile
