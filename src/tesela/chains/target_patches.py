"""The patches of each expert: cut from scenes and labels, split by those of the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tesela.chains.scene_labels import SceneLabels
from tesela.chains.scenes import TRAINED
from tesela.chains.targets import Target
from tesela.core.errors import InputError
from tesela.core.notes import note
from tesela.io.addresses import in_folder
from tesela.io.maps import open_map
from tesela.patches.split import split_patches
from tesela.patches.table import NONE, PatchTable, make_patches, open_patches
from tesela.recipes.sections import input_content
from tesela.recipes.stages import Stage

_LEAST_LABELLED = 0.02
"""Least labelled share of the patches of further experts, whose labels may be rare."""

_FEW_PATCHES = 20
"""Fewer patches to train on are noted."""


@dataclass(frozen=True, eq=False)
class TargetPatches:
    """Patch tables of all experts of a recipe."""

    labels: SceneLabels

    def stage(self) -> Stage:
        """The stage that cuts and splits them."""
        recipe, targets = self.labels.scenes.recipe, self.labels.targets
        reviewed = {target.name: target.reviewed.name for target in targets if target.reviewed}
        return Stage(
            "patches",
            self.labels.scenes.out / "patches",
            {
                "scenes": self.labels.scenes.rows,
                "patches": recipe.patches.model_dump(),
                "bands": self.labels.scenes.given_bands,
                "legends": {target.name: target.legend.to_rows() for target in targets},
                **({"reviewed": reviewed} if reviewed else {}),
            },
            self._inputs,
            self.cut,
            targets[0].legend.address,
            recipe.seed,
        )

    def cut(self) -> Sequence[Path]:
        """Cut patches and split them by the first expert's labels; the others follow its split, patch by patch."""
        scenes = self.labels.scenes
        settings = scenes.recipe.patches
        first, *others = self.labels.targets
        table = self._cut_for(first, min_labelled=settings.min_labelled)
        if settings.reviewed is not None:
            table = take_qualities(table, open_patches(scenes.folder / settings.reviewed))
        table = split_patches(
            table,
            settings.split,
            fractions=settings.fractions,
            block_m=settings.block,
            buffer_m=settings.buffer,
            regions=None if settings.regions is None else in_folder(scenes.folder, settings.regions),
            region_field=settings.region_field,
            assign=settings.assign,
            seed=scenes.recipe.seed,
            unbiased=settings.unbiased,
        )
        _note_few(table)
        files = [table.write(first.patch_file)]
        for target in others:
            own = self._cut_for(target, min_labelled=min(_LEAST_LABELLED, settings.min_labelled))
            followed = follow_splits(own, table)
            if target.reviewed is not None:
                followed = take_qualities(followed, open_patches(target.reviewed))
            files.append(followed.write(target.patch_file))
        return files

    def _cut_for(self, target: Target, *, min_labelled: float) -> PatchTable:
        scenes = self.labels.scenes
        sections = scenes.sections(TRAINED)
        return make_patches(
            [scenes.open(section).select(scenes.bands) for section in sections],
            [open_map(target.label_file(section)) for section in sections],
            size_px=scenes.recipe.patches.size_px,
            stride_px=scenes.recipe.patches.stride_px,
            min_labelled=min_labelled,
        )

    def _inputs(self) -> list[str | Path]:
        scenes = self.labels.scenes
        settings = scenes.recipe.patches
        extra: list[str | Path] = [] if settings.reviewed is None else [scenes.folder / settings.reviewed]
        extra += [target.reviewed for target in self.labels.targets if target.reviewed is not None]
        if settings.regions is not None:
            extra.append(input_content(settings.regions, scenes.folder))
        return [*scenes.images(TRAINED), *self.labels.files(TRAINED), *extra]


def _note_few(table: PatchTable) -> None:
    """Note the patches of each split where few of them train, and smaller ones would give more."""
    counts = table.counts
    if counts.get("train", 0) < _FEW_PATCHES and table.size_px > 32:
        each = ", ".join(f"{split} {number}" for split, number in counts.items())
        smaller = max(32, table.size_px // 64 * 32)
        note(f"Few patches of {table.size_px} px: {each}. Smaller ones give more (size_px = {smaller}).")


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
