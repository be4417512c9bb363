"""How a HAProxy that starts asks the holder for the public port: one line of JSON each way over a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

SOCKET = "holder.sock"
MAX_BYTES = 16_000_000  # of a request, which carries the configuration
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class PortRequest:
    """`manager`: process id of Ray's manager of this HAProxy; `replaced`: those that Ray stops in its favour."""

    manager: int
    address: str
    replaced: tuple[int, ...]
    configuration: str


@dataclass(frozen=True)
class PortAnswer:
    """`others`: HAProxies to stop once this one runs; `refusal`: why it cannot start at all."""

    has_port: bool = False
    others: tuple[int, ...] = ()
    refusal: str | None = None


def ask(folder: Path, request: PortRequest) -> tuple[PortAnswer, int | None]:
    """Asks the holder of the folder. Gives its answer and, where it has the port, the listening socket's descriptor.

    Raises:
        OSError: there is no holder, it is another user's, or it went away meanwhile.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(TIMEOUT_S)
        line.connect(str(folder / SOCKET))
        _, user = peer(line)
        if user != os.getuid():
            raise PermissionError(f"{folder / SOCKET} is held by user {user}")
        line.sendall(json.dumps(asdict(request)).encode() + b"\n")
        data, descriptors, _, _ = socket.recv_fds(line, 65_536, 1)
    if not data.endswith(b"\n"):
        raise ConnectionResetError("the holder of the port went away")
    said = json.loads(data)
    answer = PortAnswer(said["has_port"], tuple(said["others"]), said["refusal"])
    return answer, descriptors[0] if descriptors else None


def peer(line: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a Unix socket."""
    pid, user, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user


def read_request(line: socket.socket) -> PortRequest:
    """The request that comes over the line.

    Raises:
        OSError: none came whole in time.
        ValueError: it is none.
    """
    line.settimeout(TIMEOUT_S)
    data = b""
    while not data.endswith(b"\n"):
        more = line.recv(1_000_000)
        if not more or len(data) > MAX_BYTES:
            raise ConnectionResetError("the request did not come whole")
        data += more
    return _parse(json.loads(data))


def _parse(said: object) -> PortRequest:
    match said:
        case {"manager": int(manager), "address": str(address), "replaced": list(replaced), "configuration": str(text)}:
            port = address.rpartition(":")[2]
            if all(_is_pid(pid) for pid in (manager, *replaced)) and port.isdecimal() and int(port) < 65_536:
                return PortRequest(manager, address, tuple(replaced), text)
    raise ValueError("malformed; expected manager, address, replaced and configuration")


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 2**31


def send_answer(line: socket.socket, answer: PortAnswer, descriptor: int | None) -> None:
    socket.send_fds(line, [json.dumps(asdict(answer)).encode() + b"\n"], [] if descriptor is None else [descriptor])
