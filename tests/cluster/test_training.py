"""Training on a real Ray cluster: two DeepSpeed workers, tiny rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.errors import TrainingError
from app.features.training_set import TrainingSet
from app.models.artefact import ServableModel
from app.settings import Settings
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
from app.training.supervised import GRACE_S
from app.training.sweep import sweep
from app.training.train import train

pytestmark = pytest.mark.usefixtures("ray_head")

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
    deadline_s=400,
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


def answers(folder_of: object) -> np.ndarray:
    return ServableModel.load(folder_of.folder).predict(rows().frame)  # type: ignore[attr-defined]


def test_two_workers_learn_and_the_same_seed_gives_the_same_model(settings: Settings) -> None:
    first = train(project(), NETWORK, rows(), settings, "first")
    second = train(project(), NETWORK, rows(), settings, "second")
    np.testing.assert_array_equal(answers(first), answers(second))
    accuracy = ((answers(first) > 0.5) == rows().frame["label"]).mean()
    assert accuracy > 0.8
    assert first.run_record["deepspeed"]["train_micro_batch_size_per_gpu"] == 64
    assert not (settings.runs / "first").exists(), "checkpoints of a finished run are removed"


def test_a_run_whose_worker_died_ends_as_if_it_had_not(settings: Settings, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    dying = replace(
        NETWORK,
        factory="tests.cluster.dying_network:dies_once",
        hyperparameters={**NETWORK.hyperparameters, "marker": str(marker)},
    )
    broken = train(project(), dying, rows(), settings, "broken")
    assert marker.exists()
    whole = train(project(), NETWORK, rows(), settings, "whole")
    np.testing.assert_array_equal(answers(broken), answers(whole))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(settings: Settings) -> None:
    broken = replace(NETWORK, learning_rate=float("inf"))
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch 1, batch 2"):
        train(project(), broken, rows(), settings, "nan")
    assert not (settings.home / "trained" / "nan").exists()


def test_a_run_that_is_late_stops(settings: Settings) -> None:
    with pytest.raises(TrainingError, match="deadline"):
        train(project(), replace(NETWORK, deadline_s=0.01), rows(), settings, "late")
    assert GRACE_S > 30, "workers get time to report by themselves"


def test_a_model_larger_than_the_cluster_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(TrainingError, match="asks for 64 workers"):
        train(project(), replace(NETWORK, num_workers=64), rows(), settings, "large")


def test_an_estimator_trains_in_a_task(settings: Settings) -> None:
    trained = train(project(), TREES, rows(), settings, "trees")
    assert ((answers(trained) > 0.5) == rows().frame["label"]).mean() > 0.8


def test_a_sweep_ranks_its_trials_by_their_future(settings: Settings) -> None:
    result = sweep(project(), rows(), settings, "s")
    assert [t["mean"] for t in result.trials] == sorted(t["mean"] for t in result.trials)
    assert result.best == result.trials[0]["parameters"]
    assert all(t["low"] <= t["mean"] <= t["high"] for t in result.trials)
