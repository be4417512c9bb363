"""A Redis server of our own on a free port, for the time of the tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def installed() -> bool:
    """Whether there is a server to start."""
    return shutil.which("redis-server") is not None


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Starts a server that keeps nothing on disk and gives its URL; stops it afterwards.

    Raises:
        RuntimeError: it does not answer in time.
    """
    port = free_port()
    command = [
        "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
        "--dir", str(folder),
    ]
    with (folder / "redis.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_for(port, server, "redis-server; see redis.log")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def wait_for(port: int, server: subprocess.Popen[bytes], name: str) -> None:
    """Waits until a server that was just started takes connections.

    Raises:
        RuntimeError: it has ended, or does not in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no answer on port {port} within {START_TIMEOUT_S:g} s from {name}.")
