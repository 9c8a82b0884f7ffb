"""The terrain of the virtual region: relief shaped by rivers, the sea, reservoirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.simulate.noise import fractal, ramp, refine_to, smooth

_COARSE_PX = 512
"""Largest side of the grid on which valleys are cut; finer detail is interpolated and roughened."""


@dataclass(frozen=True, eq=False)
class Terrain:
    """Relief and water of a square region; all arrays are (rows, cols), row 0 in the north."""

    altitude_m: NDArray[np.float32]
    """Metres above the sea; 0 on the sea, level on each reservoir; no pits elsewhere."""
    slope: NDArray[np.float32]
    """Gradient, metres per metre, over about 30 m."""
    sunny: NDArray[np.float32]
    """Fall of the terrain to the south, metres per metre; negative on northern slopes."""
    moisture: NDArray[np.float32]
    """0 (dry ridge in the sun) .. 1 (valley floor)."""
    above_river_m: NDArray[np.float32]
    """Height above the stream that drains the cell."""
    flow: NDArray[np.float32]
    """Drained area as a share of the largest river's; about 1 at its mouth."""
    inland: NDArray[np.float32]
    """0 at the foot of the sea side .. 1 at the mountain side, irregular."""
    sea: NDArray[np.bool_]
    lake: NDArray[np.bool_]
    """Reservoirs behind dams on the rivers."""
    river: NDArray[np.bool_]
    """The wide rivers (10 m and more), outside `sea` and `lake`."""


def make_terrain(rng: np.random.Generator, *, size_px: int, pixel_m: float) -> Terrain:
    """Make the relief of a region of `size_px` x `size_px` pixels between mountains and a sea."""
    from tesela.simulate.region import drainage

    shape = (size_px, size_px)
    height, sea, inland = _relief(rng, size_px=size_px, pixel_m=pixel_m)
    winding = fractal(rng, shape, pixel_m=pixel_m, longest_m=240, shortest_m=pixel_m, gain=0.7)
    order = drainage.fill(height, sea, np.float32(8e-4) + np.float32(3e-3) * np.maximum(winding + 1, 0))
    receiver = drainage.route(height, sea)
    area = drainage.accumulate(receiver, order)
    river_area = float(area[~sea.ravel()].max())
    flow = (area / river_area).astype(np.float32).reshape(shape)
    lake = np.zeros(shape, np.bool_)
    for share in (0.009, 0.006, 0.004):
        lake |= _dam(height, receiver, order, area=area, share=share, lakes=lake, pixel_m=pixel_m)
    channel = (area.reshape(shape) * (pixel_m * pixel_m) > 0.6e6) | lake
    above = drainage.above_channel(height, receiver, order, channel).astype(np.float32)
    river = _channels(flow, pixel_m=pixel_m) & ~sea & ~lake

    altitude = np.where(sea, 0.0, height).astype(np.float32)
    relief = smooth(altitude, max(1.0, 12.0 / pixel_m))
    south, east = np.gradient(relief, pixel_m)
    slope = np.sqrt(south * south + east * east).astype(np.float32)
    sunny = np.asarray(-south, np.float32)
    wet = np.sqrt(np.sqrt(area)).astype(np.float32).reshape(shape)
    patchy = fractal(rng, shape, pixel_m=pixel_m, longest_m=2000, shortest_m=80, gain=0.6)
    moisture = (
        0.50
        - 0.9 * np.clip(sunny, -0.35, 0.35)
        - 0.35 * np.clip(slope, 0, 0.7)
        + 0.22 * (1 - ramp(above, 2.0, 35.0))
        + 0.012 * np.minimum(smooth(wet, 2.0), 15.0)
        + 0.12 * inland
        + 0.07 * patchy
    )
    return Terrain(
        altitude_m=altitude,
        slope=slope,
        sunny=sunny,
        moisture=np.clip(moisture, 0, 1).astype(np.float32),
        above_river_m=above,
        flow=flow,
        inland=inland,
        sea=sea,
        lake=lake,
        river=river,
    )


