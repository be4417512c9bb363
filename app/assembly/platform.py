"""`make up` and `make down`: a Ray head with dashboard and the project's application, kept running.

The head is one process of ours, noted in `platform.json` in the home: stopping ends that head and what it started, and
no other Ray on this machine.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
import typer

from app.assembly.ray_environment import head_environment
from app.errors import MillraceError, SettingsError
from app.foundation.projects import load_project
from app.models.registry import ModelRegistry
from app.serving.leftover import stop_leftover
from app.settings import Settings

RAY = Path(sys.executable).parent / "ray"
DASHBOARD_PORT = 8265
NUM_CPUS = 8
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RunningHead:
    """The head's own process and where its control service listens."""

    pid: int
    started_at: float  # of the process, so that a reused process id is not taken for it
    address: str

    def process(self) -> psutil.Process | None:
        """The process, `None` when it has ended."""
        try:
            process = psutil.Process(self.pid)
            return process if abs(process.create_time() - self.started_at) < 1.0 else None
        except psutil.NoSuchProcess:
            return None


def start_platform(project_ref: str, settings: Settings) -> None:
    """Starts the head and, when the project has a champion, its application.

    Raises:
        SettingsError: a head is running already, the dashboard's port is taken, or the head did not start.
    """
    project = load_project(project_ref)
    running = _noted(settings)
    if running is not None and running.process() is not None:
        raise SettingsError(f"the platform of {settings.home} is running already. `make down` stops it.")
    if _listens(DASHBOARD_PORT):
        raise SettingsError(f"port {DASHBOARD_PORT} is taken, by another Ray's dashboard perhaps. Stop that first.")
    stop_leftover(settings)
    head = _start_head(settings)
    typer.echo(f"Ray dashboard: http://127.0.0.1:{DASHBOARD_PORT}; it asks for the token: ray get-auth-token")
    if ModelRegistry(settings).alias(project.name, "champion") is None:
        typer.echo("No champion yet: run the loop with `millrace submit loop`; it also brings the application up.")
        return
    code = subprocess.run(
        [sys.executable, "jobs/deploy.py", "--project", project_ref],
        env={**head_environment(settings), "RAY_ADDRESS": head.address},
        check=False,
    ).returncode
    if code:
        raise MillraceError("the application did not come up; its message stands above.")
    typer.echo(f"Application: {settings.http_url}/v1/status")


def stop_platform(settings: Settings) -> None:
    """Stops the head with all it started, and a proxy that outlived it."""
    running = _noted(settings)
    process = None if running is None else running.process()
    if running is None or process is None:
        stop_leftover(settings)
        typer.echo(f"nothing to stop: no platform of {settings.home} is running")
        return
    subprocess.run(
        [str(RAY.parent / "serve"), "shutdown", "-y"],
        env={**head_environment(settings), "RAY_ADDRESS": running.address},
        capture_output=True,
        check=False,
    )
    process.terminate()  # `ray start --block` ends its children before itself
    try:
        process.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired as error:
        raise MillraceError(f"the head (process {running.pid}) did not end in {STOP_TIMEOUT_S:g} s.") from error
    stop_leftover(settings)
    _note_path(settings).unlink()
    typer.echo("stopped")


def _start_head(settings: Settings) -> RunningHead:
    subprocess.run([str(RAY), "get-auth-token", "--generate"], capture_output=True, check=True)
    port = _free_port()
    command = [
        str(RAY), "start", "--head", "--block", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={DASHBOARD_PORT}", f"--num-cpus={NUM_CPUS}",
    ]
    log = settings.home / "platform.log"
    settings.home.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=head_environment(settings), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    head = RunningHead(process.pid, psutil.Process(process.pid).create_time(), f"127.0.0.1:{port}")
    _note_path(settings).write_text(json.dumps(asdict(head)))
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(DASHBOARD_PORT):
            return head
        time.sleep(0.3)
    process.terminate()
    process.wait(STOP_TIMEOUT_S)
    raise SettingsError(f"Ray did not start; the end of {log}: {log.read_text()[-600:]}", log=str(log))


def _answers(port: int) -> bool:
    """Whether a dashboard answers, if only that it wants a token."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/api/version", timeout=2.0)
    except httpx.HTTPError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _note_path(settings: Settings) -> Path:
    return settings.home / "platform.json"


def _noted(settings: Settings) -> RunningHead | None:
    path = _note_path(settings)
    return RunningHead(**json.loads(path.read_text())) if path.exists() else None
