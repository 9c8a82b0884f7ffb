"""Errors, sorted by what the caller can do about them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TeselaError(Exception):
    """Base of every error that Tesela raises on purpose; its text is one line for a person."""


class InputError(TeselaError):
    """A file or its content cannot be used: missing, truncated, empty, without the named band or field."""


class GridError(InputError):
    """Georeferencing does not fit: no CRS, two CRSs, no overlap, a scene smaller than a window."""


class LegendError(InputError):
    """Class values, codes or names that a legend or crosswalk does not have."""


class ExpertError(InputError):
    """A trained model cannot be opened or does not fit the scene."""


class NetworkError(TeselaError):
    """A server cannot be reached, or sends no proper response; the same command may succeed later."""


class RecipeError(TeselaError):
    """A recipe or an option is wrong; the text lists all mistakes."""


def join_words(words: Iterable[object], *, most: int = 12) -> str:
    """
    List words for an error message, cut short when there are many.

    Examples
    --------
    >>> join_words(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    texts = [str(word) for word in words]
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return ", ".join(texts)


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """
    Message for an unknown name: the name, the nearest valid one, all valid ones.

    Examples
    --------
    >>> unknown_name("band", "B8", ["B08", "B04"])
    "Unknown band 'B8': did you mean 'B08'? Known: B08, B04."
    """
    names = list(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else "."
    return f"Unknown {kind} '{name}'{hint} Known: {join_words(names, most=30)}."


def wrong_kind(what: str, wanted: str, given: object) -> InputError:
    """
    Error for an input that is no kind of input at all.

    Examples
    --------
    >>> raise wrong_kind("A scene", "a path or a DataArray", 7)
    Traceback (most recent call last):
    tesela.core.errors.InputError: A scene is a path or a DataArray; 7 (int) came.
    """
    text = repr(given)
    return InputError(
        f"{what} is {wanted}; {text if len(text) < 60 else 'an object'} ({type(given).__name__}) came."
    )
