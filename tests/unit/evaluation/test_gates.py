"""Gates judge as declared."""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.evaluation.gates import Evaluation, judge
from app.spec import Gate
from tests.unit.evaluation.test_bootstrap import world


def test_a_gate_stops_a_worse_challenger_and_lets_a_better_one_pass() -> None:
    label, truth, noisy = world()
    gate = Gate("beside champion", "log_loss", "not_worse_than_champion", 0.005)
    rows = pd.DataFrame({"side": np.where(np.arange(len(label)) % 2, "a", "b")})
    assert judge([gate], Evaluation(rows, label, truth, noisy, None)).passed
    verdict = judge([gate], Evaluation(rows, label, noisy, truth, None))
    assert not verdict.passed and "beside champion" in verdict.reason


def test_a_slice_can_fail_alone_and_a_small_one_is_only_reported() -> None:
    label, truth, noisy = world()
    rows = pd.DataFrame({"side": ["bad"] * 900 + ["good"] * 1_090 + ["tiny"] * 10})
    mixed = np.where(rows["side"] == "bad", noisy, truth)
    gate = Gate("each side", "log_loss", "not_worse_than_champion", 0.005, slice_column="side")
    by_slice = {r.slice: r.passed for r in judge([gate], Evaluation(rows, label, mixed, truth, None)).results}
    assert by_slice == {"side=bad": False, "side=good": True, "side=tiny": None}


def test_without_a_champion_there_is_nothing_to_lose_but_too_few_rows_fail() -> None:
    label, truth, _ = world(100)
    rows = pd.DataFrame(index=range(100))
    champion_gate = Gate("c", "log_loss", "not_worse_than_champion", 0.0, min_rows=50)
    assert judge([champion_gate], Evaluation(rows, label, truth, None, None)).passed
    assert not judge([Gate("floor", "roc_auc", "at_least", 0.5)], Evaluation(rows, label, truth, None, None)).passed
