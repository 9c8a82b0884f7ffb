"""The area of a scene on which its map is evaluated, so that no pixel that trained an expert is scored unsaid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from odc.geo.geobox import GeoBox

from tesela.chains.scene_labels import SceneLabels
from tesela.chains.scenes import MAPPED
from tesela.core.grid import crs_of
from tesela.patches.table import PatchTable
from tesela.recipes.sections import SceneSection

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

AREAS = {"test": "test patches", "unbiased": "unbiased patches"}
"""Splits that are evaluated, and their names in tables."""

LEAK = "the whole map, TRAINING AREA INCLUDED"
"""Said of a map of which the experts saw a part, at this or another date, where no test patch lies on it."""

_ANOTHER_DATE = 0.5
"""Patches on more than this share of a scene are of its area at another date; on less, of sheets beside it."""

_LEAST_SHARE = 1e-6
"""A patch lies on a scene with more than this share of its area; less is rounding."""


@dataclass(frozen=True)
class EvaluatedArea:
    """Where a map is evaluated."""

    within: gpd.GeoDataFrame | None
    """Footprints of patches; None for the whole map."""
    words: str
    """The same in words, for reports."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to evaluate on."""
        return self.within is not None and self.within.empty


def evaluated_split(table: PatchTable) -> str:
    """Split that represents the whole area: the unbiased patches where there are some, else the test patches."""
    return "unbiased" if "unbiased" in table.counts else "test"


def area_of(table: PatchTable, split: str, section: SceneSection) -> gpd.GeoDataFrame:
    """Footprints of the patches of a split on a scene."""
    frame = table.frame
    return frame[(frame["split"] == split) & (frame["scene"] == section.name)]


@dataclass(frozen=True, eq=False)
class EvaluatedScenes:
    """The mapped scenes of a recipe: which are evaluated, and where."""

    labels: SceneLabels

    def sections(self) -> list[SceneSection]:
        """Scenes that are mapped and have labels."""
        first = self.labels.targets[0]
        return [item for item in self.labels.scenes.sections(MAPPED) if first.label_file(item).exists()]

    def without_labels(self) -> list[SceneSection]:
        """Scenes that are mapped and have no labels."""
        evaluated = {section.name for section in self.sections()}
        return [item for item in self.labels.scenes.sections(MAPPED) if item.name not in evaluated]

    def area(self, table: PatchTable, section: SceneSection) -> EvaluatedArea:
        """Area of a scene to evaluate on, and its words."""
        scenes = self.labels.scenes
        whole = scenes.recipe.assessment.area == "all"
        return evaluated_area(table, section.name, scenes.open_images(section).grid, whole=whole)


def evaluated_area(table: PatchTable, name: str, grid: GeoBox, *, whole: bool) -> EvaluatedArea:
    """
    Area of a scene to evaluate on.

    A scene that was cut into patches is evaluated on its test patches. One that was not (a scene to map only) is
    evaluated as a whole, unless it shows ground of the patches: at another date (patches lie on most of it) on the test
    patches there, beside them (sheets that overlap at their edges) without the patches that trained or validated.

    Parameters
    ----------
    name, grid
        Name and grid of the scene.
    whole : bool
        The user wants all of the map, see ``[assessment] area``.
    """
    split = evaluated_split(table)
    frame = table.frame
    own = frame[frame["scene"] == name]
    here = own if len(own) else _on(frame, grid)
    seen = here["split"].isin(("train", "val")).any()
    if whole or (not len(own) and not seen):
        return EvaluatedArea(None, LEAK if seen else "the whole map")
    beside = None if len(own) else _beside(here, grid)
    if beside is not None:
        return EvaluatedArea(beside, "the map without the training patches of other sheets")
    tested = here[here["split"] == split]
    if len(own):
        return EvaluatedArea(tested, f"{AREAS[split]} only")
    if tested.empty:
        return EvaluatedArea(None, LEAK)
    return EvaluatedArea(tested, f"{AREAS[split]} of other dates only")


def _beside(here: gpd.GeoDataFrame, grid: GeoBox) -> gpd.GeoDataFrame | None:
    """Area of a scene without training and validation patches; None where patches lie on most of it."""
    import geopandas as gpd

    extent = _extent(grid, here)
    covered = here.geometry.union_all().intersection(extent)
    if covered.area > _ANOTHER_DATE * extent.area:
        return None
    trained = here[here["split"].isin(("train", "val"))].geometry.union_all()
    return gpd.GeoDataFrame(geometry=[extent.difference(trained)], crs=here.crs)


def _extent(grid: GeoBox, frame: gpd.GeoDataFrame) -> BaseGeometry:
    """Extent of a grid in the CRS of a frame."""
    import geopandas as gpd

    extent: BaseGeometry = (
        gpd.GeoSeries([grid.extent.geom], crs=crs_of(grid).to_wkt()).to_crs(frame.crs).iloc[0]
    )
    return extent


def _on(frame: gpd.GeoDataFrame, grid: GeoBox) -> gpd.GeoDataFrame:
    """Patches that lie on a grid."""
    if grid.crs is None:
        return frame.iloc[:0]
    shared = frame.geometry.intersection(_extent(grid, frame)).area
    return frame[shared > _LEAST_SHARE * frame.geometry.area]
