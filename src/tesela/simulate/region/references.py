"""A CORINE-like polygon layer of a virtual landscape: generalised, with known mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.legends import open_legend
from tesela.simulate.region.landscape import Landscape

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

REFERENCE_CRS = "EPSG:3035"
"""As CORINE Land Cover is published; the scenes are in EPSG:25830."""

_CONFUSED: dict[int, tuple[int, ...]] = {
    1: (2,),
    2: (1, 20, 3),
    3: (2, 9),
    7: (31, 32, 9),
    9: (12, 3, 32),
    10: (2, 18),
    11: (18, 2, 26),
    12: (18, 20, 26, 13),
    13: (12, 20, 16),
    15: (19, 12, 17),
    16: (17, 13, 20),
    17: (16, 21, 28),
    18: (26, 12, 21),
    19: (17, 20, 12),
    20: (12, 21, 16),
    21: (20, 29, 17),
    22: (18, 29, 21),
    23: (25, 29),
    24: (25, 28),
    25: (24, 23),
    26: (28, 32, 18),
    28: (29, 26, 32),
    29: (28, 25, 23),
    30: (32, 12),
    31: (32, 28),
    32: (28, 31, 26),
    33: (28, 32),
    35: (18, 26),
    37: (26, 35),
    38: (37, 42),
}
"""Classes that a photointerpreter confuses with each class, most likely first."""

_FORMER: dict[int, tuple[int, ...]] = {
    2: (12, 20, 17),
    3: (12, 13, 20),
    7: (28, 32),
    9: (12, 20),
    11: (12, 28),
    13: (12,),
    15: (12,),
    16: (12, 13),
    17: (12, 21),
    20: (12, 13),
    29: (24, 12),
    33: (24, 25, 28),
}
"""Classes that each class often had some years ago and that an outdated map still shows."""


@dataclass(frozen=True)
class WrongPolygon:
    """One known mistake of a reference."""

    polygon: int
    """ID of the polygon in the reference."""
    kind: str
    """"label" (confused with another class), "outdated" (was so once) or "shifted" (only moved)."""
    code: str
    """CODE_18 that the reference gives."""
    true_code: str
    """Code in the generalised truth; equal to `code` where only the position is wrong."""
    east_m: float
    """How far the polygon was moved, metres; 0 if it was not."""
    south_m: float
    x_m: float
    """A point inside the polygon, in the CRS of the landscape."""
    y_m: float


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference layer and its mistakes."""

    polygons: gpd.GeoDataFrame
    """ID, CODE_18 (text, level 3), AREA_HA and geometry in EPSG:3035; they cover the region."""
    raster: NDArray[np.uint8]
    """(rows, cols) grid codes of the polygons before their outlines were smoothed."""
    wrong: tuple[WrongPolygon, ...]
    disagreement: float
    """Share of pixels at which `raster` is not the truth at level 3: generalisation and mistakes."""


