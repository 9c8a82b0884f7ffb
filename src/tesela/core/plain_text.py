"""Text that people hand in, on its way into tables: no formulas for spreadsheets, no control characters."""

from __future__ import annotations

import re

from tesela.core.errors import InputError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV injection")."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def cell_text(value: object) -> object:
    """
    A cell for a CSV: text that a spreadsheet would run as a formula gets an apostrophe before it.

    Examples
    --------
    >>> [cell_text(value) for value in ("=1+1", "-0.5", "@SUM(A1)", "forest", -2)]
    ["'=1+1", '-0.5', "'@SUM(A1)", 'forest', -2]
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def without_apostrophe(text: str) -> str:
    """
    Text of a cell that `cell_text` wrote.

    Examples
    --------
    >>> without_apostrophe("'=1+1"), without_apostrophe("'s")
    ('=1+1', "'s")
    """
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


def has_control_characters(text: str) -> bool:
    """Whether a text holds control characters other than tabs and line ends."""
    return _CONTROL.search(text) is not None


def check_text(text: str, *, what: str) -> str:
    """
    The text, if it holds no control characters other than tabs and line ends.

    Raises
    ------
    InputError
        If it does.

    Examples
    --------
    >>> check_text("La Palma", what="The title")
    'La Palma'
    """
    if has_control_characters(text):
        raise InputError(f"{what} {text!r} holds control characters; write it anew without them.")
    return text
