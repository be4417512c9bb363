"""What chance does to each gate of the flights: another seed, another fortnight. `make bench-margins` (QUICK=1: tiny).

The declared network learns January to April with three seeds; each is judged against each other as challenger and
champion, and beside the declared baseline, on the fortnights of May and June. None of them is better than another, so
a gate that refuses one refuses what is sound. Printed and written: for each gate its bound beside the value nearest
to it or furthest beyond. Months that the loop validates or replays on are not looked at. `--home` reads the rows of a
home where the loop has ingested and backfilled.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from app.evaluation.gates import GateResult
from app.evaluation.validate import validate
from app.features.training_set import TrainingSet
from app.models.artefact import ServableModel
from app.models.export import save_torch
from app.pipeline.history import labelled_rows
from app.pipeline.session import Session
from app.spec.gates import ServingGate
from app.spec.models import TorchModel
from app.training.arrays import inputs_of
from app.training.estimator import train_estimator
from benchmarks.bench_model import trained
from benchmarks.project_rows import run_on_rows
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
SEEDS = (7, 8, 9)
LEARNED_SHARE = 2 / 3  # of the training stretch: January to April
FORTNIGHT = pd.Timedelta(days=14)


def main() -> None:
    """Measures, prints the table, writes JSON."""
    run_on_rows(__doc__, "margins", measure)


def measure(session: Session, subject: str, *, quick: bool) -> None:
    """Judges sound models by the project's gates on rows that none of them learned from."""
    timeline = session.project.timeline
    middle = timeline.train_start + LEARNED_SHARE * (timeline.train_end - timeline.train_start)
    past = labelled_rows(session, [timeline.train_start, middle], middle)
    future = labelled_rows(session, [middle, timeline.train_end], timeline.train_end)
    with tempfile.TemporaryDirectory() as folder:
        folders = save_models(session, past, Path(folder))
        rounds = list(judged(session, folders, future))
    record = {
        "subject": subject, "seeds": SEEDS, "rows": {"learned": len(past.frame), "judged": len(future.frame)},
        "judgements": len(rounds), "gates": nearest(rounds), "hardware": {"cpus": os.cpu_count()},
        "provenance": code_state(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    show(record)


def save_models(session: Session, past: TrainingSet, folder: Path) -> dict[str, Path]:
    """The network of each seed, and the baseline, as they would be registered."""
    model, task = session.project.model, session.project.label.task
    assert isinstance(model, TorchModel), "the benchmark is of a network"
    train_estimator(session.project.baseline, task, past, folder / "baseline")
    inputs, sample = inputs_of(model, past), past.frame.head(1_000)
    for seed in SEEDS:
        transform, module = trained(replace(model, seed=seed), task, past)
        save_torch(folder / str(seed), module, transform, task, inputs, sample, {})
    return {path.name: path for path in folder.iterdir()}


def judged(
    session: Session, folders: dict[str, Path], future: TrainingSet
) -> Iterator[tuple[str, str, pd.Timestamp, tuple[GateResult, ...]]]:
    """Each pair of seeds on each fortnight: challenger, champion, the fortnight's first moment, results."""
    gates = tuple(gate for gate in session.project.gates if not isinstance(gate, ServingGate))
    project = replace(session.project, gates=gates)
    loaded = {name: ServableModel.load(path) for name, path in folders.items()}
    asked = pd.to_datetime(future.frame[project.cases.prediction_timestamp], utc=True)
    for first in pd.date_range(asked.min(), max(asked.min(), asked.max() - FORTNIGHT), freq=FORTNIGHT):
        inside = (asked >= first) & (asked < first + FORTNIGHT)
        rows = replace(future, frame=future.frame[inside].reset_index(drop=True))
        for challenger, champion in permutations(map(str, SEEDS), 2):
            found = validate(
                project, folders[challenger], rows, champion=loaded[champion], baseline=loaded["baseline"]
            )
            yield challenger, champion, first, found.verdict.results


def nearest(rounds: list[tuple[str, str, pd.Timestamp, tuple[GateResult, ...]]]) -> dict[str, dict[str, Any]]:
    """By gate: bound, smallest and largest value, the 95% bound of chance, and how often it refused a sound model."""
    by_gate: dict[str, list[GateResult]] = {}
    for *_, results in rounds:
        for result in results:
            by_gate.setdefault(result.gate, []).append(result)
    found = {}
    for gate, results in by_gate.items():
        values = pd.Series([r.value for r in results if r.value is not None], dtype=float)
        found[gate] = {
            "bounds": sorted({r.bound for r in results}), "judged": len(values),
            "smallest": values.min(), "percentile_5": values.quantile(0.05), "median": values.median(),
            "percentile_95": values.quantile(0.95), "largest": values.max(),
            "refused": sum(r.passed is False for r in results),
            "refusals": sorted({r.reason for r in results if r.passed is False})[:5],
        }
    return found


def show(record: dict[str, Any]) -> None:
    table = Table("gate", "bound", "smallest", "median", "largest", "judged", "refused")
    for gate, row in record["gates"].items():
        bounds, values = ", ".join(f"{b:g}" for b in row["bounds"]), [row["smallest"], row["median"], row["largest"]]
        table.add_row(gate, bounds, *(f"{v:.4f}" for v in values), str(row["judged"]), str(row["refused"]))
    Console(width=150).print(table)
    refused = sum(row["refused"] for row in record["gates"].values())
    print(f"margins judgements={record['judgements']} refused={refused} target=0")


if __name__ == "__main__":
    main()
