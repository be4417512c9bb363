"""Everything a step needs, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.clock import Clock, WallClock
from app.features.store import FeatureStore
from app.foundation.lake import Lake
from app.foundation.lineage import provenance
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.foundation.telemetry import Progress
from app.models.registry import ModelRegistry
from app.pipeline.run import LoopRunLog
from app.settings import Settings, load_settings
from app.spec import Project


@dataclass
class Session:
    """A project, its stores and the run that is worked on.

    `provenance`: the code and environment of this process, as they were when it began.
    """

    project_ref: str
    project: Project
    settings: Settings
    database: StateDatabase
    lake: Lake
    store: FeatureStore
    registry: ModelRegistry
    progress: Progress
    clock: Clock
    run: LoopRunLog
    provenance: dict[str, Any]

    @property
    def run_id(self) -> str:
        return self.run.run_id


def open_session(
    project_ref: str, *, settings: Settings | None = None, progress: Progress | None = None, begin: bool = True
) -> Session:
    """Loads the project, opens its stores and finds the unfinished run or begins one.

    `begin`: `False` takes the newest run as it is, for what looks back and adds nothing to a run.

    Raises:
        UnknownNameError: the project has never been run here, and none is to begin.
        ProjectError: the project cannot be loaded.
        SettingsError: a setting is wrong.
    """
    project = load_project(project_ref)
    settings = settings or load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    database = StateDatabase.open(settings.state_url)
    clock = WallClock()
    return Session(
        project_ref=project_ref,
        project=project,
        settings=settings,
        database=database,
        lake=Lake.open(settings),
        store=FeatureStore(project, settings),
        registry=ModelRegistry(settings),
        progress=progress or Progress(),
        clock=clock,
        run=(LoopRunLog.start_or_resume if begin else LoopRunLog.latest)(database, clock, project.name),
        provenance=provenance(),
    )
