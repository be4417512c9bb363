"""A sealed folder is tried in a fresh process, and what is wrong with it is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.evaluation.serving_probe import measure_serving
from app.models.artefact import ServableModel
from tests.unit.models.test_artefact import INPUTS, frame, torch_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_folder(tmp_path_factory.mktemp("probe") / "m")[0]


def test_a_sound_folder_loads_answers_and_is_measured(folder: Path) -> None:
    scores = ServableModel.load(folder).predict(frame())
    found = measure_serving(folder, frame(), scores, INPUTS.feature_names)
    assert found.problem is None and found.schema_problems == ()
    assert found.score_difference < 1e-6
    assert found.export_difference is not None and found.export_difference < 1e-5
    assert 0 < found.p50_ms <= found.p99_ms and found.load_s > 0 and found.num_rows == 100


def test_other_scores_and_other_inputs_than_those_judged_are_found(folder: Path) -> None:
    scores = ServableModel.load(folder).predict(frame())
    rows = frame().assign(extra=1)
    found = measure_serving(folder, rows, scores + 0.25, (*INPUTS.feature_names, "extra"))
    assert found.score_difference == pytest.approx(0.25)
    assert found.schema_problems == ("input extra is not both given and taken",)


def test_a_folder_that_was_changed_does_not_load(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "transform.json").write_text("{}")
    found = measure_serving(tmp_path, frame(), np.zeros(400), INPUTS.feature_names)
    assert found.problem is not None and "SHA-256" in found.problem
