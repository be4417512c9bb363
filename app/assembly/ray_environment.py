"""Variables to set before Ray starts, for a private Ray and for `make up` alike."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from app.serving.haproxy import serve_environment
from app.settings import Settings

TRAIN_VARIABLES = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # else the dashboard's Train page stays empty
    # The controller looks at its workers each 2 s by default, and the report of an epoch waits for that look.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}

GUARDED = {"RAY_AUTH_MODE": "token"}


def ray_environment(settings: Settings | None = None) -> dict[str, str]:
    """HAProxy in throughput mode, training state for the dashboard.

    Raises:
        SettingsError: see `serve_environment`.
    """
    return {**serve_environment(settings), **TRAIN_VARIABLES}


def export_lines(settings: Settings) -> str:
    """What a shell has to `eval` before `ray start`, on a head and on each worker.

    Raises:
        SettingsError: see `serve_environment`.
    """
    binaries = shlex.quote(str(Path(sys.executable).parent))
    variables = {**ray_environment(settings), **GUARDED, "MILLRACE_HOME": str(settings.home)}
    return "\n".join(
        [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        + [f'export PATH={binaries}:"$PATH"']
    )


def head_environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a head started here, in token mode; entrypoints of its jobs find this `python` first.

    A private Ray needs no such word: `ray.init` makes and uses a token by itself, and in a process that has imported
    ray the variable would come too late.

    Raises:
        SettingsError: see `serve_environment`.
    """
    binaries = str(Path(sys.executable).parent)
    path = os.pathsep.join([binaries, *os.get_exec_path()])
    return {**os.environ, **ray_environment(settings), **GUARDED, "PATH": path}
