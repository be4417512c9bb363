"""Is the default network at least as good as trees on the future? `make bench-model` (QUICK=1: the tiny project).

Trains the project's model on its training stretch and scores the held-out months after it, beside scikit-learn's
HistGradientBoosting on the very same rows: as the project's baseline declares it, and as scikit-learn sets it itself.
The network is trained with its declared settings in one process (the whole path through Ray Train is `bench-train`),
once per seed; differences are paired over resampled rows. `--home` reads the rows of a home where the loop has
ingested and backfilled. The settings were chosen on folds inside the training stretch, never on the held-out months.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.evaluation.bootstrap import paired_difference, with_intervals
from app.features.training_set import TrainingSet
from app.foundation.import_path import resolve
from app.models.artefact import ONNX, estimator_matrix, onnx_session, run_onnx
from app.models.export import save_torch
from app.models.signature import Signature
from app.models.transform import Transform
from app.pipeline.fit import first_training_rows, first_validation_rows
from app.pipeline.session import Session
from app.spec.models import SklearnModel, Task, TorchModel
from app.training.arrays import inputs_of, target_of, to_arrays
from app.training.estimator import fit_estimator, vocabularies
from app.training.steps import train_in_process
from benchmarks.project_rows import run_on_rows
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
METRICS = ("roc_auc", "log_loss")
NUM_RESAMPLES = 500
Scores = tuple[np.ndarray, float]  # scores of the held-out rows, seconds of training


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    run_on_rows(__doc__, "model", measure)


def measure(session: Session, subject: str, *, quick: bool) -> None:
    """Every model on the same rows."""
    past, future = first_training_rows(session), first_validation_rows(session)
    model, baseline, task = session.project.model, session.project.baseline, session.project.label.task
    assert isinstance(model, TorchModel) and task == "binary", "the benchmark is of a network for binary labels"
    bare = replace(baseline, hyperparameters={"random_state": 0})
    scored: dict[str, Scores] = {
        "trees, the baseline": trees(baseline, past, future),
        "trees, scikit-learn's settings": trees(bare, past, future),
    }
    for seed in (7,) if quick else (7, 8, 9):
        scored[f"network, seed {seed}"] = network(replace(model, seed=seed), task, past, future)
    label = future.frame["label"].to_numpy(dtype=np.float64)
    rows = {name: judged(label, scores, seconds, scored) for name, (scores, seconds) in scored.items()}
    latency = serving_latency(model, task, past, future)
    report(subject, session.project_ref, rows, latency, past, future)


def trees(model: SklearnModel, past: TrainingSet, future: TrainingSet) -> Scores:
    """A scikit-learn classifier."""
    inputs = inputs_of(model, past)
    started_s = time.perf_counter()
    words = vocabularies(past.frame, inputs)
    fitted = fit_estimator(model, past.frame, inputs, words)
    train_s = time.perf_counter() - started_s
    return fitted.predict_proba(estimator_matrix(future.frame, inputs, words))[:, 1], train_s


def network(model: TorchModel, task: Task, past: TrainingSet, future: TrainingSet) -> Scores:
    """The declared network."""
    started_s = time.perf_counter()
    transform, module = trained(model, task, past)
    train_s = time.perf_counter() - started_s
    numeric, codes = map(torch.from_numpy, transform.apply(future.frame))
    with torch.no_grad():
        return torch.sigmoid(module.eval()(numeric, codes)).double().numpy(), train_s


def trained(model: TorchModel, task: Task, past: TrainingSet) -> tuple[Transform, torch.nn.Module]:
    """Transform and module after the declared epochs on one thread."""
    inputs = inputs_of(model, past)
    transform, target = Transform.fit(past.frame, inputs.numeric, inputs.categorical), target_of(past.frame, task)
    torch.manual_seed(model.seed)
    module = resolve(model.factory)(Signature.of(transform, task), **model.hyperparameters)
    train_in_process(module, to_arrays(transform, past.frame, target), model, task, model.epochs, model.seed)
    return transform, module


def judged(label: np.ndarray, scores: np.ndarray, train_s: float, scored: dict[str, Scores]) -> dict[str, Any]:
    """Metrics with intervals, and how much better than the baseline on the same rows."""
    measured = with_intervals(label, scores, METRICS, NUM_RESAMPLES)
    peer = scored["trees, the baseline"][0]
    better = {m: paired_difference(label, scores, peer, m, NUM_RESAMPLES) for m in METRICS}
    return {"metrics": measured, "better_than_baseline": better, "train_s": train_s}


def serving_latency(model: TorchModel, task: Task, past: TrainingSet, future: TrainingSet) -> dict[str, float]:
    """Median microseconds a row of the exported network alone, one row at a time and 256 at once."""
    with tempfile.TemporaryDirectory() as folder:
        transform, module = trained(replace(model, epochs=1), task, past)
        save_torch(Path(folder) / "m", module, transform, task, inputs_of(model, past), past.frame, {})
        session = onnx_session(Path(folder) / "m" / ONNX)
        numeric, codes = transform.apply(future.frame.head(256))
        one = median_us(partial(run_onnx, session, numeric[:1], codes[:1]))
        many = median_us(partial(run_onnx, session, numeric, codes))
        return {"one_row_us": one, "row_of_256_us": many / len(numeric)}


def median_us(action: Callable[[], Any], times: int = 300) -> float:
    """Median microseconds of an action."""
    taken = []
    for _ in range(times):
        started_s = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started_s)
    return float(np.median(taken)) * 1e6


def report(
    subject: str, project: str, rows: dict[str, Any], latency: dict[str, float], past: TrainingSet, future: TrainingSet
) -> None:
    """Table, files and the last line."""
    table = Table("model", "AUC", "log loss", "AUC better by", "log loss better by", "training s")
    for name, row in rows.items():
        cells = [interval(row["metrics"][m]) for m in METRICS]
        better = [interval(row["better_than_baseline"][m], sign=True) for m in METRICS]
        table.add_row(name, *cells, *better, f"{row['train_s']:.1f}")
    Console(width=150).print(table)
    print(f"served from ONNX: {latency['one_row_us']:.0f} µs a row alone, {latency['row_of_256_us']:.1f} µs of 256")
    networks = [row["metrics"]["roc_auc"][0] for name, row in rows.items() if name.startswith("network")]
    peers = [row["metrics"]["roc_auc"][0] for name, row in rows.items() if name.startswith("trees")]
    ratio = float(np.mean(networks)) / max(peers)
    record = {
        "subject": "model", "project": project, "ratio": ratio,
        "rows": {"train": len(past.frame), "held_out": len(future.frame)},
        "row_hash": {"train": past.manifest["row_hash"], "held_out": future.manifest["row_hash"]},
        "models": rows, "latency": latency, "hardware": {"cpus": os.cpu_count()}, "provenance": code_state(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    plot(rows, RESULTS / f"{subject}.svg")
    print(f"model ratio={ratio:.4f} target=1.00 auc={np.mean(networks):.4f} best_trees_auc={max(peers):.4f}")


def plot(rows: dict[str, Any], path: Path) -> None:
    """AUC of each model with its interval."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows.values())):
        value, low, high = row["metrics"]["roc_auc"]
        axes.errorbar([value], [place], xerr=[[value - low], [high - value]], fmt="o", capsize=3)
    axes.set_yticks(range(len(rows)), list(rows)[::-1])
    axes.set_xlabel("AUC on the held-out months, 95% intervals")
    figure.savefig(path)


def interval(found: tuple[float, float, float], sign: bool = False) -> str:
    """Value and 95% interval."""
    form = "+.4f" if sign else ".4f"
    value, low, high = (format(v, form) for v in found)
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()
