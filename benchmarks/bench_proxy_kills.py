"""What clients see when the host's only HAProxy, or Ray's manager of it, is killed: with a held port and without.

Under a steady load (an open loop of `RATE` requests a second over idle or new connections, nothing sent again), two
replicas. Each round kills one process with SIGKILL and lets Ray repair; counted are requests that failed:

- open: on a connection that was open when the process was killed
- refused: no connection could be opened
- other: answered with another status, or not in time

`make bench-proxy_kills` (QUICK=1: one round of each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ray

from benchmarks.record import code_state
from benchmarks.serving_ray import serving_ray
from tests.cluster.chaos import HAPROXY, broke_with_the_proxy
from tests.cluster.proxy_kills import MANAGER, kill_one, wait_until
from tests.cluster.serving_app import NUM_REPLICAS, App, running_app, save_network
from tests.cluster.steady_load import REFUSED, SteadyLoad

RESULT = Path(__file__).parent / "results" / "proxy-kills.json"
PLAIN = Path(__file__).parent / "plain_haproxy" / "haproxy_wrapper.sh"  # deploying asks for this name
RATE, DURATION_S = 100.0, 30.0
SIDES: dict[str, dict[str, str]] = {"plain": {"RAY_SERVE_HAPROXY_BINARY_PATH": str(PLAIN)}, "held": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 1 if parser.parse_args().quick else 3
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for side, variables in SIDES.items():
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            with serving_ray(scratch, variables), _app(scratch) as app:
                measured[side] = {
                    kind: [_round(app, kind, scratch) for _ in range(rounds)] for kind in (HAPROXY, MANAGER)
                }
    _report(measured, rounds)


def _app(scratch: Path) -> AbstractContextManager[App]:
    return running_app(scratch, num_replicas=NUM_REPLICAS, save=save_network)


def _round(app: App, kind: str, scratch: Path) -> dict[str, Any]:
    out = scratch / "sent.jsonl"
    out.unlink(missing_ok=True)
    load = SteadyLoad(app.settings.http_url, app.token, RATE, DURATION_S, out)
    try:
        wait_until(lambda: out.exists() and out.stat().st_size > 0, "answers")
        time.sleep(2)
        killed, *followed = kill_one(kind)
        sent = load.result()
    finally:
        load.stop()
    failed = [s for s in sent if s.failure]
    is_open = broke_with_the_proxy(sent, [killed, *followed])
    others = [s for s in failed if s.request_id not in is_open and s.failure != REFUSED]
    return {
        "requests": len(sent), "open": len(is_open), "refused": sum(s.failure == REFUSED for s in failed),
        "other": dict(Counter(str(s.failure)[:40] for s in others)), "num_other": len(others),
        "last_failure_s": max((s.ended_at - killed.at for s in failed), default=0.0),
        "max_latency_s": max((s.latency_s for s in sent if not s.failure), default=0.0),
    }


def _report(measured: dict[str, dict[str, list[dict[str, Any]]]], rounds: int) -> None:
    record = {
        "subject": "proxy-kills", "rounds": rounds, "rate_per_s": RATE, "duration_s": DURATION_S,
        "replicas": NUM_REPLICAS, "measured": measured,
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine(), "load_average": os.getloadavg()},
        "versions": {"python": platform.python_version(), "ray": ray.__version__}, "provenance": code_state(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    path = RESULT if rounds > 1 else RESULT.with_stem("proxy-kills-quick")
    path.write_text(json.dumps(record, indent=1) + "\n")
    for side, kinds in measured.items():
        for kind, found in kinds.items():
            said = [
                f"{what} {statistics.median(one[what] for one in found):g} (most {max(one[what] for one in found):g})"
                for what in ("open", "refused", "num_other", "last_failure_s", "max_latency_s")
            ]
            print(f"{side}, {kind} killed: {', '.join(said)}")


if __name__ == "__main__":
    main()
