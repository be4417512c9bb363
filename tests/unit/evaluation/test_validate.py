"""A sealed folder beside champion and baseline on the same frozen rows, from files to verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelError
from app.evaluation.metrics import METRICS
from app.evaluation.validate import validate
from app.models.artefact import ServableModel
from app.spec import CalibrationGate, Direction, Gate, Invariance, ServingGate
from tests.unit.evaluation.small_project import small_model, small_project, small_rows

GATES = (
    Gate("ranks", "roc_auc", "at_least", 0.7),
    Gate("no_worse", "log_loss", "not_worse_than_champion", 0.05),
    CalibrationGate("calibrated", 0.1),
    Direction("x_matters", "x", 1.0, tolerance=0.1, max_share=0.05),
    ServingGate(max_p99_ms=10_000),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        "first": small_model(place / "first"),
        "second": small_model(place / "second", seed=2),
        "bad": small_model(place / "bad", flip=True),
    }


def test_an_equal_model_passes_every_gate_and_all_are_scored_on_the_same_rows(folders: dict[str, Path]) -> None:
    champion = ServableModel.load(folders["first"])
    found = validate(small_project(*GATES), folders["second"], small_rows(), champion=champion, baseline=champion)
    assert found.verdict.passed, found.verdict.reason
    assert {r.gate for r in found.verdict.results} == {gate.name for gate in GATES}
    label = small_rows().frame["label"].to_numpy(dtype=float)
    for name, folder in (("challenger", "second"), ("champion", "first")):
        expected = METRICS["roc_auc"](label, ServableModel.load(folders[folder]).predict(small_rows().frame))
        assert found.metrics[name]["roc_auc"]["value"] == pytest.approx(expected)
    assert found.metrics["champion"] == found.metrics["baseline"]


def test_a_reversed_model_keeps_the_champion_and_says_why(folders: dict[str, Path]) -> None:
    champion = ServableModel.load(folders["first"])
    found = validate(small_project(*GATES), folders["bad"], small_rows(), champion=champion)
    failed = {r.gate for r in found.verdict.results if r.passed is False}
    assert failed == {"ranks", "no_worse", "calibrated", "x_matters"}
    assert found.verdict.reason.startswith("the champion stays: ranks: ROC AUC")


def test_a_score_that_is_no_number_is_no_verdict(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServableModel, "predict", lambda self, rows: np.full(len(rows), np.nan))
    with pytest.raises(ModelError, match="1,500 of 1,500 frozen rows"):
        validate(small_project(Gate("ranks", "roc_auc", "at_least", 0.7)), folders["first"], small_rows())


def test_an_input_that_should_not_matter_is_tried_on_the_model_itself(folders: dict[str, Path]) -> None:
    gates = (Invariance("any_kind", "kind", ("a", "b"), 0.05), Invariance("any_y", "y", (0, 8), 0.5))
    found = validate(small_project(*gates), folders["first"], small_rows())
    assert [r.passed for r in found.verdict.results] == [False, True]
