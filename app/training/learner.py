"""One optimisation step on DeepSpeed, whatever the workers share: rows, layers or stages of the model."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from app.errors import TrainingError
from app.foundation.import_path import resolve
from app.models.signature import Signature
from app.spec.models import TorchModel
from app.training.arrays import Arrays
from app.training.deepspeed_config import Topology, input_precision, topology
from app.training.environment import import_deepspeed
from app.training.steps import loss_function

WEIGHTS = "weights*.safetensors"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after a step: the mean loss, whether any must stop, whether all can keep a checkpoint."""

    loss: float
    stop: bool
    keep: bool


class NotFiniteError(Exception):
    """The loss of a step is not a number or infinite; no weight was changed by it."""


def build_module(model: TorchModel, signature: Signature) -> nn.Module:
    """The model's module, its activations computed twice where it is told so.

    Raises:
        TrainingError: a glob that names no submodule.
    """
    module: nn.Module = resolve(model.factory)(signature, **model.hyperparameters)
    for pattern in model.activation_checkpointing:
        found = [m for name, m in module.named_modules() if name and fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise TrainingError(
                f"model {model.name!r}: activation_checkpointing {pattern!r} names no submodule; there are "
                f"{', '.join(name for name, _ in module.named_modules() if name)[:400]}.",
            )
        for part in found:
            part.forward = functools.partial(recomputed, part.forward, use_reentrant=False)
    return module


class Learner:
    """A module on DeepSpeed. Legend: A = gradient accumulation steps."""

    def __init__(self, model: TorchModel, signature: Signature, config: dict[str, Any], num_workers: int) -> None:
        deepspeed = import_deepspeed()
        self.model, self.signature, self.config = model, signature, config
        self.topology: Topology = topology(model, num_workers)
        self.whole = build_module(model, signature)
        self._loss_of = loss_function(signature.task)
        self._dtype = DTYPES[input_precision(config)]
        trained = self._trained_part()
        parameters = list(trained.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=model.learning_rate, weight_decay=model.weight_decay)
        self.engine, *_ = deepspeed.initialize(
            model=trained, optimizer=optimizer, model_parameters=parameters, config=config
        )
        self.engine.train()

    @property
    def data_rank(self) -> int:
        """Which of the data-parallel shares this rank reads; tensor-parallel ranks of a group read the same."""
        rank = torch.distributed.get_rank()
        return rank // self.topology.tensor

    def step(self, rows: Arrays, learning_rate: float, *, stop: bool, keep: bool) -> Agreed:
        """Learns from this rank's rows of a batch.

        Raises:
            NotFiniteError: on every rank, when the loss of any is not finite.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        parts = list(self._parts(rows))
        summed = torch.zeros(3, device=self.engine.device)
        summed[1], summed[2] = float(stop), float(keep)
        for number, (inputs, label) in enumerate(parts, start=1):
            loss = self._loss_of(self.engine(*inputs).float(), label)
            summed[0] += loss.detach() / len(parts)
            if number < len(parts):
                self.engine.backward(loss)
                self.engine.step()
                continue
            told = torch.distributed.all_reduce(summed, async_op=True)  # while the gradients are computed
            self.engine.backward(loss)
            told.wait()
        agreed = self._agreed(summed)
        self.engine.step()
        return agreed

    def whole_weights(self) -> dict[str, Tensor]:
        """All parameters in fp32 on the CPU, gathered layer by layer; complete on rank 0 alone."""
        if self.engine.zero_optimization_stage() == 3 or self.topology.tensor > 1:
            kept = self.engine._consolidated_16bit_state_dict() or {}  # fp32 where the module is
        else:
            kept = self.engine.module.state_dict()
        return {name: _plain(tensor) for name, tensor in kept.items()}

    def save_weights(self, folder: Path) -> None:
        """Writes what `load_weights` reads; all ranks call it."""
        weights = self.whole_weights()
        if torch.distributed.get_rank() == 0:
            save_file(weights, folder / WEIGHTS.replace("*", ""))

    def _trained_part(self) -> nn.Module:
        return self.whole

    def _parts(self, rows: Arrays) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """A equal parts of the rows as `(numeric, codes), label` on the device."""
        accumulation = self.model.gradient_accumulation_steps
        size = len(rows.label) // accumulation
        device = self.engine.device
        for start in range(0, accumulation * size, size):
            part = slice(start, start + size)
            numeric = _tensor(rows.numeric[part]).to(device, self._dtype)
            yield (numeric, _tensor(rows.codes[part]).to(device)), _tensor(rows.label[part]).to(device)

    def _agreed(self, summed: Tensor) -> Agreed:
        """Ranks must stop together: one that went on alone would wait for the others for ever."""
        num_ranks = torch.distributed.get_world_size()
        loss, stop, keep = summed.tolist()
        if not torch.isfinite(summed[0]):
            raise NotFiniteError(f"loss is {loss / num_ranks}")
        return Agreed(loss / num_ranks, stop > 0, keep >= num_ranks)


class PipelineLearner(Learner):
    """A module cut into stages, each on workers of its own."""

    @property
    def data_rank(self) -> int:
        rank: int = self.engine.grid.get_data_parallel_rank()
        return rank

    def step(self, rows: Arrays, learning_rate: float, *, stop: bool, keep: bool) -> Agreed:
        """See `Learner.step`; the loss is known once the step is done."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self.engine.train_batch(iter(list(self._parts(rows))))
        summed = torch.tensor([float(loss), float(stop), float(keep)], device=self.engine.device)
        torch.distributed.all_reduce(summed)
        return self._agreed(summed)

    def save_weights(self, folder: Path) -> None:
        """Each stage writes the layers it holds."""
        if self.data_rank:
            return
        mine = {id(parameter) for parameter in self.engine.module.parameters()}
        weights = {name: _plain(p.data) for name, p in self.whole.named_parameters() if id(p) in mine}
        save_file(weights, folder / WEIGHTS.replace("*", f"-{self.engine.stage_id}"))

    def _trained_part(self) -> nn.Module:
        from deepspeed.pipe import PipelineModule

        if not hasattr(self.whole, "pipeline_layers"):
            raise TrainingError(
                f"model {self.model.name!r}: pipeline_stages {self.model.pipeline_stages} needs a module with a method "
                f"pipeline_layers() that gives its layers in order; {type(self.whole).__name__} has none."
            )
        import_deepspeed().init_distributed()  # it asks for ranks before `initialize` would have made them known
        stages: nn.Module = PipelineModule(
            layers=self.whole.pipeline_layers(),  # type: ignore[operator]
            num_stages=self.model.pipeline_stages,
            loss_fn=lambda outputs, label: self._loss_of(outputs.float(), label),
        )
        return stages


def learner_for(model: TorchModel, signature: Signature, config: dict[str, Any], num_workers: int) -> Learner:
    """The kind of learner the configuration asks for."""
    kind = PipelineLearner if model.pipeline_stages > 1 else Learner
    return kind(model, signature, config, num_workers)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All parameters by name, from however many files they were written to."""
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob(WEIGHTS)):
        weights.update(load_file(file))
    return weights


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous().clone()


def _tensor(values: Any) -> Tensor:
    """Ray hands out arrays that cannot be written to, which torch warns of."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())
