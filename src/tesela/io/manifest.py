"""The manifest: settings, inputs and outputs of a step, to skip or repeat it and to trace a file back; whole files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import xxhash

from tesela.core.errors import InputError, TeselaError
from tesela.core.temporary import remove_abandoned
from tesela.io.addresses import is_address, relative_name
from tesela.io.fingerprints import fingerprint
from tesela.io.outputs import check_target, temporary_folder

NAME = "manifest.json"
"""Record of a finished step."""
BEGUN = "manifest.begun.json"
"""Record of work that was asked for again, until it is finished."""

_DIGEST = "digest"
"""Key of the digest of all other keys: what is damaged counts as no manifest."""

BESIDE = ".manifest.json"
"""Ending of the record beside an output that no recipe made: `clc.tif.manifest.json`."""


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


_recorded_above = ContextVar("recorded_above", default=False)
"""Whether a step is part of a larger one, such as a stage of a recipe, which records all that it writes."""


@contextmanager
def recorded_above() -> Iterator[None]:
    """Let `record_step` write nothing while a larger step runs, whose own manifest names what it wrote."""
    token = _recorded_above.set(True)
    try:
        yield
    finally:
        _recorded_above.reset(token)


def record_step(
    step: str,
    outputs: Sequence[str | Path | None],
    *,
    inputs: Sequence[str | Path | None],
    settings: Mapping[str, object] | None = None,
    legend: str = "",
) -> Path | None:
    """
    Write the manifest of a step beside its first output: `clc.tif.manifest.json`.

    Its fingerprints link it to the manifests of the inputs, see `tesela.io.lineage.read_lineage`.

    Parameters
    ----------
    outputs : sequence of paths
        Files that the step wrote; None for those that were not wanted.
    inputs : sequence of paths
        Files and addresses that it read; one of a server that no longer answers has an empty fingerprint.
    settings : mapping
        What the outputs depend on besides files, in the words of the command.

    Returns
    -------
    Path or None
        None for tables of a database, and in a step that is part of a larger one.
    """
    written = [Path(path) for path in outputs if path is not None and not is_address(path)]
    if _recorded_above.get() or not written:
        return None
    folder = written[0].absolute().parent
    return Manifest(
        step,
        settings=settings or {},
        inputs={
            _kept_name(path, folder): _content(path)
            for path in dict.fromkeys(str(path) for path in inputs if path)
        },
        outputs={relative_name(path, folder): fingerprint(path) for path in written},
        legend=legend,
    ).write(folder, f"{written[0].name}{BESIDE}")


def amend_step(
    output: str | Path, *, inputs: Sequence[str | Path], settings: Mapping[str, object]
) -> Path | None:
    """
    Add inputs and settings to the manifest beside an output that a further part of its step has changed in place.

    Returns
    -------
    Path or None
        None where there is no manifest beside it.
    """
    target = Path(output).absolute()
    former = Manifest.read(target.parent, f"{target.name}{BESIDE}")
    if former is None:
        return None
    outputs = {
        name: fingerprint(target.parent / name) for name in former.outputs if (target.parent / name).exists()
    }
    more = {_kept_name(str(path), target.parent): _content(str(path)) for path in inputs}
    return replace(
        former,
        settings={**former.settings, **settings},
        inputs={**former.inputs, **more},
        outputs=outputs,
        written="",
    ).write(target.parent, f"{target.name}{BESIDE}")


def _kept_name(path: str, folder: Path) -> str:
    """Name of an input without the query of an address, which may hold a key."""
    return relative_name(path.partition("?")[0] if is_address(path) else path, folder)


def _content(path: str) -> str:
    try:
        return fingerprint(path)
    except TeselaError:
        return ""


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
