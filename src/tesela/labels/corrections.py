"""Corrections: polygons whose class replaces that of the labels under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import bounds_in, windows
from tesela.core.legend import NODATA, Legend
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.pixel_areas import pixel_area_m2
from tesela.io.update_queue import PROPOSALS, is_queue
from tesela.io.vector import NO_CODE, code_texts, open_layer, read_layer
from tesela.labels.codes import CodeBook
from tesela.labels.masks import WINDOW_PX
from tesela.labels.polygons import PolygonLabels, choose_field

DECISION = "decision"
"""Field of a reviewer's decision in the layer of proposals of a queue."""


@dataclass(frozen=True)
class CorrectionLayer:
    """A layer of corrected polygons; a polygon without a code corrects nothing."""

    path: str | Path
    layer: str | None
    field: str

    @cached_property
    def codes(self) -> frozenset[str]:
        """All codes in the layer."""
        frame = read_layer(open_layer(self.path, layer=self.layer), columns=[self.field], report=False)
        return frozenset(code_texts(frame[self.field]).tolist()) - {NO_CODE}


@dataclass(frozen=True)
class CorrectionCodes:
    """What the codes of a layer do to the labels of one legend."""

    book: CodeBook
    """Value by code; nodata removes a label."""
    kept: frozenset[str] = frozenset()
    """Codes that say nothing about this legend: labels under them stay."""


@dataclass(frozen=True)
class Corrected:
    """What corrections did to the labels of one scene."""

    polygons: int = 0
    """Polygons on the scene that have a code."""
    drawn_ha: float = 0.0
    """Area under those that this legend has a word on."""
    changed_ha: float = 0.0
    """Part of it that had another label, or none."""

    def __add__(self, other: Corrected) -> Corrected:
        return Corrected(
            self.polygons + other.polygons,
            self.drawn_ha + other.drawn_ha,
            self.changed_ha + other.changed_ha,
        )


def open_corrections(
    path: str | Path, *, layer: str | None = None, field: str | None = None
) -> CorrectionLayer:
    """
    Open a layer of corrections.

    Parameters
    ----------
    path : str or Path
        Any file or table of polygons. A queue of `tesela update` or `tesela review rank`, also as `tesela review
        export` writes it, gives the decisions of its reviewers.
    layer : str, optional
        Required if several layers of polygons of a file have the field; default for a queue: its proposals.
    field : str, optional
        Field of the codes; default for a queue: its decisions, else as in `tesela.labels.write_labels`.

    Raises
    ------
    InputError
        If the file cannot be read, or has no such layer or field.
    """
    if layer is None and is_queue(path):
        layer, field = PROPOSALS, field or DECISION
    opened = open_layer(path, layer=layer, field=field)
    return CorrectionLayer(path, layer or opened.layer or None, choose_field(opened, field))


def correct_labels(labels: ClassMap, layers: Sequence[tuple[CorrectionLayer, CorrectionCodes]]) -> Corrected:
    """
    Draw corrections over a class mask, in place; later layers, and later polygons of one, lie above earlier ones.

    A pixel takes the class of the polygon that contains its centre, as in `tesela.labels.write_labels`.

    Returns
    -------
    Corrected
        Polygons and hectares; nothing is written where no polygon with a code lies on the mask.

    Raises
    ------
    GridError
        If a layer has no CRS.
    LegendError
        If a code is unknown.
    """
    readers = [
        _CorrectionReader(layer, codes, like=labels.grid)
        for layer, codes in layers
        if reaches(layer, labels.grid)
    ]
    if not readers:
        return Corrected()
    drawn = changed = 0
    with MapWriter(labels.path, labels.grid, labels.legend) as writer, MapReader(labels) as below:
        for row, col, grid in windows(labels.grid, WINDOW_PX):
            before = below.read(grid)
            after, touched = before, np.zeros(before.shape, np.bool_)
            for reader in readers:
                after, new = reader.draw_over(after, grid)
                touched |= new
            drawn += int(touched.sum())
            changed += int((after != before).sum())
            writer.write(row, col, after)
    for reader in readers:
        reader.close()
    pixel_ha = pixel_area_m2(labels.grid) / 10_000
    polygons = sum(len(reader.numbers) for reader in readers)
    return Corrected(polygons, drawn * pixel_ha, changed * pixel_ha)


def blank_labels(out: str | Path, *, like: GeoBox, legend: Legend) -> ClassMap:
    """Write a class mask without any label, for corrections outside the reference."""
    with MapWriter(out, like, legend) as writer:
        for row, col, grid in windows(like, WINDOW_PX):
            writer.write(row, col, np.full(tuple(grid.shape), NODATA, np.uint8))
    return ClassMap(str(out), like, legend)


def reaches(layer: CorrectionLayer, grid: GeoBox) -> bool:
    """Whether the bounds of a layer with codes overlap a grid."""
    if not layer.codes:
        return False
    opened = open_layer(layer.path, layer=layer.layer)
    left, bottom, right, top = bounds_in(grid, opened.crs)
    own = opened.bounds
    return own[0] < right and own[2] > left and own[1] < top and own[3] > bottom


class _CorrectionReader(PolygonLabels):
    """Draws the polygons of a layer that have a code over labels."""

    def __init__(self, layer: CorrectionLayer, codes: CorrectionCodes, *, like: GeoBox) -> None:
        super().__init__(layer.path, codes.book, like=like, field=layer.field, layer=layer.layer)
        self._kept = [*codes.kept]
        self.numbers: set[int] = set()
        """Numbers of the polygons with a code on the windows read so far."""

    def draw_over(
        self, below: NDArray[np.uint8], grid: GeoBox
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Labels of a window with the corrections, and where there are some."""
        polygons = self._polygons(grid)
        codes = code_texts(polygons[self.field])
        coded = codes != NO_CODE
        self.numbers.update(polygons.index[coded].tolist())
        said = polygons[coded & ~np.isin(codes.astype(str), self._kept)]
        if not len(said):
            return below, np.zeros(below.shape, np.bool_)
        drawn = self._draw(said, grid, np.full(below.shape, _UNUSED, np.uint8))
        there = drawn != _UNUSED
        return np.where(there, drawn, below), there


_UNUSED = 255
"""A value that no legend has."""
