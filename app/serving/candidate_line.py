"""A straight line from champion to candidate replicas of the same host: a Unix socket, one message each way.

A call through Serve's handle costs some 7 ms of processor time on both sides together, a message here some 0.1 ms. The
handle stays for what the lines do not reach: candidates on other hosts, large requests, and a candidate whose number of
replicas follows the requests that Serve counts.

A replica listens in a folder that only its user may enter, and whoever asks looks there for sockets. A message is
msgpack: `[number, version, rows]`, answered by `[number, scores, kind of error, message]`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import msgpack

from app.errors import ModelError
from app.serving.haproxy import configuration_folder
from app.serving.private_folder import make_private
from app.serving.schema import Row
from app.settings import Settings

logger = logging.getLogger(__name__)

SUFFIX = ".sock"
LOOK_EACH_S = 0.5
MAX_ROWS = 1_000
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
DATE = 1  # our extension type of msgpack

DRAIN_S = 3.0  # longest wait for questions under way; Serve's own grace is longer

Predict = Callable[[str, list[Row]], Awaitable[list[float]]]
AskCandidate = Callable[[str | None, list[Row]], Awaitable[Sequence[float]]]


class CandidateError(ModelError):
    """The candidate answered that it cannot. `kind`: the name of its error."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind=kind)
        self.kind = kind


def line_folder(settings: Settings, model: str) -> Path:
    """Where the candidate's replicas of this host listen: a short path, one for each home and model."""
    return configuration_folder(settings) / f"c-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def pack(message: Sequence[Any]) -> bytes:
    """A message as bytes."""
    return cast(bytes, msgpack.packb(message, datetime=True, default=_pack_other))


def unpacker() -> msgpack.Unpacker:
    """Takes bytes as they come and gives whole messages."""
    return msgpack.Unpacker(
        timestamp=3, ext_hook=_unpack_other, strict_map_key=False, max_buffer_size=MAX_MESSAGE_BYTES
    )


class _Listening(asyncio.Protocol):
    """One asker's connection, at the candidate."""

    def __init__(self, predict: Predict, answers: set[asyncio.Task[None]]) -> None:
        self._predict = predict
        self._messages = unpacker()
        self._answers = answers
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._messages.feed(data)
        for number, version, rows in self._messages:
            answer = asyncio.ensure_future(self._answer(number, version, rows))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)

    async def _answer(self, number: int, version: str, rows: list[Row]) -> None:
        try:
            reply = [number, await self._predict(version, rows), None, None]
        except Exception as error:  # noqa: BLE001 whatever a candidate raises is its answer
            reply = [number, None, type(error).__name__, str(error)]
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(reply))


class CandidateListener:
    """A candidate replica's end.

    Args:
        predict: scores rows by a version.
    """

    def __init__(self, folder: Path, predict: Predict) -> None:
        self._path = folder / f"{uuid.uuid4().hex[:12]}{SUFFIX}"
        self._predict = predict
        self._server: asyncio.Server | None = None
        self._answers: set[asyncio.Task[None]] = set()  # of all connections

    async def start(self) -> None:
        """Listens, unless the folder is not this user's own: then Serve's handle must do."""
        if not make_private(self._path.parent):
            logger.error("%s is not this user's own: the candidate is asked through Serve only", self._path.parent)
            return
        loop, draft = asyncio.get_running_loop(), self._path.with_suffix(".new")
        self._server = await loop.create_unix_server(lambda: _Listening(self._predict, self._answers), draft)
        draft.rename(self._path)  # so that a socket with this name always has somebody who listens

    async def drain(self) -> None:
        """Listens no more, once those who ask have had time to see it and their questions are answered."""
        if self._server is None:
            return
        self._path.unlink(missing_ok=True)
        self._server.close()
        began = time.monotonic()
        await asyncio.sleep(2 * LOOK_EACH_S)
        while self._answers and time.monotonic() - began < DRAIN_S:
            await asyncio.wait(self._answers, timeout=DRAIN_S)


class _Line(asyncio.Protocol):
    """One connection to a candidate replica, at the asker."""

    def __init__(self) -> None:
        self._messages = unpacker()
        self._numbers = itertools.count()
        self._transport: asyncio.WriteTransport | None = None
        self.waiting: dict[int, asyncio.Future[Sequence[float]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, version: str | None, rows: list[Row]) -> Sequence[float]:
        assert self._transport is not None
        number = next(self._numbers)
        future: asyncio.Future[Sequence[float]] = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        try:
            self._transport.write(pack([number, version, rows]))
            return await future
        finally:
            del self.waiting[number]

    def data_received(self, data: bytes) -> None:
        self._messages.feed(data)
        for number, scores, kind, message in self._messages:
            future = self.waiting.get(number)
            if future is None or future.done():
                continue  # whoever asked has given up
            if kind is None:
                future.set_result(scores)
            else:
                future.set_exception(CandidateError(message, kind))

    def connection_lost(self, error: Exception | None) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the candidate's replica is gone"))


class CandidateLines:
    """An asker's end: lines to all candidate replicas of this host. Belongs to one event loop.

    Args:
        beyond: asks the candidate where no line leads.
    """

    def __init__(self, folder: Path, beyond: AskCandidate) -> None:
        self._folder = folder
        self._beyond = beyond
        self._lines: dict[str, _Line] = {}
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, version: str | None, rows: list[Row]) -> Sequence[float]:
        """Scores of `rows` by the candidate's `version`, from the replica with the fewest questions.

        Raises:
            CandidateError: it says that it cannot.
            ConnectionResetError: it died over it.
        """
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EACH_S and (self._looking is None or self._looking.done()):
            self._looked_at = now
            self._looking = asyncio.ensure_future(self._look())
        lines = [line for line in self._lines.values() if line.is_open]
        if not lines or len(rows) > MAX_ROWS:
            return await self._beyond(version, rows)
        return await min(lines, key=lambda line: len(line.waiting)).ask(version, rows)

    async def _look(self) -> None:
        """Connects to sockets that are new and forgets lines that broke, or whose replica is about to stop."""
        there = {path.name: path for path in self._folder.glob(f"*{SUFFIX}")}
        self._lines = {name: line for name, line in self._lines.items() if line.is_open and name in there}
        fresh = [path for name, path in there.items() if name not in self._lines]
        if not fresh or not make_private(self._folder):
            return
        for path in fresh:
            try:
                _, line = await asyncio.get_running_loop().create_unix_connection(_Line, str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # of a replica that was killed
            except OSError as error:
                logger.warning("candidate's socket %s cannot be reached: %s", path.name, error)
            else:
                self._lines[path.name] = line


def _pack_other(value: object) -> msgpack.ExtType:
    if isinstance(value, date):
        return msgpack.ExtType(DATE, value.isoformat().encode())
    raise TypeError(f"a feature's value is a {type(value).__name__}, which no request has.")


def _unpack_other(code: int, data: bytes) -> Any:
    if code != DATE:
        raise ValueError(f"msgpack extension {code} is not one of ours.")
    return date.fromisoformat(data.decode())
