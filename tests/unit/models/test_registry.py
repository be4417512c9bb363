"""A run is kept whole, once, and found again; MLflow shows its signature, lineage and learning curve."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from app.errors import UnknownNameError
from app.models.artefact import ServableModel
from app.models.logged_model import lineage_tags
from app.models.registry import TRAINING_RUN, LoggedRun, ModelRegistry
from app.settings import Settings
from tests.unit.models.test_artefact import frame, torch_folder

STRETCH = {
    "cases": {"snapshot_id": 1}, "labels": {"snapshot_id": 2},
    "views": {"history": {"version": 3, "snapshot_id": 4}},
}
RECORD = {
    "seed": 7, "code_commit": "c" * 40, "code_dirty": True, "code_diff_sha256": "d" * 64, "lock_sha256": "l" * 64,
    "train": {"row_hash": "t", "stretches": [STRETCH, {**STRETCH, "labels": {"snapshot_id": 5}}]},
    "frozen": {"row_hash": "f", "stretches": [STRETCH]},
}


def logged(**tags: str) -> LoggedRun:
    return LoggedRun(
        params={"width": 16}, metrics={"roc_auc": 0.7}, tags={"run_id": "run", **lineage_tags(RECORD), **tags},
        record=RECORD, epochs=[{"epoch": 1, "loss": 0.6}, {"epoch": 2, "loss": 0.5}],
        attachments={"code.diff": "+x", "validation.html": "<html>"}, sample=frame(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_folder(tmp_path_factory.mktemp("registry") / "m")[0]


def test_a_version_carries_signature_lineage_and_learning_curve(settings: Settings, folder: Path) -> None:
    registry = ModelRegistry(settings)
    version = registry.register("late", folder, logged(training_run="run-first"))
    tags = registry.tags("late", version)
    assert (tags["snapshot.labels"], tags["view.history"], tags["snapshot.history"]) == ("2, 5", "v3", "4")
    assert (tags["code_commit"], tags["lock_sha256"], tags["train_row_hash"]) == ("c" * 40, "l" * 64, "t")
    client = MlflowClient(tracking_uri=settings.mlflow_url)
    run_id = str(client.get_model_version("late", version).run_id)
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [(1, 0.6), (2, 0.5)]
    assert {f.path for f in client.list_artifacts(run_id)} == {"model", "record.json", "code.diff", "validation.html"}
    signature = Model.load(client.download_artifacts(run_id, "model/MLmodel")).signature
    assert [(c.name, c.type.name, c.required) for c in signature.inputs] == [
        ("x", "double", False), ("kind", "string", False), ("y", "long", False),
    ]  # fmt: skip
    assert ServableModel.load(registry.folder("late", version)).kind == "torch"


def test_a_record_is_found_by_version_by_training_run_and_by_mlflows_id(settings: Settings, folder: Path) -> None:
    registry = ModelRegistry(settings)
    kept = registry.log("late", folder, logged(training_run="run-at-1"))
    assert registry.log("late", folder, logged(training_run="run-at-1")) == kept
    version = registry.register("late", folder, logged(training_run="run-at-1"))
    for reference in (version, "run-at-1", kept):
        record = registry.record("late", reference)
        assert (record["seed"], record["mlflow_run_id"]) == (7, kept)
        assert ServableModel.load(Path(record["folder"])).kind == "torch"
    for name, reference in (("late", "99"), ("late", "nothing"), ("other", "1")):
        with pytest.raises(UnknownNameError, match=reference):
            registry.record(name, reference)


def test_a_run_that_was_refused_is_kept_without_becoming_a_version(settings: Settings, folder: Path) -> None:
    registry = ModelRegistry(settings)
    registry.log("late", folder, logged(training_run="refused", gates_passed="False"))
    assert registry.record("late", "refused")["seed"] == 7
    with pytest.raises(UnknownNameError):
        registry.folder("late", "1")


def test_the_epochs_of_a_training_run_are_read_back_in_order(settings: Settings) -> None:
    client = MlflowClient(tracking_uri=settings.mlflow_url)
    run = client.create_run(client.create_experiment("training"), tags={TRAINING_RUN: "r"})
    for epoch, loss in ((2, 0.4), (1, 0.5)):
        client.log_metric(run.info.run_id, "loss", loss, step=epoch)
    assert ModelRegistry(settings).training_epochs("r") == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}]
    assert ModelRegistry(settings).training_epochs("other") == []
