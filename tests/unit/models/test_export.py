"""What is written is what was trained, in 32 or 8 bits; what cannot be written leaves no model behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from app.errors import ModelError
from app.models.artefact import MANIFEST, ONNX, WEIGHTS, Inputs, ServableModel
from app.models.export import INT8_TOLERANCE, save_torch
from app.models.signature import Signature
from app.models.tabular import residual_mlp
from app.models.tabular_ensemble import tabular_ensemble
from app.models.transform import Transform

INPUTS = Inputs(("x", "kind"), ("kind",))


def frame() -> pd.DataFrame:
    random = np.random.default_rng(5)
    return pd.DataFrame({"x": random.normal(size=300), "kind": random.choice(["a", "b"], 300)})


def network() -> tuple[Transform, nn.Module]:
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    torch.manual_seed(1)
    return transform, tabular_ensemble(Signature.of(transform, "binary"), width=64)


def test_eight_bits_answer_nearly_the_same_from_a_smaller_file(tmp_path: Path) -> None:
    transform, module = network()
    whole = save_torch(tmp_path / "whole", module, transform, "binary", INPUTS, frame(), {})
    small = save_torch(tmp_path / "small", module, transform, "binary", INPUTS, frame(), {}, quantize="int8")
    assert (small / ONNX).stat().st_size < 0.6 * (whole / ONNX).stat().st_size
    served, exact = (ServableModel.load(folder).predict(frame()) for folder in (small, whole))
    assert 0 < np.abs(served - exact).max() < INT8_TOLERANCE
    assert ServableModel.load(small).metadata["quantize"] == "int8"


@pytest.mark.parametrize("kind", ["residual_mlp", "tabular_ensemble"])
def test_a_score_of_eight_bits_does_not_depend_on_the_rows_beside_it(tmp_path: Path, kind: str) -> None:
    transform, module = network()
    if kind == "residual_mlp":
        module = residual_mlp(Signature.of(transform, "binary"), width=16, depth=2)
    folder = save_torch(tmp_path / "m", module, transform, "binary", INPUTS, frame(), {}, quantize="int8")
    operators = [node.op_type for node in onnx.load(folder / ONNX).graph.node]
    assert operators.count("DequantizeLinear") == (6 if kind == "residual_mlp" else 4)
    served = ServableModel.load(folder)
    alone = np.concatenate([served.predict(frame().iloc[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(served.predict(frame())[:20], alone, atol=1e-6)


def test_the_weights_are_kept_as_they_were_trained(tmp_path: Path) -> None:
    transform, module = network()
    folder = save_torch(tmp_path / "m", module, transform, "binary", INPUTS, frame(), {}, quantize="int8")
    for name, weight in load_file(folder / WEIGHTS).items():
        torch.testing.assert_close(weight, module.state_dict()[name], rtol=0, atol=0)


class Branching(nn.Module):
    """Takes another way for other values: nothing a graph can hold."""

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        return numeric[:, 0] if float(numeric.sum()) > 0 else -numeric[:, 0]


def test_a_network_that_cannot_be_exported_is_refused_and_leaves_no_model(tmp_path: Path) -> None:
    transform, _ = network()
    with pytest.raises(ModelError, match="cannot be exported"):
        save_torch(tmp_path / "m", Branching(), transform, "binary", INPUTS, frame(), {})
    assert not (tmp_path / "m" / MANIFEST).exists()


class Counting(nn.Module):
    """Answers differently each time it is asked."""

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        return numeric[:, 0] + torch.rand(numeric.shape[0])


def test_an_export_that_answers_differently_is_refused(tmp_path: Path) -> None:
    transform, _ = network()
    with pytest.raises(ModelError, match="differs from the trained one"):
        save_torch(tmp_path / "m", Counting(), transform, "binary", INPUTS, frame(), {})
    assert not (tmp_path / "m" / MANIFEST).exists()
