"""What one optimisation step needs, shared by training and sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from app.spec.models import Task, TorchModel

if TYPE_CHECKING:
    from app.training.arrays import Arrays

WARM_UP = 0.05  # share of the steps over which the learning rate rises


def loss_function(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean loss of outputs [B] against labels [B]; of an ensemble's outputs [B, K], each member's own."""
    of_one = nn.functional.binary_cross_entropy_with_logits if task == "binary" else nn.functional.mse_loss

    def loss_of(outputs: Tensor, label: Tensor) -> Tensor:
        return of_one(outputs, label if outputs.dim() == 1 else label[:, None].expand_as(outputs))

    return loss_of


def learning_rate(step: int, num_steps: int, peak: float) -> float:
    """Linear warm-up, then a half cosine down to zero.

    >>> [round(learning_rate(s, 100, 1.0), 3) for s in (0, 5, 52, 99)]
    [0.2, 1.0, 0.508, 0.0]
    """
    warm = max(1, round(num_steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))


def train_in_process(module: nn.Module, arrays: Arrays, model: TorchModel, task: Task, epochs: int, seed: int) -> None:
    """Trains `module` in place in this process, as a sweep's trial does."""
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=model.learning_rate, weight_decay=model.weight_decay)
    loss_of = loss_function(task)
    num_rows = len(arrays.label)
    num_steps = epochs * math.ceil(num_rows / model.batch_size)
    step = 0
    module.train()
    for _ in range(epochs):
        order = random.permutation(num_rows)
        for start in range(0, num_rows, model.batch_size):
            batch = arrays.take(order[start : start + model.batch_size])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, num_steps, model.learning_rate)
            optimizer.zero_grad()
            outputs = module(torch.from_numpy(batch.numeric), torch.from_numpy(batch.codes))
            loss = loss_of(outputs, torch.from_numpy(batch.label))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            step += 1
