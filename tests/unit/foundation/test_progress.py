"""What a person sees of a running step."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from app.foundation.telemetry import Progress


@pytest.fixture
def log() -> Console:
    return Console(file=io.StringIO(), width=40)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_log_has_a_line_when_a_step_starts_and_ends_and_few_between(log: Console) -> None:
    with Progress(log).step("Ingest", total=100) as step:
        for _ in range(100):
            step.advance()
    assert [line[6:] for line in written(log)][:-1] == ["Ingest …", "Ingest: 1/100", "Ingest: 100/100"]
    assert written(log)[-1].startswith("00:00 Ingest: done in ")


def test_a_long_note_with_brackets_stays_one_line_as_it_is(log: Console) -> None:
    note = "window [a, b) of [/flights] " + "x" * 60
    with Progress(log).step("Replay") as step:
        step.note(note)
    assert f"00:00 Replay: {note}" in written(log)


def test_a_terminal_takes_brackets_in_names_and_notes() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(console).step("Replay [/x]", total=2) as step:
        step.advance(1, "window [/y]")
        step.advance(1)


def test_a_step_that_fails_says_so_and_is_timed(log: Console) -> None:
    progress = Progress(log)
    with pytest.raises(ValueError, match="boom"), progress.step("Train"):
        raise ValueError("boom")
    assert "Train: stopped in" in written(log)[-1]
    assert [name for name, _ in progress.durations_s] == ["Train"]
