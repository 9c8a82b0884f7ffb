"""Where an answer goes: to the path that was given, or to temporary files that the answer holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tesela.io.held import Held

File = str | Path | bool | None
"""A further output: a path, True for a file beside the answer, None for none."""


@dataclass(frozen=True)
class Place:
    """Path of an answer, and what holds it where the user gave no path."""

    path: Path
    held: Held | None = None

    @classmethod
    def of(cls, out: str | Path | None, name: str) -> Place:
        """The path given, else a temporary file or folder of this name."""
        if out is not None:
            return cls(Path(out))
        held = Held()
        return cls(held.folder / name, held)

    def beside(self, value: File, layer: str) -> Path | None:
        """Path of a further output; True: ``map.confidence.tif`` beside ``map.tif``."""
        if value is None or value is False:
            return None
        return self.path.with_name(f"{self.path.stem}.{layer}.tif") if value is True else Path(value)


def written(layers: dict[str, Path | None]) -> dict[str, str]:
    """Further outputs that were wanted, by name."""
    return {name: str(path) for name, path in layers.items() if path is not None}
