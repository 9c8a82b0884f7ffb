"""The lineage: the steps that made a file, from manifest to manifest back to imagery and reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.core.publication import read_period
from tesela.io.addresses import in_folder, is_address
from tesela.io.fingerprints import fingerprint
from tesela.io.manifest import BESIDE, Manifest

Steps = tuple[Manifest, ...]
"""Steps in the order of the work, the last one last."""

Describe = Callable[[Path], Manifest | None]
"""The step that a file describes itself, as an expert does its training."""

_DEEPEST = 3
"""Folders above a file in which the manifest of its step is looked for."""
_MOST_FILES = 12
"""Files of a step that a record lists by name."""


def read_lineage(*paths: str | Path, describe: Describe = lambda path: None) -> Steps:
    """
    Manifests of the steps that made files, directly or through their inputs.

    A manifest counts where the fingerprint of its output is that of the file, or the one that the next step read: a
    file that something else has changed since has no lineage. A moved file is found by its fingerprint.

    Parameters
    ----------
    describe : callable
        Asked for the step of a file that no manifest lists.

    Returns
    -------
    tuple of Manifest
        Empty where no recipe and no command of Tesela made the files.
    """
    search = _Search(describe)
    for path in map(Path, paths):
        if path.exists():
            search.follow(path.resolve(), fingerprint(path), near=path.resolve().parent)
    return tuple(search.steps.values())


class _Search:
    def __init__(self, describe: Describe) -> None:
        self.steps: dict[tuple[Path, str], Manifest] = {}
        self._describe = describe
        self._seen: set[tuple[Path, str]] = set()

    def follow(self, path: Path, content: str, *, near: Path) -> None:
        if (path, content) in self._seen:
            return
        self._seen.add((path, content))
        for folder, step in _manifests(path, near):
            if _made(folder, step, path, content):
                break
        else:
            described = self._describe(path) if path.is_file() else None
            if described is None:
                return
            folder, step = path.parent, described
        for name, fingerprint_of_input in step.inputs.items():
            source = in_folder(folder, name)
            if not is_address(source):
                self.follow(Path(source).resolve(), fingerprint_of_input, near=folder)
        self.steps.setdefault((folder, json.dumps([step.step, dict(step.outputs)], sort_keys=True)), step)


def _manifests(path: Path, near: Path) -> Iterator[tuple[Path, Manifest]]:
    """Manifests that may list a file: that beside it, those of its folder and above, those beside the next step."""
    files = [path.with_name(f"{path.name}{BESIDE}")]
    for folder in dict.fromkeys((path.parent, near)):
        files += sorted(folder.glob(f"*{BESIDE}"))
    for file in dict.fromkeys(files):
        step = Manifest.read(file.parent, file.name)
        if step is not None:
            yield file.parent, step
    for folder in path.parents[:_DEEPEST]:
        step = Manifest.read(folder)
        if step is not None:
            yield folder, step


def _made(folder: Path, step: Manifest, path: Path, content: str) -> bool:
    """Whether a step wrote a file with this content; an unknown fingerprint ("") matches by the path alone."""
    return any(
        made == content if made and content else (folder / name).resolve() == path
        for name, made in step.outputs.items()
    )


def imagery_dates(steps: Steps, *, scene: str = "") -> str:
    """
    Dates of the scenes behind a product: one, or the first and the last day joined by a slash; "" if no step names one.

    Dates that a recipe gives in other words are skipped.

    Parameters
    ----------
    scene : str
        Count this scene only, if the steps name it.
    """
    by_name: dict[str, str] = {}
    for step in steps:
        for section in _as_list(step.settings.get("scenes")):
            if isinstance(section, Mapping) and section.get("date"):
                by_name[str(section.get("name"))] = str(section["date"])
        if step.step == "mosaic":
            by_name |= {name: _months(name) for name in map(str, _as_list(step.settings.get("periods")))}
    dates = {by_name[scene]} if scene in by_name else set(by_name.values())
    periods = {text: period for text in dates if (period := _period(text))}
    if len(periods) < 2:
        return next(iter(periods), "")
    return f"{min(begin for begin, _ in periods.values())}/{max(end for _, end in periods.values())}"


def lineage_text(steps: Steps) -> str:
    """Describe the steps for a metadata record, a sentence each, and then the versions of the programs."""
    lines = [_sentence(number, step) for number, step in enumerate(steps, start=1)]
    by_versions: dict[str, list[int]] = {}
    for number, step in enumerate(steps, start=1):
        text = ", ".join(f"{name} {version}" for name, version in step.versions.items())
        by_versions.setdefault(text, []).append(number)
    for text, numbers in by_versions.items():
        which = "All" if len(by_versions) == 1 else f"Step {', '.join(map(str, numbers))}"
        lines += [f"{which} with {text}."] if text else []
    return "\n".join(lines)


def _as_list(value: object) -> list[object]:
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


def _sentence(number: int, step: Manifest) -> str:
    """Such as "2. generalise made clc.tif from map.tif on 2026-03-01: legend corine-2, mmu 25 ha."."""
    made, read = _names(step.outputs), _names(step.inputs)
    text = f"{number}. {step.step} made {made or 'files'}"
    text += f" from {read}" if read else ""
    text += f" on {step.written[:10]}" if step.written else ""
    details = [f"legend {step.legend}"] if step.legend else []
    details += [] if step.seed is None else [f"seed {step.seed}"]
    details += _settings(step.settings)
    return f"{text}: {', '.join(details)}." if details else f"{text}."


def _names(files: Iterable[str]) -> str:
    return join_words((Path(name).name for name in files), most=_MOST_FILES)


def _settings(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, start=1):
                yield from _settings(item, f"{prefix}{key}{number}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key} {value if isinstance(value, str) else json.dumps(value)}"