def _relief(
    rng: np.random.Generator, *, size_px: int, pixel_m: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float32]]:
    """Return height (metres, negative in the sea), sea mask and the inland coordinate on the full grid."""
    from tesela.simulate.region import drainage

    halvings = max(0, int(np.ceil(np.log2(size_px / _COARSE_PX))), 1 if size_px >= 400 else 0)
    side = -(-size_px // 2**halvings)
    cell_m = pixel_m * 2**halvings
    extent_m = size_px * pixel_m
    turn = rng.choice([0.12, 0.30, 0.42]) * (1 if rng.random() < 0.5 else -1)  # sea in the south, skewed
    centre = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    away = 1.0 / (1.0 + turn * turn) ** 0.5
    across = (-centre[:, None] + turn * centre[None, :]) * away  # grows northwards
    swell = fractal(rng, (side, side), pixel_m=cell_m, longest_m=extent_m / 3, shortest_m=extent_m / 24)
    rough = fractal(rng, (side, side), pixel_m=cell_m, longest_m=extent_m / 8, shortest_m=cell_m, gain=0.6)
    base = (across + 0.075 * swell + 0.012 * rough).astype(np.float32)
    shore = np.float32(np.quantile(base, 0.11))
    inland = ramp(base, float(shore), float(np.quantile(base, 0.97)))
    sea = base < shore
    ridges = 1.0 - np.abs(
        fractal(rng, (side, side), pixel_m=cell_m, longest_m=extent_m / 5, shortest_m=extent_m / 40)
    )
    height = np.where(sea, 0.0, 4.0 + 160.0 * (base - shore) + 4.0 * rough).astype(np.float64)
    uplift = np.where(sea, 0.0, 0.15 + 7.0 * ramp(base + 0.05 * ridges, float(shore) + 0.17, 0.5))
    uplift *= np.clip(0.75 + 0.5 * ridges, 0.25, 1.6)
    drainage.incise(height, sea, uplift.astype(np.float64), 0.032 * (512.0 / side) ** 0.5, 0.10, 48)
    top = 950.0 * (extent_m / 20000.0) ** 0.65
    height *= top / np.quantile(height, 0.998)

    order = drainage.fill(height, sea, np.full(height.shape, 1e-3, np.float32))
    receiver = drainage.route(height, sea)
    area = drainage.accumulate(receiver, order).reshape(height.shape)
    above = drainage.above_channel(height, receiver, order, area * cell_m * cell_m > 1.2e6)
    flat = 14.0
    height += above * above / (above + flat) - above  # flat valley floors, as rivers fill them
    depth = np.where(sea, -220.0 * (shore - base) - 0.5, height).astype(np.float32)

    shape = (size_px, size_px)
    full = refine_to(depth, shape, halvings=halvings)
    steep = refine_to(_steepness(height, cell_m), shape, halvings=halvings)
    detail = fractal(rng, shape, pixel_m=pixel_m, longest_m=500, shortest_m=pixel_m, gain=0.55)
    full = full + detail * (np.float32(1.1) + np.clip(steep, 0, 0.8) * np.float32(9.0))
    sea_full = _largest(full < 0)
    full = np.where(sea_full, np.minimum(full, -0.1), np.maximum(full, 0.3))
    return full.astype(np.float64), sea_full, refine_to(inland, shape, halvings=halvings)


def _steepness(height: NDArray[np.float64], cell_m: float) -> NDArray[np.float32]:
    south, east = np.gradient(height, cell_m)
    return np.asarray(np.sqrt(south * south + east * east), np.float32)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest 4-connected piece of `mask`."""
    from scipy.ndimage import label

    pieces, count = label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == int(np.argmax(sizes)))


def _dam(
    height: NDArray[np.float64],
    receiver: NDArray[np.int32],
    order: NDArray[np.int32],
    *,
    area: NDArray[np.float64],
    share: float,
    lakes: NDArray[np.bool_],
    pixel_m: float,
) -> NDArray[np.bool_]:
    """Dam a river, far from `lakes`, at the site whose lake is closest to `share` of the region; fill it in place."""
    from scipy.ndimage import distance_transform_edt

    from tesela.simulate.region import drainage

    flat = height.ravel()
    rows = height.shape[0]
    wanted = share * height.size
    free = (height > 0.04 * height.max()) & (height < 0.55 * height.max())
    border = rows // 12
    free[:border] = free[-border:] = False
    free[:, :border] = free[:, -border:] = False
    if lakes.any():
        free &= np.asarray(distance_transform_edt(~lakes)) > 0.2 * rows
    rank = np.where(free.ravel(), area, 0.0)
    flooded = np.zeros(height.size, np.bool_)
    best_level, best_miss = 0.0, np.inf
    tried: set[int] = set()
    for part in range(16):
        dam = int(np.argmax(np.where(area <= 0.80**part * rank.max(), rank, 0.0)))
        if dam in tried or rank[dam] == 0:
            continue
        tried.add(dam)
        inside = drainage.basin(receiver, order, dam)
        behind = flat[inside]
        for wall_m in (14.0, 18.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0):
            level = float(flat[dam]) + wall_m * (rows * pixel_m / 20000.0) ** 0.3
            miss = abs(int(np.count_nonzero(behind < level)) - wanted) + 0.002 * wanted * wall_m
            if miss < best_miss and not lakes.ravel()[inside & (flat < level)].any():
                flooded, best_level, best_miss = inside & (flat < level), level, miss
    flat[flooded] = best_level
    return flooded.reshape(height.shape)


def _channels(flow: NDArray[np.float32], *, pixel_m: float) -> NDArray[np.bool_]:
    """Draw rivers with a width that grows with the root of their flow: 40 m at the largest mouth."""
    from scipy.ndimage import binary_dilation

    river = np.zeros(flow.shape, np.bool_)
    step = 0.05
    while step < 1.0:
        width_px = 45.0 * step**0.5 / pixel_m
        near = flow >= step
        radius = width_px / 2
        reach = int(radius)
        if reach >= 1:
            grid = np.arange(-reach, reach + 1)
            near = binary_dilation(near, grid[:, None] ** 2 + grid[None, :] ** 2 <= radius * radius)
        river |= near
        step *= 1.5
    return river
