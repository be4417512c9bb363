"""How good the answers of a window were, as far as labels have come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.bootstrap import with_intervals
from app.spec.models import Task

REPORTED = {"binary": ("roc_auc", "log_loss", "ece"), "regression": ("mse", "mae", "r2")}
MIN_ROWS = 30


@dataclass(frozen=True)
class WindowPerformance:
    """`coverage`: share of answers whose label is known. `metrics`: name to (value, low, high), empty below 30 rows."""

    num_answers: int
    num_labels: int
    metrics: dict[str, tuple[float, float, float]]
    rows_by_version: dict[str, int]

    @property
    def coverage(self) -> float:
        """Share of answers whose label is known."""
        return self.num_labels / self.num_answers if self.num_answers else 0.0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "num_answers": self.num_answers,
            "num_labels": self.num_labels,
            "coverage": self.coverage,
            "metrics": {k: {"value": v, "low": low, "high": high} for k, (v, low, high) in self.metrics.items()},
            "rows_by_version": self.rows_by_version,
        }


def window_performance(labelled: pd.DataFrame, task: Task) -> WindowPerformance:
    """Judges answers.

    Args:
        labelled: one row per answer with `score`, `version` and `label` (NaN while unknown).
        task: what kind of label it is.
    """
    known = labelled[labelled["label"].notna()]
    metrics = {}
    if len(known) >= MIN_ROWS:
        label = known["label"].to_numpy(dtype=np.float64)
        metrics = with_intervals(label, known["score"].to_numpy(dtype=np.float64), REPORTED[task])
    versions = {str(k): int(v) for k, v in labelled["version"].value_counts().sort_index().items()}
    return WindowPerformance(len(labelled), len(known), metrics, versions)
