"""A process that ends is seen, with the kernel's help or without."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from app.serving.watched_processes import WatchedProcesses
from tests.unit.serving.sleeper import SLEEPER


@pytest.fixture(params=[True, False], ids=["pidfd", "polling"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfd_open")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(b"\0" + os.urandom(8).hex().encode())
        listening.listen()
        yield listening


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(SLEEPER)


def test_only_the_one_that_ends_is_reported_and_once(line: socket.socket) -> None:
    living = WatchedProcesses(line)
    first, second = sleeper(), sleeper()
    try:
        assert living.watch(first.pid)
        assert living.watch(second.pid)
        assert living.wait(0.01) == ([], False)
        first.kill()  # and not waited for: a zombie has ended, too
        ended: list[int] = []
        for _ in range(200):
            ended += living.wait(0.05)[0]
            if ended:
                break
        assert ended == [first.pid]
        assert first.pid not in living
        assert second.pid in living
        assert living.wait(0.01) == ([], False)
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_one_that_has_ended_already_is_refused(line: socket.socket) -> None:
    gone = sleeper()
    gone.kill()
    gone.wait()
    assert not WatchedProcesses(line).watch(gone.pid)


def test_who_connects_is_seen(line: socket.socket) -> None:
    living = WatchedProcesses(line)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(line.getsockname())
        assert living.wait(5) == ([], True)
