"""What each Ray Train worker runs: its rows through DeepSpeed step by step, checkpoints on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray.train
import torch

from app.models.signature import Signature
from app.spec.models import TorchModel
from app.training.checkpoints import Checkpointer, CheckpointRefusedError, Kept, fingerprint_of, restore, verify
from app.training.data_plan import DataPlan
from app.training.deepspeed_config import deepspeed_config
from app.training.encoded_rows import EncodedRows
from app.training.environment import clear_stale_locks, prepare_process
from app.training.learner import Learner, NotFiniteError, learner_for
from app.training.steps import learning_rate
from app.training.stream import Position, RankStream

STARTED = "started"  # made by rank 0 when all workers have met


@dataclass(frozen=True)
class WorkerPlan:
    """Everything a worker is told. `deadline_at`: wall seconds since 1970; `attempt`: which start of the run."""

    model: TorchModel
    signature: Signature
    rows: EncodedRows
    data: DataPlan
    run_folder: Path
    use_gpu: bool
    deadline_at: float
    attempt: int = 0

    @property
    def fingerprint(self) -> str:
        """Of what a checkpoint must agree with: the model, its optimisation and its data."""
        model = replace(self.model, num_workers=0, min_workers=None, deadline_s=0.0, checkpoint_every_s=None,
                        checkpoint_every_steps=None, service=None)  # type: ignore[arg-type]
        return fingerprint_of(model, self.signature, self.data)


def train_worker(arguments: dict[str, WorkerPlan]) -> str | None:
    """Trains to the last epoch, going on from the newest checkpoint when there is one.

    Gives the reason it stopped, instead of raising, for what a retry cannot mend: a loss that is not finite, a
    deadline passed, a checkpoint that must not be loaded; `None` when it is done. Of reports without a checkpoint Ray
    Train keeps nothing, hence the returned value.
    """
    plan = arguments["plan"]
    prepare_process(use_gpu=plan.use_gpu)
    clear_stale_locks()
    torch.set_num_threads(1)
    torch.manual_seed(plan.model.seed)
    num_workers = ray.train.get_context().get_world_size()
    try:
        kept, folder = _newest(plan)
    except CheckpointRefusedError as error:
        return str(error)
    if kept.finished:
        return None
    config = deepspeed_config(plan.model, num_workers, use_gpu=plan.use_gpu)
    learner = learner_for(plan.model, plan.signature, config, num_workers)
    if folder is not None:
        restore(learner, folder, kept, num_workers)
    if ray.train.get_context().get_world_rank() == 0:
        (plan.run_folder / f"{STARTED}-{plan.attempt}").touch()
    return _Run(plan, learner, kept, num_workers).to_the_end()


def _newest(plan: WorkerPlan) -> tuple[Kept, Path | None]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Kept(Position(), 0, plan.fingerprint), None
    return verify(Path(checkpoint.path), plan.fingerprint), Path(checkpoint.path)


class _Run:
    """The loop of one rank."""

    def __init__(self, plan: WorkerPlan, learner: Learner, start: Kept, num_workers: int) -> None:
        self._plan, self._learner, self._start, self._num_workers = plan, learner, start, num_workers
        rank = ray.train.get_context().get_world_rank()
        self._checkpointer = Checkpointer(plan.run_folder, rank)
        lanes = plan.data.lanes_of(learner.data_rank, learner.topology.data)
        self._stream = RankStream(plan.rows, plan.data, tuple(lanes))
        self._last_kept_s = time.monotonic()

    def to_the_end(self) -> str | None:
        """Why it stopped early, `None` when all epochs are done."""
        plan, data = self._plan, self._plan.data
        num_steps = plan.model.epochs * data.steps_per_epoch
        epoch = _Epoch(self._start.losses, self._start.num_losses)
        where = ""
        for batch in self._stream.batches(plan.model.epochs, self._start.position):
            where = f"in epoch {batch.epoch + 1}, batch {batch.step + 1}"
            step = batch.epoch * data.steps_per_epoch + batch.step
            torch.manual_seed(_step_seed(plan.model.seed, step, self._learner.data_rank))
            try:
                agreed = self._learner.step(
                    batch.rows,
                    learning_rate(step, num_steps, plan.model.learning_rate),
                    stop=time.time() > plan.deadline_at,
                    keep=self._due(batch.step),
                )
            except NotFiniteError as error:
                return f"{error} {where}"
            if agreed.stop:
                return f"not done by its deadline of {plan.model.deadline_s:g} s, {where}"
            epoch.add(agreed.loss, batch.wait_s)
            if batch.step + 1 == data.steps_per_epoch:
                ended_s = time.perf_counter()
                self._keep(Position(batch.epoch + 1, 0), epoch)
                epoch = _Epoch(started_s=ended_s, stall_s=time.perf_counter() - ended_s)
            elif agreed.keep:
                epoch.stall_s += self._keep(Position(batch.epoch, batch.step + 1), epoch)
        return None

    def _due(self, step: int) -> bool:
        """Whether this rank would keep a checkpoint after this step; it is kept when all would."""
        model = self._plan.model
        by_steps = model.checkpoint_every_steps is not None and (step + 1) % model.checkpoint_every_steps == 0
        since_s = time.monotonic() - self._last_kept_s
        by_time = model.checkpoint_every_s is not None and since_s >= model.checkpoint_every_s
        return by_steps or (by_time and self._checkpointer.idle)

    def _keep(self, position: Position, epoch: _Epoch) -> float:
        """Keeps a checkpoint and gives the seconds for which training stood still."""
        plan = self._plan
        finished = position == Position(plan.model.epochs, 0)
        ended = position.step == 0
        started_s = time.perf_counter()
        kept = Kept(
            position, self._num_workers, plan.fingerprint, 0.0 if ended else epoch.losses,
            0 if ended else epoch.num_losses, finished,
        )
        report = {**epoch.report(plan.data.batch_size), "epoch": position.epoch if ended else position.epoch + 1}
        self._checkpointer.save(
            self._learner, kept, {**report, "step": position.step, "epoch_ended": ended, "workers": self._num_workers}
        )
        self._last_kept_s = time.monotonic()
        return time.perf_counter() - started_s


@dataclass
class _Epoch:
    """Sums of an epoch so far, times of this attempt alone; the checkpoint that ends an epoch counts for the next."""

    losses: float = 0.0
    num_losses: int = 0
    wait_s: float = 0.0
    stall_s: float = 0.0
    num_steps: int = 0
    started_s: float = field(default_factory=time.perf_counter)

    def add(self, loss: float, wait_s: float) -> None:
        self.losses += loss
        self.num_losses += 1
        self.num_steps += 1
        self.wait_s += wait_s

    def report(self, batch_size: int) -> dict[str, Any]:
        epoch_s = time.perf_counter() - self.started_s
        return {
            "loss": self.losses / max(1, self.num_losses),
            "epoch_s": epoch_s,
            "data_wait_s": self.wait_s,
            "data_wait_share": self.wait_s / epoch_s,
            "checkpoint_stall_s": self.stall_s,
            "rows_per_s": self.num_steps * batch_size / epoch_s,
        }


def _step_seed(seed: int, step: int, data_rank: int) -> int:
    """Random numbers of a step follow from it, so that a resumed run equals one never stopped."""
    return (seed * 1_000_003 + step) * 1_009 + data_rank
