"""Training on a real Ray: two DeepSpeed workers, tiny rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from app.errors import TrainingError
from app.foundation.lake import Lake
from app.models.artefact import ServableModel
from app.models.registry import LoggedRun, ModelRegistry
from app.settings import Settings, load_settings
from app.spec import ModelScore, SklearnModel
from app.training.progress import RUN_ID_TAG, EpochReport
from app.training.sweep import sweep
from app.training.train import TrainedModel, train
from app.training.training_table import TrainingTable
from tests.cluster.training_rows import NETWORK, TREES, answers, project, rows, training_ray

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.fixture(scope="module", autouse=True)
def ray_with_dashboard() -> Iterator[None]:
    with training_ray():
        yield


@dataclass(frozen=True)
class Undisturbed:
    """A run to its end, what was told of it, and its home."""

    trained: TrainedModel
    told: list[EpochReport]
    settings: Settings


@pytest.fixture(scope="module")
def undisturbed(ray_with_dashboard: None, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home = load_settings({"MILLRACE_HOME": str(tmp_path_factory.mktemp("undisturbed"))}, in_job=False)
    told: list[EpochReport] = []
    return Undisturbed(train(project(), NETWORK, rows(), home, "first", told.append), told, home)


def test_two_workers_learn_and_the_epochs_are_told_and_kept_in_mlflow(undisturbed: Undisturbed) -> None:
    trained, told, settings = undisturbed.trained, undisturbed.told, undisturbed.settings
    assert ((answers(trained) > 0.5) == rows().frame["label"]).mean() > 0.8
    assert trained.run_record["deepspeed"]["train_micro_batch_size_per_gpu"] == 64
    assert not (settings.runs / "first").exists(), "checkpoints of a finished run are removed"
    assert [r.epoch for r in told] == [1, 2, 3] and told[2].loss < told[0].loss
    assert all(0 <= r.data_wait_share <= 1 and r.rows_per_s > 0 and r.workers == 2 for r in told)
    client = MlflowClient(tracking_uri=settings.mlflow_url)
    experiment = client.get_experiment_by_name("network training")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`{RUN_ID_TAG}` = 'first'")
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [r.loss for r in told]
    assert run.info.status == "FINISHED"


def test_a_worker_that_dies_mid_epoch_changes_nothing(
    settings: Settings, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    dying = replace(
        NETWORK,
        factory="tests.cluster.dying_network:dies_once",
        hyperparameters={**NETWORK.hyperparameters, "marker": str(marker)},
        checkpoint_every_steps=4,
    )
    broken = train(project(), dying, rows(), settings, "broken")
    assert marker.exists()
    np.testing.assert_array_equal(answers(broken), answers(undisturbed.trained))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(settings: Settings) -> None:
    broken = replace(NETWORK, learning_rate=float("inf"))
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch 1, batch 2"):
        train(project(), broken, rows(), settings, "nan")
    assert not (settings.home / "trained" / "nan").exists()


def test_a_model_larger_than_the_cluster_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(TrainingError, match="asks for 64 workers"):
        train(project(), replace(NETWORK, num_workers=64), rows(), settings, "large")


def test_an_estimator_trains_in_a_task(settings: Settings) -> None:
    trained = train(project(), TREES, rows(), settings, "trees")
    assert ((answers(trained) > 0.5) == rows().frame["label"]).mean() > 0.8


def test_a_calibrator_reads_the_score_of_a_network_from_memory_and_from_a_table(
    settings: Settings, undisturbed: Undisturbed
) -> None:
    registry = ModelRegistry(settings)
    version = registry.register("network", undisturbed.trained.folder, LoggedRun())
    score = ModelScore("network", version, learned_rows="allow")
    calibrator = SklearnModel(
        "calibrator", NETWORK.service, "sklearn.linear_model:LogisticRegression", scores=(score,),
        inputs=("network_score",),
    )
    calibrated = train(project(), calibrator, rows(), settings, "calibrated")
    model = ServableModel.load(calibrated.folder)
    assert model.feature_names == ("x", "kind") and model.inputs.feature_names == ("network_score",)
    order = np.argsort(answers(undisturbed.trained))
    assert np.all(np.diff(answers(calibrated)[order]) >= 0), "a rising function of the network's score"
    assert calibrated.run_record["scores"][0]["version"] == calibrated.config["scores"][0]["version"] == version
    table = TrainingTable.write(Lake.open(settings), "toy.stacked", rows(), ("x", "kind"), run_id="t")
    stacked = train(project(), replace(NETWORK, scores=(score,), epochs=1), table, settings, "stacked")
    read = ServableModel.load(stacked.folder)
    assert read.inputs.feature_names == ("x", "kind", "network_score")
    assert ((answers(stacked) > 0.5) == rows().frame["label"]).mean() > 0.8
    found = sweep(replace(project(), model=replace(NETWORK, scores=(score,))), rows(), settings, "stack")
    assert found.trials


def test_a_sweep_ranks_its_trials_by_their_future(settings: Settings) -> None:
    result = sweep(project(), rows(), settings, "s")
    assert [t["mean"] for t in result.trials] == sorted(t["mean"] for t in result.trials)
    assert result.best == result.trials[0]["parameters"]
    assert all(t["low"] <= t["mean"] <= t["high"] for t in result.trials)


def test_the_code_of_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_every_way_of_sharing_a_model_learns_the_same(settings: Settings) -> None:
    plain = replace(NETWORK, hyperparameters={"width": 16, "depth": 2, "dropout": 0.0}, epochs=2)
    layers = {r".*layers\.1\.weight$": "column", r".*layers\.4\.weight$": "row"}
    ways: dict[str, dict[str, Any]] = {
        "zero-1": {},
        "zero-0": {"zero_stage": 0},
        "zero-2": {"zero_stage": 2},
        "zero-3": {"zero_stage": 3},
        "offload": {"offload": "optimizer"},
        "accumulation": {"gradient_accumulation_steps": 2},
        "activations": {"activation_checkpointing": ("blocks.*",)},
        "tensor": {"tensor_parallel": 2, "tensor_parallel_layers": layers},
        "pipeline": {"pipeline_stages": 2, "gradient_accumulation_steps": 2},
        "bf16": {"precision": "bf16"},
    }
    two_lanes = answers(train(project(), plain, rows(), settings, "two-lanes"))
    one_lane = answers(train(project(), replace(plain, num_workers=1), rows(), settings, "one-lane"))
    for name, changed in ways.items():
        found = answers(train(project(), replace(plain, **changed), rows(), settings, f"again-{name}"))
        expected = one_lane if name in ("tensor", "pipeline") else two_lanes  # a batch is cut by data-parallel workers
        np.testing.assert_allclose(found, expected, atol=0.05 if name == "bf16" else 1e-4, err_msg=name)
