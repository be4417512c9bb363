"""A transformer of more than 300M parameters in bf16 on GPUs, ZeRO 1, 2 and 3: `make bench-gpu_transformer`.

For each stage: samples/s, model FLOPs utilisation and peak memory of Millrace's stream and step, beside a bare
DeepSpeed loop on tensors that are already on the GPU. `ratio` is ours over the bare loop's samples/s, the worst stage.
Without a GPU it says so and ends; `--tiny` runs a tiny model on CPUs, which tests the script and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as processes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.models.signature import Signature
from app.spec import FeatureService, TorchModel
from app.training.arrays import Arrays
from app.training.data_plan import DataPlan
from app.training.deepspeed_config import deepspeed_config
from app.training.encoded_rows import EncodedRows, collect, write_file
from app.training.environment import clear_stale_locks, prepare_process
from app.training.learner import learner_for
from app.training.stream import RankStream
from benchmarks.gpu_transformer import step_flops
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
TARGET = 0.9
WARM_UP_STEPS = 5
# dense bf16, operations per second, by what CUDA calls the card; source: NVIDIA's data sheets
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "4090": 165e12}


@dataclass(frozen=True)
class Size:
    """Of the model and its batch; `rows`: of a step, for each process."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    positions: int
    rows: int
    num_steps: int


LARGE = Size(width=1_024, depth=24, heads=16, vocabulary=32_000, positions=512, rows=16, num_steps=40)
TINY = Size(width=32, depth=2, heads=4, vocabulary=50, positions=16, rows=4, num_steps=6)


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ZeRO 1 only")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on CPUs: a test of this script")
    options = parser.parse_args()
    num_gpus = torch.cuda.device_count()
    if not options.tiny and not num_gpus:
        sys.exit("bench_gpu_transformer needs a CUDA GPU of about 40 GB; torch sees none here. --tiny tests this.")
    size = TINY if options.tiny else LARGE
    stages = [1] if options.quick else [1, 2, 3]
    with tempfile.TemporaryDirectory() as folder:
        rows = encoded_rows(size, Path(folder), num_processes=max(1, num_gpus))
        found = [measure(stage, size, rows, max(1, num_gpus), use_gpu=not options.tiny) for stage in stages]
    table = Table("ZeRO", "loop", "samples/s", "MFU", "peak memory per GPU")
    for stage, loops in zip(stages, found, strict=True):
        for name, figures in loops.items():
            table.add_row(
                str(stage), name, f"{figures['samples_per_s']:,.1f}", f"{figures['mfu']:.1%}",
                f"{figures['peak_memory_bytes'] / 1e9:.1f} GB",
            )
    Console().print(table)
    write(stages, found, size, num_gpus, options)
    ratio = min(loops["millrace"]["samples_per_s"] / loops["bare"]["samples_per_s"] for loops in found)
    print(f"gpu_transformer ratio={ratio:.2f} target={TARGET:.2f} gpus={num_gpus}{' (tiny, on CPU)' * options.tiny}")


def encoded_rows(size: Size, folder: Path, num_processes: int) -> EncodedRows:
    """Rows of random codes in files, as training reads them."""
    random = np.random.default_rng(1)
    count = size.rows * num_processes * (size.num_steps + WARM_UP_STEPS)
    codes = random.integers(0, size.vocabulary, (count, size.positions))
    codes[0, 0] = size.vocabulary - 1
    arrays = Arrays(np.zeros((count, 0), np.float32), codes, random.integers(0, 2, count).astype(np.float32))
    return collect(folder, 0, size.positions, [write_file(folder, "rows.arrow", arrays, np.arange(count), "rows")])


def measure(stage: int, size: Size, rows: EncodedRows, num_processes: int, *, use_gpu: bool) -> dict[str, Any]:
    """Figures of both loops at one stage; each in processes of its own, so that none inherits the other's memory."""
    found = {}
    for name in ("millrace", "bare"):
        context = processes.get_context("spawn")
        results = context.Queue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = (num_processes, port, name, stage, size, rows, use_gpu, results)
        ranks = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(num_processes)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
            if rank.exitcode:
                raise RuntimeError(f"a process of the {name} loop ended with {rank.exitcode}")
        found[name] = results.get()
    return found


