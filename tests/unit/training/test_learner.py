"""Modules as they are trained, before DeepSpeed is involved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.errors import TrainingError
from app.models.signature import Signature
from app.models.tabular import ResidualMLP, residual_mlp
from app.spec import FeatureService, TorchModel
from app.training.learner import build_module, load_weights

SIGNATURE = Signature(3, (4, 5), "binary")
INPUTS = (torch.randn(7, 3), torch.randint(0, 4, (7, 2)))


def model(*recomputed: str) -> TorchModel:
    return TorchModel(
        "m", FeatureService("s", ()), "app.models.tabular:residual_mlp", activation_checkpointing=recomputed,
        hyperparameters={"width": 8, "depth": 2, "dropout": 0.0},
    )


def test_activations_computed_twice_give_the_same_gradients() -> None:
    torch.manual_seed(1)
    plain = build_module(model(), SIGNATURE)
    torch.manual_seed(1)
    twice = build_module(model("blocks.*"), SIGNATURE)
    assert plain.state_dict().keys() == twice.state_dict().keys(), "weights keep their names"
    for module in (plain, twice):
        module(*INPUTS).sum().backward()
    for one, other in zip(plain.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_glob_that_names_no_submodule_is_refused_with_those_there_are() -> None:
    with pytest.raises(TrainingError, match=r"'layers\.\*' names no submodule; there are .*blocks\.0"):
        build_module(model("layers.*"), SIGNATURE)


def test_the_layers_of_a_pipeline_one_after_another_are_the_module() -> None:
    module = residual_mlp(SIGNATURE, width=8, depth=3, dropout=0.0)
    assert isinstance(module, ResidualMLP)
    first, *rest = module.pipeline_layers()
    x = first(INPUTS)
    for layer in rest:
        x = layer(x)
    torch.testing.assert_close(x, module(*INPUTS))
    mine = {id(p) for layer in module.pipeline_layers() for p in layer.parameters()}
    assert mine == {id(p) for p in module.parameters()}, "stages train the module's own parameters, all of them"


def test_weights_are_put_together_from_the_files_of_all_stages(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "weights-0.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "weights-1.safetensors")
    assert {name: tuple(t.shape) for name, t in load_weights(tmp_path).items()} == {"a": (2,), "b": (3,)}
