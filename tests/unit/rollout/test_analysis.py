"""What a step's rows say about a candidate, and that no data never says yes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RolloutError
from app.rollout.analysis import Seen, Verdict, analyse, judge_outcomes
from app.rollout.condition import parse_condition
from app.rollout.measures import measure
from app.serving.answer import NOT_FINITE
from app.spec.policies import AnalysisMetric

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ERRORS = AnalysisMetric(
    "errors", "error_rate", "result <= 0.02", "result > 0.1", interval_s=3600, min_rows=10, inconclusive_limit=3
)


def rows(
    assigned: list[str], answered: list[str], score: float = 0.5, label: float | None = None, at: datetime = START
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "assigned": assigned,
            "answered_by": answered,
            "score": [score] * len(assigned),
            "error": pl.Series(
                [None if a == b else NOT_FINITE for a, b in zip(assigned, answered, strict=True)], dtype=pl.String
            ),
            "label": pl.Series([label] * len(assigned), dtype=pl.Float64),
            "prediction_timestamp": pl.Series([at] * len(assigned), dtype=pl.Datetime("us", "UTC")),
        }
    )


def mixed(num_ok: int, num_fallback: int, at: datetime = START) -> pl.DataFrame:
    return rows(
        ["candidate"] * (num_ok + num_fallback), ["candidate"] * num_ok + ["champion"] * num_fallback, at=at
    )


@pytest.mark.parametrize(
    ("num_ok", "num_fallback", "verdict"),
    [
        (100, 0, Verdict.SUCCESSFUL),
        (50, 50, Verdict.FAILED),
        (95, 5, Verdict.RUNNING),  # between the conditions: inconclusive, measured again
        (5, 0, Verdict.RUNNING),  # too few rows
        (0, 0, Verdict.RUNNING),
    ],
)
def test_first_measurement(num_ok: int, num_fallback: int, verdict: Verdict) -> None:
    result = analyse([ERRORS], Seen(mixed(num_ok, num_fallback)), since=START, step_started_at=START, now=START)
    assert result.verdict is verdict


def test_no_data_becomes_inconclusive_not_success() -> None:
    result = analyse([ERRORS], Seen(mixed(0, 0)), since=START, step_started_at=START, now=START + 10 * HOUR)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert len(result.metrics[0].outcomes) == 4


def test_no_metrics_is_inconclusive() -> None:
    assert analyse([], Seen(mixed(9, 0)), since=START, step_started_at=START, now=START).verdict is Verdict.INCONCLUSIVE


def test_rows_before_the_weight_changed_do_not_count() -> None:
    result = analyse(
        [ERRORS], Seen(mixed(100, 0, START - HOUR)), since=START, step_started_at=START, now=START
    )
    assert result.verdict is Verdict.RUNNING


@given(looks=st.lists(st.integers(0, 20), max_size=8))
def test_verdict_does_not_depend_on_when_anybody_looks(looks: list[int]) -> None:
    data = pl.concat([mixed(3, 0, START + i * HOUR) for i in range(8)])
    end = START + 20 * HOUR
    final = analyse([ERRORS], Seen(data), since=START, step_started_at=START, now=end)
    for hours in sorted(looks):
        seen = analyse([ERRORS], Seen(data), since=START, step_started_at=START, now=START + hours * HOUR)
        assert seen.verdict in (Verdict.RUNNING, final.verdict)
        assert seen.metrics[0].outcomes == final.metrics[0].outcomes[: len(seen.metrics[0].outcomes)]


def test_labels_that_came_later_are_not_used() -> None:
    metric = AnalysisMetric("loss", "log_loss_difference", "result <= 0.1", "result > 0.1", min_rows=1)
    data = rows(["candidate", "champion"], ["candidate", "champion"], label=1.0).with_columns(
        pl.lit(START + HOUR).dt.cast_time_unit("us").alias("label_available_timestamp")
    )
    early = analyse([metric], Seen(data), since=START, step_started_at=START, now=START)
    late = analyse([metric], Seen(data), since=START, step_started_at=START, now=START + HOUR)
    assert (early.verdict, late.verdict) == (Verdict.RUNNING, Verdict.SUCCESSFUL)


def test_measures() -> None:
    good = rows(["candidate"] * 4, ["candidate"] * 4, score=0.9, label=1.0)
    weak = rows(["champion"] * 3, ["champion"] * 3, score=0.5, label=1.0)
    fallback = rows(["candidate"], ["champion"], score=0.1, label=1.0)
    data = pl.concat([good, weak, fallback])
    assert measure("error_rate", data).value == pytest.approx(0.2)
    assert measure("missing_share", data).value == pytest.approx(0.2)
    assert measure("score_mean_shift", data).value == pytest.approx(0.4)
    loss = measure("log_loss_difference", data)
    assert loss.value == pytest.approx(-0.5878, abs=1e-4)
    assert loss.num_rows == 3
    assert measure("log_loss_difference", data.with_columns(pl.lit(None, pl.Float64).alias("label"))).num_rows == 0


@given(verdicts=st.lists(st.sampled_from([Verdict.SUCCESSFUL, Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE])))
def test_limits(verdicts: list[Verdict]) -> None:
    metric = AnalysisMetric("m", "error_rate", "result < 1", "result > 1", count=3, failure_limit=1)
    verdict = judge_outcomes(metric, verdicts)
    if verdicts.count(Verdict.FAILED) > 1:
        assert verdict is Verdict.FAILED
    if verdict is Verdict.SUCCESSFUL:
        assert verdicts.count(Verdict.SUCCESSFUL) >= 2


@pytest.mark.parametrize("text", ["result <= ", "results < 1", "__import__('os')", "result < 1 or True", ""])
def test_conditions_are_not_code(text: str) -> None:
    with pytest.raises(RolloutError, match="cannot be read"):
        parse_condition(text)
