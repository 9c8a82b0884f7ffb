"""The virtual region of known truth: terrain, water, parcels, towns, and their land cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import TeselaError
from tesela.simulate.noise import balance, draw, fractal, mean_by, ramp
from tesela.simulate.region.parcels import LandBlocks, make_blocks, make_parcels
from tesela.simulate.region.settlement import MOTORWAY, NO_ROAD, STREET, TRACK, Settlement, make_settlement
from tesela.simulate.region.terrain import Terrain, make_terrain

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

WEST_M, NORTH_M = 440_000.0, 4_090_000.0
"""Upper left corner of every virtual region in EPSG:25830: an invented site in southern Spain."""

_FARMS = (12, 13, 15, 16, 17, 18, 19, 20, 21, 22)
"""Grid codes of farmland: 211 212 221 222 223 231 241 242 243 244."""
_FARM_SHARES = (0.20, 0.13, 0.10, 0.09, 0.16, 0.09, 0.04, 0.09, 0.06, 0.04)
"""Share of the farmland of which each is the main use, where the terrain allows."""
_WILD = (23, 24, 25, 26, 28, 29, 31, 32)
"""Grid codes decided pixel by pixel: 311 312 313 321 323 324 332 333."""
_WILD_SHARES = (0.17, 0.19, 0.11, 0.12, 0.18, 0.12, 0.03, 0.08)


@dataclass(frozen=True, eq=False)
class Landscape:
    """
    A virtual region of known truth; arrays are (rows, cols), row 0 in the north.

    Two landscapes of equal seed, size and pixel are equal byte for byte; they are compared by those, not as
    values, since arrays have no single truth value.
    """

    truth: NDArray[np.uint8]
    """CORINE level 3 as grid codes 1 .. 44, per pixel: finer than CORINE, which draws from 25 ha up."""
    altitude_m: NDArray[np.float32]
    """Metres above the sea, 0 on it; each river cell has a lower neighbour down to lake, sea or border."""
    slope: NDArray[np.float32]
    """Gradient in metres per metre."""
    moisture: NDArray[np.float32]
    """0 (dry ridge) .. 1 (valley floor)."""
    parcel: NDArray[np.int32]
    """Number of the field or of the town block, 0 .. parcels-1, also where nothing is farmed."""
    turn: NDArray[np.float32]
    """(parcels,) direction of the rows of a parcel in radians."""
    roads: NDArray[np.uint8]
    """0 none, 1 farm track, 2 street, 3 road, 4 motorway; only the last is a class of its own in `truth`."""
    flow: NDArray[np.float32]
    """Drained area as a share of the largest river's."""
    grid: GeoBox
    """Where the pixels lie, EPSG:25830."""
    seed: int


