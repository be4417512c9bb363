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


class RedisServer:
    """A server in a folder. `keeps`: whether each write is on disk before it is answered; else a restart empties it."""

    def __init__(self, folder: Path, keeps: bool) -> None:
        self._folder = folder
        self._port = free_port()
        self._keeps = keeps
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Raises: RuntimeError: it does not answer in time."""
        command = [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--dir", str(self._folder),
            "--appendonly", "yes" if self._keeps else "no", "--appendfsync", "always",
        ]
        with (self._folder / "redis.log").open("a") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._port, self._server, "redis-server; see redis.log")

    def kill(self) -> None:
        """At once, with what it has not written."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Starts a server that keeps nothing on disk and gives its URL; stops it afterwards.

    Raises:
        RuntimeError: it does not answer in time.
    """
    server = RedisServer(folder, keeps=False)
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


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
