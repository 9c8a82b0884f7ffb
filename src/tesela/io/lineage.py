"""The lineage: the steps that led to a file, as the manifests beside their outputs tell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.core.publication import read_period
from tesela.io.manifest import Manifest

_DEEPEST = 3
"""Folders above a file in which the manifest of its step is looked for."""
_MOST_INPUTS = 12
"""Names of a step's inputs that a record lists."""


def read_lineage(path: str | Path) -> tuple[Manifest, ...]:
    """
    Manifests of the steps that made a file, directly or through their inputs; the last step comes last.

    Empty where the file was not made by a recipe.
    """
    found: dict[Path, Manifest] = {}
    _follow(Path(path).resolve(), found)
    return tuple(found.values())


def imagery_dates(steps: tuple[Manifest, ...], *, scene: str = "") -> str:
    """
    Dates of the scenes behind a product: one, or the first and the last day joined by a slash; "" if none is told.

    A recipe may tell dates in any words; those that are no dates are passed over.

    Parameters
    ----------
    scene : str
        Name of the only scene that counts, if the steps know it; else all do.
    """
    by_name: dict[str, str] = {}
    for step in steps:
        for section in _list(step.settings.get("scenes")):
            if isinstance(section, Mapping) and section.get("date"):
                by_name[str(section.get("name"))] = str(section["date"])
        if step.step == "mosaic":
            by_name |= {name: _months(name) for name in map(str, _list(step.settings.get("periods")))}
    told = {by_name[scene]} if scene in by_name else set(by_name.values())
    periods = {text: period for text in told if (period := _period(text))}
    if len(periods) < 2:
        return next(iter(periods), "")
    return f"{min(begin for begin, _ in periods.values())}/{max(end for _, end in periods.values())}"


def lineage_text(steps: tuple[Manifest, ...]) -> str:
    """Tell the steps in sentences for a metadata record: inputs, settings, and versions, once where all share them."""
    shared = steps[0].versions if steps and all(step.versions == steps[0].versions for step in steps) else {}
    lines = [_sentence(number, step, tell_versions=not shared) for number, step in enumerate(steps, start=1)]
    return "\n".join([*lines, f"All with {_versions(shared)}."] if shared else lines)


def _follow(path: Path, found: dict[Path, Manifest]) -> None:
    for folder in path.parents[:_DEEPEST]:
        step = Manifest.read(folder)
        if step is not None and any((folder / name).resolve() == path for name in step.outputs):
            break
    else:
        return
    if folder in found:
        return
    for name in step.inputs:
        _follow((folder / name).resolve(), found)
    found[folder] = step


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _months(name: str) -> str:
    """Dates of a mosaic by its name: "2018-04", or "2018-06to08" of several months."""
    first, _, last = name.partition("to")
    return f"{first}/{first[:5]}{last}" if last else first


def _period(text: str) -> tuple[str, str] | None:
    try:
        return read_period(text)
    except InputError:
        return None


def _sentence(number: int, step: Manifest, *, tell_versions: bool) -> str:
    settings = ", ".join(_settings(step.settings))
    inputs = join_words((Path(name).name for name in step.inputs), most=_MOST_INPUTS)
    parts = [f"{number}. {step.step} ({step.written}): from {inputs or 'no files'}"]
    if step.legend:
        parts.append(f"legend {step.legend}")
    if step.seed is not None:
        parts.append(f"seed {step.seed}")
    if settings:
        parts.append(settings)
    if tell_versions and step.versions:
        parts.append(f"with {_versions(step.versions)}")
    return f"{'; '.join(parts)}."


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _settings(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, start=1):
                yield from _settings(item, f"{prefix}{key}{number}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key} {value if isinstance(value, str) else json.dumps(value)}"
