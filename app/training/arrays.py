"""Training rows as arrays. Legend: B = rows, F = numeric inputs, C = categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from app.errors import TrainingError
from app.features.training_set import TrainingSet
from app.models.artefact import Inputs
from app.models.transform import Transform
from app.spec.models import Task


@dataclass(frozen=True)
class Arrays:
    """`numeric` [B, F] float32, `codes` [B, C] int64, `label` [B] float32."""

    numeric: np.ndarray
    codes: np.ndarray
    label: np.ndarray

    def take(self, rows: np.ndarray) -> Arrays:
        """The rows at these positions."""
        return Arrays(self.numeric[rows], self.codes[rows], self.label[rows])


def inputs_of(rows: TrainingSet) -> Inputs:
    """Columns of a training set that a model reads."""
    return Inputs(tuple(rows.feature_names), tuple(rows.categorical))


def to_arrays(transform: Transform, frame: pd.DataFrame) -> Arrays:
    """Applies the transform."""
    numeric, codes = transform.apply(frame)
    return Arrays(numeric, codes, frame["label"].to_numpy(dtype=np.float32))


def check_trainable(frame: pd.DataFrame, task: Task, where: str) -> None:
    """Refuses rows no model can learn from.

    Raises:
        TrainingError: no rows, or a binary label with one class only.
    """
    if frame.empty:
        raise TrainingError(f"{where}: no labelled rows in the stretch; check the timeline and the label's source.")
    if task == "binary":
        classes = sorted(frame["label"].unique().tolist())
        if not set(classes) <= {0, 1}:
            raise TrainingError(f"{where}: binary labels must be 0 or 1; found {classes[:5]}.")
        if len(classes) < 2:
            raise TrainingError(f"{where}: all {len(frame):,} labels are {classes[0]}; two classes are needed.")
