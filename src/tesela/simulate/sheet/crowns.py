"""Crowns and roofs of a virtual sheet, as a surface under the sun."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.simulate.noise import fractal
from tesela.simulate.sheet.covers import COVER_TYPES, NUMBER, TREES
from tesela.simulate.sheet.sheet import Sheet

ROOF = 200
"""`Relief.what` of roofs."""


@dataclass(frozen=True, eq=False)
class Relief:
    """The surface seen from above; arrays are (rows, cols)."""

    height_m: NDArray[np.float32]
    """Above the terrain."""
    what: NDArray[np.uint8]
    """0 open; 1.. the tree, by its number in `covers.TREES`; `ROOF` a roof."""
    hue: NDArray[np.float32]
    """How this tree or roof differs from others of its kind, about 0, or the number of a roof's colour."""


@dataclass(frozen=True, eq=False)
class _Stems:
    row: NDArray[np.float32]
    col: NDArray[np.float32]
    tree: NDArray[np.uint8]
    radius_px: NDArray[np.float32]
    height_m: NDArray[np.float32]
    hue: NDArray[np.float32]


def raise_relief(sheet: Sheet) -> Relief:
    """Plant the trees and build the houses of a sheet; the same sheet gives the same relief."""
    rng = np.random.default_rng([sheet.seed, 51])
    shape = sheet.parcel.shape
    relief = Relief(np.zeros(shape, np.float32), np.zeros(shape, np.uint8), np.zeros(shape, np.float32))
    _build(rng, sheet, relief)
    edge = fractal(rng, shape, pixel_m=sheet.pixel_m, longest_m=2.0, shortest_m=sheet.pixel_m, gain=0.7)
    stems = _plant(rng, sheet, relief)
    point = np.asarray([0.0, *(tree.point for tree in TREES)], np.float32)
    ragged = np.asarray([0.0, *(tree.ragged for tree in TREES)], np.float32)
    _crown(
        stems.row,
        stems.col,
        stems.tree,
        stems.radius_px,
        stems.height_m,
        stems.hue,
        point,
        ragged,
        edge,
        relief.height_m,
        relief.what,
        relief.hue,
    )
    return relief


def _mix(name: str) -> tuple[tuple[str, float], ...]:
    """Trees of a cover type, with their shares."""
    own = {
        "olives": (("olive", 1.0),),
        "orchard": (("fruit", 1.0),),
        "houses": (("garden", 1.0),),
        "park": (("garden", 1.0),),
    }
    if name in own:
        return own[name]
    parts = COVER_TYPES[NUMBER[name]].parts
    return tuple((part.species, part.percent / 100) for part in parts if part.species)


_BUSHES = {
    "shrub": 0.42,
    "grass with shrub": 0.18,
    "Aleppo pines": 0.12,
    "rock": 0.08,
    "dehesa": 0.03,
    "grassland": 0.02,
}
"""Share of the area under bushes."""


def _plant(rng: np.random.Generator, sheet: Sheet, relief: Relief) -> _Stems:
    """Place stems: on jittered lattices in the wild, in grids where people plant; the lowest first."""
    number = {tree.species: index for index, tree in enumerate(TREES, start=1)}
    stems = []
    for kind in np.unique(sheet.kind):
        cover_type = COVER_TYPES[kind]
        plans = list(_mix(cover_type.name)) if cover_type.canopy[1] else []
        if cover_type.name in _BUSHES:
            plans.append(("bush", 1.0))
        for species, share in plans:
            tree = TREES[number[species] - 1]
            if cover_type.planted_m:
                row, col = _in_grids(rng, sheet, int(kind), apart_m=cover_type.planted_m)
                kept = rng.random(len(row)) < 0.94
            else:
                mean_m = sum(tree.radius_m) / 2
                row, col = _at_random(rng, sheet, apart_m=1.25 * mean_m)
                parcel = sheet.parcel[row.astype(int), col.astype(int)]
                dense = _BUSHES[cover_type.name] if species == "bush" else share * sheet.canopy[parcel]
                # crowns overlap: n stems per crown's area cover a share 1 - exp(-n) of the area
                kept = rng.random(len(row)) < -np.log(np.maximum(1 - dense, 0.02)) * 1.25**2 / np.pi
            at = row.astype(int), col.astype(int)
            kept &= (sheet.kind[sheet.parcel[at]] == kind) & (relief.what[at] == 0)
            stems.append(_grow(rng, row[kept], col[kept], number[species], sheet.pixel_m))
    empty = np.zeros(0, np.float32)
    columns = [np.concatenate(column) for column in zip(*stems, strict=True)] if stems else [empty] * 6
    order = np.argsort(columns[4], kind="stable")
    row, col, which, radius, height, hue = (column[order] for column in columns)
    return _Stems(row, col, which.astype(np.uint8), radius, height, hue)