def make_reference(
    landscape: Landscape,
    *,
    min_area_ha: float = 25.0,
    label_errors: float = 0.03,
    outdated: float = 0.02,
    shifted: float = 0.10,
) -> Reference:
    """
    Draw the existing map of a landscape, as a national agency would have it.

    The truth is generalised (majority in a window, narrow and small areas given to neighbours); some
    areas move by 1 to 5 pixels; all are drawn as polygons with outlines smoothed by two pixels; some
    polygons get a class they are confused with, or one that they had in the past.

    Parameters
    ----------
    min_area_ha : float
        Minimum mapping unit; 25 in CORINE, less for a region of a few kilometres.
    label_errors, outdated : float
        Share of the area that gets a wrong label of either kind, 0 to 0.5.
    shifted : float
        Share of the polygons that are moved, 0 to 0.5.

    Raises
    ------
    InputError
        If a share or the area is out of range.
    """
    for name, share in (("label_errors", label_errors), ("outdated", outdated), ("shifted", shifted)):
        if not 0 <= share <= 0.5:
            raise InputError(f"{name} is {share:g}; give a share from 0 to 0.5.")
    pixel_m = abs(float(landscape.grid.affine.a))
    least_px = round(min_area_ha * 1e4 / pixel_m**2)
    if least_px < 4 or least_px > landscape.truth.size // 8:
        raise InputError(
            f"min_area_ha is {min_area_ha:g}, {least_px} pixels; give 4 pixels to an eighth of the region."
        )
    rng = np.random.default_rng([landscape.seed, 30])
    drawn = generalised(landscape.truth, least_px=least_px)
    drawn, moves = _shift(rng, drawn, share=shifted)
    drawn = _sieve(drawn, least_px)
    shapes, number = _polygons(drawn, landscape)
    codes = np.zeros(len(shapes), np.uint8)
    codes[number.ravel()] = drawn.ravel()
    true = codes.copy()
    kinds = _mislabel(rng, codes, number, label_errors=label_errors, outdated=outdated)

    legend = open_legend("corine-3")
    text = {item.value: item.code for item in legend.classes}
    wrong = []
    moved = {int(np.bincount(number.ravel()[area]).argmax()): move for area, move in moves}
    for index, shape in enumerate(shapes):
        south, east = moved.get(index, (0, 0))
        kind = kinds.get(index, "shifted" if index in moved else "")
        if kind:
            point = shape.representative_point()
            wrong.append(
                WrongPolygon(
                    polygon=index + 1,
                    kind=kind,
                    code=text[int(codes[index])],
                    true_code=text[int(true[index])],
                    east_m=east * pixel_m,
                    south_m=south * pixel_m,
                    x_m=round(point.x, 2),
                    y_m=round(point.y, 2),
                )
            )
    raster = codes[number]
    return Reference(
        polygons=_frame(shapes, [text[int(code)] for code in codes], crs=str(landscape.grid.crs)),
        raster=raster,
        wrong=tuple(wrong),
        disagreement=float(np.count_nonzero(raster != landscape.truth) / raster.size),
    )


