"""Training rows as arrays. Legend: B = rows, F = numeric inputs, C = categories."""

from __future__ import annotations

import math
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
    from app.training.training_table import TrainingTable

LABEL = "label"


@dataclass(frozen=True)
class Arrays:
    """`numeric` [B, F] float32, `codes` [B, C] int64, `label` [B] float32."""

    numeric: np.ndarray
    codes: np.ndarray
    label: np.ndarray

    def take(self, rows: np.ndarray) -> Arrays:
        """The rows at these positions."""
        return Arrays(self.numeric[rows], self.codes[rows], self.label[rows])


@dataclass(frozen=True)
class LabelCounts:
    """What must be known of the labels before training; those of parts of the rows add up to those of all.

    `squares`: sum of squared distances from the mean. `unusable`: nulls, NaN and infinities.
    `some`: up to three values.
    """

    num_rows: int
    unusable: int
    mean: float
    squares: float
    some: tuple[float, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> LabelCounts:
        """Counts the labels of a frame.

        Raises:
            TrainingError: a label that is not a number.
        """
        try:
            label = pd.to_numeric(frame[LABEL]).to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"labels must be numbers: {error}. Map them in the label's source.") from error
        usable = label[np.isfinite(label)]
        mean = float(usable.mean()) if len(usable) else 0.0
        some = tuple(float(v) for v in np.unique(usable)[:3])
        return cls(len(label), len(label) - len(usable), mean, float(((usable - mean) ** 2).sum()), some)

    def __add__(self, other: LabelCounts) -> LabelCounts:
        count, theirs = self.num_rows - self.unusable, other.num_rows - other.unusable
        share = theirs / max(1, count + theirs)
        apart = other.mean - self.mean
        return LabelCounts(
            self.num_rows + other.num_rows,
            self.unusable + other.unusable,
            self.mean + apart * share,
            self.squares + other.squares + apart**2 * count * share,
            tuple(sorted({*self.some, *other.some})[:3]),
        )

    def check_trainable(self, task: Task, where: str) -> None:
        """Refuses labels no model can learn from.

        Raises:
            TrainingError: no rows, labels that are null or infinite, or a binary label of one class or other values.
        """
        if not self.num_rows:
            raise TrainingError(f"{where}: no labelled rows in the stretch; check the timeline and the label's source.")
        if self.unusable:
            raise TrainingError(
                f"{where}: {self.unusable:,} of {self.num_rows:,} labels are null or not finite; drop those rows or "
                "mend the label's source."
            )
        if task != "binary":
            return
        if not set(self.some) <= {0.0, 1.0}:
            raise TrainingError(f"{where}: binary labels must be 0 or 1; found {[_short(v) for v in self.some]}.")
        if len(self.some) < 2:
            raise TrainingError(
                f"{where}: all {self.num_rows:,} labels are {_short(self.some[0])}; two classes are needed."
            )


def inputs_of(model: Model, rows: TrainingSet | TrainingTable) -> Inputs:
    """Columns of a training set that `model` reads; which are categories is the model's own declaration."""
    given = (*rows.feature_names, *(score.column for score in model.scores))
    names = tuple(name for name in given if model.inputs is None or name in model.inputs)
    return Inputs(names, tuple(name for name in model.categorical if name in names))


def target_of(frame: pd.DataFrame, task: Task) -> Target:
    """The scale a network learns the label on; a label that never varies keeps its unit."""
    return target_from(LabelCounts.of(frame), task)


def target_from(labels: LabelCounts, task: Task) -> Target:
    """See `target_of`."""
    if task == "binary":
        return Target()
    return Target(labels.mean, math.sqrt(labels.squares / max(1, labels.num_rows - 1)) or 1.0)


def to_arrays(transform: Transform, frame: pd.DataFrame, target: Target) -> Arrays:
    """Applies the transform to the inputs and the scale to the label."""
    numeric, codes = transform.apply(frame)
    label = (frame[LABEL].to_numpy(dtype=np.float64) - target.mean) / target.scale
    return Arrays(numeric, codes, label.astype(np.float32))


def check_trainable(frame: pd.DataFrame, task: Task, where: str) -> None:
    """Refuses rows no model can learn from.

    Raises:
        TrainingError: no rows, labels that are null or infinite, or a binary label with one class or of other values.
    """
    LabelCounts.of(frame).check_trainable(task, where)


def _short(value: float) -> str:
    return f"{value:g}"
