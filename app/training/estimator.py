"""Trains a `SklearnModel` in one Ray task."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import ray

from app.foundation.import_path import resolve
from app.models.artefact import Inputs, estimator_matrix
from app.models.export import CHECKED_ROWS, save_estimator
from app.models.transform import by_frequency, category_text
from app.spec.models import SklearnModel, Task
from app.training.arrays import inputs_of

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet  # heavy; workers never need it

MAX_CATEGORIES = 250  # HistGradientBoosting takes at most 255; rarer ones are unknown


def train_estimator(model: SklearnModel, task: Task, rows: TrainingSet, folder: Path) -> None:
    """Fits the estimator and writes its artefact into `folder`."""
    inputs = inputs_of(model, rows)
    words = vocabularies(rows.frame, inputs)
    fitted = ray.get(_fit.remote(model, rows.frame, inputs, words))
    sample = estimator_matrix(rows.frame.head(CHECKED_ROWS), inputs, words)
    save_estimator(folder, fitted, task, inputs, words, {"name": model.name}, sample)


def fit_estimator(model: SklearnModel, frame: pd.DataFrame, inputs: Inputs, words: dict[str, list[str]]) -> Any:
    """A fitted estimator; tells it which columns are categories and which seed to use, where it can be told."""
    factory = resolve(model.factory)
    known = inspect.signature(factory).parameters
    derived: dict[str, Any] = {}
    if "random_state" in known:
        derived["random_state"] = model.seed
    if "categorical_features" in known and inputs.categorical:
        first = len(inputs.numeric)
        derived["categorical_features"] = list(range(first, first + len(inputs.categorical)))
    estimator = factory(**{**derived, **model.hyperparameters})
    return estimator.fit(estimator_matrix(frame, inputs, words), frame["label"].to_numpy(dtype=np.float64))


def vocabularies(frame: pd.DataFrame, inputs: Inputs) -> dict[str, list[str]]:
    """The most frequent categories of each categorical column, in a fixed order."""
    words = {}
    for name in inputs.categorical:
        counts = category_text(frame[name]).value_counts()
        words[name] = by_frequency(counts)[:MAX_CATEGORIES]
    return words


_fit = ray.remote(num_cpus=1)(fit_estimator)
