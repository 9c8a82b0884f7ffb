"""Surroundings: pixels of neighbouring sheets around a scene, so that its map has no seam at the sheet's edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tesela.core.grid import crs_of, pixel_offset, window_grid
from tesela.core.scene import Band, Scene
from tesela.io.addresses import is_address
from tesela.io.manifest import write_text
from tesela.io.masks import has_mask
from tesela.io.raster import grid_of, open_dataset

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
"""GDAL's names of the types that a scene's files have."""


@dataclass(frozen=True)
class Surroundings:
    """A scene with what lies around it, and the scene's place in it."""

    scene: Scene
    """The wider scene, which the network sees."""
    inner: Scene
    """The scene whose map is kept."""
    top: int = 0
    """Rows above the scene."""
    left: int = 0
    """Columns left of it."""
    file: Path | None = None
    """VRT of the wider scene; None where nothing is added."""

    def cut(
        self, corner: tuple[int, int], layers: NDArray[np.uint8]
    ) -> tuple[tuple[int, int], NDArray[np.uint8]] | None:
        """
        Part of a strip that lies in the scene, and its corner there; None where there is none.

        Parameters
        ----------
        corner : (int, int)
            Row and column of the strip in the wider scene.
        layers : (layers, rows, cols) array of uint8
        """
        rows, cols = (int(side) for side in self.inner.grid.shape)
        first = max(0, self.top - corner[0]), max(0, self.left - corner[1])
        row, col = corner[0] + first[0] - self.top, corner[1] + first[1] - self.left
        part = layers[:, first[0] : first[0] + rows - row, first[1] : first[1] + cols - col]
        return ((row, col), part) if row < rows and col < cols and part.size else None

    def remove(self) -> None:
        """Remove the VRT, when the map is complete."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def beside(scene: Scene, others: Sequence[Scene], *, within_px: int) -> list[Scene]:
    """Scenes of the same date and pixels that lie at most so many pixels from a scene, without the scene itself."""
    rows, cols = (int(side) for side in scene.grid.shape)
    near = []
    for other in others:
        if other.name == scene.name or other.date != scene.date:
            continue
        place = pixel_offset(scene.grid, other.grid)
        if place is None:
            continue
        height, width = (int(side) for side in other.grid.shape)
        below, right = place[0] < rows + within_px, place[1] < cols + within_px
        if below and right and place[0] + height > -within_px and place[1] + width > -within_px:
            near.append(other)
    return near


def surround(scene: Scene, neighbours: Sequence[Scene], *, margin_px: int, out: str | Path) -> Surroundings:
    """
    Add `margin_px` pixels of neighbouring scenes on the sides of a scene where there are some.

    Neighbours count that have the same date, the same pixels (CRS, size, alignment), bands, types, scale and offset,
    in local files without masks. The scene's own pixels lie on top, those without data too.

    Parameters
    ----------
    margin_px : int
        What windows lose at inner sides, so that the map at the edge is as good as in the middle.
    out : path
        The map. The VRT of the wider scene is written beside it, and only when it differs from one that is there, so
        that parts of a killed run stay good.
    """
    alone = Surroundings(scene, scene)
    if margin_px <= 0 or not neighbours or not _plain(scene):
        return alone
    rows, cols = (int(side) for side in scene.grid.shape)
    placed: list[tuple[Scene, int, int]] = []
    sides = [0, 0, 0, 0]  # top, left, bottom, right
    for other in beside(scene, neighbours, within_px=margin_px):
        row, col = pixel_offset(scene.grid, other.grid) or (0, 0)
        height, width = (int(side) for side in other.grid.shape)
        chosen = _same_bands(scene, other)
        if chosen is None or not _plain(chosen):
            continue
        placed.append((chosen, row, col))
        beyond = (-row, -col, row + height - rows, col + width - cols)
        sides = [max(side, min(margin_px, more)) for side, more in zip(sides, beyond, strict=True)]
    if not any(sides):
        return alone
    top, left, bottom, right = sides
    grid = window_grid(scene.grid, -top, -left, rows + top + bottom, cols + left + right)
    file = Path(out).absolute().with_name(f".{Path(out).name}.around.vrt")
    bands = tuple(_wide_band(band, number, file) for number, band in enumerate(scene.bands, start=1))
    wide = replace(scene, bands=bands, grid=grid)
    text = _document(wide, [*placed, (scene, 0, 0)], corner=(top, left))
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return Surroundings(wide, scene, top, left, file)


def _plain(scene: Scene) -> bool:
    """Whether all bands are in local files on the scene's own grid, without masks."""
    for path in {band.path for band in scene.bands}:
        if is_address(path):
            return False
        with open_dataset(path) as data:
            own = grid_of(data)
            if has_mask(data) or tuple(own.shape) != tuple(scene.grid.shape):
                return False
            if pixel_offset(own, scene.grid) != (0, 0):
                return False
    return all(band.dtype in _TYPES for band in scene.bands)


