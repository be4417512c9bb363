"""Which inputs the model leans on: how much worse it gets when one is shuffled. Legend: B = rows, R = resamples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from app.evaluation.bootstrap import draw
from app.evaluation.metrics import Floats
from app.spec.models import Task

MAX_ROWS = 3_000
NUM_RESAMPLES = 200
JUDGED_BY: Mapping[str, str] = {"binary": "log_loss", "regression": "mae"}


@dataclass(frozen=True)
class Importance:
    """How much worse the metric gets without an input's own values, with its 95% interval over rows."""

    name: str
    value: float
    low: float
    high: float


def permutation_importance(
    predict: Callable[[pd.DataFrame], Floats],
    rows: pd.DataFrame,
    inputs: Sequence[str],
    task: Task,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
) -> list[Importance]:
    """All inputs, the most important first, on a seeded sample of labelled rows.

    Each input is shuffled once and the paired loss of metric is resampled over rows. Inputs that say the same share
    their importance: shuffling one alone then costs little.

    Source: Fisher, Rudin & Dominici, "All Models are Wrong, but Many are Useful", JMLR 20 (2019).
    """
    if rows.empty:
        return []
    random = np.random.default_rng(seed)
    sample = rows.sample(min(max_rows, len(rows)), random_state=seed).reset_index(drop=True)
    scores = {"": predict(sample)}
    for name in inputs:
        shuffled = sample[name].iloc[random.permutation(len(sample))].reset_index(drop=True)
        scores[name] = predict(sample.assign(**{name: shuffled}))
    metric = JUDGED_BY[task]
    drawn = draw(sample["label"].to_numpy(dtype=np.float64), scores, [metric], NUM_RESAMPLES)
    found = [Importance(name, *drawn.difference("", name, metric)) for name in inputs]
    return sorted(found, key=lambda each: -each.value)
