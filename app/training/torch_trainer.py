"""Trains a `TorchModel`: transform on the driver, DeepSpeed in Ray Train workers, export to ONNX."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ExecutionOptions
from ray.data.extensions import ArrowTensorArray
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors.torch import load_file

from app.errors import TrainingError
from app.foundation.import_path import resolve
from app.models.export import save_torch
from app.models.signature import Signature
from app.models.transform import Transform
from app.settings import Settings
from app.spec.models import Task, TorchModel
from app.training.arrays import Arrays, inputs_of, target_of, to_arrays
from app.training.deepspeed_config import deepspeed_config
from app.training.supervised import MAX_FAILURES, run
from app.training.worker import WEIGHTS, WorkerPlan, train_worker

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet  # heavy; workers never need it

NUM_BLOCKS = 16


def train_torch(
    model: TorchModel, task: Task, rows: TrainingSet, settings: Settings, run_id: str, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains and exports into `folder`; gives `(metrics, DeepSpeed's configuration)`.

    Raises:
        TrainingError: the cluster is too small, the loss was not finite, the deadline passed, or workers kept dying.
    """
    inputs = inputs_of(model, rows)
    transform = Transform.fit(rows.frame, inputs.numeric, inputs.categorical)
    target = target_of(rows.frame, task)
    arrays = to_arrays(transform, rows.frame, target)
    signature = Signature.of(transform, task)
    use_gpu = _cluster("GPU") >= model.num_workers
    _check_schedulable(model)
    num_rows = len(arrays.label)
    model = _fit_batch(model, num_rows)
    config = deepspeed_config(model, model.num_workers)
    plan = WorkerPlan(model, signature, config, num_rows, use_gpu, time.time() + model.deadline_s)
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # its returned value is kept, though Ray's annotation has none
        train_loop_config={"plan": plan},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=model.num_workers, use_gpu=use_gpu, resources_per_worker=None if use_gpu else {"CPU": 1}
        ),
        run_config=RunConfig(
            name=run_id,
            storage_path=str(settings.runs),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
        datasets={"train": _dataset(arrays, model.seed)},
        dataset_config=DataConfig(execution_options=ExecutionOptions(preserve_order=True)),
    )
    outcome = run(trainer, model, run_id)
    if outcome.failure is not None or outcome.checkpoint is None:
        raise TrainingError(
            f"training run {run_id} stopped: {outcome.failure or 'no epoch was finished'}. The last good checkpoint, "
            f"if any, stays in {settings.runs / run_id}; a run with the same id goes on from it.",
            run_id=run_id,
        )
    module = resolve(model.factory)(signature, **model.hyperparameters)
    with outcome.checkpoint.as_directory() as checkpoint:
        module.load_state_dict(load_file(Path(checkpoint) / WEIGHTS))
    metadata = {"name": model.name, "signature": asdict(signature)}
    save_torch(folder, module, transform, task, inputs, rows.frame, metadata, target, model.quantize)
    shutil.rmtree(settings.runs / run_id, ignore_errors=True)
    kept = ("loss", "epoch", "epoch_s", "data_wait_s")
    return {k: float(outcome.metrics[k]) for k in kept}, config


def _dataset(arrays: Arrays, seed: int) -> ray.data.Dataset:
    """Rows in a seeded random order as blocks with one tensor column per input."""
    order = np.random.default_rng(seed).permutation(len(arrays.label))
    blocks = []
    for rows in np.array_split(order, min(NUM_BLOCKS, max(1, len(order)))):
        part = arrays.take(rows)
        blocks.append(
            pa.table(
                {
                    "numeric": ArrowTensorArray.from_numpy(part.numeric),
                    "codes": ArrowTensorArray.from_numpy(part.codes),
                    "label": pa.array(part.label),
                }
            )
        )
    dataset = ray.data.from_arrow(blocks)
    dataset.context.enable_progress_bars = False
    return dataset


def _fit_batch(model: TorchModel, num_rows: int) -> TorchModel:
    """A batch no larger than the rows, in whole shares."""
    largest = max(1, num_rows // model.num_workers) * model.num_workers
    return replace(model, batch_size=min(model.batch_size, largest))


def _cluster(resource: str) -> float:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total.get(resource, 0.0)


def _check_schedulable(model: TorchModel) -> None:
    cpus = _cluster("CPU")
    if cpus < model.num_workers:
        raise TrainingError(
            f"model {model.name!r} asks for {model.num_workers} workers of 1 CPU; the cluster has {cpus:g}. Lower "
            "num_workers or add nodes."
        )
