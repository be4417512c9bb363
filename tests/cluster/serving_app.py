"""The shop's application running behind HAProxy, and what a test needs of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import torch
from ray import serve
from sklearn.linear_model import LogisticRegression

from app.assembly.application import deploy
from app.features.store import FeatureStore
from app.foundation.access import TokenRegistry
from app.foundation.state import StateDatabase
from app.models.artefact import Inputs
from app.models.export import save_estimator, save_torch
from app.models.signature import Signature
from app.models.tabular import residual_mlp
from app.models.transform import Transform
from app.serving.routing import RoutingTable, candidate_name
from app.settings import Settings, load_settings
from tests.cluster.serving_project import PROJECT, START

REF = "tests.cluster.serving_project:PROJECT"
NUM_REPLICAS = 2


def save_version(
    settings: Settings, version: str, *, inputs: tuple[str, ...] = ("price", "stock"), model: str = "shop"
) -> None:
    generator = np.random.default_rng(int(version))
    rows = generator.normal(size=(200, len(inputs)))
    estimator = LogisticRegression().fit(rows, rows.sum(axis=1) > 0)
    folder = settings.artefacts / model / version
    save_estimator(folder, estimator, "binary", Inputs(inputs, ()), {}, {})


def save_network(settings: Settings, version: str) -> None:
    """A small network, whose score takes a tenth of the time of an estimator's."""
    torch.manual_seed(int(version))
    sample = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["price", "stock"])
    transform = Transform.fit(sample, ("price", "stock"), ())
    network = residual_mlp(Signature(transform.num_numeric, transform.cardinalities, "binary"))
    folder = settings.artefacts / "shop" / version
    save_torch(folder, network.eval(), transform, "binary", Inputs(("price", "stock"), ()), sample, {})


def orders(num_rows: int, prefix: str = "o") -> list[dict[str, Any]]:
    return [{"order_id": f"{prefix}{i}", "shop": f"s{i % 5}", "price": i / num_rows} for i in range(num_rows)]


class App:
    """The running application and what a test needs of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = StateDatabase.open(settings.state_url)
        self.routing = RoutingTable(self.database)
        self.tokens = TokenRegistry(self.database)
        self.token, _ = self.tokens.create("tester", ["admin"], "test")
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=settings.http_url, timeout=30, headers=self.headers)

    def predict(self, num_rows: int, prefix: str, **more: Any) -> list[dict[str, Any]]:
        headers = more.pop("headers", None)
        body = {"entities": orders(num_rows, prefix), **more}
        response = self.http.post("/v1/predict", json=body, headers=headers)
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions

    def route(self, **change: Any) -> None:
        """Writes the next epoch and waits until it is followed."""
        epoch = self.routing.current("shop").epoch
        route = self.routing.write("shop", epoch, champion="1", reason="test", **change)
        assert self.routing.wait_acknowledged("shop", route.epoch, NUM_REPLICAS, 60)
        assert self.routing.wait_acknowledged(candidate_name("shop"), route.epoch, 1, 60)


@contextmanager
def running_app(
    home: Path, project_ref: str = REF, num_replicas: int = NUM_REPLICAS, save: Callable[..., object] = save_version,
    environment: Mapping[str, str] | None = None,
) -> Iterator[App]:
    """Versions 1 and 2, made by `save`, answer well; 3 fails on every row. `environment`: more settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"MILLRACE_HOME": str(home), "MILLRACE_HTTP_PORT": str(port), **(environment or {})}
    settings = load_settings(variables, in_job=False)
    for version in ("1", "2"):
        save(settings, version)
    save_version(settings, "3", inputs=("price", "colour"))  # asks for a column nobody has: fails on every row
    store = FeatureStore(PROJECT, settings)
    store.apply()
    store.push("stock_now", [{"shop": f"s{i}", "stock": float(i), "at": START} for i in range(5)], to="online")
    deploy(project_ref, settings, champion="1", num_replicas=num_replicas)
    yield App(settings)
    serve.shutdown()
