"""The manifest: settings, inputs and outputs of a step, to skip or repeat it and to trace a file back."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import xxhash

from tesela.core.errors import InputError, join_words
from tesela.core.publication import read_period
from tesela.core.temporary import remove_abandoned
from tesela.io.outputs import check_target, temporary_folder

NAME = "manifest.json"
"""Record of a finished step."""
BEGUN = "manifest.begun.json"
"""Record of work that was asked for again, until it is finished."""

_DIGEST = "digest"
"""Key of the digest of all other keys: what is damaged counts as no manifest."""

_DEEPEST = 3
"""Folders above a file in which the manifest of its step is looked for."""
_MOST_INPUTS = 12
"""Inputs of a step that a record lists by name."""


@dataclass(frozen=True)
class Manifest:
    """Record of one step, written as `manifest.json` beside its outputs when they are complete."""

    step: str
    settings: Mapping[str, object] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints by path."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    legend: str = ""
    seed: int | None = None
    seconds: float = 0.0
    written: str = ""
    """UTC time of writing, ISO 8601."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def same_work(self, other: Manifest) -> bool:
        """Whether both describe the same work: step, settings, inputs, legend and seed."""
        own = (self.step, _plain(self.settings), _plain(self.inputs), self.legend, self.seed)
        return own == (other.step, _plain(other.settings), _plain(other.inputs), other.legend, other.seed)

    def write(self, folder: Path, name: str = NAME) -> Path:
        """Write the manifest into a folder, whole."""
        document = asdict(self)
        document["written"] = self.written or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document["versions"] = dict(self.versions) or _versions()
        document = json.loads(json.dumps(document, default=str))
        document[_DIGEST] = _digest(document)
        path = folder / name
        write_text(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
        return path

    @classmethod
    def read(cls, folder: Path, name: str = NAME) -> Manifest | None:
        """Manifest of a folder, or None if there is none that can be read."""
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            if _DIGEST in document and document.pop(_DIGEST) != _digest(document):
                return None
            manifest = cls(**document)
            return manifest if manifest._is_sound() else None
        except (FileNotFoundError, ValueError, TypeError, RecursionError):  # damaged: the step runs again
            return None

    def _is_sound(self) -> bool:
        """Whether the fields have the kinds that they are declared with."""
        tables = (self.settings, self.inputs, self.outputs, self.versions)
        texts = (self.step, self.legend, self.written)
        files = (
            (*self.inputs.items(), *self.outputs.items())
            if all(isinstance(t, dict) for t in tables)
            else ((0, 0),)
        )
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(item, str) and "\0" not in item for pair in files for item in pair)
            and isinstance(self.seconds, int | float)
        )


def read_lineage(path: str | Path) -> tuple[Manifest, ...]:
    """
    Manifests of the steps that made a file, directly or through their inputs; the last step comes last.

    Empty where no recipe made the file.
    """
    steps: dict[Path, Manifest] = {}
    _follow(Path(path).resolve(), steps)
    return tuple(steps.values())


def imagery_dates(steps: tuple[Manifest, ...], *, scene: str = "") -> str:
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


def lineage_text(steps: tuple[Manifest, ...]) -> str:
    """Describe the steps for a metadata record: inputs, settings, and versions, once where all share them."""
    shared = steps[0].versions if steps and all(step.versions == steps[0].versions for step in steps) else {}
    lines = [_sentence(number, step, with_versions=not shared) for number, step in enumerate(steps, start=1)]
    return "\n".join([*lines, f"All with {_version_text(shared)}."] if shared else lines)


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary path to write to, and rename it to `path` when the block ends without an error.

    The output appears whole or not at all: on an error the temporary file is removed and an older file stays. Files
    that the writer leaves beside it (``.aux.xml``) are its own concern.
    """
    target = Path(path)
    check_target(target)
    try:
        with temporary_folder(target) as folder:
            part = folder / target.name
            yield part
            part.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all, see `write_whole`."""
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def place_copy(source: Path, target: Path) -> Path:
    """
    Put a file at another place too, whole or not at all: as a link to the same bytes where that works, else as a copy.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    if target.exists() and target.samefile(source):
        remove_abandoned(target)
        return target
    with write_whole(target) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, part)
    return target


def _digest(document: Mapping[str, object]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(document, sort_keys=True).encode())


def _plain(value: object) -> object:
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("tesela", "numpy", "rasterio", "torch", "lightning", "segmentation-models-pytorch"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _follow(path: Path, steps: dict[Path, Manifest]) -> None:
    for folder in path.parents[:_DEEPEST]:
        step = Manifest.read(folder)
        if step is not None and any((folder / name).resolve() == path for name in step.outputs):
            break
    else:
        return
    if folder in steps:
        return
    for name in step.inputs:
        _follow((folder / name).resolve(), steps)
    steps[folder] = step


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


def _sentence(number: int, step: Manifest, *, with_versions: bool) -> str:
    settings = ", ".join(_settings(step.settings))
    inputs = join_words((Path(name).name for name in step.inputs), most=_MOST_INPUTS)
    parts = [f"{number}. {step.step} ({step.written}): from {inputs or 'no files'}"]
    if step.legend:
        parts.append(f"legend {step.legend}")
    if step.seed is not None:
        parts.append(f"seed {step.seed}")
    if settings:
        parts.append(settings)
    if with_versions and step.versions:
        parts.append(f"with {_version_text(step.versions)}")
    return f"{'; '.join(parts)}."


def _version_text(versions: Mapping[str, str]) -> str:
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
