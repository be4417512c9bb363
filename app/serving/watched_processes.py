"""Sees that a process ends, whoever is its parent, and that somebody connects: one place to wait for both."""

from __future__ import annotations

import os
import selectors
import socket
from pathlib import Path

POLL_S = 0.05  # where Python was built without pidfd_open


class WatchedProcesses:
    """Living processes. `line`: the listening socket whose callers are waited for, too."""

    def __init__(self, line: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ, None)
        self._descriptors: dict[int, int] = {}  # pid → pidfd
        self._polled: dict[int, str] = {}  # pid → when it started

    def watch(self, pid: int) -> bool:
        """False when it has ended already.

        Raises:
            OSError: it cannot be watched, e.g. because no descriptor is left.
        """
        if pid in self:
            return True
        if not hasattr(os, "pidfd_open"):
            started = _started(pid)
            if started is not None:
                self._polled[pid] = started
            return started is not None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        self._descriptors[pid] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, pid)
        return True

    def __contains__(self, pid: int) -> bool:
        return pid in self._descriptors or pid in self._polled

    def wait(self, timeout_s: float) -> tuple[list[int], bool]:
        """Waits at most so long; gives the processes that ended, and whether somebody connects."""
        limit_s = min(timeout_s, POLL_S) if self._polled else timeout_s
        ready = [key.data for key, _ in self._selector.select(limit_s)]
        ended = [pid for pid in ready if pid is not None]
        for pid in ended:
            descriptor = self._descriptors.pop(pid)
            self._selector.unregister(descriptor)
            os.close(descriptor)
        unseen = [pid for pid, started in self._polled.items() if _started(pid) != started]
        for pid in unseen:
            del self._polled[pid]
        return ended + unseen, None in ready


def _started(pid: int) -> str | None:
    """When a living process was started, in the kernel's ticks: another one may be given its id."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]
