"""The validation report tells all that was measured, by itself and without a network."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.evaluation.gates import Evaluation, Verdict
from app.evaluation.importance import permutation_importance
from app.evaluation.report import ValidationReport, render_validation
from app.evaluation.slice_scores import slice_columns, slice_scores
from app.evaluation.validate import Validation, validate
from app.models.artefact import ServableModel
from app.spec import CalibrationGate, FairnessGate, Gate, Invariance
from tests.unit.evaluation.small_project import small_model, small_project, small_rows

GATES = (
    Gate("ranks", "roc_auc", "at_least", 0.99),
    Gate("no_worse_by_kind", "log_loss", "not_worse_than_champion", 0.5, slice_column="kind"),
    CalibrationGate("calibrated", 0.2),
    FairnessGate("fair", "kind", "calibration", 0.5),
    Invariance("any_y", "y", (0, 8), 0.5),
)
RECORD = {
    "training_run": "small-run-first", "project": "a.b:PROJECT", "code_commit": "c" * 40, "code_dirty": True,
    "code_files": ["app/<x>.py"], "lock_sha256": "l" * 64, "seed": 7, "train": {"rows": 1_500, "row_hash": "t1"},
    "frozen": {"rows": 1_500, "row_hash": "f1"},
    "hardware": {"cpu_model": "EPYC", "allowed_cpus": 2, "accelerators": []},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("report") / "m")


@pytest.fixture(scope="module")
def validation(model: Path) -> Validation:
    served = ServableModel.load(model)
    return validate(small_project(*GATES), model, small_rows(), champion=served, baseline=served)


def page(validation: Validation, **changes: object) -> str:
    given = {
        "project": "small", "purpose": "first", "model": "trees", "gates": GATES, "categorical": ("kind",),
        "validation": validation, "importance": [], "written_at": datetime(2026, 1, 1, tzinfo=UTC), **changes,
    }
    return render_validation(ValidationReport(**given))  # type: ignore[arg-type]


def test_the_page_shows_every_gate_metric_plot_and_the_record(validation: Validation, model: Path) -> None:
    importance = permutation_importance(
        ServableModel.load(model).predict, small_rows().frame, ("x", "kind", "y"), "binary"
    )
    html = page(
        validation, importance=importance, epochs=[{"epoch": 1.0, "loss": 0.6}, {"epoch": 2.0, "loss": 0.5}],
        sweep={"trials": [{"mean": 0.51, "low": 0.5, "high": 0.52, "parameters": {"learning_rate": 0.01}}]},
        record=RECORD,
    )  # fmt: skip
    for gate in GATES:
        assert gate.name in html
    assert "Refused" in html and html.count("chip bad") == 1
    for label in ("ROC curve", "reliability", "by slice", "rates by group", "training loss", "input is shuffled"):
        assert re.search(rf'aria-label="[^"]*{label}', html), label
    for text in ("0.5100", "0.5000 to 0.5200", "small-run-first", "EPYC", "app/&lt;x&gt;.py", "millrace reproduce"):
        assert text in html
    assert "<script" not in html and not re.search(r'(src|href)="(https?:)?//', html)


def test_what_was_not_measured_has_no_section(validation: Validation) -> None:
    html = page(validation, gates=GATES[:1], categorical=())
    assert "Fairness" not in html and "What the model leans on" not in html and "Sweep" not in html
    assert "Where this came from" not in html


@pytest.mark.parametrize("num_rows", [0, 1, 40])
def test_few_rows_and_one_class_make_a_page_all_the_same(num_rows: int) -> None:
    frame = small_rows(max(num_rows, 1)).frame.head(num_rows)
    evaluation = Evaluation(frame, np.zeros(num_rows), np.full(num_rows, 0.2), None, None)
    assert "<h1>" in page(Validation(evaluation, Verdict(True, ())))


def test_a_regression_shows_errors_instead_of_curves() -> None:
    frame = small_rows(300).frame
    label = frame["x"].to_numpy()
    evaluation = Evaluation(frame, label, label + 0.1, label, None, task="regression")
    gates = (FairnessGate("fair", "kind", "calibration", 0.5),)
    html = page(Validation(evaluation, Verdict(True, ())), gates=gates)
    assert "distribution of errors" in html and "ROC curve" not in html and "RMSE" in html


def test_importance_ranks_what_matters_and_an_unused_input_at_nothing(model: Path) -> None:
    rows = small_rows().frame.assign(unused=1.0)
    predict = ServableModel.load(model).predict
    found = permutation_importance(predict, rows, ("unused", "y", "kind", "x"), "binary")
    assert [each.name for each in found[:2]] == ["x", "kind"]
    by_name = {each.name: each for each in found}
    assert by_name["x"].low > by_name["kind"].high > by_name["kind"].low > 0
    assert (by_name["unused"].value, by_name["unused"].low, by_name["unused"].high) == (0.0, 0.0, 0.0)
    assert permutation_importance(predict, rows.head(0), ("x",), "binary") == []


def test_slices_are_of_columns_the_gates_name_first_and_large_enough(validation: Validation) -> None:
    columns = slice_columns(GATES, ("kind", "y"), validation.evaluation)
    assert columns == ["kind", "y"]
    scores = slice_scores(validation.evaluation, columns, "log_loss")
    assert [s.name for s in scores[:2]] == ["kind=a", "kind=b"] and all(s.num_rows >= 100 for s in scores)
    assert sum(s.num_rows for s in scores if s.column == "kind") == 1_500
    assert set(scores[0].by_model) == {"challenger", "champion", "baseline"}
