"""Settings of HAProxy, the wrapper's changes, and that only our own leftovers are stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.errors import SettingsError
from app.serving.haproxy import WRAPPER, configuration_folder, serve_environment, stop_leftover, verify_in_force
from app.settings import Settings

TEMPLATE = """defaults
    option abortonclose
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def test_environment(settings: Settings) -> None:
    variables = serve_environment(settings)
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert "500" not in variables["RAY_SERVE_HAPROXY_RETRY_ON"]
    assert variables["RAY_worker_niceness"] == "0"
    assert Path(variables["MILLRACE_HAPROXY_BINARY"]).exists()
    assert variables["RAY_SERVE_HAPROXY_BINARY_PATH"] == str(WRAPPER)


def test_wrapper_completes_the_configuration_once(tmp_path: Path) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(TEMPLATE)
    for _ in range(2):
        subprocess.run(
            [str(WRAPPER), "-db", "-f", str(configuration)],
            env={**os.environ, "MILLRACE_HAPROXY_BINARY": "true"}, check=True,
        )
    text = configuration.read_text()
    assert text.count("option http-buffer-request") == 1
    assert "bind 127.0.0.1:9101" in text
    assert "bind 127.0.0.1:8404" in text
    assert "bind 127.0.0.1:8000" in text


def test_leftover_is_stopped_and_others_are_not(settings: Settings) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen([*sleeper, "-f", str(configuration_folder(settings) / "node" / "haproxy.cfg")])
    other = subprocess.Popen([*sleeper, "-f", str(settings.home / "haproxy.cfg")])
    try:
        assert stop_leftover(settings) == [ours.pid]
        assert psutil.pid_exists(other.pid)
    finally:
        other.kill()
        other.wait()
        ours.wait()


def test_not_in_force() -> None:
    with pytest.raises(SettingsError, match="ray start"):
        verify_in_force({"haproxy": False, "throughput_optimized": True})
