"""The listening socket of the public port."""

from __future__ import annotations

import socket

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
