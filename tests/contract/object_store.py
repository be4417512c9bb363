"""An S3 server of our own in memory, for the time of the tests: moto's, from the environment that holds it."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import ENVIRONMENTS
from tests.contract.redis_server import free_port, wait_for

PROGRAM = ENVIRONMENTS / "moto" / "bin" / "moto_server"
BUCKETS = ("rows", "lake")
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown", "AWS_EC2_METADATA_DISABLED": "true"}


class ObjectStore:
    """A server with empty buckets. `options`: what a URL needs to reach it; `stop`: as when it goes away."""

    def __init__(self, port: int, server: subprocess.Popen[bytes]) -> None:
        self.options = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        self._server = server

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()


def installed() -> bool:
    """Whether there is a server to start."""
    return PROGRAM.exists()


@contextmanager
def running_object_store(folder: Path) -> Iterator[ObjectStore]:
    """Raises: RuntimeError: it does not answer in time."""
    port = free_port()
    command = [str(PROGRAM), "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_for(port, server, "moto_server; see moto.log")
            for bucket in BUCKETS:
                made = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
                urllib.request.urlopen(made, timeout=30).close()
            yield ObjectStore(port, server)
        finally:
            server.terminate()
