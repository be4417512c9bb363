"""Parts of the rows agree on the sample of all."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from app.models.row_sample import KEPT_ROWS, RowSample


@given(
    st.lists(st.tuples(st.sampled_from([0.0, -0.0, 1.5, float("nan")]), st.sampled_from(["a", None])), min_size=1),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_order_and_cut_into_parts_do_not_matter(
    rows: list[tuple[float, str | None]], random: object, size: int
) -> None:
    def sample(part: list[tuple[float, str | None]]) -> RowSample:
        return RowSample.of(np.array([[value] for value, _ in part]), [pd.Series([t for _, t in part], dtype=object)])

    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [sample(shuffled[i : i + size]) for i in range(0, len(shuffled), size)]
    whole, summed = sample(rows), reduce(lambda a, b: a + b, parts)
    for name in ("hashes", "values", "times"):
        np.testing.assert_array_equal(getattr(summed, name), getattr(whole, name))
    assert whole.times.sum() == len(rows)


def test_more_rows_than_are_kept_give_quantiles_within_the_stated_error() -> None:
    values = np.random.default_rng(0).lognormal(size=(120_000, 1))
    sample = reduce(lambda a, b: a + b, (RowSample.of(part, []) for part in np.array_split(values, 7)))
    assert len(sample.hashes) == KEPT_ROWS
    shares = np.linspace(0.01, 0.99, 99)
    found = sample.quantiles(0, shares)
    ranks = np.searchsorted(np.sort(values[:, 0]), found, side="right") / len(values)
    assert np.abs(ranks - shares).max() < 0.013


def test_repeated_rows_keep_their_weight() -> None:
    values = np.array([[1.0]] * 90 + [[2.0]] * 10)
    sample = RowSample.of(values, []) + RowSample.of(values, [])
    assert sample.times.tolist() in ([180, 20], [20, 180])
    assert sample.quantiles(0, np.array([0.9, 0.91])).tolist() == [1.0, 2.0]
