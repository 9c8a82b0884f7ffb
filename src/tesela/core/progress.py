"""Progress of long work on standard error: a bar on a terminal, a line a minute in a log, JSON for other programs."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

LINE_EVERY_S = 60.0
"""Least time between two lines where standard error is no terminal."""

EVENTS = "TESELA_PROGRESS"
"""Environment variable: "json" asks for progress as JSON, for programs that run a command and show its progress."""

EVENT_EVERY_S = 0.3
"""Least time between two events of one work."""

_WIDE = 110
"""Columns of a terminal with room for a long bar and words beside it."""

_BAR, _SHORT_BAR = 40, 10


def fitting_words(text: str, room: int) -> str:
    """
    The first parts of a list with commas that fit into a number of columns.

    Examples
    --------
    >>> fitting_words("epoch 11, loss 2.576, macro F1 0.355, mIoU 0.271", 38)
    'epoch 11, loss 2.576, macro F1 0.355'
    """
    parts = text.split(", ")
    while parts and len(", ".join(parts)) > room:
        parts.pop()
    return ", ".join(parts)


def progress_event(**event: object) -> bool:
    """
    Write an event as one line of JSON on standard error, if `EVENTS` asks for it, also where a command is quiet.

    Events are ``{"work": "mapping", "done": 30, "total": 120, "text": ""}``, with a total of 0 while it is unknown,
    and ``{"stage": "train", "text": ""}``, with a text when the stage of a recipe ends.

    Returns
    -------
    bool
        Whether events are asked for.
    """
    if os.environ.get(EVENTS) != "json":
        return False
    sys.stderr.write(f"{json.dumps(event)}\n")
    sys.stderr.flush()
    return True


class ProgressLine:
    """
    How far some work is: a bar on a terminal; elsewhere a line at most every `LINE_EVERY_S`, with rate and time left;
    events where another program asks for them (`progress_event`).

    Parameters
    ----------
    title : str
        The work, such as "training".
    unit : str
        What is counted, such as "steps".
    quiet : bool
        Show nothing.
    """

    def __init__(self, title: str, *, unit: str = "", quiet: bool = False) -> None:
        self.title, self.unit, self.quiet = title, unit, quiet
        self._bar: Any = None
        self._task: Any = None
        self._begun: float | None = None
        self._first = 0
        self._last_line = 0.0
        self._done = self._total = 0
        self._text = ""
        self._events = False

    def start(self, *, total: int | None = None, done: int = 0) -> None:
        """Begin; steps that were done before count for neither rate nor time left."""
        if self._begun is not None:
            return
        self._events = progress_event(work=self.title, done=done, total=total or 0, text="")
        if self.quiet and not self._events:
            return
        self._begun = self._last_line = time.monotonic()
        self._first, self._done, self._total = done, done, total or 0
        if self._events or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            TextColumn(self.title),
            BarColumn(_BAR if console.width >= _WIDE else _SHORT_BAR),
            MofNCompleteColumn(),
            *([TextColumn(self.unit)] if self.unit else []),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("", total=total, completed=done)
        self._bar.start()

    def move(self, done: int, total: int | None = None) -> None:
        """Move to a step."""
        if self._begun is None:
            return
        self._done, self._total = done, total or self._total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total)
        elif time.monotonic() - self._last_line >= (EVENT_EVERY_S if self._events else LINE_EVERY_S):
            self._print()

    def describe(self, text: str) -> None:
        """Show a few words beside the bar, as many as fit, or at the end of the next line."""
        self._text = text
        if self._bar is not None:
            self._bar.update(self._task, description=fitting_words(text, self._room()))

    def _room(self) -> int:
        """Columns that the bar, the counts and the time leave."""
        width: int = self._bar.console.width
        bar = _BAR if width >= _WIDE else _SHORT_BAR
        shown = (" " * bar, self.title, self.unit, f"{self._total}/{self._total}", "0:00:00")
        return width - sum(len(part) + 1 for part in shown if part)

    def stop(self) -> None:
        """Leave the bar as it is and give the terminal back; a log gets a last line where there is something to say."""
        if self._bar is not None:
            self._bar.stop()
        elif self._begun is not None and (self._text or self._events):
            self._print()
        self._bar = self._begun = None

    def _print(self) -> None:
        self._last_line = time.monotonic()
        if self._events:
            progress_event(work=self.title, done=self._done, total=self._total, text=self._text)
            return
        seconds = self._last_line - (self._begun or self._last_line)
        line = progress_text(self._done, self._total, unit=self.unit, first=self._first, seconds=seconds)
        text = f", {self._text}" if self._text else ""
        sys.stderr.write(f"{self.title}: {line}{text}\n")
        sys.stderr.flush()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is shown: another process starts without it."""
        return ProgressLine(self.title, unit=self.unit, quiet=self.quiet).__dict__


def progress_text(done: int, total: int, *, unit: str = "", first: int, seconds: float) -> str:
    """
    How far, how fast, and how long it takes still.

    Examples
    --------
    >>> progress_text(30, 120, unit="steps", first=0, seconds=60)
    '30 of 120 steps (25 %), 30 a minute, 3 min left'
    >>> progress_text(4000, 5000, first=0, seconds=100)
    '4,000 of 5,000 (80 %), 40 a second, 25 s left'
    """
    counted = f"{total:,} {unit}".rstrip()
    share = f"{done:,} of {counted} ({100 * done / max(total, 1):.0f} %)"
    rate = (done - first) / max(seconds, 1e-9)
    if rate <= 0:
        return share
    speed = f"{rate:.3g} a second" if rate >= 2 else f"{60 * rate:.3g} a minute"
    left_s = max(total - done, 0) / rate
    left = (
        f"{left_s:.0f} s"
        if left_s < 100
        else f"{left_s / 60:.0f} min"
        if left_s < 6000
        else f"{left_s / 3600:.1f} h"
    )
    return f"{share}, {speed}, {left} left"
