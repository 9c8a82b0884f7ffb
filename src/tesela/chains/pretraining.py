"""The stage of a chain that pretrains the encoder on scenes without labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tesela.chains.scene_recipe import PretrainingSection, matching_files
from tesela.chains.targets import Target
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.patches.table import UNBIASED, PatchTable, open_patches
from tesela.recipes.sections import SceneSection
from tesela.recipes.stages import Stage
from tesela.training.segmentation.settings import PRETRAINING_SETTINGS, SegmentationSettings

if TYPE_CHECKING:
    import geopandas as gpd

_ALL = ("train", "map", "both")
_LABELLED = ("train", "both")


class PretrainedChain(Protocol):
    """What the stage needs of a chain of scenes, see `tesela.chains.scenes.SceneChain`."""

    recipe: Any
    folder: Path
    quiet: bool

    @property
    def targets(self) -> tuple[Target, ...]:
        """Experts; the first one's patches decide."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that the networks use, in order."""

    @property
    def start_file(self) -> Path:
        """The start."""

    def sections(self, uses: Sequence[str]) -> list[SceneSection]:
        """Scenes of some uses."""

    def open_scene(self, section: SceneSection) -> Scene:
        """A scene with its layers."""

    def open_images(self, section: SceneSection) -> Scene:
        """A scene without its layers."""

    def images(self, uses: Sequence[str]) -> list[str | Path]:
        """Files of the scenes of some uses."""

    def weight_file(self, settings: SegmentationSettings) -> Path | None:
        """Local file of pretrained weights."""

    def with_local_weights(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings whose file of weights has its whole path."""


def pretraining_stages(chain: PretrainedChain, bands: Sequence[str] | None) -> tuple[Stage, ...]:
    """The stage that makes a start of scenes without labels; none where the recipe has no pretraining."""
    section = chain.recipe.pretraining
    if section is None:
        return ()
    settings = chain.recipe.training_settings()
    used = {name: getattr(settings, name) for name in PRETRAINING_SETTINGS}
    return (
        Stage(
            "pretrain",
            chain.start_file.parent,
            {"pretraining": section.model_dump(), "training": used, "bands": bands},
            partial(_inputs, chain, section),
            partial(_pretrain, chain, section),
            seed=chain.recipe.seed,
        ),
    )


def shared_settings(chain: PretrainedChain, settings: SegmentationSettings) -> SegmentationSettings:
    """Settings with the encoder for the first expert's patches, so that all experts share the start."""
    from tesela.training.segmentation.sizing import sized_settings  # loads torch, seconds

    return sized_settings(settings, open_patches(chain.targets[0].patch_file))


def unseen_areas(chain: PretrainedChain, table: PatchTable) -> gpd.GeoDataFrame:
    """Footprints of test patches and of scenes to map, whose imagery no training sees."""
    import geopandas as gpd
    import pandas as pd

    frame = table.frame
    parts = [frame[frame["split"].isin(["test", UNBIASED])][["geometry"]]]
    for item in chain.sections(("map",)):
        extent = chain.open_images(item).grid.extent
        parts.append(gpd.GeoDataFrame(geometry=[extent.geom], crs=str(extent.crs)).to_crs(frame.crs))
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=frame.crs)


def pretraining_scenes(chain: PretrainedChain, section: PretrainingSection) -> list[Scene]:
    """
    Scenes to learn from: those of the recipe to train on, or those that the section names.

    A named file that belongs to a scene of the recipe is that scene; another one is read like the first scene.
    """
    if not section.scenes:
        return [chain.open_scene(item) for item in chain.sections(_ALL if section.test_area else _LABELLED)]
    own = {(chain.folder / path).resolve(): item for item in chain.recipe.scenes for path in item.paths}
    items: dict[tuple[str, ...], SceneSection] = {}
    for file in _named_files(chain, section):
        item = own.get(file.resolve())
        if item is None:
            changes = {"name": file.stem, "paths": [str(file)], "date": ""}
            item = chain.recipe.scenes[0].model_copy(update=changes)
        items[tuple(item.paths)] = item
    return [chain.open_images(item) for item in items.values()]


def _pretrain(chain: PretrainedChain, section: PretrainingSection) -> Sequence[Path]:
    """Pretrain; test patches and scenes to map are left out, unless the recipe says otherwise."""
    from tesela.patches.dataset import band_statistics
    from tesela.training.segmentation.pretraining import pretrain_encoder  # loads torch, seconds

    table = open_patches(chain.targets[0].patch_file)
    mean, std = band_statistics(table, "train", bands=chain.bands)
    settings = chain.with_local_weights(chain.recipe.training_settings())
    file = pretrain_encoder(
        pretraining_scenes(chain, section),
        chain.start_file,
        settings=shared_settings(chain, settings),
        standardisation=Standardisation.of(chain.bands, mean, std),
        size_px=table.size_px,
        budget=section.budget,
        left_out=None if section.test_area else unseen_areas(chain, table),
        quiet=chain.quiet,
    )
    return [file]


def _inputs(chain: PretrainedChain, section: PretrainingSection) -> Sequence[str | Path]:
    weights = chain.weight_file(chain.recipe.training_settings())
    named = _named_files(chain, section)
    return [
        chain.targets[0].patch_file,
        *chain.images(_ALL),
        *named,
        *([] if weights is None else [weights]),
    ]


def _named_files(chain: PretrainedChain, section: PretrainingSection) -> list[Path]:
    files = [file for pattern in section.scenes for file in matching_files(chain.folder, pattern)]
    return list(dict.fromkeys(files))
