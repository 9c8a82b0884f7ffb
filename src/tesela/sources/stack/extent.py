"""The extent of a stack: the grid over all its images, and which of them lie elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, join_words
from tesela.core.grid import bounds_in, crs_of, crs_text, window_grid
from tesela.core.notes import note
from tesela.sources.stack.planes import Plane
from tesela.sources.stack.reading import PlaneReader

Box = tuple[int, int, int, int]
"""First row and column, and the row and column after the last, in the pixels of the first image."""

_COVERED = 0.5
"""Least part of a cube that its images cover, where some of them are apart from the others."""


def whole_grid(planes: Sequence[Plane], reader: PlaneReader) -> GeoBox:
    """
    Pixels of the first image, extended over all others; images of other pixels are warped to these.

    Raises
    ------
    GridError
        If an image cannot be placed in the CRS of the first one, or some are so far from the others that more than half
        of the cube would be between them.
    """
    grids = {plane.address: reader.grid(plane) for plane in _one_each(planes)}
    first = next(iter(grids.values()))
    boxes = {address: _box(address, own, first) for address, own in grids.items()}
    groups = _touching(boxes)
    whole = _union(list(boxes.values()))
    if len(groups) > 1 and sum(_size(box) for box, _ in groups) < _COVERED * _size(whole):
        apart = min(groups, key=lambda group: (len(group[1]), next(iter(grids)) in group[1]))
        raise _far_away(
            apart[1][0], next(name for name in grids if name not in apart[1]), grids, boxes, whole
        )
    return window_grid(first, whole[0], whole[1], whole[2] - whole[0], whole[3] - whole[1])


def check_reach(planes: Sequence[Plane], reader: PlaneReader, grid: GeoBox) -> None:
    """
    Check that images reach a given grid; a note names those that do not.

    Raises
    ------
    GridError
        If none does.
    """
    left, bottom, right, top = grid.extent.boundingbox
    wkt = crs_of(grid).to_wkt()
    files, outside = _one_each(planes), []
    for plane in files:
        box = bounds_in(reader.grid(plane), wkt)
        if not (box[0] < right and box[2] > left and box[1] < top and box[3] > bottom):
            outside.append(plane.address)
    if len(outside) == len(files):
        raise GridError(
            f"No image reaches the grid; the first one is {planes[0].address}. Check the coordinate systems of both."
        )
    if outside:
        more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        note(
            f"{len(outside)} of {len(files)} files do not reach the grid and give nothing: "
            f"{join_words(outside[:3])}{more}."
        )


def _one_each(planes: Sequence[Plane]) -> list[Plane]:
    """One plane of each file."""
    return list({plane.address: plane for plane in reversed(planes)}.values())[::-1]


def _far_away(
    name: str, other: str, grids: Mapping[str, GeoBox], boxes: Mapping[str, Box], whole: Box
) -> GridError:
    first = next(iter(grids.values()))
    gap = _gap_px(boxes[name], boxes[other]) * abs(float(first.resolution.x))
    distance = f"{gap / 1000:,.0f} km" if crs_of(first).projected else f"{gap:.1f} degrees"
    return GridError(
        f"{name} ({crs_text(grids[name])}) lies {distance} from {other} ({crs_text(grids[other])}): a cube over both "
        f"has {whole[2] - whole[0]} x {whole[3] - whole[1]} cells, most of them empty. Correct its coordinate system "
        f"(gdal_edit.py -a_srs EPSG:....), leave it out, or name a raster of the area as the grid (--like)."
    )


def _box(address: str, own: GeoBox, first: GeoBox) -> Box:
    """Where an image lies, in the pixels of the first one."""
    if own == first:
        return 0, 0, int(first.shape[0]), int(first.shape[1])
    left, bottom, right, top = bounds_in(own, crs_of(first).to_wkt())
    if not all(map(math.isfinite, (left, bottom, right, top))):
        raise GridError(
            f"{address}: lies nowhere in {crs_text(first)}, the coordinate system of the first image. Correct its own "
            f"({crs_text(own)}; gdal_edit.py -a_srs EPSG:....), or leave it out."
        )
    (col, row), (last_col, last_row) = (~first.affine * corner for corner in ((left, top), (right, bottom)))
    return (
        math.floor(row + 1e-3),
        math.floor(col + 1e-3),
        math.ceil(last_row - 1e-3),
        math.ceil(last_col - 1e-3),
    )


def _touching(boxes: Mapping[str, Box]) -> list[tuple[Box, list[str]]]:
    """Groups of images whose boxes touch: the box around each, and its images in their order."""
    groups: list[tuple[Box, list[str]]] = []
    for address, box in boxes.items():
        joined, names = box, [address]
        while True:
            near = [group for group in groups if _gap_px(group[0], joined) <= 1]
            if not near:
                break
            groups = [group for group in groups if group not in near]
            joined = _union([joined, *(group[0] for group in near)])
            names = [name for group in near for name in group[1]] + names
        groups.append((joined, names))
    return groups


def _union(boxes: Sequence[Box]) -> Box:
    rows, cols, last_rows, last_cols = zip(*boxes, strict=True)
    return min(rows), min(cols), max(last_rows), max(last_cols)


def _size(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _gap_px(a: Box, b: Box) -> float:
    """Distance of two boxes in pixels, 0 where they touch."""
    return math.hypot(*_gaps(a, b))


def _gaps(a: Box, b: Box) -> Iterator[int]:
    for axis in (0, 1):
        yield max(0, a[axis] - b[axis + 2], b[axis] - a[axis + 2])
