"""A run as its steps record it: sixteen weeks, drift in the middle, two retrainings, one bad candidate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.console.report import ReportData

START = datetime(2013, 9, 1, 4, tzinfo=UTC)
WEEK = timedelta(days=7)
FEATURES = ("temperature", "wind_speed", "visibility", "pressure", "carrier_delay_mean_7d", "route_delay_mean_28d",
            "aircraft_last_delay", "origin_delay_mean_6h", "origin_count_6h", "distance", "plane_age", "seats",
            "humidity", "hour", "weekday", "carrier", "origin", "destination")  # fmt: skip


def metrics(auc: float, loss: float, ece: float, half: float = 0.012) -> dict[str, Any]:
    values = {"roc_auc": auc, "log_loss": loss, "ece": ece}
    return {name: {"value": v, "low": v - half, "high": v + half} for name, v in values.items()}


def gate(name: str, passed: bool | None, reason: str, part: str | None = None) -> dict[str, Any]:
    value = None if passed is None else 0.76
    return {"gate": name, "slice": part, "passed": passed, "value": value, "bound": 0.7, "num_rows": 55_102,
            "reason": reason}  # fmt: skip


GATES = {
    "passed": True,
    "reason": "all 2 judged gates passed",
    "results": [
        gate("better than chance", True, "roc_auc 0.7641, ≥ 0.7 required"),
        gate("no worse by origin", True, "log_loss better than champion by +0.0041 [-0.0010, +0.0090]", "origin=JFK"),
        gate("no worse than champion", None, "nothing to compare with yet"),
    ],
}


def rollout(version: str, start: datetime, end: datetime, phase: str, reason: str) -> dict[str, Any]:
    steps = [("Pending", start), ("Progressing", start + (end - start) / 4), (phase, end)]
    return {"rollout": f"r{version}", "candidate": version, "phase": phase, "reason": reason,
            "from": start.isoformat(), "to": end.isoformat(),
            "transitions": [{"to": p, "reason": "step done", "at": at.isoformat()} for p, at in steps]}  # fmt: skip


def retraining(at: datetime, champion: str, version: str | None, trigger: str) -> dict[str, Any]:
    reason = GATES["reason"] if version else "no worse than champion: log_loss better by -0.0120 [-0.0200, -0.0040]"
    return {"at": at.isoformat(), "trigger": trigger, "champion": champion, "version": version, "reason": reason,
            "metrics": {"challenger": metrics(0.75, 0.41, 0.02)}, "gates": GATES, "train_rows": 198_210,
            "frozen_rows": 12_020}  # fmt: skip


def drift(number: int, random: np.random.Generator) -> dict[str, Any]:
    moved, broken = number in (3, 4, 13, 14), number == 9
    features = []
    for i, name in enumerate((*FEATURES, "score")):
        psi = float(random.gamma(1.2, 0.05) + (random.gamma(2, 0.35) if moved and i < 8 else 0))
        bad = broken and name == "pressure"
        features.append({"feature": name, "psi": psi, "p": 0.0001, "drifted": psi > 0.5, "broken": bad})
    reason = "broken data: pressure null 2% → 61%" if broken else "39% of features moved" if moved else "4% moved"
    return {"num_rows": 6_300, "drifted": moved, "broken": broken, "score_psi": 0.1, "features": features,
            "reason": reason}  # fmt: skip


def windows() -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    happened: dict[int, dict[str, Any]] = {
        4: {"retrain": retraining(START + 5 * WEEK, "1", "2", "drift in 2 windows in a row")},
        5: {"rollouts": [rollout("2", START + 5 * WEEK, START + 5.5 * WEEK, "Healthy", "every step passed")]},
        10: {"rollouts": [rollout("3", START + 10.3 * WEEK, START + 10.6 * WEEK, "Aborted",
                                  "analysis failed: log_loss 0.41 > 0.18 on 151 rows")]},
        14: {"retrain": retraining(START + 15 * WEEK, "2", None, "drift in 2 windows in a row")},
    }  # fmt: skip
    shares = {5: {"1": 3_500, "2": 2_800}, 10: {"2": 6_150, "3": 150}}
    outputs = []
    for number in range(17):
        versions = shares.get(number, {"1" if number < 5 else "2": 6_300})
        rows = sum(versions.values())
        outputs.append(
            {
                "start": (START + number * WEEK).isoformat(),
                "end": (START + (number + 1) * WEEK).isoformat(),
                "champion": "1",
                "drift": drift(number, random),
                "performance": {
                    "num_answers": rows,
                    "num_labels": int(rows * 0.97),
                    "coverage": 0.97,
                    "metrics": metrics(0.74, 0.4, 0.03),
                    "rows_by_version": versions,
                },
                "rollouts": [],
                "retrain": None,
                "decision": "nothing persisted",
                "requests": {"sent": (number + 1) * 126, "failed": 0, "fallbacks": 2},
                **happened.get(number, {}),
            }
        )
    return outputs


def compare(name: str, rows: int, auc: float, gain: float, half: float) -> dict[str, Any]:
    loss = 0.3 + (0.8 - auc)
    return {"name": name, "rows": rows, "label_mean": 0.21, "loop": metrics(auc + gain, loss - gain, 0.024, half),
            "frozen": metrics(auc, loss, 0.041, half), "versions": {"1": rows // 3, "2": rows - rows // 3},
            "gain": {"metric": "roc_auc", "value": gain, "low": gain - half, "high": gain + half}}  # fmt: skip


def sample_data() -> ReportData:
    random = np.random.default_rng(3)
    closed = windows()
    by_window = [
        compare(o["start"][:10], 6_100, 0.735 + 0.02 * np.sin(i / 2.2) + random.normal(0, 0.006),
                0.0 if i < 5 else random.normal(0.008, 0.004), 0.014)
        for i, o in enumerate(closed)
    ]  # fmt: skip
    months = [compare(f"2013-{month:02d}", 26_000, 0.73, gain, 0.006)
              for month, gain in ((9, 0.0001), (10, 0.004), (11, 0.011), (12, 0.009))]  # fmt: skip
    return ReportData(
        project="flights",
        description="Will this flight arrive 15 or more minutes late? New York, 2013.",
        run_id="flights-20260101-120000-abc123",
        task="binary",
        ingest={"sources": {
            "flights": {"rows": 336_776, "quarantined": 0, "snapshot_id": 81724912},
            "weather": {"rows": 26_115, "quarantined": 3, "snapshot_id": None}}},
        sweep={"best": {"learning_rate": 0.001}, "trials": [
            {"parameters": {"learning_rate": 0.00123, "width": 128}, "mean": 0.4432, "spread": 0.011},
            {"parameters": {"learning_rate": 0.01, "width": 64}, "mean": 0.4519, "spread": 0.014}]},
        train={"version": "1", "gates": GATES,
               "metrics": {"challenger": metrics(0.764, 0.52, 0.02), "baseline": metrics(0.761, 0.53, 0.02)},
               "train": {"rows": 155_000, "row_hash": "a" * 64}, "frozen": {"rows": 55_102, "row_hash": "b" * 64}},
        windows=closed,
        assessment={"windows": by_window, "months": months, "whole": compare("whole", 104_211, 0.73, 0.006, 0.0021)},
        decisions=[{"event_at": "2013-10-06 04:00", "actor": "monitor", "decision": "drift",
                    "reason": "drift in 2 windows in a row"}],
        step_durations_s=[("ingest", 18.2), ("backfill", 31.0), ("sweep", 44.5), ("train", 61.9), ("deploy", 14.1),
                          ("live replay with retraining", 262.4), ("assess", 6.2)],
        provenance={"code_commit": "0123abcd" * 5, "code_dirty": False, "lock_sha256": "c" * 64},
        places={"MLflow": "mlflow ui --backend-store-uri sqlite:///home/mlflow.db"},
    )  # fmt: skip


@pytest.fixture
def sample() -> ReportData:
    return sample_data()
