"""The point-in-time join beside Feast and DuckDB: `make bench-pit_join` (QUICK=1: small sizes).

Three parts, each through `get_historical_features` on a real view table with Ray already up:

a. 100k × 1M rows, 10k keys, frame in, frame out; peers: Feast with its default (dask) and its DuckDB store, on one file
   of the same rows. All answers are compared with DuckDB's ASOF join of the same rows.
b. 1M × 5M rows, 10k keys, read from disk; peer: DuckDB's ASOF join on the very files of our table, on the same cores.
   What bucketing cost at write is reported apart, beside a plain Parquet file of the same rows.
c. Four sizes up to 10M × 100M rows, 1M keys: the spine is a Ray Dataset and stays in the cluster; time and the largest
   resident memory of a worker. `--scale-only` runs this part alone.

Times are medians; the first run of each system is not counted. In part c each size runs once, the two small ones after
a run that is not counted. The small sizes of `--quick` are joined in this process and show no worker.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from matplotlib.figure import Figure
from peers import run_peer
from pit_project import feature_rows, project, spine_rows
from rich.console import Console
from rich.table import Table

from app.features.store import FeatureStore
from app.features.view_tables import ensure_view_table
from app.settings import load_settings
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
CPUS = 2
REPEATS = 5
WRITE_ROWS = 5_000_000  # of one commit
SCALE = (  # spine rows, feature rows, keys, buckets
    (100_000, 1_000_000, 10_000, 8), (1_000_000, 5_000_000, 10_000, 8), (3_000_000, 30_000_000, 300_000, 32),
    (10_000_000, 100_000_000, 1_000_000, 64),
)
QUICK = ((10_000, 100_000, 1_000), (100_000, 2_000_000, 1_000))
WARM_ROWS = 10_000_000
MIB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale-only", action="store_true")
    parser.add_argument("--no-scale", action="store_true")
    parser.add_argument("--scale-sizes", type=int, nargs="*", help="only these sizes of part c, counted from 0")
    asked = parser.parse_args()
    name = "pit_join-quick" if asked.quick else "pit_join"
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    record: dict[str, Any] = json.loads(path.read_text()) if asked.scale_only and path.exists() else {}
    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False,
             object_store_memory=2_000 * MIB)
    with tempfile.TemporaryDirectory() as folder:
        if not asked.scale_only:
            small, large = QUICK if asked.quick else (SCALE[0][:3], SCALE[1][:3])
            record["feast"] = beside_feast(Path(folder, "a"), *small)
            record["duckdb"] = beside_duckdb(Path(folder, "b"), *large)
        if not asked.no_scale:
            sizes = [(s // 50, f // 50, k // 50, b) for s, f, k, b in SCALE[:3]] if asked.quick else SCALE
            measured = record.setdefault("scale", [None] * len(sizes))
            for number in range(len(sizes)) if asked.scale_sizes is None else asked.scale_sizes:
                measured[number] = at_scale(Path(folder, f"c{number}"), *sizes[number])
                print(json.dumps(measured[number]), flush=True)
    ray.shutdown()
    record.update(
        subject="pit_join", hardware={"cpus": CPUS, "machine_cpus": os.cpu_count(), "load": os.getloadavg()},
        provenance=code_state(),
    )
    path.write_text(json.dumps(record, indent=1) + "\n")
    if record.get("scale"):
        plot(record["scale"], RESULTS / f"{name}.svg")
    show(record)


def open_store(home: Path, num_buckets: int) -> tuple[FeatureStore, str]:
    """A store in a fresh home and its view's table."""
    declared = project(num_buckets)
    store = FeatureStore(declared, load_settings({"MILLRACE_HOME": str(home)}, in_job=False))
    store.apply()
    return store, ensure_view_table(store.lake, declared.name, declared.views[0], 1)


