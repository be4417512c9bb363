"""Sums without rounding take a shorter way to the same bits."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.features import windows
from app.features.window_fold import fold_axis, lift
from app.features.window_layout import CellLayout, WindowLayout
from app.spec import Aggregation

FOUR_HOURS = timedelta(hours=4)
LAYOUTS = [
    WindowLayout.of(tuple(Aggregation("x", f, FOUR_HOURS) for f in functions)).tiles[0].cells
    for functions in (("sum", "last"), ("std", "last"))
]  # by prefixes, and tile by tile because the spread is no sum
VALUES = st.sampled_from([-3.0, 0.0, 2.0, 7.0, math.nan, 2.0**30])
NO_ENTRIES: Any = None  # sketches are not folded here


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), VALUES), min_size=1), st.booleans(),
    st.sampled_from(LAYOUTS),
)
def test_prefixes_give_what_a_fold_gives(rows: list[tuple[int, int, float]], whole: bool, layout: CellLayout) -> None:
    """Whole numbers by differences of prefixes, others tile by tile; both against a fold by hand."""
    cut = sorted({(e, i): v if whole else v / 7 for e, i, v in rows}.items())
    entity, index = (np.array([key[k] for key, _ in cut]) for k in (0, 1))
    cells = lift(layout, {"x": np.array([v for _, v in cut])}, len(cut))
    tiles = windows.Tiles(entity, index, cells, NO_ENTRIES)
    asked = np.array([(e, f, f + w) for e in (-1, 0, 1, 2, 3) for f in range(-1, 11) for w in (0, 1, 4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "FEW_QUESTIONS", 0)
        answers = windows.fold_tiles(tiles, layout, asked[:, 0], asked[:, 1], asked[:, 2])
    for (e, first, end), answer in zip(asked, answers, strict=True):
        inside = (entity == e) & (index >= first) & (index < end)
        by_hand = fold_axis(layout, cells[inside][:, None])[0] if inside.any() else layout.empty
        assert answer.tobytes() == by_hand.tobytes()
