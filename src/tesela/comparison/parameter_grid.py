"""The grid of a comparison: keys of a recipe, their values, and the recipes of all combinations."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tesela.core.errors import RecipeError, unknown_name


@dataclass(frozen=True)
class Choice:
    """One value of a key, and its name in tables."""

    label: str
    value: object


@dataclass(frozen=True)
class Axis:
    """A key of the recipe and the values that it takes."""

    key: str
    """Dotted, such as "training.encoder"."""
    choices: tuple[Choice, ...]

    @property
    def name(self) -> str:
        """Last part of the key, the head of its column."""
        return self.key.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Combination:
    """One recipe of the grid, still unchecked."""

    labels: tuple[str, ...]
    """One per axis."""
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of its folder: its labels and a hash of all its settings."""
        words = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", label).strip("_") for label in self.labels)
        return f"{words[:80]}-{digest(self.document)[:8]}"


_KINDS = {
    "pretraining": {
        "none": "from scratch",
        "classes": "fine-tuned",
        "gaps": "fine-tuned, gaps",
        "both": "fine-tuned, both",
    }
}
"""Sections whose `kind` is varied by the name of the section, and the names of their rows, as the paper has them."""


def parse_axis(text: str) -> Axis:
    """
    Read ``KEY=A,B``.

    Values are written as in TOML, or as bare words. ``A+B`` is a list of words, and ``NAME:VALUE`` gives a value a
    name for the tables. For a key whose entries have names, such as ``scenes``, the values are those names.

    Raises
    ------
    RecipeError
        If there is no key, or no value.

    Examples
    --------
    >>> parse_axis("patches.size_px=128,256").choices
    (Choice(label='128', value=128), Choice(label='256', value=256))
    >>> parse_axis("bands=RGB:B04+B03+B02,NRG:B08+B04+B03").choices[0]
    Choice(label='RGB', value=['B04', 'B03', 'B02'])
    """
    key, separator, values = (part.strip() for part in text.partition("="))
    if not separator or not key or not values:
        raise RecipeError(
            f"'{text}' names no key or no values: write KEY=A,B, such as training.encoder=resnet18,resnet34."
        )
    try:
        choices = [Choice(_label(value), value) for value in tomllib.loads(f"x = [{values}]")["x"]]
    except tomllib.TOMLDecodeError:
        choices = [_bare(word.strip()) for word in values.split(",")]
    rows = _KINDS.get(key, {})
    choices = [Choice(rows.get(item.label, item.label), item.value) for item in choices]
    labels = [choice.label for choice in choices]
    if len(set(labels)) < len(labels):
        raise RecipeError(
            f"'{text}' names a value twice; each combination runs once (for several seeds: --seeds N)."
        )
    return Axis(key, tuple(choices))


def combine(document: Mapping[str, Any], axes: Sequence[Axis]) -> tuple[Combination, ...]:
    """
    Recipes of all combinations, the last axis varying fastest.

    Parameters
    ----------
    document : mapping
        The recipe as it was read; it stays unchanged.

    Raises
    ------
    RecipeError
        If a key cannot be set, is the seed, or is varied twice.
    """
    keys = [axis.key for axis in axes]
    if len(set(keys)) < len(keys):
        raise RecipeError(f"A key is varied twice ({', '.join(keys)}); list all its values in one --vary.")
    labels_only = [key for key in keys if key in ("chain", "name", "out")]
    if labels_only:
        raise RecipeError(f"{labels_only[0]} does not change a result: vary another key.")
    if "seed" in keys:
        raise RecipeError("The seed is not a setting to compare: give the number of seeds (--seeds N).")
    combinations = []
    for choices in itertools.product(*(axis.choices for axis in axes)):
        changed = deepcopy(dict(document))
        for axis, choice in zip(axes, choices, strict=True):
            _set(changed, axis.key, choice.value)
        combinations.append(Combination(tuple(choice.label for choice in choices), changed))
    return tuple(combinations)


def digest(value: object) -> str:
    """Short hash of settings: equal for equal ones."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _set(document: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    section = document
    for part in path:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise RecipeError(f"{key} cannot be varied: {part} is no section of the recipe.")
    old = section.get(last)
    if isinstance(value, str) and (isinstance(old, dict) or key in _KINDS):
        section[last] = {**(old or {}), "kind": value}  # a section is varied by its kind
        return
    if isinstance(old, list) and old and all(isinstance(item, dict) and "name" in item for item in old):
        value = list(_chosen(old, key, value if isinstance(value, list) else [value]))
    elif isinstance(old, list) and isinstance(value, str):
        value = [value]
    section[last] = value


def _chosen(entries: Sequence[dict[str, Any]], key: str, names: Sequence[object]) -> Iterator[dict[str, Any]]:
    by_name = {str(entry["name"]): entry for entry in entries}
    for name in names:
        if str(name) not in by_name:
            raise RecipeError(unknown_name(f"entry of {key}", str(name), by_name))
        yield by_name[str(name)]


def _bare(word: str) -> Choice:
    label, separator, rest = word.partition(":")
    text = rest if separator else word
    try:
        value: object = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value = [part for part in text.split("+") if part] if "+" in text else text
    return Choice(label if separator else word, value)


def _label(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
