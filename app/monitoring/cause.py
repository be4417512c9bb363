"""Why a model got worse or may get worse: broken data, or which part of the world moved. Pure.

| cause | seen as | what to do |
|---|---|---|
| broken data | nulls, another type, a column gone | mend the source; retraining would learn the defect |
| concept drift | loss up while the inputs stay | retrain on recent rows; old rows may mislead |
| covariate drift | inputs moved | retrain when it persists; check the loss first |
| label drift | share of positives (or mean) moved, inputs stay | recalibrate or retrain |
| none | nothing of these | nothing |

The first that is seen is the main cause: broken inputs void every other sign, and inputs that move explain a label
that moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.monitoring.verdict import DriftVerdict


class Cause(StrEnum):
    BROKEN_DATA = "broken data"
    CONCEPT = "concept drift"
    LABEL = "label drift"
    COVARIATE = "covariate drift"
    NONE = "none"


ACTIONS = {
    Cause.BROKEN_DATA: "Mend the source and look at the quarantine table; retraining is blocked until then.",
    Cause.CONCEPT: "Retrain on recent rows; the same inputs now lead elsewhere.",
    Cause.LABEL: "Retrain or recalibrate; outcomes became more or less frequent.",
    Cause.COVARIATE: "Retrain when it persists; the model sees inputs it has learned little of.",
    Cause.NONE: "Nothing to do.",
}


@dataclass(frozen=True)
class LabelMeans:
    """Mean of the labels in the reference and in the window, and the standard error of their difference."""

    reference: float
    current: float
    standard_error: float


@dataclass(frozen=True)
class CauseFinding:
    """The main cause, everything that was seen beside it, and what to do."""

    cause: Cause
    signs: tuple[str, ...]
    action: str


def find_cause(
    drift: DriftVerdict,
    labels: LabelMeans | None,
    loss_increase: float | None,
    *,
    max_loss_increase: float,
    min_label_shift: float = 0.05,
) -> CauseFinding:
    """Tells the causes of a window apart.

    Args:
        drift: the window's verdict.
        labels: `None` while too few labels are known.
        loss_increase: log loss above the champion's at validation; `None` while it is unknown.
        max_loss_increase: more than this is worse.
        min_label_shift: a smaller move of the label's mean is no label drift, however significant.
    """
    signs = {
        Cause.BROKEN_DATA: drift.reason if drift.broken else "",
        Cause.CONCEPT: _concept(drift, loss_increase, max_loss_increase),
        Cause.COVARIATE: drift.reason if drift.drifted and not drift.broken else "",
        Cause.LABEL: _label(labels, min_label_shift),
    }
    seen = [cause for cause, sign in signs.items() if sign]
    cause = seen[0] if seen else Cause.NONE
    return CauseFinding(cause, tuple(f"{c.value}: {signs[c]}" for c in seen), ACTIONS[cause])


def _concept(drift: DriftVerdict, loss_increase: float | None, limit: float) -> str:
    if loss_increase is None or loss_increase <= limit or drift.drifted or drift.broken:
        return ""
    return f"loss up by {loss_increase:.3f} while the inputs stayed"


def _label(labels: LabelMeans | None, min_shift: float) -> str:
    if labels is None:
        return ""
    shift = labels.current - labels.reference
    if abs(shift) < min_shift or abs(shift) < 3 * labels.standard_error:
        return ""
    return f"mean {labels.reference:.2f} → {labels.current:.2f}"
