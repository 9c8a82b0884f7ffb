"""The lineage: the steps that led to a file, as the manifests beside their outputs tell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tesela.io.manifest import Manifest


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
    Dates of the scenes behind a product: one day, or the first and the last joined by a slash; "" if none is told.

    Parameters
    ----------
    scene : str
        Name of the only scene that counts, if the steps know it; else all do.
    """
    by_name: dict[str, str] = {}
    for step in steps:
        scenes = step.settings.get("scenes")
        for section in scenes if isinstance(scenes, list) else []:
            if isinstance(section, Mapping) and section.get("date"):
                by_name[str(section.get("name"))] = str(section["date"])
    dates = sorted([by_name[scene]] if scene in by_name else by_name.values())
    return "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]}/{dates[-1]}"


def lineage_text(steps: tuple[Manifest, ...]) -> str:
    """Tell the steps in sentences: settings, inputs and versions of each, for a metadata record."""
    return "\n".join(_sentence(number, step) for number, step in enumerate(steps, start=1))


def _follow(path: Path, found: dict[Path, Manifest]) -> None:
    folder = path.parent
    step = Manifest.read(folder)
    if step is None or folder in found or not any((folder / name).resolve() == path for name in step.outputs):
        return
    for name in step.inputs:
        _follow((folder / name).resolve(), found)
    found[folder] = step


def _sentence(number: int, step: Manifest) -> str:
    settings = ", ".join(_settings(step.settings))
    versions = ", ".join(f"{name} {version}" for name, version in step.versions.items())
    inputs = ", ".join(Path(name).name for name in step.inputs)
    parts = [f"{number}. {step.step} ({step.written}): from {inputs or 'no files'}"]
    if step.legend:
        parts.append(f"legend {step.legend}")
    if step.seed is not None:
        parts.append(f"seed {step.seed}")
    if settings:
        parts.append(settings)
    return "; ".join(parts) + (f" [{versions}]." if versions else ".")


def _settings(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, start=1):
                yield from _settings(item, f"{prefix}{key}{number}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key} {value if isinstance(value, str) else json.dumps(value)}"
