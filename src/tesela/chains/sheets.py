"""Sheets of a chain: the joined map of its scenes, each on its own area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tesela.core.errors import InputError
from tesela.io.addresses import in_folder
from tesela.io.maps import open_map
from tesela.io.vector import open_layer, read_layer
from tesela.mapping.sheet_join import Sheet, join_sheets
from tesela.recipes.sections import SceneSection
from tesela.sources.pnoa import PnoaName, read_sheet

if TYPE_CHECKING:
    import geopandas as gpd


def join_scenes(
    sections: Sequence[SceneSection],
    maps: Sequence[Path],
    scores: Sequence[Mapping[str, Path]],
    out: Path,
    *,
    folder: Path,
    crs: str,
) -> list[Path]:
    """
    Join the maps of scenes, one each, and their scores by kind; see `tesela.mapping.sheet_join.join_sheets`.

    The joined scores are beside the joined map, ``NAME_confidence.tif`` beside ``NAME.tif``.
    """
    sheets = []
    for section, file, own_scores in zip(sections, maps, scores, strict=True):
        outline = (
            None if section.outline is None else read_outline(in_folder(folder, section.outline), section)
        )
        sheets.append(Sheet(section.name, open_map(file), outline, own_scores))
    joined = {kind: out.with_name(f"{out.stem}_{kind}.tif") for kind in scores[0]}
    join_sheets(sheets, out, crs=crs, scores=joined)
    return [out, *joined.values()]


def read_outline(path: str | Path, section: SceneSection) -> gpd.GeoSeries:
    """
    Outline of a scene: the only polygon of a layer, or that with the name of the scene, its image or its PNOA sheet.

    Raises
    ------
    InputError
        If none of several polygons has such a name.
    """
    import geopandas as gpd

    layer = open_layer(path)
    frame = read_layer(layer)
    if len(frame) == 1:
        return frame.geometry
    names = {section.name, PurePath(section.paths[0]).stem}
    texts = frame.drop(columns=frame.geometry.name).astype(str)
    stems = texts.map(lambda text: PurePath(text).stem if text.lower().endswith((".tif", ".tiff")) else text)
    found = frame.geometry[stems.isin(names).any(axis=1)]
    if len(found):
        return found
    pnoa = PnoaName.parse(section.paths[0])
    if pnoa is None:
        raise InputError(
            f"{path}: none of its {len(frame)} polygons is named '{section.name}'. Name the scene in a field of the "
            f"outlines, or give the scene a file with its own outline."
        )
    return gpd.GeoSeries([read_sheet(path, pnoa.sheet, crs=layer.crs)], crs=layer.crs)
