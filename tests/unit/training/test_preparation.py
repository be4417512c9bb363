"""What is decided before a worker starts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TrainingError
from app.spec import FeatureService, TorchModel
from app.training.arrays import LabelCounts, check_trainable
from app.training.folds import time_ordered_folds
from app.training.sweep import summarise, with_parameters

MODEL = TorchModel("m", FeatureService("s", ()), "app.models.tabular:residual_mlp", batch_size=64, zero_stage=2)


@given(times=st.lists(st.integers(0, 30), min_size=6, max_size=80), num_folds=st.integers(1, 4))
def test_a_fold_never_learns_from_its_future(times: list[int], num_folds: int) -> None:
    moments = np.array(times)
    for fold in time_ordered_folds(moments, num_folds):
        if len(fold.train) and len(fold.validate):
            assert moments[fold.train].max() < moments[fold.validate].min()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labelled rows"), ([1, 1], "all 2 labels are 1"), ([0, 2], "0 or 1"),
        ([0, 1, None], "1 of 3 labels are null"), ([0.0, float("inf")], "1 of 2 labels are null or not finite"),
        (["yes", "no"], "must be numbers"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        check_trainable(pd.DataFrame({"label": labels}), "binary", "here")


labels = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))), max_size=30)


@given(first=labels, second=labels)
def test_labels_counted_in_parts_are_those_counted_at_once(first: list[float], second: list[float]) -> None:
    parts = [LabelCounts.of(pd.DataFrame({"label": np.array(part, dtype=np.float64)})) for part in (first, second)]
    whole = LabelCounts.of(pd.DataFrame({"label": np.array(first + second, dtype=np.float64)}))
    summed = parts[0] + parts[1]
    assert (summed.num_rows, summed.unusable, summed.some) == (whole.num_rows, whole.unusable, whole.some)
    assert summed.mean == pytest.approx(whole.mean, abs=1e-9)
    assert summed.squares == pytest.approx(whole.squares, rel=1e-9, abs=1e-6)


def test_the_interval_of_a_mean_over_folds_is_narrower_than_that_of_a_fold() -> None:
    trial = summarise([(0.5, 0.4, 0.6), (0.7, 0.6, 0.8)])
    assert trial["mean"] == pytest.approx(0.6) and trial["spread"] == pytest.approx(0.1)
    assert trial["high"] - trial["mean"] == pytest.approx(0.1 / 2**0.5)


def test_swept_parameters_go_where_they_belong() -> None:
    tuned = with_parameters(MODEL, {"learning_rate": 0.5, "width": 8})
    assert isinstance(tuned, TorchModel)
    assert (tuned.learning_rate, tuned.hyperparameters) == (0.5, {"width": 8})