def make_landscape(*, size_px: int = 2000, pixel_m: float = 10.0, seed: int = 0) -> Landscape:
    """
    Make a Mediterranean region of `size_px` x `size_px` pixels between hills and a coast.

    Terrain comes first (uplift, rivers that cut into it, flat valley floors), then reservoirs, towns and
    roads on suitable terrain, then territories of farmland divided into parcels, then wild vegetation by
    slope, aspect, moisture and altitude. All numbers of the model are ours, chosen to look plausible.

    Parameters
    ----------
    size_px : int
        Side in pixels, 160 to 8000.
    pixel_m : float
        Pixel side in metres, 2.5 to 60.
    seed : int
        0 or more; the same seed gives the same bytes on any machine.

    Returns
    -------
    Landscape

    Raises
    ------
    TeselaError
        If a parameter is outside its range.

    Examples
    --------
    >>> make_landscape(size_px=200, seed=3).truth.shape
    (200, 200)
    """
    from odc.geo.geobox import GeoBox

    if not 160 <= size_px <= 8000:
        raise TeselaError(f"size_px is {size_px}; a landscape needs 160 to 8000 pixels a side, e.g. 640.")
    if not 2.5 <= pixel_m <= 60:
        raise TeselaError(f"pixel_m is {pixel_m:g}; a landscape needs pixels of 2.5 to 60 m, e.g. 10.")
    if seed < 0:
        raise TeselaError(f"seed is {seed}; it must be 0 or more.")
    relief, towns, fields, cover = np.random.default_rng([seed, 2018]).spawn(4)
    terrain = make_terrain(relief, size_px=size_px, pixel_m=pixel_m)
    settlement = make_settlement(towns, terrain, pixel_m=pixel_m)
    shape = (size_px, size_px)

    blocks = make_blocks(fields, shape, pixel_m=pixel_m, spacing_m=560, bend_m=70, bend_length_m=900)
    farm, turn = _farm_style(fields, blocks, terrain, settlement=settlement, pixel_m=pixel_m)
    width = np.asarray([105, 85, 70, 75, 90, 95, 55, 42, 60, 150], np.float32)[farm]
    length = np.asarray([330, 260, 210, 200, 230, 220, 130, 100, 140, 420], np.float32)[farm]
    wobble = fields.uniform(0.75, 1.35, (2, blocks.count)).astype(np.float32)
    parcel, count = make_parcels(
        fields, blocks, width_m=width * wobble[0], length_m=length * wobble[1], turn=turn
    )
    home = np.zeros(count, np.int32)
    home[parcel.ravel()] = blocks.index.ravel()

    truth = _wild(cover, terrain, pixel_m=pixel_m)
    tilled = _tilled(cover, terrain, settlement, parcel=parcel, count=count, pixel_m=pixel_m)
    crop = _crops(cover, farm[home], tilled)
    truth = np.where((tilled > 0)[parcel], crop[parcel], truth)

    town = make_blocks(cover, shape, pixel_m=pixel_m, spacing_m=95, bend_m=14, bend_length_m=300)
    built = _town_blocks(cover, town, settlement, terrain=terrain)[town.index]
    truth = np.where(built > 0, built, truth)
    truth = np.where(settlement.quarry > 0, 7, truth)
    truth = _shores(cover, truth, terrain, pixel_m=pixel_m)
    truth[settlement.roads == MOTORWAY] = 4

    urban = built > 0
    roads = settlement.roads.copy()
    dry = ~(terrain.sea | terrain.lake | terrain.river)
    lane = blocks.edge < 0.55 * pixel_m
    roads[(roads == NO_ROAD) & lane & ~urban & (tilled > 0)[parcel] & dry] = TRACK
    kerb = urban & ~np.isin(built, (10, 11)) & (town.edge < 0.75 * pixel_m)
    roads[(roads == NO_ROAD) & kerb & dry] = STREET
    parcel = np.where(urban, count + town.index, parcel).astype(np.int32)
    all_turns = np.concatenate([turn[home], cover.uniform(0, np.pi, town.count).astype(np.float32)])
    used = np.bincount(parcel.ravel(), minlength=len(all_turns)) > 0
    number = (np.cumsum(used) - 1).astype(np.int32)
    return Landscape(
        truth=truth.astype(np.uint8),
        altitude_m=terrain.altitude_m,
        slope=terrain.slope,
        moisture=terrain.moisture,
        parcel=number[parcel],
        turn=all_turns[used].astype(np.float32),
        roads=roads,
        flow=terrain.flow,
        grid=GeoBox.from_bbox(
            (WEST_M, NORTH_M - size_px * pixel_m, WEST_M + size_px * pixel_m, NORTH_M),
            "EPSG:25830",
            shape=shape,
        ),
        seed=seed,
    )


