"""Kills what stands between clients and replicas, and waits for Ray's own repair."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import psutil

from tests.cluster.chaos import HAPROXY, Kill, accepts, haproxies, kill, processes_of

MANAGER = "proxy manager"
WAIT_S = 90.0
FOLLOWS_WITHIN_S = 3.0


def wait_until(holds: Callable[[], bool], what: str) -> float:
    """Gives how many seconds it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < WAIT_S, f"never: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def kill_one(kind: str) -> list[Kill]:
    """Kills the newest process of the kind, once there is one; gives that and, where its HAProxy went too, that one.

    Ray ends the children of a worker that died, so a manager takes its HAProxy along.
    """
    wait_until(lambda: bool(list(processes_of(kind))), f"a process of {kind}")
    serving = {os.pidfd_open(pid): pid for pid in processes_of(HAPROXY)}
    killed = kill(kind, max(processes_of(kind), key=lambda pid: psutil.Process(pid).create_time()))
    ended, _, _ = select.select(list(serving), [], [], FOLLOWS_WITHIN_S)
    followed = [Kill(HAPROXY, serving[d], killed.at, time.time()) for d in ended if serving[d] != killed.pid]
    for descriptor in serving:
        os.close(descriptor)
    return [killed, *followed]


def wait_repaired(killed: Kill) -> float:
    """Waits until only a HAProxy of a living manager, another than before the kill, takes connections."""
    return wait_until(lambda: _is_repaired(killed), f"Ray's repair of {killed}")


def _is_repaired(killed: Kill) -> bool:
    managers = set(processes_of(MANAGER)) - {killed.pid}
    serving = [pid for pid in haproxies() if accepts(pid)]
    try:
        return bool(serving) and all(
            psutil.Process(pid).ppid() in managers and psutil.Process(pid).create_time() > killed.at for pid in serving
        )
    except psutil.NoSuchProcess:
        return False

