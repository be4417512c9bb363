"""What every drift measure promises, and the verdict built on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.drift import MEASURES, chi_square_p
from app.monitoring.verdict import judge_window
from app.profiles import ColumnSummary, profile_table, shared_bins, summary
from app.spec import DriftPolicy

Measure = Callable[[np.ndarray, np.ndarray], float]
SYMMETRIC = ["jensen_shannon", "hellinger", "kolmogorov_smirnov", "wasserstein", "psi"]
BOUNDED = ["jensen_shannon", "hellinger", "kolmogorov_smirnov", "wasserstein"]
BINS = st.lists(st.integers(0, 1_000), min_size=2, max_size=12)
EMPTY = np.zeros(4)
SOME = np.array([10.0, 0.0, 30.0, 5.0])

every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def column(values: list[object] | np.ndarray, kind: pa.DataType | None = None) -> ColumnSummary:
    return summary(profile_table(pa.table({"x": pa.array(values, kind, from_pandas=True)})))["x"]


def normal(shift: float, num_rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, num_rows)


@every_measure
@given(rows=BINS, times=st.integers(1, 3))
def test_zero_on_identical(measure: Measure, rows: list[int], times: int) -> None:
    counts = np.array(rows, dtype=np.float64)
    assert measure(counts, counts) == pytest.approx(0.0, abs=1e-7)
    if "psi" not in measure.__name__:  # smoothing by rows makes PSI depend on how many there are
        assert measure(counts, counts * times) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("name", SYMMETRIC)
@given(pairs=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12))
def test_symmetric_where_claimed(name: str, pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    assert MEASURES[name](a, b) == pytest.approx(MEASURES[name](b, a), abs=1e-9)


@pytest.mark.parametrize("name", BOUNDED)
@given(pairs=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12))
def test_bounded_by_one(name: str, pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    assert 0.0 <= MEASURES[name](a, b) <= 1.0 + 1e-9


@every_measure
def test_grows_with_the_shift(measure: Measure) -> None:
    reference = column(normal(0.0, 20_000, 1))
    found = []
    for shift in (0.0, 0.2, 0.5, 1.0, 2.0):
        bins = shared_bins(reference, column(normal(shift, 20_000, 2)))
        found.append(measure(bins.reference, bins.current))
    assert found == sorted(found) and found[-1] > 5 * found[0]


@every_measure
def test_finds_a_shift_in_categories(measure: Measure) -> None:
    bins = shared_bins(column(["a"] * 800 + ["b"] * 200), column(["a"] * 500 + ["b"] * 300 + ["new"] * 200))
    assert measure(bins.reference, bins.current) > 0.05


@every_measure
@pytest.mark.parametrize(("a", "b"), [(EMPTY, EMPTY), (EMPTY, SOME), (SOME, EMPTY)])
def test_nothing_to_compare_is_zero(measure: Measure, a: np.ndarray, b: np.ndarray) -> None:
    assert measure(a, b) == 0.0
    assert chi_square_p(a, b) == 1.0


@every_measure
@pytest.mark.parametrize(
    ("before", "now"),
    [
        (column([None] * 50, pa.float64()), column([None] * 50, pa.float64())),
        (column([7.0] * 50), column([7.0] * 90)),
        (column([True] * 50), column([True] * 50)),
        (column(["a"] * 50), column(["a"] * 50)),
        (column([], pa.float64()), column([1.0, 2.0])),
        (column([1.0, 2.0]), column([], pa.float64())),
    ],
    ids=["nulls", "constant", "constant flag", "constant text", "no reference", "no rows"],
)
def test_nulls_constants_and_empty_columns_are_no_drift(
    measure: Measure, before: ColumnSummary, now: ColumnSummary
) -> None:
    bins = shared_bins(before, now)
    assert measure(bins.reference, bins.current) == pytest.approx(0.0, abs=0.02)


@every_measure
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([0.0] * 500, [5.0] * 500),
        ([1] * 25 + [0] * 475, [1] * 250 + [0] * 250),
        ([1.0] * 500, [1.0] * 250 + [None] * 250),
    ],
    ids=["constant that moves", "rare number that becomes frequent", "nulls that appear"],
)
def test_a_change_inside_what_was_one_bin_is_seen(measure: Measure, before: list[object], now: list[object]) -> None:
    bins = shared_bins(column(before), column(now))
    assert measure(bins.reference, bins.current) > 0.1


def test_a_trifling_shift_in_a_large_window_raises_no_alarm() -> None:
    def profile(shift: float, seed: int) -> dict[str, ColumnSummary]:
        columns = {f"x{i}": normal(shift, 100_000, seed + i) for i in range(5)}
        return summary(profile_table(pa.table({**columns, "score": normal(shift, 100_000, seed + 9)})))

    verdict = judge_window(profile(0.0, 0), profile(0.02, 100), DriftPolicy())
    assert not verdict.drifted and not verdict.broken
    assert not any(f.drifted for f in verdict.features)


def test_the_same_distribution_is_rarely_flagged_over_many_windows() -> None:
    reference = summary(profile_table(pa.table({"x": normal(0.0, 20_000, 0), "score": normal(0.0, 20_000, 1)})))
    flagged = 0
    for seed in range(2, 62):
        frame = pd.DataFrame({"x": normal(0.0, 600, seed), "score": normal(0.0, 600, 1_000 + seed)})
        flagged += judge_window(reference, summary(profile_table(pa.Table.from_pandas(frame))), DriftPolicy()).drifted
    assert flagged == 0
