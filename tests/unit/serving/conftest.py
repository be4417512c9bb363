"""A whole replica in this process: real project, stores, model, log and gate; only Ray is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator

from app.features.store import FeatureStore
from app.foundation.access import TokenRegistry
from app.foundation.import_path import resolve
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.models.artefact import Inputs
from app.models.export import save_estimator
from app.serving.answer import Prediction
from app.serving.api import build_api
from app.serving.gate import Gate
from app.serving.routing import RoutingTable
from app.serving.service import ModelService
from app.settings import Settings, load_settings
from app.spec import SklearnModel
from tests.cluster.serving_project import START

REF = "tests.cluster.serving_project:PROJECT"


class CountingFeed:
    """Keeps what was answered."""

    def __init__(self, model: str) -> None:
        self.batches: list[tuple[datetime, int]] = []

    def __call__(self, at: datetime, rows: Sequence[dict[str, Any]], scores: Sequence[float]) -> None:
        assert len(rows) == len(scores)
        self.batches.append((at, len(rows)))

    def table(self, at: datetime, features: pa.Table, scores: Sequence[float]) -> None:
        assert features.num_rows == len(scores)
        self.batches.append((at, features.num_rows))

    def flush(self) -> None:
        pass


class CountingMetrics:
    """Keeps what was counted."""

    def __init__(self, model: str) -> None:
        self.num_rows = 0
        self.errors: list[tuple[int, str]] = []

    def answered(self, latency_s: float, predictions: Sequence[Prediction]) -> None:
        self.num_rows += len(predictions)

    def answered_table(self, latency_s: float, rows: pa.Table) -> None:
        self.num_rows += rows.num_rows

    def refused(self, status: int, code: str) -> None:
        self.errors.append((status, code))

    def flush(self) -> None:
        pass

    def mean_latency_ms(self) -> float:
        return 0.0


def save_version(settings: Settings, version: str, estimator: BaseEstimator) -> None:
    """A model on price and stock."""
    rows = np.random.default_rng(int(version)).normal(size=(200, 2))
    estimator.fit(rows, rows.sum(axis=1) > 0)
    save_estimator(settings.artefacts / "shop" / version, estimator, "binary", Inputs(("price", "stock"), ()), {}, {})


class Replica:
    """A replica and what a test needs of it."""

    def __init__(self, settings: Settings, ref: str = REF) -> None:
        self.settings = settings
        self.candidate_scores: list[float] | Exception = []
        self.asked: list[tuple[str | None, list[dict[str, Any]]]] = []
        self.database = StateDatabase.open(settings.state_url)
        self.tokens = TokenRegistry(self.database)
        self.routing = RoutingTable(self.database)
        self.service = ModelService(ref, settings, "replica", self._ask, CountingFeed, CountingMetrics)
        self.gate = Gate(self.service, build_api(self.service))

    async def _ask(self, version: str | None, rows: list[dict[str, Any]]) -> list[float]:
        self.asked.append((version, rows))
        if isinstance(self.candidate_scores, Exception):
            raise self.candidate_scores
        return self.candidate_scores or [0.25] * len(rows)

    @asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client on the replica."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app=self.gate)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://replica", headers=headers) as client:
            yield client

    def log(self, kind: str = "predictions") -> list[Path]:
        """Segment files."""
        return sorted((self.settings.segments / "shop" / kind).glob("*.jsonl"))


def open_replica(home: Path, ref: str = REF, **change: Any) -> Replica:
    """A replica of the shop with version 1 as champion, in a home of its own."""
    environment = {"MILLRACE_HOME": str(home), **change}
    settings = load_settings(environment, in_job=False)
    project = load_project(ref)
    assert isinstance(project.model, SklearnModel)
    save_version(settings, "1", resolve(project.model.factory)())
    store = FeatureStore(project, settings)
    store.apply()
    rows = [{"shop": f"s{i}", "stock": float(i), "at": START} for i in range(5)]
    store.push("stock_now", rows, to="online")
    RoutingTable(StateDatabase.open(settings.state_url)).write("shop", 0, champion="1", reason="test")
    return Replica(settings, ref)


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One that asks for tokens."""
    found = open_replica(tmp_path_factory.mktemp("replica"))
    yield found
    found.service.close()


@pytest.fixture(scope="module")
def admin(replica: Replica) -> str:
    """A token for everything."""
    return replica.tokens.create("tester", ["admin"], "test", timedelta(hours=1))[0]


def orders(num_rows: int, prefix: str = "o") -> list[dict[str, Any]]:
    """Entity rows."""
    return [{"order_id": f"{prefix}{i}", "shop": f"s{i % 5}", "price": i / num_rows} for i in range(num_rows)]


def feature_rows(num_rows: int) -> list[dict[str, Any]]:
    """Full feature rows."""
    return [{"order_id": f"f{i}", "price": i / num_rows, "stock": float(i % 5)} for i in range(num_rows)]
