"""What each Ray Train worker runs: DeepSpeed over its shard of the data, a checkpoint after every epoch."""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint
from safetensors.torch import save_file

from app.foundation.import_path import resolve
from app.models.signature import Signature
from app.spec.models import TorchModel
from app.training.environment import clear_stale_locks, prepare_process
from app.training.steps import learning_rate, loss_function

WEIGHTS, POSITION = "weights.safetensors", "position.json"


@dataclass(frozen=True)
class WorkerPlan:
    """Everything a worker is told. `num_rows`: of the whole training set. `deadline_at`: wall seconds since 1970."""

    model: TorchModel
    signature: Signature
    config: dict[str, Any]
    num_rows: int
    use_gpu: bool
    deadline_at: float


def train_worker(arguments: dict[str, WorkerPlan]) -> str | None:
    """Trains to the last epoch, going on from the newest checkpoint when there is one.

    Gives the reason it stopped, instead of raising, for what a retry cannot mend: a loss that is not finite, a deadline
    passed; `None` when it is done. Of reports without a checkpoint Ray Train keeps nothing, hence the returned value.
    An epoch's random numbers follow from the seed, the epoch and the rank, so a resumed run equals one never stopped.
    """
    plan = arguments["plan"]
    prepare_process(use_gpu=plan.use_gpu)
    clear_stale_locks()
    torch.set_num_threads(1)
    torch.manual_seed(plan.model.seed)
    import deepspeed

    module = resolve(plan.model.factory)(plan.signature, **plan.model.hyperparameters)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=plan.model.learning_rate, weight_decay=plan.model.weight_decay
    )
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=plan.config)
    for epoch in range(_resume(engine), plan.model.epochs):
        report = _train_epoch(engine, plan, epoch)
        if isinstance(report, str):
            return report
        _report(engine, report)
    return None


def _train_epoch(engine: Any, plan: WorkerPlan, epoch: int) -> dict[str, Any] | str:
    """What to report of the epoch, or why all ranks must stop."""
    context = ray.train.get_context()
    world, rank = context.get_world_size(), context.get_world_rank()
    torch.manual_seed(plan.model.seed + 1_000 * epoch + rank)
    per_worker = plan.num_rows // world
    batch_size = plan.config["train_micro_batch_size_per_gpu"]
    num_batches = max(1, per_worker // batch_size)
    loss_of = loss_function(plan.signature.task)
    total_loss, wait_s = 0.0, 0.0
    started_s = waited_from_s = time.perf_counter()
    batches = ray.train.get_dataset_shard("train").iter_torch_batches(
        batch_size=batch_size,
        drop_last=per_worker >= batch_size,
        local_shuffle_buffer_size=8 * batch_size,
        local_shuffle_seed=plan.model.seed + epoch,
    )
    engine.train()
    for index, batch in enumerate(batches):
        if index >= num_batches:
            continue  # every rank takes the same number of steps, else the collectives would wait for ever
        wait_s += time.perf_counter() - waited_from_s
        step = epoch * num_batches + index
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.model.epochs * num_batches, plan.model.learning_rate)
        outputs = engine(batch["numeric"].to(engine.device), batch["codes"].to(engine.device))
        loss = loss_of(outputs.float(), batch["label"].to(engine.device))
        mean_loss, late = _agree(loss, time.time() > plan.deadline_at)
        if not math.isfinite(mean_loss):
            return f"loss is {mean_loss} in epoch {epoch + 1}, batch {index + 1}"
        if late:
            return f"not done by its deadline of {plan.model.deadline_s:g} s, in epoch {epoch + 1}, batch {index + 1}"
        engine.backward(loss)
        engine.step()
        total_loss += mean_loss
        waited_from_s = time.perf_counter()
    return {
        "epoch": epoch + 1,
        "loss": total_loss / num_batches,
        "epoch_s": time.perf_counter() - started_s,
        "data_wait_s": wait_s,
    }


def _agree(loss: torch.Tensor, late: bool) -> tuple[float, bool]:
    """Mean loss of all ranks, and whether any is late.

    Ranks must stop together: one that went on alone would wait for the others for ever.
    """
    summed = torch.stack([loss.detach().float(), torch.tensor(float(late), device=loss.device)])
    torch.distributed.all_reduce(summed)
    return float(summed[0]) / torch.distributed.get_world_size(), bool(summed[1] > 0)


def _report(engine: Any, report: dict[str, Any]) -> None:
    """Saves this rank's shard and reports; the files of all ranks become one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state")
        weights = _whole_weights(engine)
        if ray.train.get_context().get_world_rank() == 0:
            save_file(weights, Path(folder) / WEIGHTS)
            (Path(folder) / POSITION).write_text(json.dumps({"epochs_done": report["epoch"]}))
        ray.train.report(report, checkpoint=Checkpoint.from_directory(folder))


def _whole_weights(engine: Any) -> dict[str, torch.Tensor]:
    """All parameters in fp32 on the CPU; ZeRO 3 gathers them first."""
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    parameters = list(engine.module.parameters())
    with GatheredParameters(parameters, enabled=engine.zero_optimization_stage() == 3):
        return {k: v.detach().float().cpu().contiguous().clone() for k, v in engine.module.state_dict().items()}


def _resume(engine: Any) -> int:
    """Loads the newest checkpoint, if any, and gives the number of epochs it has behind it."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        engine.load_checkpoint(folder, tag="state")
        done: int = json.loads((Path(folder) / POSITION).read_text())["epochs_done"]
    return done
