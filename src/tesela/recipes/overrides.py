"""Keys of a recipe that a command sets: `training.epochs=5`, without a change of the file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from tesela.core.errors import RecipeError, unknown_name


def override_keys(document: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """
    Recipe with other values of some keys.

    Parameters
    ----------
    document : mapping
        The recipe as it was read; it stays unchanged.
    texts : sequence of str
        ``KEY=VALUE``: sections and key with dots between them, an entry of a list such as ``scenes`` by its name; the
        value as in TOML, or a bare word.

    Raises
    ------
    RecipeError
        If a text has no key or no value, or the key lies in no section.

    Examples
    --------
    >>> recipe = {"scenes": [{"name": "april", "invalid": "error"}]}
    >>> override_keys(recipe, ["training.epochs=5", "scenes.april.invalid=nodata"])
    {'scenes': [{'name': 'april', 'invalid': 'nodata'}], 'training': {'epochs': 5}}
    """
    changed = deepcopy(dict(document))
    for text in texts:
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key or not value:
            raise RecipeError(f"'{text}' sets nothing: write KEY=VALUE, such as training.epochs=5.")
        *path, last = key.split(".")
        _section(changed, path, key)[last] = parse_value(value)
    return changed


def parse_value(text: str) -> Any:
    """
    Read a value written as in TOML; other text is a word.

    Examples
    --------
    >>> parse_value("[1, 2]"), parse_value("0.5"), parse_value("true"), parse_value("10 min")
    ([1, 2], 0.5, True, '10 min')
    """
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _section(document: dict[str, Any], path: Sequence[str], key: str) -> dict[str, Any]:
    """The section at a path, made where there is none; of a list of sections the one of the next name."""
    section, parts = document, iter(path)
    for part in parts:
        below = section.setdefault(part, {})
        if isinstance(below, list):
            entries = {str(item.get("name")): item for item in below if isinstance(item, dict)}
            name = next(parts, None)
            if name not in entries:
                raise RecipeError(unknown_name(f"entry of {part}", name or key, entries))
            below = entries[name]
        if not isinstance(below, dict):
            raise RecipeError(f"{key} cannot be set: {part} is no section of the recipe.")
        section = below
    return section
