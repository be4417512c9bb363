"""Metrics of scores against truth under row weights, each defined once; B = rows, R = sets of weights.

A metric is prepared for a label and a score, both [B], and then answers any number of weights [R, B] at once: the
plain value has all weights one, and a bootstrap resample has as weight how often it drew each row. Binary labels are 0
or 1 and scores probabilities. What does not exist (an AUC over one class, a mean over no rows) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.evaluation import ranking
from app.spec.models import Task

Floats = npt.NDArray[np.float64]
Weighted = Callable[[Floats], Floats]  # weights [R, B] to values [R]
TINY = 1e-7  # probabilities are kept this far from 0 and 1 in logarithms
CALLED_FROM = 0.5  # scores from here on count as a predicted 1


@dataclass(frozen=True)
class Metric:
    """One number that says how well scores meet the truth.

    `prepare` does what does not depend on the weights. `title`: as a reader sees it. `biased`: chance alone moves it
    one way (an absolute difference is never negative), so that a bootstrap's draws lie to that side of the value.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    higher_is_better: bool
    prepare: Callable[[Floats, Floats], Weighted]
    biased: bool = False

    def __call__(self, label: Floats, score: Floats) -> float:
        """The value on all rows, each counted once."""
        return float(self.prepare(label, score)(np.ones((1, len(label))))[0])


def sums(
    columns: Callable[[Floats, Floats], Iterable[Floats]], finish: Callable[..., Floats]
) -> Callable[[Floats, Floats], Weighted]:
    """A metric made of weighted sums of `columns` [B] each; `finish` gets the sums [R], the rows' weight first."""

    def prepare(label: Floats, score: Floats) -> Weighted:
        table = np.vstack([np.ones(len(label)), *columns(label, score)])

        def weighted(weights: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                # Not by BLAS: its threads wait for each other where other work has the CPUs.
                return np.asarray(finish(*np.einsum("rb,kb->kr", weights, table)), dtype=np.float64)

        return weighted

    return prepare


def ece_bins(score: Floats, num_bins: int = 10) -> list[npt.NDArray[np.int64]]:
    """Positions of the rows of each bin, by rising score, bins of equal size; none is empty.

    Source: Nixon et al., "Measuring Calibration in Deep Learning" (2019), adaptive bins.
    """
    order = np.argsort(score, kind="stable")
    return [part for part in np.array_split(order, num_bins) if len(part)]


def _log_loss(label: Floats, score: Floats) -> Floats:
    p = np.clip(score, TINY, 1 - TINY)
    return -(label * np.log(p) + (1 - label) * np.log1p(-p))


def _ece_columns(label: Floats, score: Floats) -> Iterable[Floats]:
    """Score less label within each bin, zero outside; bins stay those of the whole rows."""
    for rows in ece_bins(score):
        column = np.zeros(len(score))
        column[rows] = (score - label)[rows]
        yield column


def _ece(rows: Floats, *gaps: Floats) -> Floats:
    return np.abs(np.array(gaps)).sum(axis=0) / rows if gaps else np.full(len(rows), np.nan)


def _r2(rows: Floats, error: Floats, label: Floats, squared: Floats) -> Floats:
    """Variance in two sums loses digits; the columns are centred on the whole rows' mean, which mends that."""
    variance = squared - label**2 / rows
    return np.where(variance > 0, 1.0 - error / np.where(variance > 0, variance, 1.0), np.nan)


def _centred(label: Floats, score: Floats) -> Iterable[Floats]:
    centre = label - label.mean() if len(label) else label
    return ((label - score) ** 2, centre, centre**2)


def _calls(label: Floats, score: Floats) -> Iterable[Floats]:
    """Hits, called, positives."""
    called = (score >= CALLED_FROM).astype(np.float64)
    return called * label, called, label


def _relative(label: Floats, score: Floats) -> Iterable[Floats]:
    known = label != 0
    return known.astype(np.float64), np.abs(label - score) / np.where(known, np.abs(label), 1.0) * known


def _squared(label: Floats, score: Floats) -> Iterable[Floats]:
    return ((label - score) ** 2,)


_BINARY: tuple[Task, ...] = ("binary",)
_VALUES: tuple[Task, ...] = ("regression",)
_MEAN = lambda rows, total: total / rows  # noqa: E731

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # chance that a 1 scores above a 0, ties counting half
        Metric("roc_auc", "ROC AUC", _BINARY, True, ranking.roc_auc),
        # average precision: precision summed over the steps in recall
        Metric("pr_auc", "PR AUC", _BINARY, True, ranking.pr_auc),
        # mean negative log likelihood
        Metric("log_loss", "log loss", _BINARY, False, sums(lambda y, s: (_log_loss(y, s),), _MEAN)),
        # mean squared difference of probability and truth
        Metric("brier", "Brier score", _BINARY, False, sums(_squared, _MEAN)),
        # expected calibration error over ten bins of equal size
        Metric("ece", "ECE", _BINARY, False, sums(_ece_columns, _ece), biased=True),
        # share of rows on the right side of one half, precision and recall of the calls, their harmonic mean
        Metric("accuracy", "accuracy", _BINARY, True,
               sums(lambda y, s: (((s >= CALLED_FROM) == (y == 1)).astype(np.float64),), _MEAN)),
        Metric("precision", "precision", _BINARY, True, sums(_calls, lambda n, hits, called, real: hits / called)),
        Metric("recall", "recall", _BINARY, True, sums(_calls, lambda n, hits, called, real: hits / real)),
        Metric("f1", "F1", _BINARY, True, sums(_calls, lambda n, hits, called, real: 2 * hits / (called + real))),
        Metric("mse", "MSE", _VALUES, False, sums(_squared, _MEAN)),
        Metric("rmse", "RMSE", _VALUES, False, sums(_squared, lambda n, total: np.sqrt(total / n))),
        Metric("mae", "MAE", _VALUES, False, sums(lambda y, s: (np.abs(y - s),), _MEAN)),
        # share of the label's variance that is explained
        Metric("r2", "R²", _VALUES, True, sums(_centred, _r2)),
        # mean absolute error as a share of the label, rows whose label is 0 left out
        Metric("mape", "MAPE", _VALUES, False, sums(_relative, lambda n, known, total: total / known)),
        # all absolute error as a share of all absolute label: unlike MAPE it holds near zero
        Metric("wape", "WAPE", _VALUES, False,
               sums(lambda y, s: (np.abs(y - s), np.abs(y)), lambda n, error, label: error / label)),
    )
}


def metrics_of(task: Task) -> tuple[str, ...]:
    """Names of all metrics of a task, the most telling first."""
    return tuple(name for name, metric in METRICS.items() if task in metric.tasks)
