"""A transform fitted part by part is the transform of all rows."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.transform import ColumnStatistics, Transform

numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(3.0))
rows = st.lists(st.tuples(numbers, numbers, st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=60)


@given(rows=rows, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_parts_add_up_to_the_whole(rows: list[tuple[object, ...]], cuts: list[int]) -> None:
    frame = pd.DataFrame(rows, columns=["x", "y", "kind"])
    frame[["x", "y"]] = frame[["x", "y"]].astype("float64")
    edges = [0, *sorted(min(c, len(frame)) for c in cuts), len(frame)]
    parts = [frame.iloc[a:b] for a, b in pairwise(edges)]
    whole = Transform.fit(frame, ["x", "y"], ["kind"])
    summed = Transform.from_statistics(
        reduce(lambda a, b: a + b, (ColumnStatistics.of(part, ["x", "y"], ["kind"]) for part in parts))
    )
    assert summed.vocabularies == whole.vocabularies
    assert summed.flagged == whole.flagged
    for mine, theirs in zip(summed.edges, whole.edges, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(summed.bounds, whole.bounds, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(summed.mean, whole.mean, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(np.square(summed.scale), np.square(whole.scale), rtol=1e-6, atol=1e-3)


def test_it_standardises_flags_nulls_and_counts_categories() -> None:
    frame = pd.DataFrame({"x": [1.0, 3.0, None, 5.0], "kind": ["b", "a", "a", None]})
    transform = Transform.fit(frame, ["x"], ["kind"])
    assert transform.mean == (3.0,) and transform.scale == (pytest.approx((8 / 3) ** 0.5),)
    assert transform.flagged == ("x",) and transform.vocabularies == (("a", "b"),)
    numeric, codes = transform.apply(frame)
    assert numeric[2].tolist() == [0.0, 1.0] and codes[:, 0].tolist() == [2, 1, 1, 0]


def test_edges_cut_a_column_into_bins_of_equally_many_rows_and_bounds_leave_the_tails_out() -> None:
    frame = pd.DataFrame({"x": np.arange(1_600.0), "rare": [0.0] * 1_590 + [1.0] * 10, "none": [None] * 1_600})
    transform = Transform.fit(frame, ["x", "rare", "none"], [])
    edges = np.array(transform.edges[0]) * transform.scale[0] + transform.mean[0]
    np.testing.assert_allclose(edges, [0, *range(99, 1_599, 100), 1_599])
    np.testing.assert_allclose(np.array(transform.bounds[0]) * transform.scale[0] + transform.mean[0], [31, 1_567])
    assert len(transform.edges[1]) == 2 and transform.bounds[1][1] == 6.0, "one value alone: the range, within CLIP"
    assert transform.edges[2] == (0.0,)
