"""No HAProxy of a home outlives its Ray, and no holder of its port."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from app.serving.haproxy import configuration_folder
from app.serving.haproxy_start import HOLDER
from app.settings import Settings

STOP_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 30.0


def stop_leftover(settings: Settings) -> list[int]:
    """Stops HAProxy processes of this home whose Ray is gone, and gives the process ids of what had to be stopped.

    The holder of the port stops them and itself when its Ray ends, which is waited for. Where it was killed, HAProxy
    lives on, keeps the port and answers 500. Only processes with this home's configuration file are stopped, and only
    those without a living Ray.
    """
    folder = configuration_folder(settings)
    leaving = [process for process in _holders(folder) if not _has_ray(process)]
    stopped = [process.pid for process in leaving if not _ends_itself(process)]
    return stopped + [process.pid for process in list(_orphans(folder)) if _stop(process)]


def wait_until_gone(settings: Settings, timeout_s: float = GONE_TIMEOUT_S) -> None:
    """Waits for this home's HAProxy to end, stopping it once its Ray is gone.

    A Ray whose driver was killed takes seconds to die, and its HAProxy, not yet an orphan, still holds the ports.
    Returns at the latest after `timeout_s`: the proxy of a platform that is meant to run on stays.
    """
    folder = configuration_folder(settings)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        stop_leftover(settings)
        if not any(True for _ in _haproxies(folder)) and not any(True for _ in _holders(folder)):
            return
        time.sleep(0.5)


def _ends_itself(process: psutil.Process) -> bool:
    """Waits for it; kills it when it does not."""
    try:
        process.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
        return False
    return True


def _stop(process: psutil.Process) -> bool:
    """False when it had ended already."""
    try:
        process.terminate()
        _ends_itself(process)
    except psutil.NoSuchProcess:
        return False
    return True


def _orphans(folder: Path) -> Iterator[psutil.Process]:
    """HAProxies whose parent is no Ray process and whose port nobody holds for a Ray that lives."""
    held = {_node_of(_words(process), folder) for process in _holders(folder)}
    return (p for p in _haproxies(folder) if _node_of(_words(p), folder) not in held and not _has_ray_parent(p))


def _haproxies(folder: Path) -> Iterator[psutil.Process]:
    found = ((process, _words(process)) for process in psutil.process_iter())
    return (p for p, words in found if _node_of([w for w in words if w.endswith("haproxy.cfg")], folder))


def _holders(folder: Path) -> Iterator[psutil.Process]:
    found = ((process, _words(process)) for process in psutil.process_iter())
    return (process for process, words in found if HOLDER in words and _node_of(words, folder))


def _has_ray(holder: psutil.Process) -> bool:
    """Whether the raylet that the holder was started for lives."""
    words = _words(holder)
    try:
        return bool(words) and bool(psutil.Process(int(words[-1])).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _has_ray_parent(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return False
    return parent is not None and any("ray::" in word for word in _words(parent))


def _node_of(words: Iterable[str], folder: Path) -> str | None:
    """Name of the folder's part that belongs to one Ray node, from the first path of a command line that lies there."""
    inside = (word.removeprefix(f"{folder}{os.sep}") for word in words if word.startswith(f"{folder}{os.sep}"))
    return next((path.split(os.sep)[0] for path in inside), None)


def _words(process: psutil.Process) -> list[str]:
    """Its command line; empty when it has ended or is another user's."""
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
