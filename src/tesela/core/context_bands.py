"""Names of context bands: probabilities of a cascade's first expert that experts below it take as bands."""

from __future__ import annotations

from collections.abc import Sequence

PREFIX = "context:"
"""Begins the name of a context band; the code of a class of the first expert follows."""


def context_bands(codes: Sequence[str]) -> tuple[str, ...]:
    """
    Names of the context bands of a legend's codes.

    Examples
    --------
    >>> context_bands(["water", "forest"])
    ('context:water', 'context:forest')
    """
    return tuple(f"{PREFIX}{code}" for code in codes)


def is_context(band: str) -> bool:
    """Whether a band comes from the first expert of a cascade, not from the scene."""
    return band.startswith(PREFIX)
