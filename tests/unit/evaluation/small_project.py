"""A project of three inputs and its frozen rows, for tests of validation that need no Ray."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from app.features.training_set import TrainingSet
from app.models.export import save_estimator
from app.spec import Cases, CsvFiles, FeatureService, Field, Label, Project, SklearnModel, Source, Timeline
from app.spec.gates import AnyGate
from app.training.estimator import fit_estimator, vocabularies
from tests.unit.models.test_artefact import INPUTS

SERVICE = FeatureService("s", ())
INPUT_FIELDS = (Field("x", "float64"), Field("kind", "string"), Field("y", "int64"))
TREES = SklearnModel(
    "trees", SERVICE, "sklearn.ensemble:HistGradientBoostingClassifier", ("kind",), {"max_iter": 15}
)


def small_project(*gates: AnyGate) -> Project:
    """Binary, one source, inputs sent with the request."""
    fields = (Field("id", "int64"), Field("at", "timestamp"), Field("late", "int64"), *INPUT_FIELDS)
    source = Source("rows", CsvFiles("none.csv"), fields, key=("id",), event_timestamp="at")
    day = datetime(2020, 1, 1, tzinfo=UTC)
    return Project(
        name="small", sources=(source,), views=(), cases=Cases(source, "id", "at", INPUT_FIELDS),
        label=Label(source, "late"), model=TREES, baseline=TREES, timeline=Timeline(day, day, day, day),
        gates=gates,
    )


def small_rows(num_rows: int = 1_500, seed: int = 0) -> TrainingSet:
    """Late more often with a high x and for kind a."""
    random = np.random.default_rng(seed)
    x, kind = random.normal(0, 1, num_rows), random.choice(["a", "b"], num_rows)
    chance = 1 / (1 + np.exp(-(1.5 * x + np.where(kind == "a", 0.7, -0.7))))
    frame = pd.DataFrame(
        {
            "id": np.arange(num_rows),
            "at": pd.date_range("2020-01-01", periods=num_rows, freq="min", tz="UTC"),
            "x": x, "kind": pd.Series(kind, dtype="str"), "y": random.integers(0, 9, num_rows),
            "label": (random.uniform(size=num_rows) < chance).astype(int),
        }
    )
    return TrainingSet(frame, INPUTS.feature_names, INPUTS.categorical, {"row_hash": f"rows-{seed}", "rows": num_rows})


def small_model(folder: Path, seed: int = 1, flip: bool = False) -> Path:
    """A sealed estimator; `flip`: it learned the opposite of the truth."""
    rows = small_rows(seed=seed)
    frame = rows.frame.assign(label=1 - rows.frame["label"]) if flip else rows.frame
    words = vocabularies(frame, INPUTS)
    return save_estimator(folder, fit_estimator(TREES, frame, INPUTS, words), "binary", INPUTS, words, {})
