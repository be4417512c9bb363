"""Samples per second of the whole path beside bare loops on tensors in memory: `make bench-train` (QUICK=1: one width).

The path: an Iceberg table, Ray Data, Ray Train, DeepSpeed with two workers. Its peers: a bare DeepSpeed loop, with two
processes and the same configuration, and a bare torch loop in one process with all cores. All take steps of the same
module on as many rows; widths of the module give steps of about 5 to 500 ms. Starting is told apart: rates are of whole
epochs after the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import ray
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.assembly.ray_environment import TRAIN_VARIABLES
from app.features.training_set import TrainingSet
from app.foundation.lake import Lake
from app.models.signature import Signature
from app.settings import load_settings
from app.spec import Cases, CsvFiles, FeatureService, Field, Label, Project, Source, Timeline, TorchModel
from app.training.deepspeed_config import deepspeed_config
from app.training.progress import EpochReport
from app.training.train import train
from app.training.training_table import TrainingTable
from benchmarks.bare_loops import LoopPlan, LoopResult, run_loop
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
NUM_FEATURES = 256
BATCH = 1_024
NUM_STEPS = 80  # in an epoch: too many rows for one window, so Ray Data streams them
WIDTHS_BY_STEP_MS = {5: 32, 20: 128, 100: 416, 500: 1_024}
EPOCHS_BY_STEP_MS = {5: 16, 20: 6, 100: 3, 500: 2}
TARGET, TARGET_FROM_S, MOST_WAIT = 0.9, 0.095, 0.05


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    steps_ms = [20] if options.quick else list(WIDTHS_BY_STEP_MS)
    seconds = 3.0 if options.quick else 8.0
    bare = {ms: bare_loops(ms, seconds) for ms in steps_ms}
    found = [
        {"step_ms": ms, "deepspeed": bare[ms][0].__dict__, "torch": bare[ms][1].__dict__, **whole}
        for ms, whole in whole_path(steps_ms, quick=options.quick).items()
    ]
    for row in found:
        row["ratio"] = row["rows_per_s"] / row["deepspeed"]["rows_per_s"]
    show(found)
    write(found, quick=options.quick)
    judged = [r for r in found if r["deepspeed"]["step_s"] >= TARGET_FROM_S] or found
    worst = min(row["ratio"] for row in judged)
    waits = ", ".join(f"{row['data_wait_share']:.1%}" for row in judged)
    print(f"train ratio={worst:.2f} target={TARGET:.2f} data_wait={waits} (at most {MOST_WAIT:.0%})")


def network(step_ms: int) -> TorchModel:
    return TorchModel(
        "bench", FeatureService("s", ()), "app.models.tabular:residual_mlp",
        hyperparameters={"width": WIDTHS_BY_STEP_MS[step_ms], "depth": 2, "dropout": 0.0}, batch_size=BATCH,
        epochs=EPOCHS_BY_STEP_MS[step_ms], zero_stage=1, deadline_s=600.0,
    )


def bare_loops(step_ms: int, seconds: float) -> tuple[LoopResult, LoopResult]:
    """The bare DeepSpeed loop and the bare torch loop."""
    model = network(step_ms)
    plan = LoopPlan(
        model.factory, Signature(NUM_FEATURES, (), "binary"), dict(model.hyperparameters), BATCH // 2, 16, seconds,
        deepspeed_config(model, 2), num_processes=2,
    )
    return run_loop(plan), run_loop(replace(plan, config=None, num_processes=1, batch_size=BATCH))


def whole_path(steps_ms: list[int], *, quick: bool) -> dict[int, dict[str, float]]:
    """Rates, waits and starting times of the whole path."""
    os.environ.update(TRAIN_VARIABLES)
    ray.init(address="local", num_cpus=8, include_dashboard=True, dashboard_host="127.0.0.1", log_to_driver=False)
    found = {}
    try:
        with tempfile.TemporaryDirectory() as home:
            settings = load_settings({"MILLRACE_HOME": home}, in_job=False)
            rows = training_rows()
            table = TrainingTable.write(Lake.open(settings), "bench.rows", rows, rows.feature_names, "bench")
            for ms in steps_ms:
                model = replace(network(ms), epochs=2) if quick else network(ms)
                told: list[tuple[float, EpochReport]] = []
                started_s = time.perf_counter()
                train(project(model), model, table, settings, f"bench-{ms}", lambda r: told.append((time.time(), r)))  # noqa: B023
                took_s = time.perf_counter() - started_s
                later = [report for _, report in told[1:]]
                rate = statistics.median(r.rows_per_s for r in later)
                found[ms] = {
                    "rows_per_s": rate,
                    "data_wait_share": statistics.median(r.data_wait_share for r in later),
                    "checkpoint_stall_s": statistics.median(r.checkpoint_stall_s for r in later),
                    "whole_s": took_s,
                    "outside_epochs_s": took_s - sum(NUM_STEPS * BATCH / r.rows_per_s for _, r in told),
                }
    finally:
        ray.shutdown()
    return found


def training_rows() -> TrainingSet:
    random = np.random.default_rng(5)
    num_rows = NUM_STEPS * BATCH
    names = tuple(f"x{i}" for i in range(NUM_FEATURES))
    frame = pd.DataFrame(random.normal(size=(num_rows, NUM_FEATURES)).astype(np.float32), columns=list(names))
    frame["label"] = (frame["x0"] + random.normal(size=num_rows) > 0).astype(int)
    return TrainingSet(frame, names, (), {})


def project(model: TorchModel) -> Project:
    day = datetime(2020, 1, 1, tzinfo=UTC)
    fields = (Field("id", "int64"), Field("at", "timestamp"), Field("late", "int64"))
    source = Source("rows", CsvFiles("none.csv"), fields, key=("id",), event_timestamp="at")
    return Project(
        name="bench", sources=(source,), views=(), cases=Cases(source, "id", "at"), label=Label(source, "late"),
        model=model, baseline=model, timeline=Timeline(day, day, day, day),
    )


def show(found: list[dict[str, object]]) -> None:
    table = Table(
        "bare step", "whole path rows/s", "bare DeepSpeed", "bare torch", "ratio", "waiting for data", "outside epochs"
    )
    for row in found:
        bare, plain = row["deepspeed"], row["torch"]
        table.add_row(
            f"{bare['step_s'] * 1e3:.1f} ms", f"{row['rows_per_s']:,.0f}", f"{bare['rows_per_s']:,.0f}",  # type: ignore[index]
            f"{plain['rows_per_s']:,.0f}", f"{row['ratio']:.2f}", f"{row['data_wait_share']:.1%}",  # type: ignore[index]
            f"{row['outside_epochs_s']:.0f} s",
        )
    Console().print(table)


def write(found: list[dict[str, object]], *, quick: bool) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = "train-quick" if quick else "train"
    record = {
        "subject": "train", "batch_size": BATCH, "features": NUM_FEATURES, "workers": 2, "rows": found,
        "hardware": {"cpus": os.cpu_count()}, "provenance": code_state(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [row["deepspeed"]["step_s"] * 1e3 for row in found]  # type: ignore[index]
    axes.plot(steps, [row["ratio"] for row in found], marker="o", label="of the bare DeepSpeed loop")
    axes.plot(
        steps, [row["rows_per_s"] / row["torch"]["rows_per_s"] for row in found], marker="s",  # type: ignore[operator,index]
        label="of the bare torch loop",
    )
    axes.axhline(TARGET, linestyle="--", color="grey", label="target from 100 ms")
    axes.set(xscale="log", xlabel="time of a bare DeepSpeed step (ms)", ylabel="share of samples/s", ylim=(0, 1.3))
    axes.legend()
    figure.savefig(RESULTS / f"{name}.svg")


if __name__ == "__main__":
    main()
