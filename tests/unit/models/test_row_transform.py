"""A few rows are transformed as a frame of them would be, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.row_transform import RowTransform
from app.models.transform import Transform

NUMERIC, CATEGORICAL = ("a", "b", "c"), ("k", "n")
FITTED = Transform.fit(
    pd.DataFrame(
        {
            "a": [0.1, 2.5, -3.0, 1e6], "b": [1.0, None, 2.0, 3.0], "c": [1, 2, 3, 4], "k": ["x", "y", "x", None],
            "n": [1, 2, 1, 2],
        }
    ),
    NUMERIC, CATEGORICAL,
)
NUMBERS = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60), st.booleans()
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": NUMBERS, "b": NUMBERS, "c": NUMBERS, "k": st.sampled_from(["x", "y", "z", "", None]),
            "n": st.one_of(st.none(), st.integers(-3, 3)),
        }
    ),
    min_size=1, max_size=5,
)


@given(ROWS)
def test_rows_are_transformed_like_a_frame(rows: list[dict[str, Any]]) -> None:
    found = RowTransform(FITTED).apply(rows)
    if found is None:  # left to the frame
        return
    numeric, codes = FITTED.apply(pd.DataFrame(rows))
    assert found[0].tobytes() == numeric.tobytes()
    assert np.array_equal(found[1], codes)


def test_usual_rows_need_no_frame() -> None:
    usual = [{"a": 1.5, "b": None, "c": 7, "k": "x", "n": 1}, {"a": 0.0, "b": 2.0, "c": 8, "k": None, "n": 2}]
    assert RowTransform(FITTED).apply(usual) is not None
    assert RowTransform(FITTED).apply([{**usual[0], "a": "1.5"}]) is None
    assert RowTransform(FITTED).apply([{**usual[0], "n": 1.0}]) is None


@pytest.mark.parametrize("num_rows", [1, 2])
def test_an_absurd_number_is_clipped(num_rows: int) -> None:
    rows = [{"a": 1.0, "b": 1.7e308, "c": 1, "k": "x", "n": 1}] * num_rows
    found = RowTransform(FITTED).apply(rows)
    assert found is not None
    assert found[0].tobytes() == FITTED.apply(pd.DataFrame(rows))[0].tobytes()
