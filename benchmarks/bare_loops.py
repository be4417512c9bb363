"""Training loops without Millrace, on tensors already in memory: what benchmarks of training compare with."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
import torch.multiprocessing as processes

from app.foundation.import_path import resolve
from app.models.signature import Signature
from app.training.environment import clear_stale_locks, prepare_process

WARM_UP_STEPS = 3
CHECKPOINT_EVERY = 5


@dataclass(frozen=True)
class LoopPlan:
    """What a loop does. `config`: DeepSpeed's, `None` for plain torch; `batch_size`: of one process.

    `checkpoint_folder`: where DeepSpeed saves its state every fifth step, `None` for never.
    """

    factory: str
    signature: Signature
    hyperparameters: dict[str, Any]
    batch_size: int
    num_batches: int
    seconds: float
    config: dict[str, Any] | None
    num_processes: int
    use_gpu: bool = False
    checkpoint_folder: str | None = None


@dataclass(frozen=True)
class LoopResult:
    """Of rank 0. `memory_bytes`: what the process grew by from before the module was built to after the steps."""

    rows_per_s: float
    step_s: float
    memory_bytes: int
    checkpoint_s: float = 0.0


def run_loop(plan: LoopPlan) -> LoopResult:
    """Runs the loop in processes of its own and gives rank 0's figures."""
    context = processes.get_context("spawn")
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=_rank, args=(rank, plan, port, results)) for rank in range(plan.num_processes)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        if rank.exitcode:
            raise RuntimeError(f"a process of the bare loop ended with {rank.exitcode}")
    found: LoopResult = results.get()
    return found


def _rank(rank: int, plan: LoopPlan, port: int, results: Any) -> None:
    prepare_process(use_gpu=plan.use_gpu)
    clear_stale_locks()
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(plan.num_processes), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1 if plan.config is not None else max(1, os.cpu_count() or 1))
    torch.manual_seed(7)
    deepspeed = None
    if plan.config is not None:
        import deepspeed

        deepspeed.init_distributed("nccl" if plan.use_gpu else "gloo")
    device = torch.device("cuda", rank) if plan.use_gpu else torch.device("cpu")
    data = _tensors(plan, device)
    before_bytes = psutil.Process().memory_info().rss
    module = resolve(plan.factory)(plan.signature, **plan.hyperparameters).to(device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    step = _deepspeed_step(deepspeed, module, optimizer, plan) if deepspeed else _torch_step(module, optimizer)
    for i in range(WARM_UP_STEPS):
        step(*data[i % len(data)])
    if deepspeed is not None:
        torch.distributed.barrier()
    num_steps, started_s = 0, time.perf_counter()
    saves_s: list[float] = []
    while True:
        step(*data[num_steps % len(data)])
        num_steps += 1
        if plan.checkpoint_folder is not None and num_steps % CHECKPOINT_EVERY == 0:
            saving_s = time.perf_counter()
            step.engine.save_checkpoint(plan.checkpoint_folder, tag="state")  # type: ignore[attr-defined]
            saves_s.append(time.perf_counter() - saving_s)
        if _over(time.perf_counter() - started_s > plan.seconds, plan, num_steps, device):
            break
    took_s = time.perf_counter() - started_s
    grown = psutil.Process().memory_info().rss - before_bytes
    if rank == 0:
        rows = num_steps * plan.batch_size * plan.num_processes
        stall_s = sum(saves_s) / max(1, len(saves_s))
        results.put(LoopResult(rows / took_s, took_s / num_steps, grown, stall_s))


def _over(late: bool, plan: LoopPlan, num_steps: int, device: torch.device) -> bool:
    """Ranks stop together; they ask one another every eighth step only, which costs the loop next to nothing."""
    if plan.num_processes == 1:
        return late
    if num_steps % 8:
        return False
    told = torch.tensor([float(late)], device=device)
    torch.distributed.all_reduce(told)
    return bool(told > 0)


def _deepspeed_step(deepspeed: Any, module: Any, optimizer: Any, plan: LoopPlan) -> Callable[..., None]:
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=plan.config)
    engine.train()

    def step(numeric: torch.Tensor, codes: torch.Tensor, label: torch.Tensor) -> None:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(engine(numeric, codes).float(), label)
        engine.backward(loss)
        engine.step()

    step.engine = engine  # type: ignore[attr-defined]
    return step


def _torch_step(module: Any, optimizer: Any) -> Callable[..., None]:
    module.train()

    def step(numeric: torch.Tensor, codes: torch.Tensor, label: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(numeric, codes), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    return step


def _tensors(plan: LoopPlan, device: torch.device) -> list[tuple[torch.Tensor, ...]]:
    dtype = torch.bfloat16 if (plan.config or {}).get("bf16", {}).get("enabled") else torch.float32
    random = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(plan.num_batches):
        numeric = torch.randn(plan.batch_size, plan.signature.num_numeric, generator=random).to(device, dtype)
        codes = torch.stack(
            [torch.randint(0, n, (plan.batch_size,), generator=random) for n in plan.signature.cardinalities], dim=1
        ) if plan.signature.cardinalities else torch.zeros(plan.batch_size, 0, dtype=torch.int64)
        label = torch.randint(0, 2, (plan.batch_size,), generator=random).float()
        batches.append((numeric, codes.to(device), label.to(device)))
    return batches
