"""How fast traffic follows a rollout: promotion, the end of a bad canary, and the way back in one command.

Under a steady load of single rows (an open loop: `RATE` requests a second whatever the answers do), champion in two
replicas, everything on (tokens, log, platform driver).

- promote: from the order to the last answer of the old version, as the client sees it
- bad canary (10%, fails on every row): from the start to the abort, and the requests that were dealt to it
- rollback, between versions of about 100 MB whose files are on the host: from the order until every replica answered
  over HTTP with that version and epoch; once by the Python call, once by `millrace rollout rollback` as a command. At
  `BIG_RATE`: a row reads all 50 MB of such a network's weights, some 4 ms of a core, and the command needs one too

`make bench-rollout` (QUICK=1: one round of each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch

from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.models.artefact import Inputs
from app.models.export import save_torch
from app.models.registry import LoggedRun, ModelRegistry
from app.models.transform import Transform
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from app.serving.live_check import wait_live
from app.settings import Settings
from benchmarks.record import code_state
from benchmarks.serving_ray import serving_ray
from tests.cluster.serving_app import NUM_REPLICAS, App, running_app
from tests.cluster.serving_project import HELD, LIVE_CANARY
from tests.cluster.steady_load import Sent, SteadyLoad

RESULT = Path(__file__).parent / "results" / "rollout.json"
REF = "tests.cluster.serving_project:LIVE_CANARY"
RATE = 150.0
BIG_RATE = 50.0
WAIT_S = 60.0
TARGET_ROLLBACK_S = 5.0
BAD, BIG = "3", ("4", "5")
BIG_WIDTH = 2_500  # 2 × 2,500² weights, kept as safetensors and as ONNX: about 100 MB
INPUTS = Inputs(("price", "stock"), ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 1 if parser.parse_args().quick else 5
    with tempfile.TemporaryDirectory() as scratch, serving_ray(Path(scratch)), running_app(Path(scratch), REF) as app:
        sizes_mb = _save_big(app.settings)
        _register(app.settings)
        start_rollout_driver(REF, app.settings, NUM_REPLICAS)
        try:
            measured = {
                "promote": _under_load(app, Path(scratch), lambda: [_promote(app) for _ in range(rounds)], _promoted),
                "bad_canary": _under_load(app, Path(scratch), lambda: [_bad(app) for _ in range(rounds)], _exposed),
                "rollback": _under_load(
                    app, Path(scratch), lambda: [_rollback(app) for _ in range(rounds)], _as_it_is, BIG_RATE
                ),
                "rollback_by_command": _under_load(
                    app, Path(scratch), lambda: [_rollback_by_command(app) for _ in range(rounds)], _as_it_is, BIG_RATE
                ),
            }
        finally:
            ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))
    _report(measured, sizes_mb, rounds)


class _Wide(torch.nn.Module):
    """As many weights as a large version has."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, BIG_WIDTH), torch.nn.ReLU(), torch.nn.Linear(BIG_WIDTH, BIG_WIDTH), torch.nn.ReLU(),
            torch.nn.Linear(BIG_WIDTH, BIG_WIDTH), torch.nn.ReLU(), torch.nn.Linear(BIG_WIDTH, 1),
        )

    def forward(self, numeric: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layers(numeric)
        return output.squeeze(1)


def _save_big(settings: Settings) -> dict[str, float]:
    sample = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=list(INPUTS.feature_names))
    transform = Transform.fit(sample, INPUTS.feature_names, ())
    sizes_mb = {}
    for version in BIG:
        torch.manual_seed(int(version))
        folder = save_torch(
            settings.artefacts / "shop" / version, _Wide(), transform, "binary", INPUTS, sample, {}
        )
        sizes_mb[version] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    return sizes_mb


def _register(settings: Settings) -> None:
    """The command line moves the registry's alias, so the versions must be known there."""
    registry = ModelRegistry(settings)
    for version in ("1", "2", BAD, *BIG):
        logged = LoggedRun(metrics={}, params={}, tags={"run_id": f"bench-{version}"})
        given = registry.register("shop", settings.artefacts / "shop" / version, logged)
        assert given == version, (given, version)


def _operations(app: App, policy: Any) -> RolloutOperations:
    return RolloutOperations(app.database, "shop", policy, principal="bench", num_replicas=NUM_REPLICAS)


def _wait(operations: RolloutOperations, phase: Phase) -> RolloutView:
    deadline = time.monotonic() + WAIT_S
    while (view := operations.status()).state.phase is not phase:
        assert time.monotonic() < deadline, view.to_json()
        time.sleep(0.05)
    return view


def _promote(app: App) -> dict[str, Any]:
    """At half of the traffic, a person promotes."""
    operations = _operations(app, HELD)
    old = app.routing.current("shop").champion
    operations.start({"1": "2"}.get(old, "1"))
    deadline = time.monotonic() + WAIT_S
    while operations.status().route.weight_percent != 50:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    at = time.time()
    operations.drive(operations.promote("bench").state.rollout_id, WAIT_S)
    done_s = time.time() - at
    time.sleep(2)
    return {"at": at, "until": time.time(), "old": old, "healthy_s": done_s}


def _bad(app: App) -> dict[str, Any]:
    operations, at = _operations(app, LIVE_CANARY.rollout), time.time()
    started = operations.start(BAD)
    view = _wait(operations, Phase.ABORTED)
    aborted_s = time.time() - at
    degraded = next(t for t in view.transitions if t.to_phase is Phase.DEGRADED)
    time.sleep(1)
    return {
        "at": at, "until": time.time(), "aborted_s": aborted_s, "reason": degraded.reason,
        "rollout_id": started.state.rollout_id,
    }


