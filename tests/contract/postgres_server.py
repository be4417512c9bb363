"""A PostgreSQL server of our own on a free port, for the time of the tests. It can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.redis_server import free_port

START_TIMEOUT_S = 60
ACCOUNTS = ("postgres", "nobody")  # the server refuses to run as root
PASSWORD = "not-to-be-shown"


class PostgresServer:
    """One cluster of databases in a folder. `url(name)` names one of them, with a password that must never be shown."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://millrace:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Raises: RuntimeError: it does not answer in time; the message ends with its log."""
        log = self._folder / "log"
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        started = self._run("pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S), "-l", str(log), "-o", options)
        if started.returncode:
            raise RuntimeError(f"PostgreSQL does not start: {log.read_text() if log.exists() else started.stderr}")

    def stop(self) -> None:
        """At once, as when it is killed; it recovers at the next start."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def create(self, database: str) -> str:
        """Makes a database and gives its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "millrace", database).check_returncode()
        return self.url(database)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs, never as root. Its output goes to a file: a server would keep a pipe open."""
        account = None
        if os.geteuid() == 0:
            account = next(name for name in ACCOUNTS if name in {entry.pw_name for entry in pwd.getpwall()})
            shutil.chown(self._folder, account)
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [program, *arguments], user=account, cwd=self._folder, stdout=output, stderr=output, check=False,
                env={"PGDATA": str(self._folder / "data"), "PATH": os.environ["PATH"], "LC_ALL": "C"},
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())

    def initialise(self) -> None:
        """Makes an empty cluster."""
        self._run("initdb", "-U", "millrace", "--auth", "trust", "-E", "UTF8", "--no-sync").check_returncode()


def installed() -> bool:
    """Whether there is a server to start."""
    return all(shutil.which(program) for program in ("initdb", "pg_ctl", "createdb"))


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Starts a server in a folder of its own, which another account than ours may own, and removes both afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the socket lies in it
    server = PostgresServer(folder, free_port())
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
