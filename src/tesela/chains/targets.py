"""Targets: what each expert of a chain of scenes learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tesela.core.legend import Legend
from tesela.recipes.sections import ReferenceSection, SceneSection


@dataclass(frozen=True)
class Target:
    """What an expert learns: its legend and reference, and the files of its labels and patches."""

    name: str
    legend: Legend
    reference: ReferenceSection
    label_folder: Path
    patch_file: Path
    own_reference: bool = False
    """Whether the reference of a scene does not replace that of this expert."""
    reviewed: Path | None = None
    """Patch table with ratings of this expert's own labels; default: those of the first expert."""

    def label_file(self, section: SceneSection) -> Path:
        """Labels of a scene."""
        return self.label_folder / f"{section.name}.tif"
