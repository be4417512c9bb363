"""The listening socket of the public port, and which processes have it."""

from __future__ import annotations

import os
import socket
from collections.abc import Set as AbstractSet
from pathlib import Path

BACKLOG = 4_096  # connections that wait while no HAProxy accepts; the kernel cuts it to net.core.somaxconn
CONNECT_TIMEOUT_S = 0.2


def open_public_socket(address: str, *, is_ours: bool) -> socket.socket:
    """Listens at `host:port`; `*` is every address of the host.

    A socket that shares its port (so that the next holder can listen beside the HAProxies of one that was killed) would
    share it with another home's too. So unless who listens there `is_ours`, a socket that does not share tries first.

    Raises:
        OSError: the port is taken, or there is no such address.
    """
    host, _, port = address.rpartition(":")
    place = ("0.0.0.0" if host == "*" else host.strip("[]"), int(port))
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    if not is_ours:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()
    public = socket.socket(family)
    try:
        public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        public.bind(place)
        public.listen(BACKLOG)
    except OSError:
        public.close()
        raise
    return public


def may_listen(server: tuple[str, int]) -> bool:
    """Whether somebody listens there, or is too busy to say."""
    try:
        with socket.create_connection(server, timeout=CONNECT_TIMEOUT_S):
            return True
    except TimeoutError:
        return True
    except OSError:
        return False


def listening_at(address: str) -> set[str]:
    """Sockets that listen at the address's port, as a process's descriptors name them."""
    port = int(address.rpartition(":")[2])
    rows = [row.split() for table in ("tcp", "tcp6") for row in _lines(Path("/proc/net") / table)]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


def has_any(pid: int, sockets: AbstractSet[str]) -> bool:
    """Whether a process has one of the sockets open. A HAProxy that was told to end closes its own at once."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as descriptors:
            return any(_target(descriptor.path) in sockets for descriptor in descriptors)
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended, or is another user's
        return False


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def _target(descriptor: str) -> str | None:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed meanwhile
        return None
