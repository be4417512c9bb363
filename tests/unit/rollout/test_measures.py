"""Each measure against its definition, computed another way."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn.metrics import log_loss

from app.errors import RolloutError
from app.rollout.measures import measure
from app.rollout.policy_check import check_policy
from app.spec.policies import Analysis, AnalysisMetric, Kpi, RolloutPolicy, SetWeight

scores = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=40)


def predictions(
    candidate: list[float], champion: list[float], label: list[float | None] | None = None, num_fallbacks: int = 0
) -> pl.DataFrame:
    """One request a row, those of the candidate first and taking 20 ms, the champion's 10 ms."""
    sides = ["candidate"] * len(candidate) + ["champion"] * len(champion)
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(len(sides))],
            "key": [f"k{i}" for i in range(len(sides))],
            "assigned": sides,
            "answered_by": ["champion"] * num_fallbacks + sides[num_fallbacks:],
            "score": [*candidate, *champion],
            "latency_ms": [20.0 if side == "candidate" else 10.0 for side in sides],
            "error": pl.Series([None] * len(sides), dtype=pl.String),
            "label": pl.Series(label or [None] * len(sides), dtype=pl.Float64),
        }
    )


@given(candidate=scores, champion=scores)
def test_score_distance_is_the_ks_statistic(candidate: list[float], champion: list[float]) -> None:
    found = measure("score_distance", predictions(candidate, champion))
    assert found.value == pytest.approx(ks_2samp(candidate, champion).statistic)
    assert found.num_rows == min(len(candidate), len(champion))


@given(candidate=scores, champion=scores, data=st.data())
def test_losses_are_means_over_labelled_rows(
    candidate: list[float], champion: list[float], data: st.DataObject
) -> None:
    num_rows = len(candidate) + len(champion)
    label = data.draw(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=num_rows, max_size=num_rows))
    rows = predictions(candidate, champion, label)
    known = rows.drop_nulls("label")
    sides = [known.filter(pl.col("assigned") == side) for side in ("candidate", "champion")]
    for name, loss in (("log_loss_difference", _log_loss), ("squared_error_difference", _squared_error)):
        found = measure(name, rows)  # type: ignore[arg-type]
        assert found.num_rows == min(side.height for side in sides)
        if found.num_rows:
            assert found.value == pytest.approx(loss(sides[0]) - loss(sides[1]), abs=1e-9)
        else:
            assert found.value is None


def _log_loss(rows: pl.DataFrame) -> float:
    return float(log_loss(rows["label"], rows["score"], labels=[0, 1]))


def _squared_error(rows: pl.DataFrame) -> float:
    return float(np.mean((rows["label"].to_numpy() - rows["score"].to_numpy()) ** 2))


def test_latency_compares_requests_with_and_without_the_candidate() -> None:
    rows = predictions([0.5] * 40, [0.5] * 60)
    assert measure("latency_p95_ms", rows).value == 20.0
    ratio = measure("latency_p95_ratio", rows)
    assert (ratio.value, ratio.num_rows) == (2.0, 40)
    one_request = rows.with_columns(request_id=pl.lit("r"), latency_ms=pl.lit(30.0))
    assert measure("latency_p95_ms", one_request).num_rows == 1, "a request counts once, whatever its rows"
    assert measure("latency_p95_ratio", predictions([0.5], [])).value is None


def test_kpi_difference_counts_fallbacks_on_the_side_they_were_dealt_to() -> None:
    rows = predictions([0.9] * 4, [0.1] * 4, num_fallbacks=2)
    found = measure("kpi_difference", rows, Kpi("score", "score"))
    assert (found.value, found.num_rows) == (pytest.approx(0.8), 4)


def test_a_kpi_and_its_measure_belong_together() -> None:
    for metric in (
        AnalysisMetric("money", "kpi_difference", "result >= 0", "result < -1"),
        AnalysisMetric("money", "error_rate", "result <= 0", "result > 1", kpi=Kpi("money", "label")),
    ):
        with pytest.raises(RolloutError, match="give one with kpi_difference"):
            check_policy(RolloutPolicy(steps=(SetWeight(10), Analysis()), metrics=(metric,)))
