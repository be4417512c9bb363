"""Kills parts of a running application while it is under load, and what is made of the outcome."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.rollout.operations import driver_name
from app.serving.haproxy import configuration_folder
from app.settings import load_settings
from tests.cluster.steady_load import BROKEN, Sent

HAPROXY = "haproxy"
KINDS = ("replica", "candidate", "driver", "serve controller", HAPROXY)
TITLES = {
    "proxy manager": "ray::HAProxyManager",
    "replica": "ray::ServeReplica:millrace-shop:ingress",
    "candidate": "ray::ServeReplica:millrace-shop:candidate",
    "serve controller": "ray::ServeController",
}


@dataclass(frozen=True)
class Kill:
    """One process that was killed; when, in seconds since 1970, and when it was gone."""

    kind: str
    pid: int
    at: float
    gone_at: float


def processes_of(kind: str) -> Iterator[int]:
    """Process ids of this test's own Ray. `driver`: rollout controller and shipper of the prediction log."""
    if kind == "driver":
        try:
            actor = ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE)
            found: Any = ray.get(actor.process_id.remote(), timeout=2)
            yield int(found)
        except (ValueError, ray.exceptions.RayError):  # it was killed a moment ago
            return
    elif kind == HAPROXY:
        yield from (pid for pid in haproxies() if accepts(pid))
    else:
        own = psutil.Process().children(recursive=True)
        yield from _running(own, lambda words: bool(words) and words[0].startswith(TITLES[kind]))


def haproxies() -> Iterator[int]:
    """Those of this home: Ray's own, the stand-in, and those that only finish what they were asked."""
    folder = f"{configuration_folder(load_settings(in_job=False))}{os.sep}"
    yield from _running(psutil.process_iter(), lambda words: any(
        word.startswith(folder) and word.endswith("haproxy.cfg") for word in words
    ))


def accepts(pid: int) -> bool:
    """Whether it takes new connections of the host's port."""
    try:
        return any(c.status == psutil.CONN_LISTEN for c in psutil.Process(pid).net_connections("tcp"))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def kill(kind: str, pid: int) -> Kill:
    """Kills it and waits until it is gone, so that nothing that begins later can have met it."""
    descriptor = os.pidfd_open(pid)
    at = time.time()
    os.kill(pid, signal.SIGKILL)
    select.select([descriptor], [], [])
    os.close(descriptor)
    return Kill(kind, pid, at, time.time())


def _running(processes: Iterable[psutil.Process], fits: Callable[[list[str]], bool]) -> Iterator[int]:
    for process in processes:
        try:
            if fits(process.cmdline()):
                yield process.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


class Killer:
    """Kills one process of a random kind each `every_s`, in a thread, while it is entered.

    Args:
        first: kinds that are killed first, in this order.
    """

    def __init__(self, every_s: float, first: Sequence[str] = (), kinds: Sequence[str] = KINDS, seed: int = 0) -> None:
        self.kills: list[Kill] = []
        self._every_s, self._first, self._kinds = every_s, list(first), kinds
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            kind = self._first.pop(0) if self._first else self._random.choice(self._kinds)
            found = list(processes_of(kind))
            if found:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    self.kills.append(kill(kind, self._random.choice(found)))


NO_KILL = Kill("none", 0, 0.0, 0.0)


def last_kill_before(failed: Sent, kills: Sequence[Kill]) -> str:
    """Kind of the last process killed before a request failed."""
    return max((k for k in kills if k.at <= failed.ended_at), key=lambda k: k.at, default=NO_KILL).kind


def broke_with_the_proxy(sent: Sequence[Sent], kills: Sequence[Kill]) -> set[str]:
    """Ids of requests that failed on a connection that was open when the host's only proxy was killed."""
    at = [k for k in kills if k.kind == HAPROXY]
    failed = [s for s in sent if s.failure and s.failure.startswith(BROKEN) and s.connected_at is not None]
    return {s.request_id for s in failed if any(s.connected_at <= k.gone_at and s.ended_at >= k.at for k in at)}
