"""A real Ray head with its dashboard in processes of its own, as on a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.assembly.ray_environment import head_environment
from app.serving.leftover import stop_leftover
from app.settings import Settings, load_settings

BINARIES = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Head:
    """Where the head's dashboard answers and which home its jobs use."""

    dashboard: str
    settings: Settings
    environment: dict[str, str]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environment_of(home: Path) -> dict[str, str]:
    """The process's environment with a home and an HTTP port of its own."""
    return {
        **{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
        "MILLRACE_HOME": str(home),
        "MILLRACE_HTTP_PORT": str(free_port()),
        "PYTHONUNBUFFERED": "1",
    }


def wait_answers(port: int) -> None:
    """Returns once something listens on `port`."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens on port {port}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """One head for a module, stopped by its own process group."""
    home = tmp_path_factory.mktemp("home")
    environment = environment_of(home)
    settings = load_settings(environment, in_job=False)
    dashboard_port, gcs_port = free_port(), free_port()
    subprocess.run([str(BINARIES / "ray"), "get-auth-token", "--generate"], capture_output=True, check=True)
    process = subprocess.Popen(
        [
            str(BINARIES / "ray"),
            "start",
            "--head",
            "--block",
            f"--port={gcs_port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard_port}",
            "--num-cpus=8",
            "--object-store-memory=500000000",
        ],
        env={**head_environment(settings), **environment, "PATH": head_environment(settings)["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_answers(dashboard_port)
    yield Head(f"http://127.0.0.1:{dashboard_port}", settings, environment)
    process.terminate()
    process.wait(60)
    stop_leftover(settings)
