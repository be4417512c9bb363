"""A synthetic use case that walks the whole loop in about a minute: drift, a retraining, a bad candidate."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import ray.data

from app.spec import (
    Aggregation,
    Analysis,
    AnalysisMetric,
    Cases,
    DatasetFunction,
    Direction,
    DriftPolicy,
    Entity,
    Expectation,
    FairnessGate,
    FeatureService,
    FeatureView,
    Field,
    Gate,
    Label,
    OnDemandFeatureView,
    Pause,
    Project,
    RetrainPolicy,
    RolloutPolicy,
    SearchSpace,
    ServingGate,
    SetWeight,
    SklearnModel,
    Source,
    Timeline,
    TorchModel,
)
from tests.projects.tiny.data import START, checks

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def read_checks() -> ray.data.Dataset:
    """What is known when a machine is checked."""
    return ray.data.from_arrow(
        checks().select("check_id", "machine", "load", "shift", "temperature", "checked_timestamp").to_arrow()
    )


def read_outcomes() -> ray.data.Dataset:
    """What became of it, three hours later."""
    return ray.data.from_arrow(
        checks().select("check_id", "machine", "stopped", "checked_timestamp", "known_timestamp").to_arrow()
    )


def heat_per_load(rows: pd.DataFrame) -> pd.DataFrame:
    """Temperature over load, row by row."""
    temperature, load = (pd.to_numeric(rows[name]).astype("float64") for name in ("temperature", "load"))
    return pd.DataFrame({"heat_per_load": temperature / load.clip(lower=1.0)}, index=rows.index)


MACHINE = Entity("machine", ("machine",), "A machine in the workshop.")

CHECKS = Source(
    name="checks",
    reader=DatasetFunction(read_checks),
    fields=(
        Field("check_id", "string"), Field("machine", "string"), Field("load", "int64"), Field("shift", "string"),
        Field("temperature", "float64"), Field("checked_timestamp", "timestamp"),
    ),
    key=("check_id",),
    event_timestamp="checked_timestamp",
    expectations=(Expectation("check_id", not_null=True), Expectation("load", not_null=True, minimum=0, maximum=200)),
)

READINGS = Source(
    name="readings",
    reader=DatasetFunction(read_checks),
    fields=(Field("machine", "string"), Field("temperature", "float64"), Field("checked_timestamp", "timestamp")),
    key=("machine", "checked_timestamp"),
    event_timestamp="checked_timestamp",
    # The odd reading is hotter than 80 degrees: quarantined, so that tests see it happen.
    expectations=(Expectation("temperature", not_null=True, minimum=0, maximum=80),),
)

OUTCOMES = Source(
    name="outcomes",
    reader=DatasetFunction(read_outcomes),
    fields=(
        Field("check_id", "string"), Field("machine", "string"), Field("stopped", "int64"),
        Field("checked_timestamp", "timestamp"), Field("known_timestamp", "timestamp"),
    ),
    key=("check_id",),
    event_timestamp="checked_timestamp",
    available_timestamp="known_timestamp",
    expectations=(Expectation("stopped", not_null=True, one_of=(0, 1)),),
)

MACHINE_READING = FeatureView(
    "machine_reading", (MACHINE,), READINGS, (Field("temperature", "float64"),), ttl=6 * HOUR
)

MACHINE_HISTORY = FeatureView(
    name="machine_history",
    entities=(MACHINE,),
    source=OUTCOMES,
    fields=(Field("stopped", "int64"),),
    aggregations=(
        Aggregation("stopped", "mean", 3 * DAY),
        Aggregation("stopped", "count", 3 * DAY),
        Aggregation("stopped", "last", DAY),
    ),
)

HEAT = OnDemandFeatureView(
    "heat", ("temperature", "load"), (Field("heat_per_load", "float64"),), heat_per_load
)

SERVICE = FeatureService(
    "stop_features", ("machine_reading:*", "machine_history:*", "heat:*")
)

PROJECT = Project(
    name="tiny",
    sources=(CHECKS, READINGS, OUTCOMES),
    views=(MACHINE_READING, MACHINE_HISTORY),
    on_demand_views=(HEAT,),
    cases=Cases(CHECKS, "check_id", "checked_timestamp", (Field("load", "int64"), Field("shift", "string"))),
    label=Label(OUTCOMES, "stopped"),
    model=TorchModel(
        name="stop_mlp",
        service=SERVICE,
        factory="app.models.tabular:residual_mlp",
        categorical=("shift",),
        hyperparameters={"width": 16, "depth": 1, "dropout": 0.0},
        epochs=2,
        batch_size=32,
        learning_rate=1e-2,
        deadline_s=600.0,
    ),
    baseline=SklearnModel(
        "stop_trees", SERVICE, "sklearn.ensemble:HistGradientBoostingClassifier", categorical=("shift",),
        hyperparameters={"max_iter": 30, "min_samples_leaf": 20},
    ),
    search=SearchSpace({"learning_rate": (5e-3, 1e-2)}, num_trials=2, num_folds=2, epochs=1, max_rows=2_000),
    gates=(
        Gate("ranks", "roc_auc", "at_least", 0.65, min_rows=100),
        Gate("near_baseline", "log_loss", "not_worse_than_baseline", 0.15, min_rows=100),
        Gate("no_worse", "log_loss", "not_worse_than_champion", 0.05, min_rows=100),
        FairnessGate("means_the_same_on_each_shift", "shift", "calibration", max_gap=0.4, min_rows=30),
        Direction("heat_stops_machines", "temperature", by=10.0, tolerance=0.02, max_share=0.3),
        ServingGate(max_p99_ms=2_000.0),
    ),
    # 300 checks a day: each step is judged on the 12 hours before it, some 45 to 75 rows of the candidate.
    rollout=RolloutPolicy(
        steps=(SetWeight(30), Pause(12 * HOUR), Analysis(), SetWeight(50), Pause(12 * HOUR), Analysis()),
        metrics=(
            AnalysisMetric("log_loss", "log_loss_difference", "result <= 0.25", "result > 0.35", min_rows=30),
            AnalysisMetric("errors", "error_rate", "result <= 0.05", "result > 0.2", min_rows=30),
        ),
        progress_deadline=3 * DAY,
    ),
    # Two of the seven inputs show the new product in full; a day of 300 rows has a PSI of about 0.1 by chance alone.
    drift=DriftPolicy(window=DAY, min_psi=0.5, min_rows=100, min_share=0.25, persistence=2),
    # By the end of the second drifted day: two days of history less half a day held out, three quarters of it new.
    retrain=RetrainPolicy(holdout=DAY / 2, cooldown=5 * DAY, max_retrains=1, train_window=2 * DAY),
    timeline=Timeline(
        train_start=START + 1 * DAY,
        train_end=START + 8 * DAY,
        validation_end=START + 10 * DAY,
        replay_end=START + 22 * DAY,
        bad_candidate_at=START + 19 * DAY,
    ),
    description="Will this machine stop within three hours? Synthetic.",
)
