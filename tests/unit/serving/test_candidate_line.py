"""The straight line to a candidate of the same host: real sockets, both ends on one event loop."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from app.serving.candidate_line import (
    MAX_ROWS,
    CandidateError,
    CandidateLines,
    CandidateListener,
    pack,
    unpacker,
)
from app.serving.private_folder import make_private

Rows = list[dict[str, Any]]

HANGS_AT_NINE = """
import asyncio, sys
from pathlib import Path
from app.serving.candidate_line import CandidateListener

folder = Path(sys.argv[1])

async def predict(version, rows):
    if rows[0]["x"] == 9.0:
        (folder.parent / "hangs").touch()
        await asyncio.sleep(60)
    return [0.0]

async def run():
    await CandidateListener(folder, predict).start()
    await asyncio.sleep(60)

asyncio.run(run())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="line-") as scratch:
        yield Path(scratch) / "c"


async def beyond(version: str | None, rows: Rows) -> list[float]:
    return [-1.0] * len(rows)


async def double(version: str, rows: Rows) -> list[float]:
    await asyncio.sleep(0)
    return [2 * row["x"] for row in rows]


async def connected(folder: Path) -> CandidateLines:
    lines = CandidateLines(folder, beyond)
    for _ in range(3_000):  # a minute: some candidates are processes of their own, which start slowly on a busy machine
        if await lines.ask("2", [{"x": 1.0}]) != [-1.0]:
            return lines
        await asyncio.sleep(0.02)
    raise AssertionError("no line came up")


def test_values_of_every_type_arrive_as_they_were() -> None:
    row = {
        "a": 1, "b": 0.1, "c": "é", "d": None, "e": True, "f": datetime(1, 1, 1, 0, 0, 0, 5, UTC),
        "g": date(2013, 2, 1), "h": [1, None], "i": 2**63 - 1,
    }
    messages = unpacker()
    data = pack([7, "2", [row]]) * 2
    found = []
    for byte in data:  # as broken up as can be
        messages.feed(bytes([byte]))
        found += list(messages)
    assert found == [[7, "2", [row]]] * 2
    with pytest.raises(TypeError, match="object"):
        pack([1, "2", [{"x": object()}]])


def test_answers_find_their_questions(folder: Path) -> None:
    async def run() -> None:
        async def slow_first(version: str, rows: Rows) -> list[float]:
            await asyncio.sleep(0.05 if rows[0]["x"] == 0 else 0.0)
            return [row["x"] for row in rows]

        listener = CandidateListener(folder, slow_first)
        await listener.start()
        lines = await connected(folder)
        found = await asyncio.gather(*(lines.ask("2", [{"x": float(n)}]) for n in range(20)))
        assert found == [[float(n)] for n in range(20)]
        await listener.drain()

    asyncio.run(run())


def test_a_candidate_that_cannot_says_why(folder: Path) -> None:
    async def run() -> None:
        async def fail(version: str, rows: Rows) -> list[float]:
            raise ZeroDivisionError("no")

        listener = CandidateListener(folder, fail)
        await listener.start()
        with pytest.raises(CandidateError, match="no") as caught:
            await connected(folder)
        assert caught.value.kind == "ZeroDivisionError"
        await listener.drain()

    asyncio.run(run())


def test_a_candidate_that_is_killed_fails_its_questions_and_is_forgotten(folder: Path) -> None:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGS_AT_NINE, str(folder))
        lines = await connected(folder)
        question = asyncio.ensure_future(lines.ask("2", [{"x": 9.0}]))
        while not (folder.parent / "hangs").exists():
            await asyncio.sleep(0.02)
        process.kill()
        with pytest.raises(ConnectionResetError):
            await question
        assert await lines.ask("2", [{"x": 1.0}]) == [-1.0]
        await process.wait()

    asyncio.run(run())


def test_a_candidate_that_is_stopped_answers_what_it_was_asked(folder: Path) -> None:
    async def run() -> None:
        async def slow(version: str, rows: Rows) -> list[float]:
            await asyncio.sleep(rows[0]["x"])
            return [0.0]

        listener = CandidateListener(folder, slow)
        await listener.start()
        lines = await connected(folder)
        question = asyncio.ensure_future(lines.ask("2", [{"x": 1.5}]))
        await asyncio.sleep(0.05)
        stopping = asyncio.ensure_future(listener.drain())
        while await lines.ask("2", [{"x": 0.01}]) != [-1.0]:
            assert not stopping.done(), "whoever asks sees that it stops before it has"
        await stopping
        assert question.done() and question.result() == [0.0]

    asyncio.run(run())


def test_what_lines_do_not_reach_goes_through_serve(folder: Path) -> None:
    async def run() -> None:
        folder.mkdir(mode=0o700)
        (folder / "gone.sock").touch()
        lines = CandidateLines(folder, beyond)
        assert await lines.ask("2", [{"x": 1.0}]) == [-1.0]
        listener = CandidateListener(folder, double)
        await listener.start()
        lines = await connected(folder)
        assert await lines.ask("2", [{"x": 1.0}]) == [2.0]
        assert await lines.ask("2", [{"x": 1.0}] * (MAX_ROWS + 1)) == [-1.0] * (MAX_ROWS + 1)
        assert not (folder / "gone.sock").exists()  # nobody listened there
        await listener.drain()

    asyncio.run(run())


def test_a_folder_that_others_may_enter_is_not_used(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    assert not make_private(folder)

    async def run() -> None:
        listener = CandidateListener(folder, double)
        await listener.start()
        assert list(folder.iterdir()) == []

    asyncio.run(run())
