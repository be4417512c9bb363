"""Trains a `TorchModel`: rows encoded once, DeepSpeed in Ray Train workers, export to ONNX."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from app.errors import TrainingError
from app.foundation.import_path import resolve
from app.models.export import save_torch
from app.models.signature import Signature
from app.settings import Settings
from app.spec.models import Task, TorchModel
from app.training.arrays import inputs_of
from app.training.checkpoints import CheckpointRefusedError, verify
from app.training.data_plan import DataPlan, fitting_batch
from app.training.deepspeed_config import deepspeed_config, topology
from app.training.encode import Encoded, encode_frame, encode_table
from app.training.interrupt import InterruptibleTrainer
from app.training.learner import load_weights
from app.training.progress import EpochReport, MlflowRun, ProgressReader, RunRecord
from app.training.stream import DATA_CPUS
from app.training.supervised import MAX_FAILURES, Outcome, Supervised, room
from app.training.training_table import TrainingTable
from app.training.worker import WorkerPlan, train_worker

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet

REPORTED = ("loss", "epoch", "epoch_s", "data_wait_s", "data_wait_share", "checkpoint_stall_s", "rows_per_s")
KEPT_CHECKPOINTS = 2  # the one before is good where the newest turns out not to be


def train_torch(
    model: TorchModel,
    task: Task,
    rows: TrainingSet | TrainingTable,
    settings: Settings,
    run_id: str,
    folder: Path,
    listen: Callable[[EpochReport], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains and exports into `folder`; gives `(metrics, DeepSpeed's configuration)`.

    Raises:
        TrainingError: the rows or the configuration cannot work, the cluster is too small, the loss was not finite, the
            deadline passed, a checkpoint must not be loaded, or workers kept dying.
    """
    deadline_at = time.time() + model.deadline_s
    use_gpu = room("GPU") >= model.num_workers
    resource = "GPU" if use_gpu else "CPU"
    deepspeed_config(model, model.num_workers, use_gpu=use_gpu)  # what cannot work is refused before any work is done
    _check_schedulable(model, resource)
    run_folder = settings.runs / run_id
    run_folder.mkdir(parents=True, exist_ok=True)
    encoded = _encode(model, task, rows, run_folder / "rows")
    data, model = _plan(model, encoded)
    signature = Signature.of(encoded.transform, task)
    plan = WorkerPlan(model, signature, encoded.rows, data, run_folder, use_gpu, deadline_at)

    def trainer(attempt: int, workers: int) -> InterruptibleTrainer:
        return _trainer(replace(plan, attempt=attempt), settings.runs, workers)

    mlflow = MlflowRun(settings, f"{model.name} training", run_id, _params(model))

    def told(report: EpochReport) -> None:
        mlflow.log(report)
        if listen is not None:
            listen(report)

    progress = ProgressReader(run_folder, model.epochs, told)
    ended = False
    try:
        outcome = Supervised(model, run_id, run_folder, resource, deadline_at, trainer, progress).run()
        weights = _weights(outcome, plan)
        ended = True
    finally:
        mlflow.end(failed=not ended)
    module = resolve(model.factory)(signature, **model.hyperparameters)
    module.load_state_dict(weights)
    metadata = {"name": model.name, "signature": asdict(signature)}
    save_torch(
        folder, module, encoded.transform, task, inputs_of(model, rows), encoded.sample, metadata, encoded.target,
        model.quantize,
    )
    shutil.rmtree(run_folder, ignore_errors=True)
    config = deepspeed_config(model, model.num_workers, use_gpu=use_gpu)
    return {name: float(outcome.metrics[name]) for name in REPORTED if name in outcome.metrics}, config


def _encode(model: TorchModel, task: Task, rows: TrainingSet | TrainingTable, folder: Path) -> Encoded:
    inputs = inputs_of(model, rows)
    if isinstance(rows, TrainingTable):
        return encode_table(rows, inputs, task, folder, model.seed, f"model {model.name!r}")
    return encode_frame(rows.frame, inputs, task, folder, model.seed)


def _plan(model: TorchModel, encoded: Encoded) -> tuple[DataPlan, TorchModel]:
    """How rows become batches, and the model with a batch that so few rows can fill."""
    lanes = topology(model, model.num_workers).data
    batch = fitting_batch(model.batch_size, encoded.rows.num_rows, lanes * model.gradient_accumulation_steps)
    if not batch:
        raise TrainingError(
            f"model {model.name!r}: {encoded.rows.num_rows} rows are fewer than one for each of {lanes} workers × "
            f"{model.gradient_accumulation_steps} accumulation steps; lower num_workers or use more rows."
        )
    return DataPlan(encoded.rows.chunk_rows, batch, lanes, model.seed, encoded.rows.row_bytes), replace(
        model, batch_size=batch
    )


def _trainer(plan: WorkerPlan, storage: Path, workers: int) -> InterruptibleTrainer:
    cpus = 1.0 if plan.data.in_one_window else 1.0 - DATA_CPUS  # the rest is for the tasks that read its windows
    return InterruptibleTrainer(
        train_worker,  # type: ignore[arg-type]  # its returned value is kept, though Ray's annotation has none
        train_loop_config={"plan": plan},
        torch_config=TorchConfig(backend="nccl" if plan.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=plan.use_gpu, resources_per_worker=None if plan.use_gpu else {"CPU": cpus}
        ),
        run_config=RunConfig(
            name=plan.run_folder.name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            callbacks=[RunRecord(plan.run_folder)],  # type: ignore[list-item]  # Ray's annotation is of its first API
        ),
    )


def _weights(outcome: Outcome, plan: WorkerPlan) -> dict[str, Any]:
    """The trained weights, once they are known to be whole.

    Raises:
        TrainingError: there are none, or not this run's.
    """
    failure = outcome.failure
    if failure is None and outcome.checkpoint is not None:
        path = Path(outcome.checkpoint.path)
        try:
            if verify(path, plan.fingerprint).finished:
                return load_weights(path)
        except CheckpointRefusedError as error:
            failure = str(error)
    raise TrainingError(
        f"training run {plan.run_folder.name} stopped: {failure or 'no epoch was finished'}. The last good checkpoint, "
        f"if any, stays in {plan.run_folder}; a run with the same id goes on from it.",
        run_id=plan.run_folder.name,
    )


def _params(model: TorchModel) -> dict[str, Any]:
    return {name: value for name, value in asdict(model).items() if name != "service"}


def _check_schedulable(model: TorchModel, resource: str) -> None:
    least = model.min_workers or model.num_workers
    there = room(resource)
    if there < least:
        raise TrainingError(
            f"model {model.name!r} asks for {least} workers of 1 {resource}; the nodes of the cluster have room for "
            f"{there}. Lower num_workers or add nodes."
        )
