"""What Lightning says and does on a terminal, made fit for a library."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def clean_output() -> Iterator[None]:
    """Keep Lightning's greetings, and warnings that no user can act on, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in (
            r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's loop under a newer torch
            r".*does not have many workers",  # the patches are in memory
            r"GPU available but not used",  # the settings say so
            r"Found \d+ module\(s\) in eval mode",  # the averaged network stays in it
            r"Starting from v1\.9\.0, `tensorboardX`",
            r"Checkpoint directory .* exists and is not empty",
        ):
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning, having seen one, would end the program and turn deaf."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
