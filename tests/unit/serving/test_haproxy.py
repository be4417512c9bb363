"""Settings of HAProxy, and that only our own leftovers are stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.errors import SettingsError
from app.serving import leftover
from app.serving.haproxy import IN_FORCE, WRAPPER, configuration_folder, serve_environment, verify_in_force
from app.serving.haproxy_start import HOLDER
from app.serving.leftover import stop_leftover
from app.serving.proxy_settings import started_with
from app.settings import Settings
from tests.unit.serving.sleeper import SLEEPER


def test_environment(settings: Settings) -> None:
    variables = serve_environment(settings)
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert "500" not in variables["RAY_SERVE_HAPROXY_RETRY_ON"]
    assert variables["RAY_worker_niceness"] == "0"
    assert Path(variables["MILLRACE_HAPROXY_BINARY"]).exists()
    assert variables["RAY_SERVE_HAPROXY_BINARY_PATH"] == str(WRAPPER)


def test_leftover_is_stopped_and_others_are_not(settings: Settings) -> None:
    ours = subprocess.Popen([*SLEEPER, "-f", str(configuration_folder(settings) / "node" / "haproxy.cfg")])
    other = subprocess.Popen([*SLEEPER, "-f", str(settings.home / "haproxy.cfg")])
    try:
        assert stop_leftover(settings) == [ours.pid]
        assert psutil.pid_exists(other.pid)
    finally:
        other.kill()
        other.wait()
        ours.wait()


def test_a_holder_is_left_to_its_ray_while_that_lives(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover, "STOP_TIMEOUT_S", 0.5)
    node = str(configuration_folder(settings) / "node")
    ray = subprocess.Popen(SLEEPER)
    holder = subprocess.Popen([*SLEEPER, HOLDER, node, str(ray.pid)])
    stand_in = subprocess.Popen([*SLEEPER, "-f", f"{node}/stand-in/haproxy.cfg"])
    try:
        assert stop_leftover(settings) == []
        ray.kill()
        ray.wait()
        assert stop_leftover(settings) == [holder.pid, stand_in.pid], "one that hangs, and what it left behind"
    finally:
        for process in (ray, holder, stand_in):
            process.kill()
            process.wait()


def test_each_setting_that_requests_would_miss_is_looked_for() -> None:
    verify_in_force(IN_FORCE)
    for name in IN_FORCE:
        for started in ({**IN_FORCE, name: ""}, {k: v for k, v in IN_FORCE.items() if k != name}):
            with pytest.raises(SettingsError, match="ray start") as caught:
                verify_in_force(started)
            assert caught.value.detail == {"variables": [name]}


def test_a_process_says_what_its_ray_was_started_with(settings: Settings) -> None:
    environment = {**os.environ, **serve_environment(settings)}
    code = f"import json; from {started_with.__module__} import started_with; print(json.dumps(started_with()))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == IN_FORCE
    assert started_with() != IN_FORCE, "the tests themselves run without"
