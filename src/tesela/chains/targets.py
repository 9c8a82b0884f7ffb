"""Targets: what each expert of a chain of scenes learns, and the patches that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.patches.table import NONE, PatchTable
from tesela.recipes.sections import ReferenceSection, SceneSection
from tesela.training.segmentation.settings import SegmentationSettings

if TYPE_CHECKING:
    import geopandas as gpd

AREAS = {"test": "test patches", "unbiased": "unbiased patches"}
"""Splits that are evaluated, and their names in tables."""


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


@dataclass(frozen=True)
class Training:
    """One training: a target, its settings and its files."""

    stage: str
    target: Target
    settings: SegmentationSettings
    folder: Path
    """Folder of the stage."""
    file: Path
    """The expert."""
    logs: Path
    context: Path | None = None
    """Folder with the probabilities of the first expert, where this one reads them."""


def take_qualities(table: PatchTable, reviewed: PatchTable) -> PatchTable:
    """
    The table with the ratings of a reviewed one, by patch; patches that nobody reviewed have none.

    Raises
    ------
    InputError
        If the tables have no patch in common: they were cut differently.
    """
    ratings = dict(zip(reviewed.frame["patch_id"], reviewed.frame["quality"], strict=True))
    if reviewed.size_px != table.size_px or not set(ratings) & set(table.frame["patch_id"]):
        raise InputError(
            f"The reviewed table has patches of {reviewed.size_px} px that are not those of this recipe "
            f"({table.size_px} px). Review the recipe's own patches (tesela run --until patches, tesela review serve)."
        )
    qualities = [ratings.get(patch, "") for patch in table.frame["patch_id"]]
    return replace(table, frame=table.frame.assign(quality=np.array(qualities, object)))


def follow_splits(table: PatchTable, first: PatchTable) -> PatchTable:
    """
    The table with the splits and ratings of another one, by patch; patches that it lacks are in no split.

    Raises
    ------
    InputError
        If none is left to train on.
    """
    splits = dict(zip(first.frame["patch_id"], first.frame["split"], strict=True))
    ratings = dict(zip(first.frame["patch_id"], first.frame["quality"], strict=True))
    patches = table.frame["patch_id"]
    qualities = np.array([ratings.get(item, "") for item in patches], object)
    followed = replace(table, frame=table.frame.assign(quality=qualities)).with_splits(
        np.array([splits.get(item, NONE) for item in patches], object)
    )
    for split in ("train", "val"):
        if split not in followed.counts:
            raise InputError(
                f"No patch of split '{split}' has labels in '{table.legend.address}'. Take smaller blocks or larger "
                f"shares for it, or more scenes."
            )
    return followed


def evaluated_split(table: PatchTable) -> str:
    """Split that represents the whole area: the unbiased patches where there are some, else the test patches."""
    return "unbiased" if "unbiased" in table.counts else "test"


def area_of(table: PatchTable, split: str, section: SceneSection) -> gpd.GeoDataFrame:
    """Footprints of the patches of a split on a scene."""
    frame = table.frame
    return frame[(frame["split"] == split) & (frame["scene"] == section.name)]
