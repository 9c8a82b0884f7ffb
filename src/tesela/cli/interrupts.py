"""Interrupts: Ctrl+C and SIGTERM end a command in the same way, with one line and an exit status other than 0."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_WORDS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}

_REMIND_S = 10.0
"""A library may lose the exception that an interrupt raises; after so long it is raised again."""

_SAME_S = 1.0
"""`timeout` and terminals send a signal twice; later ones are meant."""

_received: list[int] = []


@contextmanager
def interrupts() -> Iterator[None]:
    """
    Raise KeyboardInterrupt for Ctrl+C and for SIGTERM while the block runs; a second one ends the program at once.

    Other processes that this one forks end by SIGTERM as usual. Does nothing outside of the main thread.
    """
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own, last = os.getpid(), [0.0]

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if not _received:
            _received.append(number)
            last[0] = now
            _remind(number)
        elif number >= 0 and _SAME_S < now - last[0] < _REMIND_S * 0.9:
            os._exit(128 + number)
        elif now - last[0] <= _SAME_S:
            return
        else:
            last[0] = now
            _remind(number)
        raise KeyboardInterrupt

    running = threading.Event()

    def _remind(number: int) -> None:
        def later() -> None:
            if not running.wait(_REMIND_S):
                _thread.interrupt_main(signal.Signals(number))

        threading.Thread(target=later, daemon=True, name="interrupt").start()

    former = {number: signal.signal(number, handle) for number in _WORDS}
    try:
        yield
    finally:
        running.set()
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def received() -> int:
    """Number of the signal that came, 0 for none."""
    return _received[0] if _received else 0


def ended_on_request() -> None:
    """The command is one that an interrupt ends as intended, such as a server: its exit status is 0."""
    _received.clear()


def last_line() -> str:
    """Line to print after an interrupt."""
    word = _WORDS[signal.Signals(received() or signal.SIGINT)]
    return f"{word}. Run the same command again to continue."
