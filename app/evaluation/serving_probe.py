"""Tries a sealed folder as a replica would: in a fresh process, row by row.

`python -m app.evaluation.serving_probe FOLDER ROWS.parquet` prints what it found as JSON.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from app.errors import MillraceError, MissingColumnError
from app.evaluation.gates.verdict import ServingMeasure
from app.evaluation.metrics import Floats
from app.models.artefact import EXPORT_DIFFERENCE, ServableModel

NUM_ROWS = 100  # asked one by one
NUM_ROUNDS = 3  # the fastest answer to a row counts: what else the machine does is not the model's
TIMEOUT_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


def measure_serving(folder: Path, rows: pd.DataFrame, scores: Floats, inputs: tuple[str, ...]) -> ServingMeasure:
    """What a fresh process finds of `folder`.

    Args:
        folder: the sealed artefact.
        rows: frozen rows; some are asked one by one.
        scores: what the model was judged on for these rows [B].
        inputs: what the project gives a model, in order.
    """
    picked = np.unique(np.linspace(0, max(0, len(rows) - 1), min(NUM_ROWS, len(rows))).astype(int))
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "rows.parquet"
        rows.iloc[picked][list(inputs)].reset_index(drop=True).to_parquet(given)
        found = _probe_apart(folder, given)
    if isinstance(found, str):
        return ServingMeasure(problem=found)
    answered = np.array(found.pop("scores"), dtype=np.float64)
    difference = float(np.abs(answered - scores[picked]).max(initial=0.0))
    if math.isnan(difference):
        found["schema_problems"].append("gave a score that is not a number")
        difference = math.inf
    foreign = sorted(set(found.pop("feature_names")) ^ set(inputs))
    problems = (*found.pop("schema_problems"), *(f"input {name} is not both given and taken" for name in foreign))
    return ServingMeasure(schema_problems=problems, score_difference=difference, num_rows=len(picked), **found)


def probe(folder: Path, rows: pd.DataFrame) -> dict[str, Any]:
    """Loads and asks; memory is what this process holds more than before it loaded."""
    process = psutil.Process()
    before, started_s = process.memory_info().rss, time.perf_counter()
    model = ServableModel.load(folder)
    load_s = time.perf_counter() - started_s
    problems = _schema_problems(model, rows)
    scores = np.zeros(len(rows))
    taken_s = np.full((NUM_ROUNDS, len(rows)), np.inf)
    for each_round in taken_s:
        for index in range(len(rows)):
            row = rows.iloc[index : index + 1]
            asked_s = time.perf_counter()
            scores[index] = model.predict(row)[0]
            each_round[index] = time.perf_counter() - asked_s
    p50, p99 = np.quantile(1_000 * taken_s.min(axis=0), [0.5, 0.99]) if len(rows) else (0.0, 0.0)
    return {
        "schema_problems": problems,
        "feature_names": list(model.feature_names),
        "scores": scores.tolist(),
        "export_difference": model.metadata.get(EXPORT_DIFFERENCE),
        "load_s": load_s,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "memory_bytes": max(0, process.memory_info().rss - before),
    }


def _schema_problems(model: ServableModel, rows: pd.DataFrame) -> list[str]:
    problems = []
    asked = rows if len(rows) else pd.DataFrame({name: [None] for name in model.feature_names})
    try:
        empty = model.predict(pd.DataFrame([dict.fromkeys(model.feature_names)]))
        if not np.isfinite(empty).all() or len(empty) != 1:
            problems.append(f"a row of nulls scored {empty.tolist()}")
        scores = model.predict(asked)
        if len(scores) != len(asked):
            problems.append(f"{len(asked)} rows got {len(scores)} scores")
        if model.task == "binary" and len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
            problems.append(f"probabilities lie from {scores.min():g} to {scores.max():g}")
    except (MillraceError, ValueError, TypeError, KeyError) as error:
        problems.append(f"raised {type(error).__name__}: {str(error)[:200]}")
    try:
        model.predict(asked.drop(columns=model.feature_names[0]))
        problems.append(f"answered rows that lack {model.feature_names[0]}")
    except MissingColumnError:
        pass
    return problems


def _probe_apart(folder: Path, rows: Path) -> dict[str, Any] | str:
    """What the other process printed, or why there is nothing."""
    command = [sys.executable, "-m", "app.evaluation.serving_probe", str(folder), str(rows)]
    one_cpu = {**os.environ, "OMP_NUM_THREADS": "1"}  # as Ray gives a replica of one CPU
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=one_cpu, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not load and answer within {TIMEOUT_S:g} s"
    if done.returncode:
        return f"does not load: {done.stderr.strip().splitlines()[-1][:500] if done.stderr.strip() else 'no message'}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]), pd.read_parquet(sys.argv[2]))))
