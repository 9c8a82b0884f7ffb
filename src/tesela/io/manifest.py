"""The manifest: what a step was given, so that it can be skipped, resumed or repeated."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tesela.core.errors import InputError

NAME = "manifest.json"
"""Record of a finished step."""
BEGUN = "manifest.begun.json"
"""Record of work that was asked for again, until it is finished."""


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
        path = folder / name
        with write_whole(path) as part:
            part.write_text(
                json.dumps(document, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8"
            )
        return path

    @classmethod
    def read(cls, folder: Path, name: str = NAME) -> Manifest | None:
        """Manifest of a folder, or None if there is none that can be read."""
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            return cls(**document)
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """
    Give a path beside `path` to write to, and rename it to `path` when the block ends well.

    The output appears whole or not at all: on an error the part is removed and an older file stays. Files that
    the writer leaves beside the part (``.aux.xml``) are its own to care for.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
    part = folder / target.name
    try:
        yield part
        Path(part).replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
