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
    np.testing.assert_allclose(summed.mean, whole.mean, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(np.square(summed.scale), np.square(whole.scale), rtol=1e-6, atol=1e-3)


def test_it_standardises_flags_nulls_and_counts_categories() -> None:
    frame = pd.DataFrame({"x": [1.0, 3.0, None, 5.0], "kind": ["b", "a", "a", None]})
    transform = Transform.fit(frame, ["x"], ["kind"])
    assert transform.mean == (3.0,) and transform.scale == (pytest.approx((8 / 3) ** 0.5),)
    assert transform.flagged == ("x",) and transform.vocabularies == (("a", "b"),)
    numeric, codes = transform.apply(frame)
    assert numeric[2].tolist() == [0.0, 1.0] and codes[:, 0].tolist() == [2, 1, 1, 0]
