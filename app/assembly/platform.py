"""`make up` and `make down`: a Ray head with dashboard and the project's application, kept running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

from app.errors import MillraceError, SettingsError
from app.foundation.projects import load_project
from app.models.registry import ModelRegistry
from app.serving.haproxy import serve_environment, stop_leftover
from app.settings import Settings

RAY = Path(sys.executable).parent / "ray"
DASHBOARD = "http://127.0.0.1:8265"
NUM_CPUS = 8


def start_platform(project_ref: str, settings: Settings) -> None:
    """Starts the head and, when the project has a champion, its application.

    Raises:
        SettingsError: a Ray head is running already, or it did not start.
    """
    project = load_project(project_ref)
    stop_leftover(settings)
    command = [str(RAY), "start", "--head", "--dashboard-host=127.0.0.1", f"--num-cpus={NUM_CPUS}"]
    environment = {**os.environ, **serve_environment(settings), "RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if started.returncode:
        raise SettingsError(f"Ray did not start: {(started.stderr or started.stdout).strip()[-600:]}")
    typer.echo(f"Ray dashboard: {DASHBOARD}")
    if ModelRegistry(settings).alias(project.name, "champion") is None:
        typer.echo("No champion yet: run the loop with `millrace submit loop`, then `make up` serves its champion.")
        return
    code = subprocess.run(
        [sys.executable, "jobs/deploy.py", "--project", project_ref],
        env={**os.environ, "RAY_ADDRESS": "auto"},
        check=False,
    ).returncode
    if code:
        raise MillraceError("the application did not come up; its message stands above.")
    typer.echo(f"Application: {settings.http_url}/docs")


def stop_platform(settings: Settings) -> None:
    """Stops the head, the application first, and a proxy that outlived it."""
    subprocess.run(
        [str(RAY.parent / "serve"), "shutdown", "-y"],
        env={**os.environ, "RAY_ADDRESS": "auto"},
        capture_output=True,
        check=False,
    )
    subprocess.run([str(RAY), "stop"], capture_output=True, check=False)
    stop_leftover(settings)
    typer.echo("stopped")
