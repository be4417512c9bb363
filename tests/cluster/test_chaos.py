"""Parts of a loaded application are killed while rollouts run: every request is answered and logged once.

The long form (`make chaos`) writes benchmarks/results/chaos.json.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import ray

from app.assembly.rollout_driver import start_rollout_driver
from app.errors import RolloutError
from app.foundation.lake import Lake
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.predictionlog.reader import read_predictions
from app.predictionlog.shipper import ship_all
from app.predictionlog.tables import table_name
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from app.serving.live_check import wait_live
from benchmarks.record import code_state
from tests.cluster.chaos import HAPROXY, Kill, Killer, broke_with_the_proxy, last_kill_before
from tests.cluster.serving_app import App, running_app, save_network
from tests.cluster.serving_project import CHAOS
from tests.cluster.steady_load import Sent, SteadyLoad

REF = "tests.cluster.serving_project:CHAOS"
RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "chaos.json"
NUM_REPLICAS = 3
WAIT_S = 150.0
KILL_EACH_S = 5.0
BAD = "3"
SHOWN_FAILURES = 100  # in the result file


@dataclass(frozen=True)
class Outcome:
    """What is left when the load is over and all is shipped."""

    sent: list[Sent]
    kills: list[Kill]
    rollouts: list[RolloutView]
    logged: pl.DataFrame  # each request once, the last attempt
    num_lines: int  # rows in the log, attempts that were repeated included
    shipped_twice: int
    champion: str


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("chaos"), REF, NUM_REPLICAS, save_network) as running:
        start_rollout_driver(REF, running.settings, NUM_REPLICAS)
        yield running
        ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


def roll_out(app: App, kinds: Sequence[str], done: list[RolloutView], over: threading.Event) -> None:
    """One rollout after the other, of the other good version or of the bad one, while there is load to judge them by.

    What is under way when the load is `over` is aborted.
    """
    operations = RolloutOperations(app.database, "shop", CHAOS.rollout, principal="ada", num_replicas=NUM_REPLICAS)
    for kind in kinds:
        if over.is_set():
            break
        champion = app.routing.current("shop").champion
        candidate = BAD if kind == "bad" else {"1": "2", "2": "1"}[champion]
        rollout_id = operations.start(candidate).state.rollout_id
        while not (view := operations.status(rollout_id)).is_over and not over.wait(0.2):
            pass
        if not view.is_over:
            view = end(operations, rollout_id)
        done.append(view)


def end(operations: RolloutOperations, rollout_id: str) -> RolloutView:
    with suppress(RolloutError):  # it has switched, or ended by itself
        operations.abort("the load is over")
    return operations.drive(rollout_id, WAIT_S)


def cause_chaos(
    app: App, folder: Path, duration_s: float, per_s: float, kinds: Sequence[str], killer: Killer
) -> Outcome:
    began = datetime.now(UTC)
    rollouts: list[RolloutView] = []
    over = threading.Event()
    roller = threading.Thread(target=roll_out, args=(app, kinds, rollouts, over))
    load = SteadyLoad(app.settings.http_url, app.token, per_s, duration_s, folder / "sent.jsonl")
    try:
        time.sleep(1)
        roller.start()
        with killer:
            time.sleep(duration_s - 4)
        sent = load.result()
    finally:
        load.stop()
        over.set()
        roller.join()
    lake = Lake.open(app.settings)
    ship_all(lake, app.settings, "shop")
    logged = pl.DataFrame(read_predictions(lake, "shop", began, datetime.now(UTC) + timedelta(seconds=1)))
    logged = logged.filter(pl.col("request_id").str.starts_with("steady-"))
    lines = pl.DataFrame(lake.read(table_name("shop", "predictions"), columns=["request_id", "boot_id", "sequence"]))
    lines = lines.filter(pl.col("request_id").str.starts_with("steady-"))
    return Outcome(
        sent, killer.kills, rollouts, logged, lines.height, lines.height - lines.unique().height,
        expected_champion(rollouts),
    )


def expected_champion(rollouts: Sequence[RolloutView]) -> str:
    return next((r.state.candidate for r in reversed(rollouts) if r.state.phase is Phase.HEALTHY), "1")


def check(app: App, outcome: Outcome) -> None:
    """Nothing lost but what broke with the proxy, nothing logged twice or not at all, weights as intended."""
    broken = broke_with_the_proxy(outcome.sent, outcome.kills)
    lost = [s for s in outcome.sent if s.failure and s.request_id not in broken]
    assert lost == [], [(s.failure, last_kill_before(s, outcome.kills)) for s in lost]
    answered = {s.request_id for s in outcome.sent if s.failure is None}
    assert Counter(i for i in outcome.logged["request_id"].to_list() if i in answered) == Counter(answered)
    assert outcome.shipped_twice == 0
    check_rollouts(app, outcome)


def check_rollouts(app: App, outcome: Outcome) -> None:
    assert all(view.is_over for view in outcome.rollouts)
    assert {v.state.phase for v in outcome.rollouts if v.state.candidate == BAD} <= {Phase.ABORTED}
    assert BAD not in {s.version for s in outcome.sent}, "it fails on every row, so it never answers"
    route = app.routing.current("shop")
    assert (route.champion, route.candidate, route.weight_percent) == (outcome.champion, None, 0.0)
    live = [a.replica_id for a in app.routing.acknowledgements("shop")]
    wait_live(
        app.settings.http_url, version=outcome.champion, epoch=route.epoch, replicas=live, timeout_s=30,
        headers=app.headers,
    )


def report(outcome: Outcome, per_s: float, duration_s: float) -> dict[str, Any]:
    broken = broke_with_the_proxy(outcome.sent, outcome.kills)
    failed = [s for s in outcome.sent if s.failure]
    latencies = pl.Series([s.latency_s for s in outcome.sent if s.failure is None])
    return {
        "subject": "chaos", "per_s": per_s, "duration_s": duration_s, "kill_each_s": KILL_EACH_S,
        "replicas": NUM_REPLICAS, "requests": len(outcome.sent), "answered": len(outcome.sent) - len(failed),
        "failed_with_the_proxy": len(broken),
        "failed_otherwise": dict(Counter(
            f"{s.failure} (after a kill of: {last_kill_before(s, outcome.kills)})"
            for s in failed if s.request_id not in broken
        )),
        "failures": [asdict(s) for s in failed[:SHOWN_FAILURES]],
        "kills": dict(Counter(k.kind for k in outcome.kills)),
        "kill_times": [asdict(k) for k in outcome.kills],
        "latency_s": {f"p{q}": latencies.quantile(q / 100) for q in (50, 95, 99)} | {"max": latencies.max()},
        "log": {
            "requests": outcome.logged.height, "lines": outcome.num_lines, "shipped_twice": outcome.shipped_twice,
        },
        "rollouts": [
            {
                "candidate": v.state.candidate, "phase": v.state.phase.value,
                "exposed_requests": outcome.logged.filter(
                    (pl.col("rollout_id") == v.state.rollout_id) & (pl.col("assigned") == "candidate")
                ).height,
                "duration_s": None if v.state.finished_at is None else
                (v.state.finished_at - v.state.started_at).total_seconds(),
                "given_up": next((t.reason for t in v.transitions if t.to_phase is Phase.DEGRADED), None),
            }
            for v in outcome.rollouts
        ],
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine(), "load_average": os.getloadavg()},
        "versions": {"python": platform.python_version(), "ray": ray.__version__},
        "provenance": code_state(),
    }


def test_a_rollout_survives_kills_under_load(app: App, tmp_path: Path) -> None:
    first = ("replica", "driver", HAPROXY, "candidate", "replica")
    outcome = cause_chaos(app, tmp_path, 28, 150, ("bad",), Killer(KILL_EACH_S, first))
    assert len(outcome.kills) >= 4
    check(app, outcome)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_five_minutes_of_kills(app: App, tmp_path: Path) -> None:
    duration_s, per_s = float(os.environ.get("CHAOS_S", "300")), 300.0
    kinds = ("good", "bad", "good", "bad", "good", "good", "bad", "good", "bad", "good")
    outcome = cause_chaos(app, tmp_path, duration_s, per_s, kinds, Killer(KILL_EACH_S))
    RESULT.write_text(json.dumps(report(outcome, per_s, duration_s), indent=1) + "\n")
    check(app, outcome)
