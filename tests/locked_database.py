"""Takes an SQLite database from everybody else for a while, as a stuck process or a file system that hangs would.

`python -m tests.locked_database FILE FIRST NUM` holds the byte locks and says so on its output until its input ends: a
process of its own, because a process loses all its locks on a file when it closes that file anywhere.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# Of the index beside a database in WAL mode, as https://www.sqlite.org/walformat.html gives them.
WRITE_LOCK, LAST_READ_LOCK = 120, 127
Lock = Callable[[str], AbstractContextManager[None]]


@contextmanager
def nobody_writes(url: str) -> Iterator[None]:
    """Reads go on; a write waits for the busy timeout and fails."""
    with _held(url, WRITE_LOCK, 1):
        yield


@contextmanager
def nobody_reads_or_writes(url: str) -> Iterator[None]:
    """Reads fail too, after SQLite's own ten seconds of trying."""
    with _held(url, WRITE_LOCK, LAST_READ_LOCK - WRITE_LOCK + 1):
        yield


@contextmanager
def _held(url: str, first: int, num: int) -> Iterator[None]:
    path = url.removeprefix("sqlite:///").partition("?")[0]
    command = [sys.executable, "-m", "tests.locked_database", f"{path}-shm", str(first), str(num)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.communicate()
    assert holder.returncode == 0


if __name__ == "__main__":
    file, first_byte, num_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(file, "r+b") as index:
        for byte in range(first_byte, first_byte + num_bytes):
            fcntl.lockf(index, fcntl.LOCK_EX, 1, byte)
        print("held", flush=True)
        sys.stdin.read()
