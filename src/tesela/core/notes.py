"""Notes: lines on what an input held and how it was read."""

from __future__ import annotations

import logging

_LOG = logging.getLogger("tesela.notes")


def note(text: str) -> None:
    """
    Report one line: on stderr in a command, through the logger ``tesela.notes`` (level WARNING) in a program.

    A note says what was found, how much of it, and what was done; what cannot be used at all is an error.
    """
    _LOG.warning("%s", text)
