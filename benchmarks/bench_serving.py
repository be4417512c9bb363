"""Requests a second with everything on, against a bare Ray Serve deployment, LitServe and BentoML.

The same network, bodies, machine and number of replicas; every request differs; nothing is cached. "Everything on":
tokens, a split that sends a tenth to a candidate, the prediction log, profiling and metrics. Bare Ray Serve runs as
Ray's guide says, and once more behind HAProxy as ours configures it. Each system is measured once it has had
`WARM_UP_S` of load; what it did in them is told beside it.

`make bench-serving` (QUICK=1: under a minute, without the peers). Needs wrk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import ray
from matplotlib.figure import Figure
from ray import serve
from ray.serve.config import HTTPOptions
from rich.console import Console
from rich.table import Table
from starlette.requests import Request

from app.assembly.application import deploy
from app.foundation.access import TokenRegistry
from app.foundation.state import StateDatabase
from app.monitoring.profiler import start_profiler
from app.serving.arrow_bodies import ARROW_STREAM, write_table
from app.serving.routing import RoutingTable, candidate_name
from app.settings import Settings, load_settings
from benchmarks.peers import HERE, peer_python
from benchmarks.peers.row_model import RowModel
from benchmarks.record import code_state
from benchmarks.serving_costs import measure_costs
from benchmarks.serving_load import Load, measure
from benchmarks.serving_project import DAY, NUM_CUSTOMERS, PROJECT, START, fill, rows, save_model
from benchmarks.serving_ray import serving_ray

RESULTS = Path(__file__).parent / "results"
REF = "benchmarks.serving_project:PROJECT"
CONNECTIONS = (1, 4, 16, 64)
COMPARED_AT = 16
NUM_REPLICAS = 2
NUM_BODIES = 2_000
WARM_UP_S = 6.0
BULK_ROWS = 20_000
# Ray as its own guide starts it, with one thread for HAProxy as ours has and without the niceness that starves it.
# Source: https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html (Ray 2.56 or later)
AS_RAY_SAYS = {
    name: None
    for name in (
        "RAY_SERVE_HAPROXY_BINARY_PATH", "RAY_SERVE_HAPROXY_METRICS_ENABLED", "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
        "RAY_SERVE_HAPROXY_RETRY_ON", "RAY_SERVE_HAPROXY_RETRIES",
    )
}
TARGETS = {"bare Ray Serve": 0.85, "LitServe": 1.5, "BentoML": 2.0}
BARE_BEHIND_OURS = "bare Ray Serve, our proxy"
Loads = dict[str, list[Load]]


@serve.deployment(name="bare")
class Bare:
    """What the network costs in Ray Serve with nothing around it."""

    def __init__(self, folder: str) -> None:
        self._model = RowModel(folder)

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        return {"scores": self._model.predict(body["rows"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    duration_s = 2.0 if options.quick else options.seconds
    loads: Loads = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        costs = measure_costs(folder / "costs", 1_000 if options.quick else 5_000)
        model = save_model(folder / "model")
        others: dict[str, float] = {}
        connections = (COMPARED_AT,) if options.quick else CONNECTIONS
        with _ray(folder / "plain", AS_RAY_SAYS) as settings:
            loads.update(_bare("bare Ray Serve", settings, model, connections, duration_s))
        with _ray(folder / "home") as settings:
            loads.update(_bare(BARE_BEHIND_OURS, settings, model, (COMPARED_AT,), duration_s))
            ours, others = _millrace(settings, connections, duration_s, options.quick)
            loads.update(ours)
        if not (options.quick or options.without_peers):
            loads.update(_litserve(model, connections, duration_s))
            loads.update(_bentoml(model, connections, duration_s))
    _report(loads, others, costs, options.quick)


@contextmanager
def _ray(home: Path, variables: Mapping[str, str | None] | None = None) -> Iterator[Settings]:
    with serving_ray(home, variables):
        settings = replace(load_settings(in_job=False), http_port=_free_port())
        try:
            serve.start(http_options=HTTPOptions(host=settings.http_host, port=settings.http_port))
            yield settings
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]


def _bare(
    name: str, settings: Settings, model: Path, connections: tuple[int, ...], duration_s: float
) -> Loads:
    options = {"num_replicas": NUM_REPLICAS, "max_ongoing_requests": 257, "ray_actor_options": {"num_cpus": 0.5}}
    serve.run(Bare.options(**options).bind(str(model)), name="bare", route_prefix="/")  # type: ignore[attr-defined]
    found = _loads(name, settings.http_url, connections, duration_s)
    serve.delete("bare")
    return found


def _millrace(
    settings: Settings, connections: tuple[int, ...], duration_s: float, quick: bool
) -> tuple[Loads, dict[str, float]]:
    fill(settings)
    database = StateDatabase.open(settings.state_url)
    start_profiler(PROJECT.name, START, DAY)
    deploy(REF, settings, champion="1", num_replicas=NUM_REPLICAS)
    token, _ = TokenRegistry(database).create("bench", ["admin"], "benchmark")
    url = f"{settings.http_url}/v1/predict"
    loads: Loads = {}
    if not quick:
        loads.update(_loads("Millrace, no candidate", url, (COMPARED_AT,), duration_s, token))
    routing = RoutingTable(database)
    route = routing.write(PROJECT.name, 1, champion="1", candidate="2", weight_percent=10.0, reason="benchmark")
    routing.wait_acknowledged(PROJECT.name, route.epoch, NUM_REPLICAS, 20)
    routing.wait_acknowledged(candidate_name(PROJECT.name), route.epoch, 1, 20)
    loads.update(_loads("Millrace, everything on", url, connections, duration_s, token))
    asked = [{"entities": [{"order_id": "o@", "customer_id": i % NUM_CUSTOMERS}]} for i in range(NUM_BODIES)]
    looked_up = measure(url, asked, COMPARED_AT, duration_s, token)
    loads["Millrace, 20 features looked up"] = [looked_up]
    others = {"bulk rows/s over Arrow": _bulk(url, token, 2 if quick else 8), "MB in a replica": _memory_mb()}
    return loads, others


def _bulk(url: str, token: str, times: int) -> float:
    """Rows a second that one client gets scored, 20,000 a request, answers as Arrow too."""
    body = write_table(pa.Table.from_pylist(rows(BULK_ROWS)))
    headers = {"authorization": f"Bearer {token}", "content-type": ARROW_STREAM, "accept": ARROW_STREAM,
               "x-millrace-variant": "champion"}
    with httpx.Client(timeout=60) as http:
        began = 0.0
        for number in range(times + 1):
            if number == 1:
                began = time.perf_counter()
            response = http.post(url, content=body, headers=headers)
            assert response.status_code == 200, response.text
    return BULK_ROWS * times / (time.perf_counter() - began)


def _memory_mb() -> float:
    """Memory of its own (USS) that the largest ingress replica holds."""
    found = [0]
    for process in psutil.process_iter(["cmdline"]):
        if any("ServeReplica:millrace-bench:ingress" in part for part in process.info["cmdline"] or ()):
            found.append(process.memory_full_info().uss)
    return max(found) / 1e6


def _litserve(model: Path, connections: tuple[int, ...], duration_s: float) -> Loads:
    port = _free_port()
    script = str(HERE / "litserve" / "serve.py")
    command = [str(peer_python("litserve")), script, str(model), str(port), str(NUM_REPLICAS)]
    with _server(command, {}, f"http://127.0.0.1:{port}/predict"):
        return _loads("LitServe", f"http://127.0.0.1:{port}/predict", connections, duration_s)


def _bentoml(model: Path, connections: tuple[int, ...], duration_s: float) -> Loads:
    port = _free_port()
    command = [
        str(peer_python("bentoml")), "-m", "bentoml", "serve", "service:Predict", "--working-dir",
        str(HERE / "bentoml"), "--host", "127.0.0.1", "--port", str(port),
    ]
    variables = {"ROW_MODEL": str(model), "ROW_WORKERS": str(NUM_REPLICAS), "BENTOML_DO_NOT_TRACK": "True"}
    with _server(command, variables, f"http://127.0.0.1:{port}/predict"):
        return _loads("BentoML", f"http://127.0.0.1:{port}/predict", connections, duration_s)


@contextmanager
def _server(command: list[str], variables: dict[str, str], url: str) -> Iterator[None]:
    environment = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **variables}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.post(url, json={"rows": rows(1)}, timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{command[1]} did not answer at {url}")
            time.sleep(0.3)
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        for child in children:
            if child.is_running():
                child.terminate()
        process.wait(20)


def _loads(
    name: str, url: str, connections: tuple[int, ...], duration_s: float, token: str | None = None
) -> Loads:
    bodies = [{"rows": [row]} for row in rows(NUM_BODIES)]
    if token is not None:
        bodies = [{"rows": [{"order_id": "o@", **body["rows"][0]}]} for body in bodies]
    first = measure(url, bodies, COMPARED_AT, WARM_UP_S, token)
    found = [measure(url, bodies, number, duration_s, token) for number in connections]
    assert all(load.failed == 0 for load in (first, *found)), (first, found)
    return {name: found, f"{name}: first {WARM_UP_S:g} s": [first]}


def _report(loads: Loads, others: dict[str, float], costs: dict[str, float], quick: bool) -> None:
    table = Table("system", "connections", "requests/s", "p50 ms", "p99 ms")
    for name, found in loads.items():
        for load in found:
            table.add_row(
                name, str(load.connections), f"{load.per_s:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}"
            )
    console = Console()
    console.print(table)
    for name, value in others.items():
        console.print(f"{name}: {value:,.0f}")
    for name, cost_us in costs.items():
        console.print(f"{cost_us:7.1f} µs  {name}")
    ours = _at(loads["Millrace, everything on"])
    ratios = {name: ours / _at(loads[name]) for name in TARGETS if name in loads}
    record = {
        "subject": "serving", "quick": quick, "connections": CONNECTIONS, "warm_up_s": WARM_UP_S,
        "replicas": NUM_REPLICAS,
        "loads": {name: [asdict(load) for load in found] for name, found in loads.items()}, "others": others,
        "costs_us": costs, "ratios": ratios, "targets": TARGETS,
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine(), "load_average": os.getloadavg()},
        "versions": {
            "python": platform.python_version(), "ray": ray.__version__, "onnxruntime": version("onnxruntime")
        },
        "provenance": code_state(),
    }
    RESULTS.mkdir(exist_ok=True)
    subject = "serving-quick" if quick else "serving"
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1) + "\n")
    _plot(loads, RESULTS / f"{subject}.svg")
    for name, ratio in ratios.items():
        print(f"against {name}: {ratio:.2f} (target {TARGETS[name]})")
    print(f"against {BARE_BEHIND_OURS}: {ours / _at(loads[BARE_BEHIND_OURS]):.2f} (no target)")
    print(f"serving ratio={ratios['bare Ray Serve']:.2f} target={TARGETS['bare Ray Serve']}")


def _at(found: list[Load]) -> float:
    return next(load.per_s for load in found if load.connections == COMPARED_AT)


def _plot(loads: Loads, path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, found in loads.items():
        axes.plot([load.connections for load in found], [load.per_s for load in found], "o-", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("connections")
    axes.set_ylabel("requests a second")
    axes.legend()
    figure.savefig(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
