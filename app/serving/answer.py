"""From scores of champion and candidate to one answer for each row. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import ModelError
from app.serving.routing import Route
from app.serving.traffic import Variant

NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one row. `error`: why the candidate did not answer a row assigned to it."""

    key: str
    score: float
    version: str
    variant: Variant
    answered_by: Variant
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As sent to the caller."""
        return {
            "key": self.key, "score": self.score, "version": self.version, "variant": self.variant,
            "answered_by": self.answered_by,
        }


@dataclass(frozen=True)
class CandidateAnswer:
    """What came back for the rows assigned to the candidate, in their order, or why nothing did."""

    scores: tuple[float, ...] = ()
    error: str | None = None

    def usable(self, num_rows: int) -> list[str | None]:
        """For each of `num_rows` the reason not to use its score, `None` where it is good."""
        if self.error is not None:
            return [self.error] * num_rows
        if len(self.scores) != num_rows:
            return [f"{len(self.scores)} scores for {num_rows} rows"] * num_rows
        return [None if math.isfinite(score) else NOT_FINITE for score in self.scores]


def rows_for_champion(assigned: Sequence[Variant], candidate: CandidateAnswer) -> list[int]:
    """Rows the champion must answer: its own, and those the candidate failed."""
    failures = iter(candidate.usable(sum(side == "candidate" for side in assigned)))
    return [row for row, side in enumerate(assigned) if side == "champion" or next(failures) is not None]


def combine(
    keys: Sequence[str],
    assigned: Sequence[Variant],
    route: Route,
    champion_scores: dict[int, float],
    candidate: CandidateAnswer,
) -> list[Prediction]:
    """One prediction for each key, in order.

    Args:
        champion_scores: by row, for the rows of `rows_for_champion`.

    Raises:
        ModelError: the champion gave a score that is not finite.
    """
    failures = candidate.usable(sum(side == "candidate" for side in assigned))
    of_candidate = iter(zip(failures, [*candidate.scores, *[math.nan] * len(assigned)], strict=False))
    predictions = []
    for row, (key, side) in enumerate(zip(keys, assigned, strict=True)):
        error, score = next(of_candidate) if side == "candidate" else (None, math.nan)
        if side == "candidate" and error is None and route.candidate is not None:
            predictions.append(Prediction(key, score, route.candidate, side, "candidate"))
            continue
        champion_score = champion_scores[row]
        if not math.isfinite(champion_score):
            raise ModelError(
                f"champion {route.champion} of {route.model!r} gave no finite score for {key!r}.", key=key
            )
        predictions.append(Prediction(key, champion_score, route.champion, side, "champion", error))
    return predictions
