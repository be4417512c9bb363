"""Drift needs effect and significance; broken data is told apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.monitoring.performance import window_performance
from app.monitoring.profiler import ProfileCollector
from app.monitoring.verdict import DriftVerdict, judge_window, persistent
from app.profiles import profile_table, summary
from app.spec import DriftPolicy

POLICY = DriftPolicy(min_rows=200, min_share=0.5)


def profile(num_rows: int, shift: float, seed: int, nulls: float = 0.0) -> bytes:
    random = np.random.default_rng(seed)
    x = random.normal(shift, 1, num_rows)
    return profile_table(
        pa.table({"x": pa.array(x, mask=random.uniform(size=num_rows) < nulls), "score": random.uniform(size=num_rows)})
    )


def verdict(num_rows: int, shift: float, nulls: float = 0.0) -> DriftVerdict:
    reference = summary(profile(20_000, 0.0, 1))
    return judge_window(reference, summary(profile(num_rows, shift, 2, nulls)), POLICY)


def test_the_same_distribution_does_not_drift_even_in_a_small_window() -> None:
    assert not verdict(300, 0.0).drifted


def test_a_trifle_in_a_huge_window_is_significant_and_still_no_drift() -> None:
    found = verdict(100_000, 0.05)
    assert not found.drifted
    assert next(f for f in found.features if f.feature == "x").p < 0.01


def test_a_real_shift_drifts_and_names_the_feature() -> None:
    found = verdict(1_000, 1.0)
    assert found.drifted and "x" in found.reason


def test_too_few_rows_are_no_drift() -> None:
    assert not verdict(100, 2.0).drifted


def test_new_nulls_are_broken_data() -> None:
    found = verdict(1_000, 0.0, nulls=0.5)
    assert found.broken and "null" in found.reason


def test_a_column_that_is_gone_is_broken_data() -> None:
    reference = summary(profile(1_000, 0.0, 1))
    assert judge_window(reference, {"score": reference["score"]}, POLICY).broken


@pytest.mark.parametrize(
    ("verdicts", "expected"), [([True], False), ([True, True], True), ([True, False, True], False)]
)
def test_persistence_asks_for_windows_in_a_row(verdicts: list[bool], expected: bool) -> None:
    assert persistent(verdicts, 2) is expected


def test_the_collector_counts_each_window_once_and_can_start_it_again() -> None:
    start = datetime(2013, 9, 1, tzinfo=UTC)
    collector = ProfileCollector(start, timedelta(days=7))
    moments = pa.array([start + timedelta(days=day) for day in (0, 0, 6, 6, 7, 7)], pa.timestamp("us", "UTC"))
    collector.observe_tables([(moments, pa.table({"x": [1.0, 2.0] * 3}))])
    first = collector.profile(start, start + timedelta(days=7))
    assert first is not None and summary(first)["x"].count == 4
    collector.reset(start + timedelta(days=7))
    assert collector.profile(start + timedelta(days=7), start + timedelta(days=14)) is None


def test_performance_counts_only_known_labels() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(size=1_000)
    label = np.where(np.arange(1_000) < 600, (random.uniform(size=1_000) < score).astype(float), np.nan)
    found = window_performance(pd.DataFrame({"score": score, "label": label, "version": "3"}), "binary")
    assert (found.num_labels, found.coverage, found.rows_by_version) == (600, 0.6, {"3": 1_000})
    assert found.metrics["roc_auc"][0] > 0.7


def test_a_number_that_became_text_is_broken_data() -> None:
    reference = summary(profile_table(pa.table({"x": [1.0] * 500, "score": [0.5] * 500})))
    current = summary(profile_table(pa.table({"x": ["1.0"] * 500, "score": [0.5] * 500})))
    found = judge_window(reference, current, POLICY)
    assert found.broken and "text" in found.reason and not found.drifted