def timed(run: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """The median of several runs after one that is not counted, and the last result."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - started)
    return statistics.median(times), result


def peer(name: str, repeats: int = REPEATS, **arguments: Any) -> tuple[float, int]:
    """Median seconds and rows of a peer; its first run is not counted either."""
    found = run_peer(name, "pit_join.py", {**arguments, "repeats": repeats + 1})
    return statistics.median(found["times_s"][1:]), found["rows"]


def beside_feast(home: Path, num_spine: int, num_rows: int, num_keys: int) -> dict[str, Any]:
    """Part a."""
    store, table = open_store(home, 8)
    rows = feature_rows(num_rows, num_keys, 0)
    store.lake.append(table, rows, {})
    features, spine_file, answer = home / "features.parquet", home / "spine.parquet", str(home / "answer.parquet")
    pq.write_table(rows, features)
    spine = spine_rows(num_spine, num_keys).append_column("row", pa.array(range(num_spine)))
    pq.write_table(spine, spine_file)
    frame = spine.to_pandas()
    ours_s, ours = timed(lambda: store.get_historical_features(frame, ["readings:v"]).to_pandas())
    _, _ = peer("duckdb", 1, features=[str(features)], spine=str(spine_file), threads=CPUS, answer=answer)
    expected = pl.read_parquet(answer).sort("row")["v"]

    def wrong(found: pl.DataFrame) -> dict[str, int]:
        lost = num_spine - found["row"].n_unique()
        joined = pl.DataFrame({"row": range(num_spine), "v": expected}).join(found, on="row", how="inner")
        same = joined["v"].eq_missing(joined["v_right"].fill_nan(None))
        return {"lost": lost, "different": int((~same).sum())}

    result: dict[str, Any] = {
        "spine_rows": num_spine, "feature_rows": num_rows, "keys": num_keys, "ours_s": ours_s,
        "ours": wrong(pl.DataFrame({"row": ours["row"].to_numpy(), "v": ours["v"].to_numpy()})),
    }
    for kind, engine in (("file", "dask"), ("duckdb", "duckdb")):
        seconds, _ = peer(
            "feast", 2, features=str(features), spine=str(spine_file), folder=str(home / kind),
            store=engine, answer=answer,
        )
        result[f"feast_{kind}_s"] = seconds
        result[f"feast_{kind}"] = wrong(pl.read_parquet(answer).select("row", "v"))
        result[f"ratio_{kind}"] = seconds / ours_s
    return result


def beside_duckdb(home: Path, num_spine: int, num_rows: int, num_keys: int) -> dict[str, Any]:
    """Part b."""
    store, table = open_store(home, 8)
    rows = feature_rows(num_rows, num_keys, 0)
    started = time.perf_counter()
    store.lake.append(table, rows, {})
    bucketed_s = time.perf_counter() - started
    started = time.perf_counter()
    pq.write_table(rows, home / "plain.parquet", compression="zstd")
    plain_s = time.perf_counter() - started
    spine_file, answer = home / "spine.parquet", str(home / "answer.parquet")
    spine = spine_rows(num_spine, num_keys).append_column("row", pa.array(range(num_spine)))
    pq.write_table(spine, spine_file)
    files = [f.path.removeprefix("file://") for of in store.lake.scan_buckets(table).files.values() for f in of]
    ours_s, ours = timed(
        lambda: store.get_historical_features(pq.read_table(spine_file), ["readings:v"]).to_arrow(), 2 * REPEATS
    )
    duckdb_s, _ = peer(
        "duckdb", 2 * REPEATS, features=files, spine=str(spine_file), threads=CPUS, answer=answer
    )
    expected = pl.read_parquet(answer).sort("row")["v"]
    same = bool(pl.Series("v", ours["v"]).equals(expected, check_names=False))
    return {
        "spine_rows": num_spine, "feature_rows": num_rows, "keys": num_keys, "ours_s": ours_s, "duckdb_s": duckdb_s,
        "ratio": duckdb_s / ours_s, "equal": same, "write_bucketed_s": bucketed_s, "write_plain_s": plain_s,
    }


def at_scale(home: Path, num_spine: int, num_rows: int, num_keys: int, num_buckets: int) -> dict[str, Any]:
    """Part c, one size."""
    store, table = open_store(home, num_buckets)
    started = time.perf_counter()
    commits = max(num_rows // WRITE_ROWS, 1)
    for seed in range(commits):
        store.lake.append(table, feature_rows(num_rows // commits, num_keys, seed), {})
    write_s = time.perf_counter() - started
    per_file = min(num_spine, 1_000_000)
    for part in range(num_spine // per_file):
        pq.write_table(spine_rows(per_file, num_keys, 10_000 + part), home / f"spine-{part:03}.parquet")
    spine = ray.data.read_parquet(sorted(str(p) for p in home.glob("spine-*.parquet"))).materialize()
    if num_spine + num_rows <= WARM_ROWS:  # workers have started and imported what they need; later sizes find them so
        store.get_historical_features(spine, ["readings:v"])
    with WorkerMemory() as memory:
        started = time.perf_counter()
        found = store.get_historical_features(spine, ["readings:v"])
        blocks = found.to_dataset()
        seconds = time.perf_counter() - started
    known = int(blocks.count()) - int(sum(b["v"].null_count for b in blocks.iter_batches(batch_format="pyarrow")))
    return {
        "spine_rows": num_spine, "feature_rows": num_rows, "keys": num_keys, "buckets": num_buckets,
        "seconds": seconds, "us_per_row": seconds * 1e6 / (num_spine + num_rows), "write_s": write_s,
        "rows_out": blocks.count(), "rows_with_a_value": known, "worker_rss_mib": memory.peak_bytes / MIB,
    }


class WorkerMemory:
    """The largest resident memory, shared pages included, of any one Ray worker while it is open."""

    def __enter__(self) -> WorkerMemory:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::" in process.name() or any("ray::" in part for part in process.cmdline()[:1]):
                        self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
                except psutil.Error:
                    continue  # it ended between the listing and the look


def plot(scale: list[dict[str, Any]], path: Path) -> None:
    """Time and memory over the sizes."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [s["spine_rows"] + s["feature_rows"] for s in scale]
    left.loglog(rows, [s["seconds"] for s in scale], marker="o")
    left.set(xlabel="spine and feature rows", ylabel="seconds")
    right.semilogx(rows, [s["worker_rss_mib"] for s in scale], marker="o")
    right.axhline(3 * 1024, linestyle="--")
    right.set(xlabel="spine and feature rows", ylabel="MiB of the largest worker", ylim=(0, None))
    figure.savefig(path)


def show(record: dict[str, Any]) -> None:
    """Tables, then the ratio line."""
    table = Table("what", "ours", "peer", "ratio", "target", "rows lost, different")
    line = []
    if a := record.get("feast"):
        table.add_row("", "", "", "", "", f"ours {tuple(a['ours'].values())}")
        for kind, target in (("file", 10), ("duckdb", 4)):
            table.add_row(
                f"Feast, {kind} store", f"{a['ours_s']:.3f} s", f"{a[f'feast_{kind}_s']:.2f} s",
                f"{a[f'ratio_{kind}']:.1f}", str(target), str(tuple(a[f"feast_{kind}"].values())),
            )
            line.append(f"ratio_feast_{kind}={a[f'ratio_{kind}']:.1f} target={target}")
    if b := record.get("duckdb"):
        table.add_row("DuckDB ASOF", f"{b['ours_s']:.3f} s", f"{b['duckdb_s']:.3f} s", f"{b['ratio']:.2f}", "1",
                      "equal" if b["equal"] else "NOT EQUAL")
        wrote = (f"{b['write_bucketed_s']:.1f} s", f"{b['write_plain_s']:.1f} s")
        table.add_row("write in buckets, plain", *wrote, "", "", "")
        line.append(f"ratio={b['ratio']:.2f} target=1.00")
    for s in record.get("scale", []):
        table.add_row(f"{s['spine_rows']:,} × {s['feature_rows']:,}", f"{s['seconds']:.1f} s",
                      f"{s['worker_rss_mib']:.0f} MiB", f"{s['us_per_row']:.3f} µs/row", "", "")
    if len(record.get("scale", [])) == len(SCALE):
        growth = record["scale"][-1]["us_per_row"] / record["scale"][1]["us_per_row"]
        largest = max(s["worker_rss_mib"] for s in record["scale"])
        line.append(f"growth={growth:.2f} target=1.50 worker_mib={largest:.0f} target=3072")
    Console(width=140).print(table)
    print("pit_join", *line)


if __name__ == "__main__":
    main()
