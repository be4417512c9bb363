"""Memory by ZeRO stage, the stall of a checkpoint, the time a kill loses: `make bench-checkpoint` (QUICK=1: less).

The peer of a checkpoint's stall is a bare DeepSpeed loop that saves its state to the same disk and goes on: no copy to
the run's folder, no hashes, no report. `ratio` is the peer's stall over ours: higher is better.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.assembly.ray_environment import TRAIN_VARIABLES
from app.models.signature import Signature
from app.settings import Settings, load_settings
from app.spec import FeatureService, TorchModel
from app.training.deepspeed_config import deepspeed_config
from app.training.progress import EpochReport
from app.training.train import train
from benchmarks.bare_loops import LoopPlan, run_loop
from benchmarks.bench_train import BATCH, NUM_FEATURES, project, training_rows
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
WIDTH = 768  # some 10 million parameters: 40 MB of weights, 80 MB of Adam's state
LARGE_WIDTH = 2_400  # ten times as many, for memory: below, ZeRO's own buffers outweigh what it shares out
DEPTH = 4
TARGET = 1.0


def main() -> None:
    """Measures, prints the tables, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory-only", action="store_true", help="write the memory into the last whole result")
    options = parser.parse_args()
    widths = [WIDTH] if options.quick else [WIDTH, LARGE_WIDTH]
    stages = [1, 3] if options.quick else [0, 1, 2, 3]
    memory = {width: {stage: memory_bytes(stage, width) for stage in stages} for width in widths}
    if options.memory_only:
        path = RESULTS / "checkpoint.json"
        show(memory, {})
        return write(memory, json.loads(path.read_text())["runs"], quick=False)
    runs = checkpointed_runs(quick=options.quick)
    show(memory, runs)
    write(memory, runs, quick=options.quick)
    ratio = runs["bare DeepSpeed"]["stall_s"] / runs["asynchronous"]["stall_s"]
    print(
        f"checkpoint ratio={ratio:.2f} target={TARGET:.2f} stall_s={runs['asynchronous']['stall_s']:.3f} "
        f"lost_to_a_kill_s={runs['killed']['lost_s']:.1f}"
    )


def network(**changed: Any) -> TorchModel:
    model = TorchModel(
        "bench", FeatureService("s", ()), "app.models.tabular:residual_mlp",
        hyperparameters={"width": WIDTH, "depth": DEPTH, "dropout": 0.0}, batch_size=BATCH, epochs=2, zero_stage=1,
        deadline_s=600.0, checkpoint_every_s=None,
    )
    return replace(model, **changed)


def memory_bytes(stage: int, width: int) -> int:
    """What each of two workers grows by with the module, its gradients and its share of the optimizer."""
    model = network(zero_stage=stage, hyperparameters={"width": width, "depth": DEPTH, "dropout": 0.0})
    config = deepspeed_config(model, 2)
    plan = LoopPlan(
        model.factory, Signature(NUM_FEATURES, (), "binary"), dict(model.hyperparameters), 32, 2, 0.5,
        {**config, "train_batch_size": 64, "train_micro_batch_size_per_gpu": 32}, num_processes=2,
    )
    return run_loop(plan).memory_bytes


def checkpointed_runs(*, quick: bool) -> dict[str, dict[str, float]]:
    """The stall of a checkpoint, ours and the peer's, and what a SIGKILL in the middle of an epoch costs."""
    os.environ.update(TRAIN_VARIABLES)
    every = 5
    epochs = 1 if quick else 2
    found: dict[str, dict[str, float]] = {}
    model = network()
    with tempfile.TemporaryDirectory() as folder:
        bare = run_loop(LoopPlan(
            model.factory, Signature(NUM_FEATURES, (), "binary"), dict(model.hyperparameters), BATCH // 2, 4,
            5.0 if quick else 10.0, deepspeed_config(model, 2), num_processes=2, checkpoint_folder=folder,
        ))
        found["bare DeepSpeed"] = {"stall_s": bare.checkpoint_s}
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings({"MILLRACE_HOME": home}, in_job=False)
        ray.init(address="local", num_cpus=8, include_dashboard=True, dashboard_host="127.0.0.1", log_to_driver=False)
        try:
            asynchronous = network(epochs=epochs + 1, checkpoint_every_steps=every)
            stalls(replace(asynchronous, epochs=1), settings, "warm-up")  # the first run of a Ray starts its workers
            found["asynchronous"] = stalls(asynchronous, settings, "asynchronous")
            marker = Path(home) / "died"
            dying = replace(
                asynchronous, factory="tests.cluster.dying_network:dies_once",
                hyperparameters={**asynchronous.hyperparameters, "marker": str(marker)},
            )
            found["killed"] = stalls(dying, settings, "killed")
            found["killed"]["lost_s"] = found["killed"]["whole_s"] - found["asynchronous"]["whole_s"]
        finally:
            ray.shutdown()
    return found


def stalls(model: TorchModel, settings: Settings, run_id: str) -> dict[str, float]:
    """Seconds of the whole run, and how long training stood still for a checkpoint, on average."""
    told: list[EpochReport] = []
    started_s = time.perf_counter()
    train(project(model), model, training_rows(), settings, run_id, told.append)
    assert model.checkpoint_every_steps is not None
    num_steps = 80 // model.checkpoint_every_steps - 1  # those within an epoch; the one that ends it is counted next
    stall_s = max(report.checkpoint_stall_s for report in told) / num_steps
    return {"whole_s": time.perf_counter() - started_s, "stall_s": stall_s}


def show(memory: dict[int, dict[int, int]], runs: dict[str, dict[str, float]]) -> None:
    table = Table("width", "ZeRO stage", "memory per worker")
    for width, sizes in memory.items():
        for stage, size in sizes.items():
            table.add_row(str(width), str(stage), f"{size / 1e6:,.0f} MB")
    Console().print(table)
    table = Table("checkpoints each 5 steps", "stall of one", "whole run")
    for name, run in runs.items():
        table.add_row(name, f"{run['stall_s'] * 1e3:.0f} ms", f"{run['whole_s']:.0f} s" if "whole_s" in run else "")
    Console().print(table)


def write(memory: dict[int, dict[int, int]], runs: dict[str, dict[str, float]], *, quick: bool) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = "checkpoint-quick" if quick else "checkpoint"
    record = {
        "subject": "checkpoint", "width": WIDTH, "depth": DEPTH, "workers": 2,
        "memory_bytes": {str(width): {str(s): size for s, size in sizes.items()} for width, sizes in memory.items()},
        "runs": runs,
        "hardware": {"cpus": os.cpu_count(), "load_average": os.getloadavg()},
        "provenance": code_state(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, (width, sizes) in zip(figure.subplots(1, len(memory), squeeze=False)[0], memory.items(), strict=True):
        axes.bar([str(stage) for stage in sizes], [size / 1e6 for size in sizes.values()])
        axes.set(title=f"width {width}", xlabel="ZeRO stage", ylabel="MB per worker of two")
    figure.savefig(RESULTS / f"{name}.svg")


if __name__ == "__main__":
    main()
