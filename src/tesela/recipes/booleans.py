"""true and false in place of a number, which would count as 1 and 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel


def booleans_for_numbers(document: Mapping[str, Any], model: type) -> Iterator[tuple[str, bool]]:
    """
    Keys of a recipe that hold true or false where a number is needed, and which of them.

    Parameters
    ----------
    document : mapping
        The recipe, or one of its sections, as it was read.
    model : type
        The model or dataclass of its keys.

    Examples
    --------
    >>> from tesela.recipes.sections import AssessmentSection
    >>> list(booleans_for_numbers({"tiles_px": True, "area": "all"}, AssessmentSection))
    [('tiles_px', True)]
    """
    hints = get_type_hints(model, include_extras=True)
    for key, value in document.items():
        if key in hints:
            yield from _in_value(value, _plain_kinds(hints[key]), key)


def _in_value(value: object, kinds: tuple[Any, ...], at: str) -> Iterator[tuple[str, bool]]:
    if isinstance(value, bool):
        if bool not in kinds and (int in kinds or float in kinds):
            yield at, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _in_value(item, kinds, f"{at}.{number}")
    elif isinstance(value, Mapping):
        for kind in kinds:
            if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
                yield from ((f"{at}.{key}", flag) for key, flag in booleans_for_numbers(value, kind))


def _plain_kinds(kind: Any) -> tuple[Any, ...]:
    """The kinds inside annotated, optional and listed ones."""
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return _plain_kinds(inner[0])
    if not inner:
        return (kind,)
    return tuple(dict.fromkeys(part for item in inner for part in _plain_kinds(item)))
