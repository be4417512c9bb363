"""What step, how far, how long: live on a terminal, one plain line per event in a job's log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

LOG_WIDTH = 120  # a job's log has no width of its own, and tables wrap at 80
LINE_INTERVAL_S = 5.0  # a log gets at most one line of progress per step in this time


class StepProgress:
    """Handle of a running step."""

    def __init__(self, owner: Progress, name: str, total: float | None) -> None:
        self._owner = owner
        self._name = name
        self._total = total
        self._done = 0.0
        self._last_line_s = 0.0
        self._task: TaskID | None = None
        if owner.live is not None:
            self._task = owner.live.add_task(name, total=total, note="")

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Moves on by `amount`; `note` says what was just done."""
        self._done += amount
        self._show(note)

    def note(self, text: str) -> None:
        """Says what is being done now."""
        self._show(text)

    def _show(self, text: str) -> None:
        if self._task is not None and self._owner.live is not None:
            self._owner.live.update(self._task, completed=self._done, note=escape(text))
            return
        now_s = time.monotonic()
        finished = self._total is not None and self._done >= self._total
        if finished or now_s - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = now_s
            self._owner.line(f"{self._name}: {self._reached()}{text}".rstrip())

    def _reached(self) -> str:
        """How far, as far as it is known."""
        if self._total is None:
            return f"{self._done:g} " if self._done else ""
        return f"{self._done:g}/{self._total:g} "


class Progress:
    """Shows steps as they run and remembers how long each took."""

    def __init__(self, console: Console | None = None) -> None:
        shown = console or Console()
        self.console = shown if shown.is_terminal else Console(file=shown.file, width=LOG_WIDTH)
        self.durations_s: list[tuple[str, float]] = []
        self.live: RichProgress | None = None
        self._started_s = time.monotonic()

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[StepProgress]:
        """A step of `total` units of work (`None`: unknown)."""
        started_s = time.monotonic()
        outermost = self.live is None and self.console.is_terminal
        if outermost:
            self.live = RichProgress(
                TextColumn("{task.description:<22}", style="bold", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            self.live.start()
        else:
            self.line(f"{name} …")
        succeeded = False
        try:
            yield StepProgress(self, name, total)
            succeeded = True
        finally:
            if outermost and self.live is not None:
                self.live.stop()
                self.live = None
            seconds = time.monotonic() - started_s
            self.durations_s.append((name, seconds))
            self.line(f"{name}: {'done' if succeeded else 'stopped'} in {seconds:.1f} s")

    def line(self, text: str) -> None:
        """One line, stamped with the minutes and seconds since the start; never folded, so that a log can be searched.

        Brackets in `text` are brackets (`[start, end)`), not rich's markup.
        """
        elapsed_s = int(time.monotonic() - self._started_s)
        stamp = f"[dim]{elapsed_s // 60:02d}:{elapsed_s % 60:02d}[/dim]"
        self.console.print(f"{stamp} {escape(text)}", highlight=False, soft_wrap=True)
