"""A SIOSE-like map of a virtual sheet: its parcels, partly wrong, outdated and shifted in known places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.simulate.region.covers import CONFUSED, FORMER, GROUNDS, NUMBER
from tesela.simulate.region.references import WrongPolygon
from tesela.simulate.sheet.sheet import Sheet

_LARGEST = 0.03
"""Largest part of the sheet that one wrong or shifted polygon may be."""


@dataclass(frozen=True, eq=False)
class SioseMap:
    """What the map says of a sheet; polygon numbers are those of the sheet's parcels."""

    polygon: NDArray[np.int32]
    """(rows, cols) polygon of each pixel; differs from the sheet's where polygons are shifted."""
    kind: NDArray[np.uint8]
    """(polygons,) position in `covers.GROUNDS` that the map gives."""
    canopy: NDArray[np.float64]
    """(polygons,) FCCARB in per cent, in steps of 5; nan where there are no trees."""
    year: NDArray[np.int16]
    """(polygons,) year that the map shows."""
    wrong: tuple[WrongPolygon, ...]
    """Known mistakes; `code` and `true_code` are the ID_COBERTURA of the largest cover."""


def draw_siose(
    sheet: Sheet,
    *,
    label_errors: float = 0.06,
    outdated: float = 0.05,
    shifted: float = 0.10,
    year: int = 2017,
) -> SioseMap:
    """
    Draw the map that a country would have of a sheet.

    Parameters
    ----------
    label_errors, outdated : float
        Share of the area that gets a confused cover, or the one it had once, 0 to 0.5.
    shifted : float
        Share of the polygons that lie 4 to 12 metres from their place, 0 to 0.5.
    year : int
        Year of the image, and of the polygons that are up to date.

    Raises
    ------
    InputError
        If a share is out of range.
    """
    for name, share in (("label_errors", label_errors), ("outdated", outdated), ("shifted", shifted)):
        if not 0 <= share <= 0.5:
            raise InputError(f"{name} is {share:g}; give a share from 0 to 0.5.")
    rng = np.random.default_rng([sheet.seed, 53])
    kind, years = sheet.kind.copy(), np.full(len(sheet.kind), year, np.int16)
    size = np.bincount(sheet.parcel.ravel(), minlength=len(kind))
    free = size < _LARGEST * sheet.parcel.size
    kinds: dict[int, str] = {}
    for name, table, share in (("outdated", FORMER, outdated), ("label", CONFUSED, label_errors)):
        left = share * sheet.parcel.size
        for index in rng.permutation(len(kind)).tolist():
            choices = table.get(GROUNDS[kind[index]].name, ())
            if index in kinds or not choices or not free[index] or size[index] > 1.3 * left:
                continue
            kind[index] = NUMBER[choices[int(rng.integers(len(choices)) * rng.integers(0, 2))]]
            kinds[index] = name
            left -= size[index]
            if name == "outdated":
                years[index] = year - int(rng.integers(6, 12))
    lines = np.asarray([ground.name in ("road", "street", "track", "stream") for ground in GROUNDS])
    polygon, moves = _shift(rng, sheet, np.flatnonzero(free & ~lines[sheet.kind]), share=shifted)
    middle = _inner_points(polygon, len(kind))
    wrong = []
    for index in sorted({*kinds, *moves}):
        south, east = moves.get(index, (0.0, 0.0))
        x, y = sheet.grid.affine * (middle[index, 1] + 0.5, middle[index, 0] + 0.5)
        wrong.append(
            WrongPolygon(
                polygon=index,
                kind=kinds.get(index, "shifted"),
                code=GROUNDS[kind[index]].parts[0].cover,
                true_code=GROUNDS[sheet.kind[index]].parts[0].cover,
                east_m=east,
                south_m=south,
                x_m=round(x, 2),
                y_m=round(y, 2),
            )
        )
    return SioseMap(polygon, kind, stand_canopy(sheet, kind), years, tuple(wrong))


def stand_canopy(sheet: Sheet, kind: NDArray[np.uint8]) -> NDArray[np.float64]:
    """FCCARB: that of the stand, or what is usual where there is no such stand."""
    wooded = np.asarray([any(part.species for part in ground.parts) for ground in GROUNDS])[kind]
    usual = np.asarray([sum(ground.canopy) / 2 for ground in GROUNDS])[kind]
    share = np.where(kind == sheet.kind, sheet.canopy, usual)
    return np.where(wooded, 5 * np.rint(20 * share), np.nan)


def _shift(
    rng: np.random.Generator, sheet: Sheet, among: NDArray[np.intp], *, share: float
) -> tuple[NDArray[np.int32], dict[int, tuple[float, float]]]:
    """Move some polygons; the ground they leave goes to the nearest other one."""
    from scipy.ndimage import distance_transform_edt, find_objects

    moved = sheet.parcel.copy()
    rows, cols = moved.shape
    boxes = find_objects(sheet.parcel + 1)
    most = int(np.ceil(12 / sheet.pixel_m))
    moves: dict[int, tuple[float, float]] = {}
    for index in rng.permutation(among)[: round(share * len(among))].tolist():
        far, turn = rng.uniform(4, 12) / sheet.pixel_m, rng.uniform(0, 2 * np.pi)
        south, east = round(far * np.sin(turn)), round(far * np.cos(turn))
        box = boxes[index]
        view = tuple(
            slice(max(0, side.start - most - 1), min(end, side.stop + most + 1))
            for side, end in zip(box, (rows, cols), strict=True)
        )
        old = moved[view] == index
        at = np.argwhere(old) + np.asarray((south, east))
        at = at[(at >= 0).all(axis=1) & (at[:, 0] < old.shape[0]) & (at[:, 1] < old.shape[1])]
        if not len(at) or old.all():
            continue
        _, nearest = distance_transform_edt(old, return_indices=True)
        part = np.where(old, moved[view][tuple(nearest)], moved[view])
        part[at[:, 0], at[:, 1]] = index
        moved[view] = part
        moves[index] = (south * sheet.pixel_m, east * sheet.pixel_m)
    alive = np.bincount(moved.ravel(), minlength=len(sheet.kind)) > 0
    return moved, {index: move for index, move in moves.items() if alive[index]}


def _inner_points(polygon: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Row and column of one pixel of each polygon: the middle one in the order of the rows."""
    order = np.argsort(polygon.ravel(), kind="stable")
    size = np.bincount(polygon.ravel(), minlength=count)
    start = np.cumsum(size) - size
    middle = order[np.minimum(start + size // 2, polygon.size - 1)]
    return np.stack(np.unravel_index(middle, polygon.shape), axis=1)