def _farm_style(
    rng: np.random.Generator,
    blocks: LandBlocks,
    terrain: Terrain,
    *,
    settlement: Settlement,
    pixel_m: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return for each block the index in `_FARMS` of its main use, and the direction of its strips."""
    shape = terrain.slope.shape
    reach_m = min(2600.0, shape[0] * pixel_m / 4)  # a small region then has every class too

    def per_block(field: NDArray[np.float32]) -> NDArray[np.float32]:
        return mean_by(blocks.index, field, blocks.count)

    def taste() -> NDArray[np.float32]:
        field = fractal(rng, shape, pixel_m=pixel_m * 4, longest_m=reach_m, shortest_m=400, gain=0.7)
        row = np.clip(blocks.row / 4, 0, shape[0] - 1).astype(int)
        col = np.clip(blocks.col / 4, 0, shape[1] - 1).astype(int)
        own = rng.normal(0, 0.35, blocks.count).astype(np.float32)
        return np.asarray(field[row, col] + own, np.float32)

    slope, moist = per_block(terrain.slope), per_block(terrain.moisture)
    low = 1 - ramp(per_block(terrain.above_river_m), 3, 26)
    inland, town = per_block(terrain.inland), ramp(per_block(settlement.urban), -3.0, -0.1)
    sunny = np.clip(per_block(terrain.sunny), -0.3, 0.3)
    scores = [
        0.62 - 3.0 * slope + 0.1 * inland,  # 211 non-irrigated arable
        0.20 + 0.85 * low - 6.0 * slope - 0.6 * inland,  # 212 irrigated
        0.42 - 2.0 * np.abs(slope - 0.10) + 0.4 * sunny,  # 221 vineyards
        0.30 + 0.30 * low - 1.5 * slope,  # 222 fruit
        0.50 + 1.2 * np.minimum(slope, 0.25) + 0.6 * sunny - 0.3 * moist,  # 223 olives
        -0.35 + 0.9 * moist - 1.2 * slope + 0.1 * inland,  # 231 pastures
        0.05 - 0.5 * slope,  # 241 annual with permanent crops
        0.10 + 0.55 * town + 0.2 * low,  # 242 complex patterns
        0.15 + 1.6 * np.minimum(slope, 0.3) + 0.2 * inland,  # 243 with natural vegetation
        0.00 + 0.6 * inland - 1.0 * slope,  # 244 agro-forestry
    ]
    liked = np.stack([score + 0.34 * taste() for score in scores]).astype(np.float32)
    land = np.bincount(blocks.index[~terrain.sea], minlength=blocks.count) * pixel_m**2 > 50_000
    likely = (0.5 - 2.4 * slope - 0.4 * inland > 0) & land
    if likely.any():
        liked += balance(liked[:, likely], _FARM_SHARES)[:, None]
    farm = np.argmax(liked, axis=0).astype(np.uint8)
    south = per_block(np.gradient(terrain.altitude_m, axis=0).astype(np.float32))
    east = per_block(np.gradient(terrain.altitude_m, axis=1).astype(np.float32))
    downhill = np.arctan2(south, east)  # strips follow the contour where it is steep
    free = rng.uniform(0, np.pi, blocks.count)
    turn = np.where(slope > 0.06, downhill + rng.normal(0, 0.15, blocks.count), free)
    return farm, np.round(turn, 4).astype(np.float32)


def _tilled(
    rng: np.random.Generator,
    terrain: Terrain,
    settlement: Settlement,
    *,
    parcel: NDArray[np.int32],
    count: int,
    pixel_m: float,
) -> NDArray[np.uint8]:
    """Return per parcel 0 (wild), 1 (fringe between farm and wild) or 2 (farm)."""
    patchy = fractal(rng, terrain.slope.shape, pixel_m=pixel_m, longest_m=1800, shortest_m=100, gain=0.6)
    suited = (
        np.float32(0.50)
        - 2.4 * terrain.slope
        - 0.40 * terrain.inland
        + 0.14 * patchy
        + 0.22 * ramp(settlement.urban, -4.0, 0.0)
        + 0.12 * (1 - ramp(terrain.above_river_m, 3, 25))
    )
    mean = mean_by(parcel, suited.astype(np.float32), count) + rng.normal(0, 0.035, count)
    return (mean > 0).astype(np.uint8) + (mean > 0.06).astype(np.uint8)


def _crops(rng: np.random.Generator, farm: NDArray[np.uint8], tilled: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grid code of each parcel: mostly its block's use, some strays, 243 along the fringe."""
    codes = np.asarray(_FARMS, np.uint8)
    crop = codes[farm]
    stray = codes[draw(rng, (0.30, 0.12, 0.12, 0.12, 0.22, 0.12), len(farm))]
    mosaic = np.isin(crop, (19, 20, 21, 22))
    crop = np.where((rng.random(len(farm)) < 0.06) & ~mosaic, stray, crop)
    edge = (tilled == 1) & (rng.random(len(farm)) < 0.6)
    return np.where(edge, 21, crop).astype(np.uint8)


def _town_blocks(
    rng: np.random.Generator, town: LandBlocks, settlement: Settlement, *, terrain: Terrain
) -> NDArray[np.uint8]:
    """Return the grid code of each town block, 0 where nothing is built."""

    def per_block(field: NDArray[np.float32]) -> NDArray[np.float32]:
        return mean_by(town.index, field, town.count)

    urban = per_block(settlement.urban) + rng.normal(0, 0.06, town.count)
    flat = per_block(terrain.slope) < 0.22
    code = np.where(urban > 0.56, 1, np.where((urban > 0.08) & flat, 2, 0))
    loose = (urban > -0.06) & (urban <= 0.08) & flat & (rng.random(town.count) < 0.35)
    code[loose] = 2
    park = (code > 0) & (per_block(settlement.leisure) > 0.45)
    code[(per_block(settlement.industry) > 0) & (code != 1) & flat] = 3
    code[(per_block(settlement.works) > 0) & (code != 1)] = 9
    code[(per_block(settlement.leisure) > 0) & (code != 1)] = 11
    code[park | ((code == 1) & (rng.random(town.count) < 0.03))] = 10
    return code.astype(np.uint8)


def _wild(rng: np.random.Generator, terrain: Terrain, *, pixel_m: float) -> NDArray[np.uint8]:
    """Return the vegetation that grows where nobody farms or builds: the best suited class of each pixel."""
    shape = terrain.slope.shape
    high, steep, moist = terrain.inland, terrain.slope, terrain.moisture
    suited = [
        1.9 * (moist - 0.55) + 0.15 * high,  # 311 broad-leaved
        0.24 + 0.2 * high - 1.4 * np.abs(moist - 0.46),  # 312 coniferous
        0.08 + 0.2 * high + 0.5 * (moist - 0.45),  # 313 mixed
        0.10 + 0.25 * high - 0.9 * steep,  # 321 natural grassland
        0.36 - 1.5 * (moist - 0.35) - 0.15 * high,  # 323 sclerophyllous
        0.20 - 0.3 * np.abs(moist - 0.5),  # 324 transitional
        2.2 * (steep - 0.62) + 0.2 * high,  # 332 bare rock
        0.05 + 0.8 * (steep - 0.35) - 1.0 * (moist - 0.4),  # 333 sparsely vegetated
    ]
    for score in suited:
        score += np.float32(0.20) * fractal(
            rng, shape, pixel_m=pixel_m, longest_m=1500, shortest_m=30, gain=0.45
        )
    likely = (0.5 - 2.4 * steep - 0.4 * high < 0)[::8, ::8] & ~(terrain.sea | terrain.lake)[::8, ::8]
    bias = np.zeros(len(_WILD), np.float32)
    if likely.any():
        bias = balance(np.stack([score[::8, ::8][likely] for score in suited]), _WILD_SHARES)
    best = np.full(shape, -9.0, np.float32)
    code = np.zeros(shape, np.uint8)
    for value, score, more in zip(_WILD, suited, bias, strict=True):
        score += more
        better = score > best
        best[better] = score[better]
        code[better] = value
    tongue = fractal(rng, shape, pixel_m=pixel_m, longest_m=900, shortest_m=30, gain=0.6)
    fuel = (code != 31) & (high > 0.35) & ~terrain.lake
    sites = np.flatnonzero(fuel.ravel())
    extent_m = shape[0] * pixel_m
    for _ in range(1 + int(extent_m / 12000)):  # scars of last summer's fires
        if sites.size == 0:
            break
        row, col = divmod(int(sites[int(rng.integers(sites.size))]), shape[1])
        south = (np.arange(shape[0], dtype=np.float32) - row)[:, None] * np.float32(pixel_m)
        east = (np.arange(shape[1], dtype=np.float32) - col)[None, :] * np.float32(pixel_m)
        radius = np.float32(rng.uniform(0.045, 0.065) * extent_m**0.5 * 100.0)
        away = np.sqrt(south * south * 2 + east * east) / radius
        code[(away + 0.42 * tongue < 1) & fuel] = 33
    return code


def _shores(
    rng: np.random.Generator, truth: NDArray[np.uint8], terrain: Terrain, *, pixel_m: float
) -> NDArray[np.uint8]:
    """Lay water, beaches, gravel beds, woods along streams and wetlands over the cover."""
    from scipy.ndimage import distance_transform_edt

    shape = truth.shape
    patchy = fractal(rng, shape, pixel_m=pixel_m, longest_m=900, shortest_m=40, gain=0.6)
    stream = (terrain.flow > 0.012) & (terrain.above_river_m < 2.5)
    wooded = np.asarray(distance_transform_edt(~stream), np.float32) * np.float32(pixel_m)
    bank = (wooded < 22 + 14 * patchy) & (terrain.above_river_m < 6) & (truth > 11)
    truth = np.where(bank, 23, truth)
    river_m = np.asarray(distance_transform_edt(~terrain.river), np.float32) * np.float32(pixel_m)
    gravel = (river_m < 30 + 30 * patchy) & (terrain.above_river_m < 3) & (truth > 3)
    truth = np.where(gravel & (patchy > 0.15), 30, truth)
    sea_m = np.asarray(distance_transform_edt(~terrain.sea), np.float32) * np.float32(pixel_m)
    beach = (sea_m < 48 + 30 * patchy) & (terrain.altitude_m < 7) & (truth != 1)
    truth = np.where(beach, 30, truth)
    lake_m = np.asarray(distance_transform_edt(~terrain.lake), np.float32) * np.float32(pixel_m)
    truth = np.where((lake_m < 28 + 22 * patchy) & (terrain.slope < 0.5), 32, truth)
    if shape[0] * pixel_m >= 12000:  # marsh by the lake, salt marsh with salines on the lowest coast
        reeds = (lake_m < 420 + 160 * patchy) & (terrain.above_river_m < 5 + 2 * patchy)
        truth = np.where(reeds & (terrain.slope < 0.12), 35, truth)
        marsh = (sea_m < 1100 + 500 * patchy) & (terrain.altitude_m < 4.5 + 1.5 * patchy) & (truth > 11)
        truth = np.where(marsh & (truth != 30), 37, truth)
        truth = np.where(marsh & (truth == 37) & (sea_m > 250) & (patchy > 0.5), 38, truth)
    truth = np.where(terrain.river, 40, truth)
    truth = np.where(terrain.lake, 41, truth)
    return np.where(terrain.sea, 44, truth).astype(np.uint8)