def _same_bands(scene: Scene, other: Scene) -> Scene | None:
    """The other scene with the bands of this one; None where they mean something else."""
    by_name = {band.name: band for band in other.bands}
    bands = [by_name.get(name) for name in scene.band_names]
    kept = [
        theirs
        for mine, theirs in zip(scene.bands, bands, strict=True)
        if theirs is not None
        and (mine.dtype, mine.scale, mine.offset) == (theirs.dtype, theirs.scale, theirs.offset)
    ]
    return replace(other, bands=tuple(kept)) if len(kept) == len(scene.bands) else None


def _wide_band(band: Band, number: int, file: Path) -> Band:
    """Band of the VRT; without a nodata number of its own it is stored as floats, NaN beyond all sheets."""
    if band.nodata is not None:
        return replace(band, path=str(file), index=number)
    wide = "float32" if np.dtype(band.dtype).itemsize <= 2 or band.dtype == "float32" else "float64"
    return replace(band, path=str(file), index=number, dtype=wide, nodata=float("nan"))


def _document(wide: Scene, sources: Sequence[tuple[Scene, int, int]], *, corner: tuple[int, int]) -> str:
    """Text of the VRT; later sources lie on top."""
    rows, cols = (int(side) for side in wide.grid.shape)
    root = ElementTree.Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    ElementTree.SubElement(root, "SRS").text = crs_of(wide.grid).to_wkt()
    step = wide.grid.affine
    ElementTree.SubElement(root, "GeoTransform").text = ", ".join(
        repr(float(number)) for number in (step.c, step.a, step.b, step.f, step.d, step.e)
    )
    for position, band in enumerate(wide.bands):
        element = ElementTree.SubElement(
            root, "VRTRasterBand", dataType=_TYPES[band.dtype], band=str(position + 1)
        )
        ElementTree.SubElement(element, "NoDataValue").text = repr(band.nodata)
        for scene, row, col in sources:
            own = scene.bands[position]
            height, width = (int(side) for side in scene.grid.shape)
            on_top = (row, col) == (0, 0) and scene.name == wide.name
            part = ElementTree.SubElement(element, "SimpleSource" if on_top else "ComplexSource")
            ElementTree.SubElement(part, "SourceFilename", relativeToVRT="0").text = str(
                Path(own.path).absolute()
            )
            ElementTree.SubElement(part, "SourceBand").text = str(own.index)
            size = {"xSize": str(width), "ySize": str(height)}
            ElementTree.SubElement(part, "SrcRect", {"xOff": "0", "yOff": "0"} | size)
            place = {"xOff": str(col + corner[1]), "yOff": str(row + corner[0])}
            ElementTree.SubElement(part, "DstRect", place | size)
            if own.nodata is not None and not on_top:
                ElementTree.SubElement(part, "NODATA").text = repr(own.nodata)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
