"""The stage of a chain that pretrains the encoder on scenes without labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.chains.scene_recipe import PretrainingSection, matching_files
from tesela.chains.scenes import ALL, TRAINED, RecipeScenes
from tesela.chains.start_weights import StartWeights
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.patches.table import UNBIASED, PatchTable, open_patches
from tesela.recipes.sections import SceneSection
from tesela.recipes.stages import Stage
from tesela.training.segmentation.settings import PRETRAINING_SETTINGS

if TYPE_CHECKING:
    import geopandas as gpd


def pretraining_stages(start: StartWeights, *, quiet: bool) -> tuple[Stage, ...]:
    """The stage that makes a start of scenes without labels; none where the recipe has no pretraining."""
    recipe = start.scenes.recipe
    section = recipe.pretraining
    if section is None:
        return ()
    settings = recipe.training_settings()
    used = {name: getattr(settings, name) for name in PRETRAINING_SETTINGS}
    return (
        Stage(
            "pretrain",
            start.pretrained_file.parent,
            {"pretraining": section.model_dump(), "training": used, "bands": start.scenes.given_bands},
            partial(_inputs, start, section),
            partial(_pretrain, start, section, quiet=quiet),
            seed=recipe.seed,
        ),
    )


def unseen_areas(scenes: RecipeScenes, table: PatchTable) -> gpd.GeoDataFrame:
    """Footprints of test patches and of scenes to map, whose imagery no training sees."""
    import geopandas as gpd
    import pandas as pd

    frame = table.frame
    parts = [frame[frame["split"].isin(["test", UNBIASED])][["geometry"]]]
    for item in scenes.sections(("map",)):
        extent = scenes.open_images(item).grid.extent
        parts.append(gpd.GeoDataFrame(geometry=[extent.geom], crs=str(extent.crs)).to_crs(frame.crs))
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=frame.crs)


def pretraining_scenes(scenes: RecipeScenes, section: PretrainingSection) -> list[Scene]:
    """
    Scenes to learn from: those of the recipe to train on, or those that the section names.

    A named file that belongs to a scene of the recipe is that scene; another one is read like the first scene.
    """
    if not section.scenes:
        return [scenes.open(item) for item in scenes.sections(ALL if section.test_area else TRAINED)]
    own = {(scenes.folder / path).resolve(): item for item in scenes.recipe.scenes for path in item.paths}
    items: dict[tuple[str, ...], SceneSection] = {}
    for file in _named_files(scenes, section):
        item = own.get(file.resolve())
        if item is None:
            changes = {"name": file.stem, "paths": [str(file)], "date": ""}
            item = scenes.recipe.scenes[0].model_copy(update=changes)
        items[tuple(item.paths)] = item
    return [scenes.open_images(item) for item in items.values()]


def _pretrain(start: StartWeights, section: PretrainingSection, *, quiet: bool) -> Sequence[Path]:
    """Pretrain; test patches and scenes to map are left out, unless the recipe says otherwise."""
    from tesela.patches.dataset import band_statistics
    from tesela.training.segmentation.pretraining import pretrain_encoder  # loads torch, seconds

    scenes, table = start.scenes, open_patches(start.patch_file)
    mean, std = band_statistics(table, "train", bands=scenes.bands)
    file = pretrain_encoder(
        pretraining_scenes(scenes, section),
        start.pretrained_file,
        settings=start.shared(start.with_local(scenes.recipe.training_settings())),
        standardisation=Standardisation.of(scenes.bands, mean, std),
        size_px=table.size_px,
        budget=section.budget,
        left_out=None if section.test_area else unseen_areas(scenes, table),
        quiet=quiet,
    )
    return [file]


def _inputs(start: StartWeights, section: PretrainingSection) -> Sequence[str | Path]:
    scenes = start.scenes
    weights = start.local_file(scenes.recipe.training_settings())
    return [
        start.patch_file,
        *scenes.images(ALL),
        *_named_files(scenes, section),
        *([] if weights is None else [weights]),
    ]


def _named_files(scenes: RecipeScenes, section: PretrainingSection) -> list[Path]:
    files = [file for pattern in section.scenes for file in matching_files(scenes.folder, pattern)]
    return list(dict.fromkeys(files))
