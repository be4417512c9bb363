"""Which rows of an Arrow request a candidate is shown as copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress

import pyarrow as pa

from app.serving.answer import Prediction
from app.serving.mirror import is_shown
from app.serving.predictor import Answered
from app.serving.routing import Route
from app.serving.traffic import Variant

MAX_ROWS = 1_000  # of a table: a copy must not take more of a replica than what was asked for


@dataclass(frozen=True)
class TableCopy:
    """`answered`: the rows shown, as if they alone had been asked for; `num_left_out`: of the share, those beyond."""

    answered: Answered
    num_left_out: int


def table_copy(
    request_id: str, at: datetime, route: Route, keys: Sequence[str], assigned: Sequence[Variant], features: pa.Table,
    scores: pa.ChunkedArray, latency_s: float,
) -> TableCopy | None:
    """The champion's own rows that fall into the share that is mirrored, at most `MAX_ROWS`; `None` without any.

    Args:
        assigned: by the split, for each key.
        features: what the champion read [B, F].
        scores: as answered [B].
    """
    if route.candidate is None or route.mirror_percent <= 0:
        return None
    chosen = [side == "champion" and is_shown(key, route) for key, side in zip(keys, assigned, strict=True)]
    places = list(compress(range(len(keys)), chosen))
    shown = places[:MAX_ROWS]
    if not shown:
        return None
    predictions = tuple(
        Prediction(keys[place], score, route.champion, "champion", "champion")
        for place, score in zip(shown, scores.take(shown).to_pylist(), strict=True)
    )
    rows = tuple(features.take(shown).to_pylist())
    return TableCopy(Answered(request_id, at, route, rows, predictions, latency_s, 0.0), len(places) - len(shown))