def generalised(truth: NDArray[np.uint8], *, least_px: int) -> NDArray[np.uint8]:
    """
    Simplify class values (rows, cols): majority in a window, nothing narrow, no area below `least_px` pixels.

    An area is narrow if no square with a quarter of the side of the smallest unit fits into it: roads, rivers.
    This simple method serves the virtual region only; maps for publication use `tesela.generalise`.
    """
    from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter, uniform_filter

    side = max(3, int((least_px**0.5) / 4) | 1)
    best = np.full(truth.shape, -1, np.int16)
    code = np.zeros(truth.shape, np.uint8)
    for value in np.flatnonzero(np.bincount(truth.ravel())):
        votes = uniform_filter((truth == value).astype(np.int16) * np.int16(10_000), side, mode="nearest")
        better = votes > best
        best[better] = votes[better]
        code[better] = value
    width = max(3, int(0.25 * least_px**0.5) | 1)
    pure = minimum_filter(code, width) == maximum_filter(code, width)
    wide = maximum_filter(pure, width)
    if wide.any():
        _, nearest = distance_transform_edt(~wide, return_indices=True)
        code = code[tuple(nearest)]
    for least in (least_px // 8, least_px // 4, least_px // 2, least_px):
        code = _sieve(code, least)
    return code


def _sieve(values: NDArray[np.uint8], least_px: int) -> NDArray[np.uint8]:
    from rasterio.features import sieve

    return np.asarray(sieve(values, max(2, least_px), connectivity=4), np.uint8)


def _regions(values: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """Number the 4-connected areas of equal value 1, 2, ... in the order of their values."""
    from scipy.ndimage import label

    number = np.zeros(values.shape, np.int32)
    count = 0
    for value in np.flatnonzero(np.bincount(values.ravel())):
        pieces, areas = label(values == value)
        number += np.where(pieces > 0, pieces + np.int32(count), 0).astype(np.int32)
        count += int(areas)
    return number, count


def _shift(
    rng: np.random.Generator, values: NDArray[np.uint8], *, share: float
) -> tuple[NDArray[np.uint8], list[tuple[NDArray[np.int64], tuple[int, int]]]]:
    """Move some areas by 1 to 5 pixels; return the new values, and each moved area's pixels and move."""
    from scipy.ndimage import distance_transform_edt, find_objects

    number, count = _regions(values)
    values = values.copy()
    rows, cols = values.shape
    boxes = find_objects(number)
    moves: list[tuple[NDArray[np.int64], tuple[int, int]]] = []
    for index in rng.permutation(count)[: round(share * count)]:
        south, east = (int(step) for step in rng.integers(1, 6, 2) * rng.choice([-1, 1], 2))
        box = boxes[index]
        high, wide = box[0].stop - box[0].start, box[1].stop - box[1].start
        if high * wide > values.size // 6:
            continue
        view = (
            slice(max(0, box[0].start - 7), min(rows, box[0].stop + 7)),
            slice(max(0, box[1].start - 7), min(cols, box[1].stop + 7)),
        )
        old = number[view] == index + 1
        code = values[box][number[box] == index + 1][0]
        _, nearest = distance_transform_edt(old, return_indices=True)
        under = values[view][tuple(nearest)]
        at = np.argwhere(old) + np.asarray((south, east))
        at = at[(at >= 0).all(axis=1) & (at[:, 0] < old.shape[0]) & (at[:, 1] < old.shape[1])]
        if len(at) == 0:
            continue
        values[view] = np.where(old, under, values[view])
        pixels = (at[:, 0] + view[0].start, at[:, 1] + view[1].start)
        values[pixels] = code
        moves.append((np.asarray(np.ravel_multi_index(pixels, values.shape), np.int64), (south, east)))
    return values, moves


def _polygons(
    values: NDArray[np.uint8], landscape: Landscape
) -> tuple[list[BaseGeometry], NDArray[np.int32]]:
    """Return the areas of equal value as polygons with smoothed outlines, and each pixel's polygon index."""
    import shapely
    from rasterio.features import shapes

    number, _ = _regions(values)
    affine = landscape.grid.affine
    traced = sorted(
        (int(value), shape) for shape, value in _traced(shapes(number, connectivity=4, transform=affine))
    )
    polygons = np.asarray([shape for _, shape in traced], object)
    tolerance = 2.0 * abs(float(affine.a))
    smoothed = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    return list(smoothed), number - np.int32(1)


def _traced(outlines: object) -> list[tuple[BaseGeometry, float]]:
    from shapely.geometry import shape

    return [(shape(outline), value) for outline, value in outlines]  # type: ignore[attr-defined]


def _mislabel(
    rng: np.random.Generator,
    codes: NDArray[np.uint8],
    number: NDArray[np.int32],
    *,
    label_errors: float,
    outdated: float,
) -> dict[int, str]:
    """Change `codes` (polygons,) in place; return the kind of mistake by polygon index."""
    neighbours: list[set[int]] = [set() for _ in codes]
    for a, b in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1])):
        apart = a != b
        for first, second in np.unique(np.stack([a[apart], b[apart]], axis=1), axis=0).tolist():
            neighbours[first].add(second)
            neighbours[second].add(first)
    area = np.bincount(number.ravel(), minlength=len(codes))
    kinds: dict[int, str] = {}
    for kind, table, share in (("outdated", _FORMER, outdated), ("label", _CONFUSED, label_errors)):
        left = share * number.size
        for index in rng.permutation(len(codes)).tolist():
            if index in kinds or area[index] > 1.3 * left or area[index] > number.size * 0.04:
                continue
            around = {int(codes[other]) for other in neighbours[index]}
            choices = [code for code in table.get(int(codes[index]), ()) if code not in around]
            if not choices:  # a map has no two neighbours of one class
                continue
            codes[index] = choices[int(rng.integers(len(choices)) * rng.integers(0, 2))]
            kinds[index] = kind
            left -= area[index]
    return kinds


def _frame(shapes: list[BaseGeometry], codes: list[str], *, crs: str) -> gpd.GeoDataFrame:
    import geopandas as gpd
    import shapely

    frame = gpd.GeoDataFrame(
        {"ID": np.arange(1, len(shapes) + 1), "CODE_18": codes}, geometry=shapes, crs=crs
    )
    frame["AREA_HA"] = (frame.geometry.area / 1e4).round(2)
    frame = frame.to_crs(REFERENCE_CRS)
    # whole centimetres, the same for the corners that neighbours share
    frame["geometry"] = shapely.transform(frame.geometry.to_numpy(), lambda points: np.round(points, 2))
    return frame[["ID", "CODE_18", "AREA_HA", "geometry"]]
