"""Figures of a mapped scene: the image, the reference, the map and where they differ, whole or in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.article.drawing import Source
from tesela.assessment.pictures import DIFFERENCE, Overview, compare_coarsely, difference_picture
from tesela.chains.scene_chain import SceneChain
from tesela.chains.scenes import MAPPED
from tesela.core.errors import InputError, unknown_name
from tesela.core.grid import crs_of, windows
from tesela.core.scene import Scene
from tesela.io.map_views import class_picture, present_classes
from tesela.io.maps import ClassMap, open_map
from tesela.io.pixel_areas import pixels_inside
from tesela.pages.map_figure import Entry, LegendPart, MapPanel, class_entries
from tesela.pages.plots import INK
from tesela.pages.scene_picture import scene_picture, shown_bands
from tesela.patches.table import open_patches
from tesela.recipes.sections import SceneSection

PANEL_MM = 66.0
"""Width of each of several maps."""

_SEARCH_PX = 1000
"""Longer side of the picture in which details are looked for."""
_PARTS = 3
"""A map of less than two tiles is divided into so many parts along its shorter side."""
_LEAST_PART = 0.25
"""Part of the evaluated pixels of the fullest detail that a detail needs to be chosen."""
_SOME_CLASSES = 3
"""Details with fewer classes are chosen only where all have fewer."""


@dataclass(frozen=True)
class Detail:
    """A part of a scene, chosen by how well map and reference agree in it."""

    window: GeoBox
    mean_iou: float
    """Mean IoU over the classes of its evaluated pixels, on the coarse grid on which it was looked for."""
    place: str
    """Row and column among the parts, from 1: "row 2, column 1 of 3 x 3"."""


@dataclass(frozen=True)
class MappedScene:
    """A scene of a run with its map and its labels."""

    source: Source
    section: SceneSection

    @property
    def chain(self) -> SceneChain[Any]:
        """The chain of the run."""
        chain: SceneChain[Any] = self.source.chain
        return chain

    @cached_property
    def scene(self) -> Scene:
        """The images, without layers."""
        return self.chain.scenes.open_images(self.section)

    @cached_property
    def map(self) -> ClassMap:
        """The map; stage map writes it."""
        return open_map(self.source.need(Path(self.chain.map_file(self.section)), "map"))

    @cached_property
    def reference(self) -> ClassMap:
        """The labels in the legend of the map."""
        return self.chain.reference_map(self.section)

    @property
    def image_title(self) -> str:
        """What the picture of the image shows."""
        return f"Image: {', '.join(shown_bands(self.scene))}"

    def image(self, grid: GeoBox) -> MapPanel:
        """The image on a coarse grid."""
        return MapPanel(self.image_title, scene_picture(self.scene, grid))

    def evaluated(self, grid: GeoBox) -> NDArray[np.bool_]:
        """(rows, cols): cells of a coarse grid whose middle lies in the evaluated area."""
        table = open_patches(self.source.need(self.chain.targets[0].patch_file, "patches"))
        area = self.chain.evaluated.area(table, self.section).within
        if area is None:
            return np.ones(grid.shape, np.bool_)
        return pixels_inside(grid, area.to_crs(crs_of(grid).to_wkt()))

    def overview(self, size_px: int, window: GeoBox | None = None) -> Overview:
        """Map and labels on a coarse grid."""
        return compare_coarsely(
            self.map, self.reference, legend=self.map.legend, window=window, size_px=size_px
        )

    def details(self) -> tuple[Detail, Detail]:
        """
        The parts of the scene with the highest and with the lowest mean IoU of their evaluated pixels.

        Parts are the tiles of the report; a map of less than two tiles is divided into thirds.

        Raises
        ------
        InputError
            If no pixel was evaluated.
        """
        overview = self.overview(_SEARCH_PX)
        chosen = self.evaluated(overview.grid) & np.isfinite(overview.wrong)
        side = self.chain.recipe.assessment.tiles_px
        if min(self.map.grid.shape) < 2 * side:
            side = max(1, -(-min(self.map.grid.shape) // _PARTS))
        down, across = (-(-int(length) // side) for length in self.map.grid.shape)
        found: list[tuple[int, int, Detail]] = []
        for row, col, window in windows(self.map.grid, side):
            if min(window.shape) < side / 2:
                continue  # a sliver at the edge
            top, left = row // overview.pixels_per_cell, col // overview.pixels_per_cell
            rows, cols = (max(1, int(length) // overview.pixels_per_cell) for length in window.shape)
            cells = (slice(top, top + rows), slice(left, left + cols))
            seen = chosen[cells]
            if seen.any():
                place = f"row {row // side + 1}, column {col // side + 1} of {down} x {across}"
                pair = [values[cells][seen] for values in (overview.map_values, overview.reference_values)]
                classes = len(present_classes(self.map.legend, pair[1]))
                score = _mean_iou(pair[0], pair[1])
                found.append((int(seen.sum()), classes, Detail(window, score, place)))
        if not found:
            raise InputError(
                f"Scene '{self.section.name}' has no evaluated pixel, so no detail can be chosen by its errors."
            )
        full = max(size for size, _, _ in found)
        usual = [one for one in found if one[0] >= _LEAST_PART * full]
        rich = [one for one in usual if one[1] >= _SOME_CLASSES] or usual
        parts = sorted((detail for _, _, detail in rich), key=lambda detail: detail.mean_iou)
        return parts[-1], parts[0]

    def four_maps(
        self, window: GeoBox | None = None, *, generalised: ClassMap | None = None
    ) -> tuple[list[MapPanel], GeoBox, list[LegendPart]]:
        """
        Image, reference, map, and where they differ or the generalised map.

        Returns
        -------
        panels, grid, legend
            For `tesela.pages.map_figure.map_figure`.
        """
        overview = self.overview(self.source.cells(PANEL_MM), window)
        legend = self.map.legend
        panels = [
            self.image(overview.grid),
            MapPanel("Reference", class_picture(overview.reference_values, legend)),
            MapPanel("Map", class_picture(overview.map_values, legend)),
        ]
        shown = [overview.map_values, overview.reference_values]
        if generalised is not None:
            after = compare_coarsely(
                generalised,
                self.reference,
                legend=legend,
                window=window,
                size_px=self.source.cells(PANEL_MM),
            )
            panels.append(MapPanel("Generalised map", class_picture(after.map_values, legend)))
            return (
                panels,
                overview.grid,
                [classes_part(f"Classes ({legend.address})", legend.classes, [*shown, after.map_values])],
            )
        tested = self.evaluated(overview.grid)
        panels.append(MapPanel("Pixels that differ", difference_picture(overview.wrong), outlined=tested))
        parts = [
            classes_part(f"Classes ({legend.address})", legend.classes, shown),
            differences_part(overview.wrong),
        ]
        if tested.any() and not tested.all():
            parts.append(LegendPart("", [Entry("outline of the test area", INK, outline=True)]))
        return panels, overview.grid, parts


def mapped_scene(source: Source, *, labelled: bool = True) -> MappedScene:
    """
    The scene to draw: that of the name given, else the first with a map and labels.

    Raises
    ------
    InputError
        If there is none, or no scene of this name.
    """
    chain: SceneChain[Any] = source.chain
    mapped = chain.scenes.sections(MAPPED)
    if source.scene is not None:
        named = [section for section in mapped if section.name == source.scene]
        if not named:
            raise InputError(unknown_name("mapped scene", source.scene, [item.name for item in mapped]))
        mapped = named
    for section in mapped:
        if not labelled or chain.targets[0].label_file(section).exists():
            return MappedScene(source, section)
    first = mapped[0] if mapped else chain.recipe.scenes[0]
    source.need(chain.targets[0].label_file(first), "label")
    raise InputError(f"{source.file} maps no scene; give one use = 'both'.")


def _mean_iou(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean IoU over the classes of two arrays of class values."""
    classes = np.union1d(one, other)
    equal = one == other
    both = np.array([(equal & (one == value)).sum() for value in classes])
    either = np.array([((one == value) | (other == value)).sum() for value in classes])
    return float((both / either).mean())


def classes_part(heading: str, classes: Sequence[Any], values: Sequence[NDArray[np.uint8]]) -> LegendPart:
    """The classes that occur in pictures, under a heading."""
    present = {int(value) for array in values for value in np.unique(array)}
    return LegendPart(heading, class_entries([item for item in classes if item.value in present]))


def differences_part(wrong: NDArray[np.float32]) -> LegendPart:
    """The steps of a picture of differences, from the least to the largest that occurs in it."""
    seen = wrong[np.isfinite(wrong)]
    steps = set(np.rint(seen * (len(DIFFERENCE) - 1)).astype(int).tolist())
    if steps <= {0, len(DIFFERENCE) - 1}:  # single pixels: equal or not
        names = {0: "map and reference agree", len(DIFFERENCE) - 1: "they differ"}
        colors = list(DIFFERENCE.values())
        return LegendPart("Difference", [Entry(names[k], colors[k]) for k in sorted(steps)])
    pairs = [pair for k, pair in enumerate(DIFFERENCE.items()) if min(steps) <= k <= max(steps)]
    return LegendPart("Difference", [Entry(name, color) for name, color in pairs])
