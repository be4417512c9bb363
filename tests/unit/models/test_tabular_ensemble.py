"""The default network encodes numbers by bins, trains members apart and answers with their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from app.models.artefact import Inputs, ServableModel
from app.models.export import save_torch
from app.models.signature import Signature
from app.models.tabular_ensemble import PiecewiseLinear, tabular_ensemble
from app.models.transform import Transform
from app.spec.models import Task
from app.training.steps import loss_function

INPUTS = Inputs(("x", "kind", "y"), ("kind",))


def frame(num_rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(3)
    x = random.lognormal(1, 1, num_rows)
    x[::7] = np.nan
    kind = pd.Series(random.choice(["a", "b", None], num_rows), dtype="str")
    return pd.DataFrame({"x": x, "kind": kind, "y": random.integers(0, 3, num_rows)})


def fitted(task: Task, rows: pd.DataFrame) -> tuple[Transform, torch.nn.Module]:
    transform = Transform.fit(rows, INPUTS.numeric, INPUTS.categorical)
    torch.manual_seed(0)
    return transform, tabular_ensemble(Signature.of(transform, task), width=8, num_members=3)


def test_a_number_fills_its_bins_from_the_left() -> None:
    layer = PiecewiseLinear(((0.0, 1.0, 3.0), (5.0,)), size=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]))
    filled = layer(torch.tensor([[-9.0, 5.0], [0.5, 9.0], [2.0, 0.0], [9.0, 5.0]]))
    assert filled.tolist() == [[0, 0, 0, 0], [0.5, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 0, 0]], "one edge makes no bin"


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_answer_is_the_mean_of_the_members_and_survives_the_export(task: Task, tmp_path: Path) -> None:
    transform, module = fitted(task, frame())
    numeric, codes = map(torch.from_numpy, transform.apply(frame()))
    with torch.no_grad():
        module.layers[0].weight.mul_(4)  # members that differ
        module.eval()
        answer = module(numeric, codes)
        module.train()
        module.dropout.p = 0.0
        members = module(numeric, codes)
    assert members.shape == (400, 3)
    expected = members.mean(1) if task == "regression" else torch.sigmoid(members).mean(1)
    given = answer if task == "regression" else torch.sigmoid(answer)
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)
    folder = save_torch(tmp_path / "m", module, transform, task, INPUTS, frame(), {})
    np.testing.assert_allclose(ServableModel.load(folder).predict(frame()), expected.numpy(), atol=1e-5)


def test_beyond_the_training_rows_the_answer_stays_level() -> None:
    transform, module = fitted("binary", frame())
    module.eval()
    rows = pd.DataFrame({"x": [frame()["x"].max(), 1e3, 1e9], "kind": ["a"] * 3, "y": [1] * 3})
    with torch.no_grad():
        answers = module(*map(torch.from_numpy, transform.apply(rows)))
    assert answers[0] == answers[1] == answers[2]


def test_members_learn_on_their_own_loss() -> None:
    outputs = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    label = torch.tensor([1.0, 0.0])
    loss_of = loss_function("binary")
    apart = (loss_of(outputs[:, 0], label) + loss_of(outputs[:, 1], label)) / 2
    assert loss_of(outputs, label) == pytest.approx(float(apart))
    assert float(loss_function("regression")(outputs, label)) == pytest.approx((4 + 16 + 9 + 9) / 4)


def test_tables_without_numbers_or_without_categories_are_taken() -> None:
    for rows, inputs in ((frame()[["kind"]], ([], ["kind"])), (frame()[["x"]], (["x"], []))):
        transform = Transform.fit(rows, *inputs)
        module = tabular_ensemble(Signature.of(transform, "binary"), width=8).eval()
        assert module(*map(torch.from_numpy, transform.apply(rows))).shape == (400,)
