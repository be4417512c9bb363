"""A state database with replicas that follow the traffic when the clock moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from app.clock import FakeClock
from app.foundation.state import StateDatabase
from app.rollout.controller import RolloutController
from app.serving.answer import NOT_FINITE
from app.serving.routing import RoutingTable, candidate_name
from app.settings import Settings
from app.spec.policies import Analysis, AnalysisMetric, Pause, RolloutPolicy, SetWeight

START = datetime(2013, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = RolloutPolicy(
    steps=(SetWeight(10), Pause(DAY), Analysis(), SetWeight(50), Pause(DAY), Analysis()),
    metrics=(
        AnalysisMetric("errors", "error_rate", "result <= 0.02", "result > 0.02", min_rows=10, inconclusive_limit=2),
    ),
    progress_deadline=10 * DAY,
)


class World(FakeClock):
    """A clock whose passing lets two champion replicas and the candidate's, of each model, follow the routing table."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(datetime(2026, 1, 1, tzinfo=UTC))
        self.database = StateDatabase.open(settings.state_url)
        self.routing = RoutingTable(self.database, self)
        self.models: list[str] = []
        self.add("m")
        self.can_load = True
        self.num_candidates = 1
        self.weights: list[float] = []
        self.controller = self.new_controller()

    def new_controller(self, policy: RolloutPolicy = POLICY) -> RolloutController:
        return RolloutController(self.database, self.routing, policy, clock=self, replica_timeout_s=5)

    def add(self, model: str) -> None:
        """A model whose champion is version 1."""
        self.models.append(model)
        if self.routing.find(model) is None:
            self.routing.write(model, 0, champion="1", reason="first")

    def sleep(self, duration_s: float) -> None:
        super().sleep(duration_s)
        self.weights.append(self.routing.current("m").weight_percent)
        for model in self.models:
            self._follow(model)

    def _follow(self, model: str) -> None:
        route = self.routing.current(model)
        loaded = (route.champion, *([route.prepare] if route.prepare else []))
        for replica in ("a", "b"):
            self.routing.acknowledge(model, replica, "boot", route.epoch, loaded)
        ready = (route.candidate,) if route.candidate and self.can_load else ()
        for number in range(self.num_candidates):
            self.routing.acknowledge(candidate_name(model), f"c{number}", "boot", route.epoch, ready)


def answers(at: datetime, num_ok: int = 50, num_failed: int = 0) -> pl.DataFrame:
    num_rows = num_ok + num_failed
    return pl.DataFrame(
        {
            "assigned": ["candidate"] * num_rows,
            "answered_by": ["candidate"] * num_ok + ["champion"] * num_failed,
            "score": [0.5] * num_rows,
            "error": pl.Series([None] * num_ok + [NOT_FINITE] * num_failed, dtype=pl.String),
            "prediction_timestamp": pl.Series([at] * num_rows, dtype=pl.Datetime("us", "UTC")),
        }
    )


NOTHING = answers(START, 0)
