"""Online reads of 100 entities × 50 features from 5 views, on SQLite and on Redis, beside Feast's Python path.

`make bench-online` (QUICK=1: fewer reads). Three of the five views are windows: ours folds their tiles at each read,
Feast is given the finished values and looks them up. Both answer the same requests from the same machine, and the
answers are compared before anything is counted. The first reads warm caches and are left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.features.store import FeatureStore
from app.settings import load_settings
from benchmarks.online_project import NOW, PROJECT, SERVICE, SOURCES, VIEWS, rows
from benchmarks.peers import run_peer
from benchmarks.record import code_state
from tests.contract.redis_server import running_redis

ENTITIES_PER_READ = 100
WARM_UP = 50
TARGET_RATIO, TARGET_P99_MS = 10.0, 5.0
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    num_customers, events, num_reads = (500, 40, 200) if quick else (5_000, 100, 2_000)
    random = np.random.default_rng(0)
    requests = [
        random.choice(num_customers, ENTITIES_PER_READ, replace=False).tolist() for _ in range(num_reads + WARM_UP)
    ]
    times_ms: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_redis(folder) as redis_url:
            for store, url in (("sqlite", f"sqlite:///{folder}/online.db"), ("redis", redis_url)):
                ours = _our_store(folder / store, url, num_customers, events)
                everybody = _read(ours, list(range(num_customers)))
                times_ms[f"Millrace on {store}"] = _measure(ours, requests)
                files = _files(folder, everybody)
                feast = run_peer("feast", "online.py", _arguments(folder, store, redis_url, files, requests))
                _compare(everybody[:ENTITIES_PER_READ], feast["sample"])
                times_ms[f"Feast on {store}"] = np.array(feast["times_s"]) * 1_000
    _report(times_ms, quick, num_customers, events)


def _our_store(home: Path, url: str, num_customers: int, events: int) -> FeatureStore:
    settings = load_settings({"MILLRACE_HOME": str(home), "MILLRACE_ONLINE_URL": url})
    store = FeatureStore(PROJECT, settings)
    store.apply()
    for source in SOURCES:
        store.push_source(source, rows(source, num_customers, events), to="online")
    return store


def _read(store: FeatureStore, keys: list[int]) -> list[dict[str, Any]]:
    return store.get_online_features(SERVICE, [{"customer_id": key} for key in keys], at=NOW)


def _measure(store: FeatureStore, requests: list[list[int]]) -> np.ndarray:
    for keys in requests[:WARM_UP]:
        _read(store, keys)
    times_s = []
    for keys in requests[WARM_UP:]:
        started_s = time.perf_counter()
        _read(store, keys)
        times_s.append(time.perf_counter() - started_s)
    return np.array(times_s) * 1_000


def _files(folder: Path, everybody: list[dict[str, Any]]) -> dict[str, str]:
    """What Feast is given: our answer for every customer, a file for each view."""
    paths = {}
    for view in VIEWS:
        names = [field.name for field in view.feature_fields]
        frame = pd.DataFrame(everybody)[["customer_id", *names]].assign(event_timestamp=pd.Timestamp(NOW))
        paths[view.name] = str(folder / f"{view.name}.parquet")
        frame.to_parquet(paths[view.name])
    return paths


def _arguments(
    folder: Path, store: str, redis_url: str, files: dict[str, str], requests: list[list[int]]
) -> dict[str, Any]:
    address = redis_url.removeprefix("redis://").removesuffix("/0")
    sections = {
        "sqlite": {"type": "sqlite", "path": str(folder / "feast.db")},
        "redis": {"type": "redis", "connection_string": address},
    }
    return {
        "views": files, "folder": str(folder / f"feast_{store}"), "store": sections[store], "requests": requests,
        "num_warm_up": WARM_UP, "sample": list(range(ENTITIES_PER_READ)),
    }


def _compare(ours: list[dict[str, Any]], feast: dict[str, list[Any]]) -> None:
    """Raises: AssertionError: the two do not give the same values."""
    for name, values in feast.items():
        mine = [row[name] for row in ours]
        assert mine == [None if v != v else v for v in values], f"{name} differs from Feast's"


def _report(times_ms: dict[str, np.ndarray], quick: bool, num_customers: int, events: int) -> None:
    table = Table("store", "p50 ms", "p99 ms", "reads")
    for name, values in times_ms.items():
        table.add_row(name, f"{np.median(values):.2f}", f"{np.percentile(values, 99):.2f}", str(len(values)))
    Console().print(table)
    found = {
        name: {"p50": float(np.median(v)), "p99": float(np.percentile(v, 99)), "mean": float(v.mean()), "reads": len(v)}
        for name, v in times_ms.items()
    }
    ratios = {
        store: {q: found[f"Feast on {store}"][q] / found[f"Millrace on {store}"][q] for q in ("p50", "p99")}
        for store in ("sqlite", "redis")
    }
    record = {
        "subject": "online", "quick": quick, "entities": ENTITIES_PER_READ,
        "features": sum(len(view.feature_fields) for view in VIEWS), "views": len(VIEWS), "customers": num_customers,
        "events_per_customer": events, "target_p99_ms": TARGET_P99_MS, "target_ratio": TARGET_RATIO, "ratios": ratios,
        "times_ms": found,
        "hardware": {
            "cpus": os.cpu_count(), "machine": platform.machine(), "load_average": os.getloadavg(),
        },
        "versions": {"python": platform.python_version(), "feast": "0.67.0", "redis client": version("redis")},
        "provenance": code_state(),
    }
    RESULTS.mkdir(exist_ok=True)
    subject = "online-quick" if quick else "online"
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1) + "\n")
    _plot(times_ms, RESULTS / f"{subject}.svg")
    worst_p99 = max(of_system["p99"] for name, of_system in found.items() if name.startswith("Millrace"))
    worst_ratio = min(of_store["p50"] for of_store in ratios.values())
    print(
        f"online ratio={worst_ratio:.1f} target={TARGET_RATIO:.1f} p99_ms={worst_p99:.2f} "
        f"p99_target_ms={TARGET_P99_MS:.1f}"
    )


def _plot(times_ms: dict[str, np.ndarray], path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in times_ms.items():
        axes.plot(np.sort(values), np.linspace(0, 1, len(values)), label=name)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for 100 entities × 50 features")
    axes.set_ylabel("share of reads")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
