"""Behavioural tests change what they say, leave the rest, and measure how far the score went."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.errors import MissingColumnError
from app.evaluation.behaviour import try_behaviour
from app.spec import Direction, Gate, GoldenRow, GoldenRows, Invariance

ROWS = pd.DataFrame(
    {"x": [0.0, 1.0, 2.0, np.nan], "kind": pd.Series(["a", "b", "b", None], dtype="str"), "count": [1, 2, 3, 4]}
)


def predict(rows: pd.DataFrame) -> np.ndarray:
    """Tenths of x, a fifth more for kind b; counts from 3 on lower the score by their own tenth."""
    x = rows["x"].fillna(0.0).to_numpy(dtype=float) / 10
    return x + 0.2 * (rows["kind"] == "b").to_numpy(dtype=float) - np.where(rows["count"] >= 3, rows["count"] / 10, 0.0)


def test_invariance_takes_the_largest_move_over_all_values() -> None:
    tried = try_behaviour([Invariance("i", "kind", ("a", "b", None), 0.05)], predict, ROWS)["i"]
    assert tried.excess == pytest.approx([0.15] * 4)
    assert "kind=" in tried.worst and tried.problem is None


def test_an_invariant_column_moves_nothing() -> None:
    rows = ROWS.assign(unused=1)
    assert not try_behaviour([Invariance("i", "unused", (5, None), 0.0)], predict, rows)["i"].excess.any()


def test_direction_counts_only_rows_with_a_value_and_only_the_wrong_way() -> None:
    up = try_behaviour([Direction("d", "x", 1.0)], predict, ROWS)["d"]
    assert len(up.excess) == 3 and not up.excess.any()
    down = try_behaviour([Direction("d", "x", 1.0, "falls", tolerance=0.04)], predict, ROWS)["d"]
    assert down.excess == pytest.approx([0.06] * 3)
    steps = try_behaviour([Direction("d", "count", 1.0)], predict, ROWS)["d"]
    assert sorted(steps.excess) == pytest.approx([0.0, 0.1, 0.1, 0.3])


def test_a_column_without_any_number_is_a_problem_not_a_pass() -> None:
    tried = try_behaviour([Direction("d", "kind", 1.0)], predict, ROWS)["d"]
    assert tried.problem == "no row has a number in kind"


def test_golden_rows_are_compared_one_by_one() -> None:
    inputs = {"x": 5.0, "kind": "b", "count": 1}
    golden = GoldenRows("g", (GoldenRow(inputs, 0.7, 0.01), GoldenRow({**inputs, "kind": None}, 0.7, 0.01)))
    tried = try_behaviour([golden], predict, ROWS)["g"]
    assert tried.excess == pytest.approx([0.0, 0.19])
    assert tried.worst.startswith("row 2 scored 0.5000")
    assert try_behaviour([GoldenRows("g", ())], predict, ROWS)["g"].problem == "no rows are declared"


def test_a_model_that_cannot_answer_is_the_finding() -> None:
    def refuse(rows: pd.DataFrame) -> np.ndarray:
        raise MissingColumnError("the model needs y, which the rows lack.", column="y")

    tried = try_behaviour([Invariance("i", "kind", ("a",), 0.1)], refuse, ROWS)
    assert tried["i"].problem == "the model needs y, which the rows lack."


def test_gates_on_metrics_are_not_tried_and_rows_stay_as_they_were() -> None:
    before = ROWS.copy()
    assert try_behaviour([Gate("g", "roc_auc", "at_least", 0.5)], predict, ROWS) == {}
    try_behaviour([Invariance("i", "kind", ("z",), 0.1), Direction("d", "x", 1.0)], predict, ROWS)
    pd.testing.assert_frame_equal(ROWS, before)