def _rank(
    rank: int, num_processes: int, port: int, name: str, stage: int, size: Size, rows: EncodedRows, use_gpu: bool,
    results: Any,
) -> None:
    prepare_process(use_gpu=use_gpu)
    clear_stale_locks()
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import deepspeed

    if use_gpu:
        torch.cuda.set_device(rank)
    deepspeed.init_distributed("nccl" if use_gpu else "gloo")
    torch.manual_seed(7)
    signature = Signature(0, (size.vocabulary,) * size.positions, "binary")
    model = TorchModel(
        "transformer", FeatureService("s", ()), "benchmarks.gpu_transformer:transformer",
        hyperparameters={"width": size.width, "depth": size.depth, "heads": size.heads},
        batch_size=size.rows * num_processes, num_workers=num_processes, zero_stage=stage, precision="bf16",  # type: ignore[arg-type]
    )
    config = deepspeed_config(model, num_processes, use_gpu=use_gpu)
    learner = learner_for(model, signature, config, num_processes)
    plan = DataPlan(rows.chunk_rows, model.batch_size, num_processes, model.seed, rows.row_bytes)
    batches = RankStream(rows, plan, (rank,)).batches(1, through_ray=False)
    took_s = _millrace(learner, batches) if name == "millrace" else _bare(learner, batches)
    samples_per_s = size.num_steps * model.batch_size / took_s
    if rank == 0:
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in learner.whole.parameters())
        flops = step_flops(parameters, size.width, size.depth, size.positions, size.rows) * size.num_steps / took_s
        peak = peak_flops() if use_gpu else float("nan")
        memory = torch.cuda.max_memory_allocated() if use_gpu else 0
        results.put(
            {"samples_per_s": samples_per_s, "mfu": flops / peak, "peak_memory_bytes": memory, "parameters": parameters}
        )


def _millrace(learner: Any, batches: Any) -> float:
    """Seconds of the timed steps: rows from the files, agreement on the loss, the step."""
    started_s = 0.0
    for number, batch in enumerate(batches):
        if number == WARM_UP_STEPS:
            _wait(learner)
            started_s = time.perf_counter()
        learner.step(batch.rows, 1e-4, stop=False, keep=False)
    _wait(learner)
    return time.perf_counter() - started_s


def _bare(learner: Any, batches: Any) -> float:
    """Seconds of as many steps of DeepSpeed alone, on tensors that are there already."""
    engine = learner.engine
    device = engine.device
    held = [
        (torch.from_numpy(b.rows.numeric).to(device, torch.bfloat16), torch.from_numpy(b.rows.codes).to(device),
         torch.from_numpy(b.rows.label).to(device))
        for b in batches
    ]
    started_s = 0.0
    for number, (numeric, codes, label) in enumerate(held):
        if number == WARM_UP_STEPS:
            _wait(learner)
            started_s = time.perf_counter()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(engine(numeric, codes).float(), label)
        engine.backward(loss)
        engine.step()
    _wait(learner)
    return time.perf_counter() - started_s


def _wait(learner: Any) -> None:
    if learner.engine.device.type == "cuda" or str(learner.engine.device).startswith("cuda"):
        torch.cuda.synchronize()
    torch.distributed.barrier()


def peak_flops() -> float:
    """Of this card; a card that is not in the list gives NaN, and its MFU is unknown."""
    name = torch.cuda.get_device_name()
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), float("nan"))


def write(stages: list[int], found: list[dict[str, Any]], size: Size, num_gpus: int, options: Any) -> None:
    if options.tiny:
        return  # measures nothing worth keeping
    RESULTS.mkdir(exist_ok=True)
    name = "gpu_transformer-quick" if options.quick else "gpu_transformer"
    record = {
        "subject": "gpu_transformer", "size": asdict(size),
        "stages": {str(stage): loops for stage, loops in zip(stages, found, strict=True)},
        "hardware": {
            "gpus": num_gpus, "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "cpus": os.cpu_count()
        },
        "provenance": code_state(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for offset, loop in enumerate(("millrace", "bare")):
        places = [i + 0.4 * offset for i in range(len(stages))]
        axes.bar(places, [loops[loop]["samples_per_s"] for loops in found], width=0.4, label=loop)
    ticks = [i + 0.2 for i in range(len(stages))]
    axes.set(xticks=ticks, xticklabels=[f"ZeRO {s}" for s in stages], ylabel="samples/s")
    axes.legend()
    figure.savefig(RESULTS / f"{name}.svg")


if __name__ == "__main__":
    main()
