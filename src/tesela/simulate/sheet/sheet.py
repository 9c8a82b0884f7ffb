"""The virtual sheet: an area of some hundred metres to some kilometres, parcel by parcel, as in an orthophoto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.generalise.labelling import label_regions
from tesela.simulate.noise import balance, draw, fractal
from tesela.simulate.region.parcels import LandBlocks, make_blocks, make_parcels
from tesela.simulate.sheet.covers import COVER_TYPES, NUMBER, SHARES, ZONES

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

WEST_M, NORTH_M = 380_000.0, 4_160_000.0
"""Upper left corner, in the zone of the sheet."""

_LEAST_M2 = 30.0
"""Smaller slivers go to a neighbour."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """The land cover of a virtual sheet; arrays are (rows, cols), row 0 in the north."""

    parcel: NDArray[np.int32]
    """Number of the parcel, 0 .. parcels-1; each is connected."""
    kind: NDArray[np.uint8]
    """(parcels,) position in `covers.COVER_TYPES`."""
    canopy: NDArray[np.float32]
    """(parcels,) share under crowns, 0 to 1; how dense trees are planted, not what is drawn."""
    turn: NDArray[np.float32]
    """(parcels,) direction of rows and roofs in radians."""
    tone: NDArray[np.float32]
    """(parcels,) brightness relative to the usual one, about 1."""
    grid: GeoBox
    seed: int

    @property
    def pixel_m(self) -> float:
        """Side of a pixel in metres."""
        return abs(float(self.grid.affine.a))

    def names(self) -> list[str]:
        """Name of the cover type of each parcel."""
        return [COVER_TYPES[number].name for number in self.kind]


def make_sheet(*, size_px: int = 2048, pixel_m: float = 0.5, seed: int = 0, zone: int = 30) -> Sheet:
    """
    Lay out a square of Mediterranean land: farmland in strips, stands of trees, pasture, a village, a stream.

    Parameters
    ----------
    size_px : int
        Side in pixels, 256 to 8192.
    pixel_m : float
        Pixel side in metres, 0.25 to 1.
    seed : int
        The same seed gives the same sheet.
    zone : int
        UTM zone 28 to 31, ETRS89.

    Raises
    ------
    InputError
        If a parameter is outside its range.
    """
    from odc.geo.geobox import GeoBox

    for name, value, least, most in (
        ("size_px", size_px, 256, 8192),
        ("pixel_m", pixel_m, 0.25, 1.0),
        ("zone", zone, 28, 31),
        ("seed", seed, 0, 2**31),
    ):
        if not least <= value <= most:
            raise InputError(f"{name} is {value:g}; a sheet needs {least:g} to {most:g}.")
    rng = np.random.default_rng([seed, 50])
    shape = (size_px, size_px)
    blocks = make_blocks(rng, shape, pixel_m=pixel_m, spacing_m=72, bend_m=9, bend_length_m=240)
    zone_of = _zones(rng, blocks, shape, pixel_m=pixel_m)
    turn = _turns(rng, blocks, shape, pixel_m=pixel_m)
    width = np.asarray([22, 1e4, 1e4, 17, 1e4], np.float32)[zone_of]
    length = np.asarray([64, 1e4, 1e4, 22, 1e4], np.float32)[zone_of]
    wobble = rng.uniform(0.75, 1.5, (2, blocks.count)).astype(np.float32)
    strip, count = make_parcels(
        rng, blocks, width_m=width * wobble[0], length_m=length * wobble[1], turn=turn
    )
    home = np.zeros(count, np.int32)
    home[strip.ravel()] = blocks.index.ravel()
    kind = _kinds(rng, blocks, shape, zone_of=zone_of, home=home, pixel_m=pixel_m)
    over = _lines(rng, blocks, zone_of, shape, pixel_m=pixel_m)

    key = np.where(over > 0, np.int64(count) + over, strip).astype(np.int32)
    parcel, parcels = _connected(key, least_px=round(_LEAST_M2 / pixel_m**2))
    first = np.full(parcels, 0, np.int32)
    first[parcel.ravel()] = key.ravel()  # any pixel of a parcel has its key, but for slivers
    base = np.where(first < count, first, 0)
    kinds = np.where(first < count, kind[base], first - count).astype(np.uint8)
    low, high = np.asarray([cover_type.canopy for cover_type in COVER_TYPES], np.float32).T
    canopy = low[kinds] + (high - low)[kinds] * rng.random(parcels, dtype=np.float32)
    return Sheet(
        parcel=parcel,
        kind=kinds,
        canopy=canopy.astype(np.float32),
        turn=turn[home[base]].astype(np.float32),
        tone=np.clip(rng.normal(1, 0.07, parcels), 0.82, 1.18).astype(np.float32),
        grid=GeoBox.from_bbox(
            (WEST_M, NORTH_M - size_px * pixel_m, WEST_M + size_px * pixel_m, NORTH_M),
            f"EPSG:{25800 + zone}",
            shape=shape,
        ),
        seed=seed,
    )


def _per_block(
    rng: np.random.Generator, blocks: LandBlocks, shape: tuple[int, int], *, pixel_m: float, reach_m: float
) -> NDArray[np.float32]:
    """A smooth field, read at the seeds of the blocks."""
    coarse = 8
    small = (shape[0] // coarse + 2, shape[1] // coarse + 2)
    field = fractal(rng, small, pixel_m=pixel_m * coarse, longest_m=reach_m, shortest_m=60, gain=0.6)
    row = np.clip(blocks.row / coarse, 0, small[0] - 1).astype(int)
    col = np.clip(blocks.col / coarse, 0, small[1] - 1).astype(int)
    return np.asarray(field[row, col], np.float32)


def _zones(
    rng: np.random.Generator, blocks: LandBlocks, shape: tuple[int, int], *, pixel_m: float
) -> NDArray[np.uint8]:
    """Zone of each block, as its position in `SHARES`."""
    extent_m = shape[0] * pixel_m
    scores = np.stack(
        [
            _per_block(rng, blocks, shape, pixel_m=pixel_m, reach_m=min(700.0, extent_m / 2.5))
            + rng.normal(0, 0.15, blocks.count).astype(np.float32)
            for _ in SHARES
        ]
    )
    seen = np.unique(blocks.index)
    scores += balance(scores[:, seen], tuple(SHARES.values()))[:, None]
    return np.asarray(np.argmax(scores, axis=0), np.uint8)


def _turns(
    rng: np.random.Generator, blocks: LandBlocks, shape: tuple[int, int], *, pixel_m: float
) -> NDArray[np.float32]:
    """Direction of the strips of each block: neighbours are similar."""
    field = _per_block(rng, blocks, shape, pixel_m=pixel_m, reach_m=600)
    return np.round(0.6 * field + rng.normal(0, 0.12, blocks.count), 4).astype(np.float32)


def _kinds(
    rng: np.random.Generator,
    blocks: LandBlocks,
    shape: tuple[int, int],
    *,
    zone_of: NDArray[np.uint8],
    home: NDArray[np.int32],
    pixel_m: float,
) -> NDArray[np.uint8]:
    """Cover type of each strip: at random on farms and in towns; elsewhere neighbours are similar."""
    kind = np.zeros(len(home), np.uint8)
    for number, zone in enumerate(SHARES):
        names = list(ZONES[zone])
        numbers = np.asarray([NUMBER[name] for name in names], np.uint8)
        shares = tuple(ZONES[zone].values())
        here = zone_of[home] == number
        if zone in ("farm", "town"):
            kind[here] = numbers[draw(rng, shares, int(here.sum()))]
            continue
        scores = np.stack(
            [_per_block(rng, blocks, shape, pixel_m=pixel_m, reach_m=300) for _ in names]
        ) + rng.normal(0, 0.35, (len(names), blocks.count)).astype(np.float32)
        if here.any():
            scores += balance(scores[:, np.unique(home[here])], shares)[:, None]
        kind[here] = numbers[np.argmax(scores, axis=0)][home[here]]
    return kind


def _lines(
    rng: np.random.Generator,
    blocks: LandBlocks,
    zone_of: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    pixel_m: float,
) -> NDArray[np.int32]:
    """Number of the cover type of roads, tracks and water over the parcels; 0 elsewhere."""
    extent_m = shape[0] * pixel_m
    over = np.zeros(shape, np.int32)
    zone = zone_of[blocks.index]
    wiggle = fractal(rng, shape, pixel_m=pixel_m, longest_m=40, shortest_m=5, gain=0.5)
    track = (blocks.edge < 1.8 + 0.3 * wiggle) & ((zone == 0) | (zone == 2))
    over[track] = NUMBER["track"]
    over[(blocks.edge < 4.5) & (zone == 3)] = NUMBER["street"]
    over[_ribbon(rng, shape, pixel_m=pixel_m, width_m=9.0, reach_m=extent_m)] = NUMBER["road"]
    level = fractal(rng, shape, pixel_m=pixel_m, longest_m=extent_m / 3, shortest_m=25, gain=0.42)
    river = _ribbon(rng, shape, pixel_m=pixel_m, width_m=11.0, reach_m=extent_m * 0.8, wander=wiggle)
    bank = _banks(river, wiggle, pixel_m=pixel_m)
    over[bank] = NUMBER["gravel"]
    over[river] = NUMBER["stream"]
    over[level > np.quantile(level[::8, ::8], 0.955)] = NUMBER["reservoir"]
    return over


def _ribbon(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    pixel_m: float,
    width_m: float,
    reach_m: float,
    wander: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """A winding band of nearly constant width: where a smooth field, over its gradient, is near 0."""
    field = fractal(rng, shape, pixel_m=pixel_m, longest_m=reach_m, shortest_m=reach_m / 6, gain=0.3)
    field -= np.median(field[::8, ::8])
    south, east = np.gradient(field, pixel_m)
    slope = np.maximum(np.sqrt(south * south + east * east), np.float32(1e-4))
    half_m = np.float32(width_m / 2) if wander is None else width_m / 2 * (1 + 0.25 * wander)
    return np.asarray(np.abs(field) / slope < half_m)


def _banks(river: NDArray[np.bool_], wiggle: NDArray[np.float32], *, pixel_m: float) -> NDArray[np.bool_]:
    """Gravel banks along a river, here and there."""
    from scipy.ndimage import distance_transform_edt

    away = np.asarray(distance_transform_edt(~river), np.float32) * np.float32(pixel_m)
    return np.asarray(away < 3.0 + 5.0 * wiggle)


def _connected(key: NDArray[np.int32], *, least_px: int) -> tuple[NDArray[np.int32], int]:
    """Number the connected parts of equal key, slivers given to a neighbour."""
    from rasterio.features import sieve

    whole = sieve(key + 1, max(2, least_px), connectivity=4)
    return label_regions(np.asarray(whole, np.uint32))
