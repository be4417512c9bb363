"""Sketches against what they stand for: every bucket within its error, distinct counts exact and then estimated."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.features import sketches
from app.features.sketches import (
    DISTINCT,
    DISTINCT_KEPT,
    NOTHING,
    QUANTILE,
    Entries,
    Ranges,
    distinct_codes,
    estimate,
    merged_entries,
    quantile_codes,
    quantile_values,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1))
def test_a_bucket_stands_for_its_values(values: list[float]) -> None:
    array = np.array(values)
    codes = quantile_codes(array)
    found = quantile_values(codes)
    normal = np.abs(array) >= 2.3e-308
    largest = np.abs(array) >= np.finfo(np.float64).max * (1 - 1 / 64)  # its bucket has no finite upper bound
    bound = np.where(largest, 1 / 64, 1 / 129) * np.abs(array)
    assert (np.abs(found - array) <= bound * (1 + 1e-12))[normal].all()
    assert (np.abs(found[~normal]) < 2.3e-308).all()
    order = np.argsort(array)
    assert (np.diff(codes[order]) >= 0).all()


def everything(codes: np.ndarray) -> list[Ranges]:
    return [Ranges(codes, np.ones_like(codes), np.array([0]), np.array([len(codes)]))]


@given(st.lists(FINITE, min_size=1, max_size=50), st.sampled_from([0.0, 0.1, 0.5, 0.99, 1.0]))
def test_the_quantile_is_that_of_the_declared_rank(values: list[float], quantile: float) -> None:
    codes = quantile_codes(np.array([*values, math.nan]))
    (found,) = estimate(QUANTILE, quantile, everything(codes))
    rank = math.floor(quantile * (len(values) - 1))
    assert found == quantile_values(quantile_codes(np.array([sorted(values)[rank]])))[0]


@pytest.mark.parametrize("count", [0, 1, DISTINCT_KEPT - 1])
def test_distinct_counts_are_exact_while_they_are_small(count: int) -> None:
    codes = distinct_codes(pl.Series([f"value {i}" for i in range(count)] * 3, dtype=pl.String))
    assert estimate(DISTINCT, None, everything(codes)).tolist() == [count]


@pytest.mark.parametrize("count", [DISTINCT_KEPT, 5_000, 200_000])
def test_large_distinct_counts_are_within_four_standard_errors(count: int) -> None:
    codes = distinct_codes(pl.Series(range(count)))
    (found,) = estimate(DISTINCT, None, everything(codes))
    assert abs(found / count - 1) < 4 / math.sqrt(DISTINCT_KEPT - 2)


@pytest.mark.parametrize(
    "values",
    [
        [1.5, -0.0, 0.0, None, math.nan], [1, 0, 0, None, None], ["a", "b", "b", None, None],
        [True, False, False, None, None], [date(2020, 1, 1), date(1960, 1, 1), date(1960, 1, 1), None, None],
        [datetime(2020, 1, 1, tzinfo=UTC), *[datetime(1960, 1, 1, tzinfo=UTC)] * 2, None, None],
    ],
)
def test_equal_values_hash_alike_and_nulls_do_not_count(values: list[object]) -> None:
    first, second, again, *nulls = distinct_codes(pl.Series(values, strict=False)).tolist()
    assert first != second == again and min(first, second) >= 0
    assert nulls == [NOTHING, NOTHING]


def test_hashes_stay_what_they_were() -> None:
    """Stored sketches hold them: another hash would count every value twice."""
    assert distinct_codes(pl.Series(["", "late", "ü"])).tolist() == [
        6510301506637419378, 2018903224670358637, 1988230250601838762,
    ]
    assert distinct_codes(pl.Series([0, 1, -1])).tolist() == [
        8147104208329303767, 5225608189600411232, 8245168133484221968,
    ]


ENTRIES = st.lists(st.tuples(*[st.integers(0, 1)] * 3, st.sampled_from([NOTHING, 1, 2, 3, 4, 5]), st.integers(1, 3)))


def entries(rows: list[tuple[int, ...]]) -> Entries:
    return Entries(*np.array(rows, dtype=np.int64).reshape(-1, 5).T)


@given(ENTRIES, ENTRIES, ENTRIES)
def test_merging_is_the_same_in_any_order(a: list, b: list, c: list) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "DISTINCT_KEPT", 3)
        kinds = (QUANTILE, DISTINCT)
        whole = merged_entries(kinds, [entries(a + b + c)])
        left = merged_entries(kinds, [merged_entries(kinds, [entries(c), entries(b)]), entries(a)])
        last = merged_entries(kinds, [entries(a), merged_entries(kinds, [entries(c)])])
        right = merged_entries(kinds, [entries(b), last])
    for name in ("slot", "entity", "index", "code", "weight"):
        assert getattr(whole, name).tolist() == getattr(left, name).tolist() == getattr(right, name).tolist()


def test_the_bound_on_memory_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 50, 400)
    begin = random.integers(0, 200, 60)
    parts = [Ranges(codes, np.ones_like(codes), begin, begin + random.integers(0, 200, 60))] * 2
    expected = estimate(QUANTILE, 0.7, parts), estimate(DISTINCT, None, parts)
    monkeypatch.setattr(sketches, "MAX_ENTRIES", 1)
    assert str(estimate(QUANTILE, 0.7, parts)) == str(expected[0])
    assert estimate(DISTINCT, None, parts).tolist() == expected[1].tolist()
