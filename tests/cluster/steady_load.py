"""A client that asks at a fixed rate whatever the answers do, and retries nothing.

Headers and body leave in two packets. A slow answer delays no other request: each is sent when it is due, over an idle
connection or a new one. What became of each is written down, a line of JSON each. A process of its own, so that the
test's other work does not slow it:

python -m tests.cluster.steady_load URL RATE SECONDS FILE  (the token in MILLRACE_TOKEN)
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

TIMEOUT_S = 20.0
BETWEEN_PACKETS_S = 0.001
PATH = "/v1/predict"
BROKEN, REFUSED = "connection broken", "connection refused"
LOOKED_UP_EACH = 10  # one of so many requests is by entity, the others bring their features


@dataclass(frozen=True)
class Sent:
    """One request. Times in seconds since 1970.

    Attributes:
        at: when it was sent.
        failure: why it has no answer of 200.
        connected_at: when the connection that carried it was opened; `None`: none could be.
    """

    request_id: str
    at: float
    latency_s: float
    failure: str | None = None
    version: str | None = None
    epoch: int | None = None
    variant: str | None = None
    answered_by: str | None = None
    connected_at: float | None = None

    @property
    def ended_at(self) -> float:
        return self.at + self.latency_s


class _Connection(asyncio.Protocol):
    """One connection that has at most one request under way."""

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.transport: Any = None
        self.opened_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.opened_at = time.time()
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(head)
        await asyncio.sleep(BETWEEN_PACKETS_S)
        self.transport.write(body)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), None)
        if length is None:  # a proxy's own page, which ends with the connection; the status says enough
            self.transport.abort()
        elif len(rest) < length:
            return
        self._received = b""
        self._answer.set_result((int(lines[0].split()[1]), rest))
        if length is not None and b"connection: close" not in lines:
            self._idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and not self._answer.done():
            said = "closed without an answer" if error is None else type(error).__name__
            self._answer.set_exception(ConnectionResetError(said))


class _Client:
    def __init__(self, url: str, token: str, out: TextIO) -> None:
        self._host, self._port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
        self._head = (
            f"POST {PATH} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n"
            "content-type: application/json\r\ncontent-length: "
        )
        self._out = out
        self._idle: list[_Connection] = []

    async def send(self, number: int) -> None:
        """Sends one request and writes down what became of it."""
        request_id, at = f"steady-{number}", time.time()
        case = {"order_id": f"o{number}", "price": number % 997 / 997}
        if number % LOOKED_UP_EACH:
            rows = {"rows": [{**case, "stock": 1.0}]}
        else:
            rows = {"entities": [{**case, "shop": f"s{number % 5}"}]}
        body = json.dumps({"request_id": request_id, **rows}).encode()
        failure: str | None = None
        said: Mapping[str, Any] = {}
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = await self._connection()
                status, answer = await self._ask(connection, body)
            if status == 200:
                said = json.loads(answer)
            else:
                failure = f"status {status}: {answer[:200].decode(errors='replace')}"
        except TimeoutError:
            failure = f"no answer within {TIMEOUT_S:g} s"
        except ConnectionRefusedError:
            failure = REFUSED
        except OSError as error:
            failure = f"{BROKEN}: {error}"
        first = said["predictions"][0] if said else {}
        sent = Sent(
            request_id, at, time.time() - at, failure, first.get("version"), said.get("epoch"), first.get("variant"),
            first.get("answered_by"), connection.opened_at if connection else None,
        )
        self._out.write(json.dumps(asdict(sent)) + "\n")

    async def _connection(self) -> _Connection:
        """An idle connection or a new one."""
        if self._idle:
            return self._idle.pop()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._idle), self._host, self._port)
        return connection

    async def _ask(self, connection: _Connection, body: bytes) -> tuple[int, bytes]:
        try:
            return await connection.ask(f"{self._head}{len(body)}\r\n\r\n".encode(), body)
        except BaseException:
            connection.transport.abort()
            raise


async def _run(url: str, per_s: float, duration_s: float, token: str, out: TextIO) -> None:
    client = _Client(url, token, out)
    began, under_way = time.monotonic(), set()
    for number in range(int(per_s * duration_s)):
        wait_s = began + number / per_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.ensure_future(client.send(number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


class SteadyLoad:
    """The client as a process that starts at once."""

    def __init__(self, url: str, token: str, per_s: float, duration_s: float, out: Path) -> None:
        self._out = out
        self._timeout_s = duration_s + 2 * TIMEOUT_S
        command = [sys.executable, "-m", "tests.cluster.steady_load", url, str(per_s), str(duration_s), str(out)]
        self._process = subprocess.Popen(command, env={**os.environ, "MILLRACE_TOKEN": token})

    def result(self) -> list[Sent]:
        """Waits until every request has ended; gives them in the order they were sent."""
        assert self._process.wait(self._timeout_s) == 0
        sent = [Sent(**json.loads(line)) for line in self._out.read_text().splitlines()]
        return sorted(sent, key=lambda s: s.at)

    def stop(self) -> None:
        """Ends it whether it is done or not."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    target, rate, seconds, file = sys.argv[1:]
    with Path(file).open("w") as lines:
        asyncio.run(_run(target, float(rate), float(seconds), os.environ["MILLRACE_TOKEN"], lines))
