"""What moves in ordinary weeks of January to August: where the flights' monitoring thresholds come from.

`make bench-thresholds`, after `make demo` (it reads the rows that the demo joined). Only weeks before the replay are
looked at, so that what fires from September on is found and not fitted. Three backtests, each in the past's own order:
profiles of a week against the eight weeks before; log loss of a week against two months of validation; AUC of a
fortnight.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score

from app.monitoring.verdict import SCORE, judge_window
from app.profiles import merge_profiles, profile_table, summary
from app.project import PROJECT
from app.settings import load_settings
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
OBSERVED = ("pressure", "visib", "temp")  # columns that a station sends or does not
WEEK = pd.Timedelta(days=7)
REFERENCE_WEEKS = 8
BACKTESTS = (("2013-03", "2013-05"), ("2013-04", "2013-06"), ("2013-05", "2013-07"))  # trained before, validated until


def main() -> None:
    """Measures, prints each threshold beside what was seen, writes JSON."""
    rows, names, categorical = joined_rows()
    shares = drift_shares(rows, names)
    losses = list(loss_backtests(rows, names, categorical))
    nulls = rows[names].isna().groupby(rows["at"].dt.isocalendar().week).mean()
    seen: dict[str, Any] = {
        "share_of_features_moved": {
            "threshold": PROJECT.drift.min_share,
            "worst_two_weeks_in_a_row": max(map(min, pairwise(shares))),
            "percentile_90": float(np.quantile(shares, 0.9)),
            "weeks": shares,
        },
        "log_loss_increase": {
            "threshold": PROJECT.retrain.max_log_loss_increase,
            "worst_two_weeks_in_a_row": max(max(map(min, pairwise(b["increase"]))) for b in losses),
            "backtests": losses,
        },
        "auc_of_a_fortnight": {
            "threshold": next(g.threshold for g in PROJECT.gates if g.metric == "roc_auc" and g.kind == "at_least"),
            "worst": min(min(b["auc"]) for b in losses),
        },
        "null_rate_increase": {
            "threshold": PROJECT.drift.max_null_rate_increase,
            "worst": {name: float(nulls[name].max() - nulls[name].median()) for name in OBSERVED},
        },
    }
    table = Table("what", "threshold", "worst before September")
    for name, found in seen.items():
        worst = found.get("worst_two_weeks_in_a_row", found.get("worst"))
        table.add_row(name, f"{found['threshold']:g}", json.dumps(worst))
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    record = {"subject": "thresholds", "seen": seen, "hardware": {"cpus": os.cpu_count()}, "provenance": code_state()}
    (RESULTS / "thresholds.json").write_text(json.dumps(record, indent=1) + "\n")
    ratio = PROJECT.drift.min_share / max(map(min, pairwise(shares)))
    print(f"thresholds ratio={ratio:.2f} target=1.00 crossed={shares_crossed(shares)}")


def joined_rows() -> tuple[pd.DataFrame, list[str], list[str]]:
    """Rows of January to August with `at`, names of the inputs and of the categorical ones."""
    end = pd.Timestamp(PROJECT.timeline.validation_end)
    folders = sorted((load_settings().home / "training_sets").glob(f"{PROJECT.name}-*"))
    if not folders:
        sys.exit("no joined rows in this home: run `make demo` first.")
    records = [json.loads(path.read_text()) for path in sorted(folders[-1].glob("*.json"))]
    rows = pd.concat([pd.read_parquet(path) for path in sorted(folders[-1].glob("*.parquet"))], ignore_index=True)
    rows = rows.assign(at=pd.to_datetime(rows[PROJECT.cases.prediction_timestamp], utc=True)).sort_values("at")
    return rows[rows["at"] < end].reset_index(drop=True), records[0]["feature_names"], records[0]["categorical"]


def drift_shares(rows: pd.DataFrame, names: list[str]) -> list[float]:
    """Share of features that moved in each week, against the eight weeks before it."""
    profiles = [
        profile_table(pa.Table.from_pandas(week[names], preserve_index=False)) for _, week in weeks(rows, WEEK)
    ]
    shares = []
    for i in range(REFERENCE_WEEKS, len(profiles)):
        reference = summary(merge_profiles(profiles[i - REFERENCE_WEEKS : i]))
        verdict = judge_window(reference, summary(profiles[i]), PROJECT.drift)
        inputs = [f for f in verdict.features if f.feature != SCORE]
        shares.append(sum(f.drifted for f in inputs) / len(inputs))
    return shares


def loss_backtests(rows: pd.DataFrame, names: list[str], categorical: list[str]) -> Iterator[dict[str, Any]]:
    """Log loss of each later week less that of the two validation months, and AUC of each fortnight."""
    inputs = rows[names].copy()
    for name in categorical:
        inputs[name] = inputs[name].astype("category").cat.codes
    inputs, label, at = inputs.astype(float), rows["label"].to_numpy(dtype=int), rows["at"]
    for trained_before, validated_until in BACKTESTS:
        past = at < pd.Timestamp(trained_before, tz="UTC")
        later = at >= pd.Timestamp(validated_until, tz="UTC")
        model = HistGradientBoostingClassifier(min_samples_leaf=50, random_state=0).fit(inputs[past], label[past])
        score = model.predict_proba(inputs)[:, 1]
        expected = log_loss(label[~past & ~later], score[~past & ~later])
        yield {
            "trained_before": trained_before,
            "validated_until": validated_until,
            "increase": [
                float(log_loss(label[week.index], score[week.index]) - expected) for _, week in weeks(rows[later], WEEK)
            ],
            "auc": [
                float(roc_auc_score(label[part.index], score[part.index])) for _, part in weeks(rows[later], 2 * WEEK)
            ],
        }


def weeks(rows: pd.DataFrame, length: pd.Timedelta) -> Iterator[tuple[int, pd.DataFrame]]:
    """Whole stretches of `length` in order; a shorter rest is left out."""
    number = (rows["at"] - rows["at"].min().normalize()) // length
    whole = int((rows["at"].max() - rows["at"].min().normalize()) // length)
    yield from ((int(k), part) for k, part in rows.groupby(number) if int(k) < whole)


def shares_crossed(shares: list[float]) -> str:
    """How many single weeks reach the threshold, as `n/weeks`."""
    return f"{sum(s >= PROJECT.drift.min_share for s in shares)}/{len(shares)}"


if __name__ == "__main__":
    main()