def _rollback(app: App) -> dict[str, Any]:
    operations, version = _operations(app, HELD), _other_big(app)
    at = time.time()
    view = operations.drive(operations.rollback(version, "bench").state.rollout_id, WAIT_S)
    live = wait_live(
        app.settings.http_url, version=version, epoch=view.route.epoch,
        replicas=[a.replica_id for a in view.champions], timeout_s=WAIT_S, headers=app.headers,
    )
    took_s = time.time() - at
    assert len(live.epochs) == NUM_REPLICAS
    time.sleep(2)
    return {"at": at, "until": time.time(), "verified_s": took_s, "version": version, "epoch": view.route.epoch}


def _rollback_by_command(app: App) -> dict[str, Any]:
    version = _other_big(app)
    command = [shutil.which("millrace") or ".venv/bin/millrace", "rollout", "rollback", version, "--project", REF]
    environment = {
        **os.environ, "MILLRACE_HOME": str(app.settings.home), "MILLRACE_HTTP_PORT": str(app.settings.http_port)
    }
    at = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took_s = time.time() - at
    assert done.returncode == 0, done.stderr[-2_000:]
    assert f"{NUM_REPLICAS} replicas answer with version {version}" in " ".join(done.stdout.split()), done.stdout
    time.sleep(2)
    return {"at": at, "until": time.time(), "verified_s": took_s, "version": version}


def _other_big(app: App) -> str:
    return BIG[1] if app.routing.current("shop").champion == BIG[0] else BIG[0]


def _under_load(app: App, folder: Path, act: Any, judge: Any, rate: float = RATE) -> dict[str, Any]:
    """Does something while requests keep coming, then looks at what the client saw of each round."""
    out = folder / "sent.jsonl"
    load = SteadyLoad(app.settings.http_url, app.token, rate, 10 * WAIT_S, out)
    try:
        time.sleep(3)
        rounds = act()
        time.sleep(1)
    finally:
        load.stop()
    lines = out.read_text().rpartition("\n")[0].splitlines()
    sent = sorted((Sent(**json.loads(line)) for line in lines), key=lambda s: s.at)
    for found in rounds:
        within = [s for s in sent if s.ended_at >= found["at"] and s.at <= found["until"]]
        failures = Counter(s.failure for s in within if s.failure is not None)
        found |= {"requests": len(within), "failed": failures.total(), "failures": failures, **judge(found, within)}
    return {"rounds": rounds}


def _promoted(found: dict[str, Any], sent: list[Sent]) -> dict[str, Any]:
    of_old = [s.ended_at for s in sent if s.version == found["old"]]
    return {"last_answer_of_old_s": max(of_old, default=found["at"]) - found["at"]}


def _exposed(found: dict[str, Any], sent: list[Sent]) -> dict[str, Any]:
    dealt = [s for s in sent if s.variant == "candidate"]
    first = min((s.at for s in dealt), default=found["at"])
    return {
        "exposed_requests": len(dealt), "exposed_s": max((s.ended_at for s in dealt), default=first) - first,
        "answered_by_it": sum(s.answered_by == "candidate" for s in dealt),
    }


def _as_it_is(found: dict[str, Any], sent: list[Sent]) -> dict[str, Any]:
    return {"max_latency_s": max((s.latency_s for s in sent), default=0.0)}


def _report(measured: dict[str, dict[str, Any]], sizes_mb: dict[str, float], rounds: int) -> None:
    def most(name: str, what: str) -> dict[str, float]:
        values = [found[what] for found in measured[name]["rounds"]]
        return {"median": statistics.median(values), "max": max(values)}

    summary = {
        "promote_to_last_answer_of_old_s": most("promote", "last_answer_of_old_s"),
        "bad_canary_start_to_abort_s": most("bad_canary", "aborted_s"),
        "bad_canary_exposed_s": most("bad_canary", "exposed_s"),
        "bad_canary_exposed_requests": most("bad_canary", "exposed_requests"),
        "rollback_verified_s": most("rollback", "verified_s"),
        "rollback_by_command_verified_s": most("rollback_by_command", "verified_s"),
    }
    failed = sum(found["failed"] for part in measured.values() for found in part["rounds"])
    record = {
        "subject": "rollout", "rounds": rounds, "replicas": NUM_REPLICAS,
        "rate_per_s": RATE, "rate_of_rollbacks_per_s": BIG_RATE, "rollback_sizes_mb": sizes_mb,
        "summary": summary, "failed_requests": failed,
        "targets": {"rollback_verified_s": TARGET_ROLLBACK_S}, "measured": measured,
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine(), "load_average": os.getloadavg()},
        "versions": {"python": platform.python_version(), "ray": ray.__version__, "torch": torch.__version__},
        "provenance": code_state(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    path = RESULT if rounds > 1 else RESULT.with_stem("rollout-quick")
    path.write_text(json.dumps(record, indent=1) + "\n")
    for name, found in summary.items():
        print(f"{name}: median {found['median']:.2f}, worst {found['max']:.2f} of {rounds}")
    print(f"rollout rollback_s={summary['rollback_by_command_verified_s']['max']:.2f} target={TARGET_ROLLBACK_S}")


if __name__ == "__main__":
    main()
