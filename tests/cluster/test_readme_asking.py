"""What the README shows after `make up`, token, prediction and rollout, works on the running application."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import serve
from sklearn.linear_model import LogisticRegression

from app.assembly.application import deploy
from app.assembly.rollout_driver import start_rollout_driver
from app.features.store import FeatureStore
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.models.artefact import Inputs
from app.models.export import save_estimator
from app.rollout.operations import driver_name
from app.serving.routing import RoutingTable
from app.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
REF = "tests.projects.prices:PROJECT"
PAGE = (ROOT / "README.md").read_text().partition("## Asking it\n")[2].partition("\n## ")[0]
TIMEOUT_S = 180.0


@pytest.fixture
def prices(ray_head: None, tmp_path: Path) -> Iterator[Settings]:
    """The prices project as its demo leaves it: two versions, 2 the champion."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = replace(load_settings({"MILLRACE_HOME": str(tmp_path)}, in_job=False), http_port=port)
    rows = np.random.default_rng(0).normal(size=(100, 2))
    for version in ("1", "2"):
        estimator = LogisticRegression().fit(rows, rows[:, 0] > 0)
        inputs = Inputs(("load_forecast_gw", "wind_forecast_gw"), ())
        save_estimator(settings.artefacts / "prices" / version, estimator, "binary", inputs, {}, {})
    project = load_project(REF)
    FeatureStore(project, settings).apply()
    deploy(REF, settings, champion="2")
    start_rollout_driver(REF, settings, project.serving.least_replicas)
    yield settings
    ray.kill(ray.get_actor(driver_name("prices"), COLLECTOR_NAMESPACE))
    serve.shutdown()


def test_what_a_user_does_first(prices: Settings) -> None:
    up, asking = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    assert up == f"make up PROJECT={REF}\n"
    environment = {
        **os.environ, "MILLRACE_HOME": str(prices.home), "MILLRACE_HTTP_PORT": str(prices.http_port),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", asking.replace(":8000/", f":{prices.http_port}/")], cwd=ROOT,
        env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer, _ = json.JSONDecoder().raw_decode(done.stdout)
    (prediction,) = answer["predictions"]
    assert (prediction["key"], prediction["version"]) == ("n-022701", "2")
    assert 0 <= prediction["score"] <= 1
    assert done.stdout.count("only tried") == 1 and "2 replicas answer with version 2" in done.stdout
    route = RoutingTable(StateDatabase.open(prices.state_url)).current("prices")
    assert (route.champion, route.candidate) == ("2", None)
