"""What of Ray's HAProxy configuration we change, as text in and text out; nothing here touches a file or a process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FRONTEND = "frontend http_frontend"
SIDE_LISTENERS = ("frontend prometheus", "listen stats")  # never in front of replicas
OURS = "backend http-millrace-"  # Ray's protocol, then the application's name
OTHER_BACKENDS = ("backend default_backend", "backend default_grpc_backend", "backend grpc_fallback_backend")
WATCH_NOT = "    http-request set-header x-request-disconnect-disabled ?1"
_BIND = re.compile(r"^(\s+bind) (?:\S+ # )?(\S+)$", re.MULTILINE)  # the address, in a comment once it is replaced
_SERVER = re.compile(r"^\s+server \S+ (\S+):(\d+) (?!.*\bbackup$).*$", re.MULTILINE)


def completed(text: str, folder: Path) -> str:
    """Ray's configuration with what its template leaves out.

    Small request bodies are buffered (else a POST is never retried), and what is for operators alone listens on sockets
    in the folder that only this user may open: no port that a second platform of the host could want too. Our replicas
    are told not to watch for a client that hangs up: their answers take milliseconds and are in the log anyway, while
    the two tasks by which Serve watches cost each request a tenth of its time. Other applications are left alone.
    """
    if "option http-buffer-request" not in text:
        text = text.replace("    option abortonclose\n", "    option abortonclose\n    option http-buffer-request\n")
    text = text.replace(" mode 666 level admin", " mode 600 level admin")
    for own, pattern in (("prom.sock", r"(?<= bind ):\d+$"), ("stats.sock", r"(?<= bind )\*:\d+(?=\n  stats )")):
        text = re.sub(pattern, f"unix@{folder}/{own} mode 600", text, flags=re.MULTILINE)
    return "".join(_without_watch(part) if part.startswith(OURS) else part for part in _sections(text))


def _without_watch(backend: str) -> str:
    head, rest = backend.split("\n", 1)
    return backend if WATCH_NOT in rest else f"{head}\n{WATCH_NOT}\n{rest}"


def public_address(text: str) -> str | None:
    """Where the public listens, `host:port`, whether `with_public_bind` has been there or not."""
    found = (_BIND.search(part) for part in _sections(text) if part.startswith(f"{FRONTEND}\n"))
    return next((match[2] for match in found if match), None)


def with_public_bind(text: str, bind: str) -> str:
    """The public listens at `bind` instead; its address stays in a comment."""
    return "".join(
        _BIND.sub(rf"\1 {bind} # \2", part, count=1) if part.startswith(f"{FRONTEND}\n") else part
        for part in _sections(text)
    )


def servers(text: str) -> list[tuple[str, int]]:
    """Host and port of each replica of each application."""
    backends = (part for part in _sections(text) if part.startswith("backend "))
    found = (_SERVER.findall(part) for part in backends if part.split("\n")[0] not in OTHER_BACKENDS)
    return [(host, int(port)) for replicas in found for host, port in replicas]


def stand_in(text: str) -> str:
    """The same without what belongs to Ray: the admin socket, by which Ray sees that its HAProxy is gone, and listeners
    for operators. Every replica counts as up until a check fails: the saved state may be old."""
    kept = "".join(part for part in _sections(text) if part.split("\n")[0] not in SIDE_LISTENERS)
    return re.sub(r"^ +(stats socket|server-state-|load-server-state-).*\n", "", kept, flags=re.MULTILINE)


def _sections(text: str) -> Iterator[str]:
    """Parts that begin with a line that is not indented; together they are the text."""
    yield from re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)