def _grow(
    rng: np.random.Generator, row: NDArray[np.float32], col: NDArray[np.float32], number: int, pixel_m: float
) -> tuple[NDArray[np.float32], ...]:
    """Columns of `_Stems` for trees of one species: large ones are mostly tall ones."""
    tree, count = TREES[number - 1], len(row)
    size = rng.random(count, dtype=np.float32)
    tall = np.float32(0.6) * size + np.float32(0.4) * rng.random(count, dtype=np.float32)
    radius_m = tree.radius_m[0] + (tree.radius_m[1] - tree.radius_m[0]) * size
    height_m = tree.height_m[0] + (tree.height_m[1] - tree.height_m[0]) * tall
    hue = rng.normal(0, 1, count).astype(np.float32)
    which = np.full(count, number, np.float32)
    return row, col, which, radius_m / np.float32(pixel_m), height_m.astype(np.float32), hue


def _at_random(
    rng: np.random.Generator, sheet: Sheet, *, apart_m: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points about `apart_m` from each other all over the sheet, in pixels."""
    rows, cols = sheet.parcel.shape
    step = apart_m / sheet.pixel_m
    high, wide = int(rows / step), int(cols / step)
    row = (np.arange(high)[:, None] + rng.random((high, wide))) * step
    col = (np.arange(wide)[None, :] + rng.random((high, wide))) * step
    return row.ravel().astype(np.float32), col.ravel().astype(np.float32)


def _in_grids(
    rng: np.random.Generator, sheet: Sheet, kind: int, *, apart_m: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points in grids along the rows of each parcel of a kind, slightly irregular, in pixels."""
    rows, cols = sheet.parcel.shape
    step = apart_m / sheet.pixel_m
    reach = int(1.5 * max(rows, cols) / step)
    across, along = np.meshgrid(np.arange(-reach, reach), np.arange(-reach, reach))
    points = []
    turns = np.unique(sheet.turn[sheet.kind == kind])
    for turn in turns:
        cosine, sine = float(np.cos(turn)), float(np.sin(turn))
        col = (across * cosine - along * sine).ravel() * step
        row = (across * sine + along * cosine).ravel() * step
        inside = (row >= 0) & (row < rows - 1) & (col >= 0) & (col < cols - 1)
        row, col = row[inside], col[inside]
        at = sheet.parcel[row.astype(int), col.astype(int)]
        here = (sheet.kind[at] == kind) & (sheet.turn[at] == turn)
        points.append(np.stack([row[here], col[here]]))
    if not points:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    both = np.concatenate(points, axis=1)
    both += rng.normal(0, 0.035 * step, both.shape)
    both = np.clip(both, 0, np.asarray([[rows - 1.0], [cols - 1.0]]))
    return both[0].astype(np.float32), both[1].astype(np.float32)


def _build(rng: np.random.Generator, sheet: Sheet, relief: Relief) -> None:
    """Put a building on each built plot, along its parcel's direction."""
    built = np.flatnonzero([COVER_TYPES[kind].roof[0] > 0 for kind in sheet.kind])
    if not len(built):
        return
    rows, cols = sheet.parcel.shape
    size = np.bincount(sheet.parcel.ravel(), minlength=len(sheet.kind))
    row_sum = np.bincount(sheet.parcel.ravel(), np.repeat(np.arange(rows), cols), len(sheet.kind))
    col_sum = np.bincount(sheet.parcel.ravel(), np.tile(np.arange(cols), rows), len(sheet.kind))
    middle = np.stack([row_sum, col_sum]) / np.maximum(size, 1)
    share, height = np.asarray([COVER_TYPES[kind].roof for kind in sheet.kind[built]]).T
    area = share * size[built] * rng.uniform(0.8, 1.15, len(built))
    stretch = rng.uniform(1.1, 1.8, len(built))
    long, wide = np.sqrt(area * stretch), np.sqrt(area / stretch)
    flat = (sheet.kind[built] == NUMBER["hall"]) | (rng.random(len(built)) < 0.12)
    _roofs(
        middle[0][built].astype(np.float32),
        middle[1][built].astype(np.float32),
        sheet.turn[built],
        long.astype(np.float32),
        wide.astype(np.float32),
        (height * rng.uniform(0.8, 1.3, len(built))).astype(np.float32),
        flat,
        np.where(flat, rng.integers(4, 8, len(built)), rng.integers(0, 4, len(built))).astype(np.float32),
        built.astype(np.int32),
        sheet.parcel,
        relief.height_m,
        relief.what,
        relief.hue,
    )


@njit(cache=True)
def _roofs(rows, cols, turns, longs, wides, heights, flats, hues, owners, parcel, top, what, hue):  # type: ignore[no-untyped-def]
    """Raise gabled and flat roofs, cut at the borders of their plots."""
    for n in range(len(rows)):
        reach = int(0.5 * (longs[n] + wides[n])) + 1
        cosine, sine = np.cos(turns[n]), np.sin(turns[n])
        for i in range(max(0, int(rows[n]) - reach), min(top.shape[0], int(rows[n]) + reach + 1)):
            for j in range(max(0, int(cols[n]) - reach), min(top.shape[1], int(cols[n]) + reach + 1)):
                x, y = j - cols[n], i - rows[n]
                u, v = x * cosine + y * sine, y * cosine - x * sine
                if abs(u) > longs[n] / 2 or abs(v) > wides[n] / 2 or parcel[i, j] != owners[n]:
                    continue
                ridge = 0.0 if flats[n] else 0.45 * heights[n] * (1 - abs(v) / (wides[n] / 2))
                top[i, j] = heights[n] + ridge
                what[i, j] = 200
                hue[i, j] = hues[n]


@njit(cache=True)
def _crown(rows, cols, trees, radii, heights, hues, point, ragged, edge, top, what, hue):  # type: ignore[no-untyped-def]
    """Raise crowns, the lowest first; the highest crown keeps a pixel."""
    for n in range(len(rows)):
        tree = trees[n]
        reach = int(radii[n] * 1.4) + 1
        for i in range(max(0, int(rows[n]) - reach), min(top.shape[0], int(rows[n]) + reach + 1)):
            for j in range(max(0, int(cols[n]) - reach), min(top.shape[1], int(cols[n]) + reach + 1)):
                x, y = j + 0.5 - cols[n], i + 0.5 - rows[n]
                far = np.sqrt(x * x + y * y) / radii[n] + ragged[tree] * 0.5 * edge[i, j]
                if far >= 1:
                    continue
                far = max(far, 0.0)
                dome = 0.55 + 0.45 * np.sqrt(1 - far * far)
                cone = 1 - 0.7 * far
                h = heights[n] * ((1 - point[tree]) * dome + point[tree] * cone)
                if h > top[i, j]:
                    top[i, j] = h
                    what[i, j] = tree
                    hue[i, j] = hues[n]
