"""A small project, its rows, and a Ray whose dashboard runs: Ray Train takes 12 s longer to stop without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray

from app.assembly.ray_environment import TRAIN_VARIABLES
from app.features.training_set import TrainingSet
from app.models.artefact import ServableModel
from app.spec import (
    Cases,
    CsvFiles,
    FeatureService,
    Field,
    Label,
    Project,
    SearchSpace,
    SklearnModel,
    Source,
    Timeline,
    TorchModel,
)

SERVICE = FeatureService("s", ())
NETWORK = TorchModel(
    "network",
    SERVICE,
    "app.models.tabular:residual_mlp",
    categorical=("kind",),
    hyperparameters={"width": 16, "depth": 1, "dropout": 0.1},
    epochs=3,
    batch_size=128,
    learning_rate=5e-3,
    deadline_s=240,
    checkpoint_every_s=None,
)
TREES = SklearnModel(
    "trees",
    SERVICE,
    "sklearn.ensemble:HistGradientBoostingClassifier",
    categorical=("kind",),
    hyperparameters={"max_iter": 20},
)


def project() -> Project:
    fields = (Field("id", "int64"), Field("at", "timestamp"), Field("late", "int64"))
    source = Source("rows", CsvFiles("none.csv"), fields, key=("id",), event_timestamp="at")
    day = datetime(2020, 1, 1, tzinfo=UTC)
    return Project(
        name="toy",
        sources=(source,),
        views=(),
        cases=Cases(source, "id", "at"),
        label=Label(source, "late"),
        model=NETWORK,
        baseline=TREES,
        timeline=Timeline(day, day, day, day),
        search=SearchSpace({"width": (8, 16), "learning_rate": (1e-3, 1e-2, "loguniform")}, num_trials=2),
    )


def rows(num_rows: int = 2_000) -> TrainingSet:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "id": np.arange(num_rows),
            "at": pd.date_range("2020-01-01", periods=num_rows, freq="min", tz="UTC"),
            "x": random.normal(size=num_rows),
            "kind": random.choice(["a", "b"], num_rows),
        }
    )
    chance = 1 / (1 + np.exp(-(2 * frame["x"] + np.where(frame["kind"] == "a", 1.5, -1.5))))
    frame["label"] = (random.uniform(size=num_rows) < chance).astype(int)
    return TrainingSet(frame, ("x", "kind"), ("kind",), {})


def answers(trained: Any) -> np.ndarray:
    return ServableModel.load(trained.folder).predict(rows().frame)


@contextmanager
def training_ray() -> Iterator[None]:
    """Ray for training tests, stopped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TRAIN_VARIABLES.items():
            patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=8, include_dashboard=True, dashboard_host="127.0.0.1",
            object_store_memory=300_000_000, log_to_driver=False,
        )
        yield
        ray.shutdown()
