"""Training rows as arrays. Legend: B = rows, F = numeric inputs, C = categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from app.errors import TrainingError
from app.models.artefact import Inputs, Target
from app.models.transform import Transform
from app.spec.models import Model, Task

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet  # heavy; workers never need it


@dataclass(frozen=True)
class Arrays:
    """`numeric` [B, F] float32, `codes` [B, C] int64, `label` [B] float32."""

    numeric: np.ndarray
    codes: np.ndarray
    label: np.ndarray

    def take(self, rows: np.ndarray) -> Arrays:
        """The rows at these positions."""
        return Arrays(self.numeric[rows], self.codes[rows], self.label[rows])


def inputs_of(model: Model, rows: TrainingSet) -> Inputs:
    """Columns of a training set that `model` reads; which are categories is the model's own declaration."""
    names = tuple(rows.feature_names)
    return Inputs(names, tuple(name for name in model.categorical if name in names))


def target_of(frame: pd.DataFrame, task: Task) -> Target:
    """The scale a network learns the label on; a label that never varies keeps its unit."""
    if task == "binary":
        return Target()
    label = frame["label"].to_numpy(dtype=np.float64)
    return Target(float(label.mean()), float(label.std()) or 1.0)


def to_arrays(transform: Transform, frame: pd.DataFrame, target: Target) -> Arrays:
    """Applies the transform to the inputs and the scale to the label."""
    numeric, codes = transform.apply(frame)
    label = (frame["label"].to_numpy(dtype=np.float64) - target.mean) / target.scale
    return Arrays(numeric, codes, label.astype(np.float32))


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
