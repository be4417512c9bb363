"""Two folders are compared by every number in them, not by their bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.artefact import ONNX, SKOPS, WEIGHTS
from app.models.compare import compare_models
from app.models.export import save_torch
from app.models.signature import Signature
from app.models.tabular import residual_mlp
from app.models.transform import Transform
from tests.unit.evaluation.small_project import small_model, small_rows
from tests.unit.models.test_artefact import INPUTS, frame, torch_folder


def test_the_same_estimator_written_twice_is_equal_though_its_bytes_differ(tmp_path: Path) -> None:
    first, second = small_model(tmp_path / "a"), small_model(tmp_path / "b")
    assert (first / SKOPS).read_bytes() != (second / SKOPS).read_bytes()
    found = compare_models(first, second, small_rows().frame)
    assert found.equal and not found.differing and found.num_arrays > 10
    assert (found.weight_difference, found.score_difference) == (0.0, 0.0)


def test_another_estimator_differs_and_says_where(tmp_path: Path) -> None:
    found = compare_models(small_model(tmp_path / "a"), small_model(tmp_path / "b", seed=2), small_rows().frame)
    assert not found.equal and found.differing[0].startswith(SKOPS)
    assert 0 < found.mean_score_difference < found.score_difference


def test_one_bit_of_one_weight_is_found(tmp_path: Path) -> None:
    first, *_ = torch_folder(tmp_path / "a")
    same, module, transform = torch_folder(tmp_path / "b")
    assert compare_models(first, same, frame()).equal
    with torch.no_grad():
        weight = next(iter(module.parameters()))
        weight.view(-1)[0] = float(np.nextafter(np.float32(weight.view(-1)[0]), np.float32(np.inf)))
    nudged = save_torch(tmp_path / "c", module, transform, "binary", INPUTS, frame(), {})
    found = compare_models(first, nudged, frame())
    assert not found.equal, "as it is served and as it was trained"
    assert [name.split("/")[0] for name in found.differing] == [ONNX, WEIGHTS]
    assert found.weight_difference is not None and 0 < found.weight_difference < 1e-6


def test_another_shape_has_no_weight_difference_but_one_in_scores(tmp_path: Path) -> None:
    first, *_ = torch_folder(tmp_path / "a")
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    wide = residual_mlp(Signature(transform.num_numeric, transform.cardinalities, "binary"), width=24, depth=1)
    second = save_torch(tmp_path / "b", wide, transform, "binary", INPUTS, frame(), {})
    found = compare_models(first, second, frame())
    assert found.weight_difference is None and not found.equal
    assert found.score_difference == pytest.approx(found.score_difference) and found.score_difference > 0
