"""Settlement: towns on suitable sites, the roads between them, industry, quarries and leisure areas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.simulate.noise import fractal
from tesela.simulate.region.terrain import Terrain

NO_ROAD, TRACK, STREET, ROAD, MOTORWAY = 0, 1, 2, 3, 4
"""Values of the road layer, from nothing to the widest."""

_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))


@dataclass(frozen=True, eq=False)
class Settlement:
    """What is built or dug, as smooth strengths to be cut into blocks; arrays are (rows, cols)."""

    urban: NDArray[np.float32]
    """1 in the middle of a town, 0 at its usual edge, negative outside."""
    industry: NDArray[np.float32]
    """Above 0 inside an industrial estate."""
    leisure: NDArray[np.float32]
    """Above 0 inside sports and leisure areas."""
    quarry: NDArray[np.float32]
    """Above 0 inside a quarry."""
    works: NDArray[np.float32]
    """Above 0 inside a construction site."""
    roads: NDArray[np.uint8]
    """NO_ROAD, ROAD or MOTORWAY."""
    towns: NDArray[np.float32]
    """(towns, 3): row and column in pixels, radius in metres; largest first."""


def make_settlement(rng: np.random.Generator, terrain: Terrain, *, pixel_m: float) -> Settlement:
    """Place towns, join them with roads, and lay out industry, leisure areas, quarries and building sites."""
    from scipy.ndimage import distance_transform_edt

    shape = terrain.slope.shape
    extent_km = shape[0] * pixel_m / 1000.0
    towns = _place_towns(rng, terrain, pixel_m=pixel_m, extent_km=extent_km)
    roads = _join(rng, terrain, towns, pixel_m=pixel_m)
    near_m = np.asarray(distance_transform_edt(roads == NO_ROAD), np.float32) * np.float32(pixel_m)
    pull = np.float32(1.0) / (np.float32(1.0) + (near_m / 140.0) ** 2)
    uneven = fractal(rng, shape, pixel_m=pixel_m, longest_m=700, shortest_m=60, gain=0.6)
    urban = np.full(shape, -9.0, np.float32)
    for row, col, radius_m in towns:
        _spot(urban, (row, col), radius_m, uneven=uneven, pixel_m=pixel_m)
    urban += np.float32(0.42) * pull - np.float32(2.2) * terrain.slope - np.float32(0.1)

    count = 2 + int(extent_km**2 / 70.0)
    layers = {name: np.full(shape, -9.0, np.float32) for name in ("industry", "leisure", "quarry", "works")}
    sizes = {"industry": 330.0, "leisure": 270.0, "works": 190.0}
    for name, radius_m in sizes.items():
        for k in range(count + (name == "industry")):
            row, col, town_m = towns[k % len(towns)]
            centre = _beside(rng, terrain, roads, town=(row, col), town_m=town_m, pixel_m=pixel_m)
            growth = float(rng.uniform(0.75, 1.2)) * min(1.0, 0.55 + town_m / 1200.0)
            _spot(layers[name], centre, radius_m * growth, uneven=uneven, pixel_m=pixel_m)
    hill = np.where((terrain.slope > 0.12) & (terrain.above_river_m > 12) & (urban < -0.8), 1.0, 0.0)
    hill[: shape[0] // 16] = hill[-shape[0] // 16 :] = 0
    hill[:, : shape[1] // 16] = hill[:, -shape[1] // 16 :] = 0
    for _ in range(count):
        sites = np.flatnonzero(hill.ravel() > 0)
        if sites.size == 0:
            break
        row, col = divmod(int(sites[int(rng.integers(sites.size))]), shape[1])
        _spot(layers["quarry"], (row, col), float(rng.uniform(170, 280)), uneven=uneven, pixel_m=pixel_m)
    return Settlement(urban=urban, roads=roads, towns=towns, **layers)


def _spot(
    layer: NDArray[np.float32],
    centre: tuple[float, float],
    radius_m: float,
    *,
    uneven: NDArray[np.float32],
    pixel_m: float,
) -> None:
    """Raise `layer` to 1 at `centre`, falling to 0 about `radius_m` away; only nearby pixels are touched."""
    reach = int(2.6 * radius_m / pixel_m) + 2
    rows = slice(max(0, int(centre[0]) - reach), max(0, int(centre[0]) + reach))
    cols = slice(max(0, int(centre[1]) - reach), max(0, int(centre[1]) + reach))
    view = layer[rows, cols]
    south = np.arange(rows.start, rows.start + view.shape[0], dtype=np.float32) - np.float32(centre[0])
    east = np.arange(cols.start, cols.start + view.shape[1], dtype=np.float32) - np.float32(centre[1])
    away = np.sqrt(south[:, None] ** 2 + east[None, :] ** 2) * np.float32(pixel_m / radius_m)
    np.maximum(view, 1 - away * (1 + np.float32(0.32) * np.clip(uneven[rows, cols], -1.6, 1.6)), out=view)


def _place_towns(
    rng: np.random.Generator, terrain: Terrain, *, pixel_m: float, extent_km: float
) -> NDArray[np.float32]:
    """Choose sites greedily: gentle slopes near rivers and the sea, far enough from larger towns."""
    from scipy.ndimage import uniform_filter

    step = max(1, round(100.0 / pixel_m))
    broad = max(3, int(500.0 / pixel_m))
    wet = (terrain.sea | terrain.lake).astype(np.float32)
    slope = uniform_filter(terrain.slope, broad)[::step, ::step]
    water = uniform_filter(np.minimum(terrain.flow * 6, 1) + wet, broad)[::step, ::step]
    wet = uniform_filter(wet, broad)[::step, ::step]
    score = 0.5 * np.minimum(water, 0.25) - 3.0 * slope - 2.5 * wet
    score = score + 0.28 * fractal(
        rng, score.shape, pixel_m=pixel_m * step, longest_m=extent_km * 160, shortest_m=300
    )
    count = 3 + int(extent_km * 0.45)
    rows, cols = np.meshgrid(*(np.arange(n) for n in score.shape), indexing="ij")
    border = np.minimum.reduce([rows, cols, score.shape[0] - 1 - rows, score.shape[1] - 1 - cols])
    towns: list[tuple[float, float, float]] = []
    for rank in range(1, count + 1):
        radius_m = 125.0 * extent_km**0.8 * rank**-0.55
        free = border * step * pixel_m > 0.75 * radius_m
        free &= ~(terrain.sea | terrain.lake | terrain.river)[::step, ::step]
        for row, col, other_m in towns:
            apart = (rows * step - row) ** 2 + (cols * step - col) ** 2
            free &= apart * pixel_m**2 > (1.45 * (radius_m + other_m) + 25.0 * extent_km) ** 2
        if not free.any():
            break
        best = int(np.argmax(np.where(free, score, -np.inf)))
        towns.append((float(rows.flat[best] * step), float(cols.flat[best] * step), radius_m))
    return np.asarray(towns, np.float32)


def _beside(
    rng: np.random.Generator,
    terrain: Terrain,
    roads: NDArray[np.uint8],
    *,
    town: tuple[float, float],
    town_m: float,
    pixel_m: float,
) -> tuple[float, float]:
    """Return a gentle dry site just outside a town, by a road if one of a dozen tries gives it."""
    best, best_score = town, -np.inf
    near = max(1, int(120 / pixel_m))
    for _ in range(12):
        east, south = rng.normal(size=2)
        scale = (town_m * 0.95 + 150.0) / max((east * east + south * south) ** 0.5, 1e-6) / pixel_m
        row, col = int(town[0] + south * scale), int(town[1] + east * scale)
        if not (near < row < roads.shape[0] - near and near < col < roads.shape[1] - near):
            continue
        around = (slice(row - near, row + near), slice(col - near, col + near))
        wet = (terrain.sea | terrain.lake | terrain.river)[around].any()
        score = -4.0 * float(terrain.slope[around].max()) + 0.4 * roads[around].any() - 3.0 * wet
        if score > best_score:
            best, best_score = (float(row), float(col)), score
    return best


def _join(
    rng: np.random.Generator, terrain: Terrain, towns: NDArray[np.float32], *, pixel_m: float
) -> NDArray[np.uint8]:
    """Join the towns by the cheapest roads over the terrain; a motorway crosses the region."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

    step = max(1, round(80.0 / pixel_m))
    wet = (terrain.sea | terrain.lake)[::step, ::step]
    river = terrain.flow[::step, ::step] > 0.05
    rough = fractal(rng, wet.shape, pixel_m=pixel_m * step, longest_m=1200, shortest_m=160)
    slope = np.minimum(terrain.slope[::step, ::step], 0.8)
    price = 1.0 + (9.0 * slope) ** 2 + 40.0 * wet + 2.0 * river + 0.35 * (rough + 2).clip(0)
    rows, cols = price.shape
    nodes = np.arange(rows * cols).reshape(price.shape)

    def graph(cost: NDArray[np.float64]) -> csr_array:
        heads, tails, weights = [], [], []
        for down, right in _STEPS:
            a = (slice(0, rows - down), slice(max(0, -right), cols - max(0, right)))
            b = (slice(down, rows), slice(max(0, right), cols - max(0, -right)))
            heads.append(nodes[a].ravel())
            tails.append(nodes[b].ravel())
            weights.append((cost[a] + cost[b]).ravel() * (0.5 * (down * down + right * right) ** 0.5))
        edges = (np.concatenate(weights), (np.concatenate(heads), np.concatenate(tails)))
        return csr_array(edges, shape=(rows * cols, rows * cols))

    roads = np.zeros(terrain.slope.shape, np.uint8)
    stops = (towns[:, :2] / step).astype(int)
    stops = np.minimum(stops, np.asarray(price.shape) - 1)
    homes = nodes[stops[:, 0], stops[:, 1]]
    far, before = dijkstra(graph(price), directed=False, indices=homes, return_predecessors=True)
    tree = minimum_spanning_tree(csr_array(far[:, homes])).tocoo()
    pairs = [(int(a), int(b)) for a, b in zip(*tree.coords, strict=True)]
    pairs += [(k, int(np.argsort(far[k, homes])[2])) for k in range(min(3, len(homes) - 2))]
    for a, b in pairs:
        _draw(roads, _follow(before[a], int(homes[b]), cols), value=ROAD, step=step, width_px=1)
    inner = slice(rows // 8, rows - rows // 8)
    sides = [nodes[inner, k][~wet[inner, k]] for k in (0, -1)]
    west, east = (side if side.size else nodes[:, k] for side, k in zip(sides, (0, -1), strict=True))
    reach = far[0]
    start, end = int(west[np.argmin(reach[west])]), int(east[np.argmin(reach[east])])
    bypass = price.copy()
    grid = np.indices(price.shape)
    bypass += 3.0 * (np.minimum(grid[0], rows - 1 - grid[0]) < rows // 10)
    for row, col, radius_m in towns:
        away_m = ((grid[0] * step - row) ** 2 + (grid[1] * step - col) ** 2) ** 0.5 * pixel_m
        bypass += 14.0 * np.clip(1.35 - away_m / radius_m, 0, None)
    _, back = dijkstra(graph(bypass), directed=False, indices=start, return_predecessors=True)
    _draw(roads, _follow(back, end, cols), value=MOTORWAY, step=step, width_px=max(2, round(35 / pixel_m)))
    _draw(roads, _follow(before[0], start, cols), value=ROAD, step=step, width_px=1)
    return roads


def _follow(before: NDArray[np.int32], end: int, cols: int) -> NDArray[np.float64]:
    """Return the path to `end` as (points, 2) rows and columns of the coarse grid."""
    path = [end]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return np.stack(np.divmod(np.asarray(path), cols), axis=1).astype(np.float64)


def _draw(
    roads: NDArray[np.uint8], path: NDArray[np.float64], *, value: int, step: int, width_px: int
) -> None:
    """Draw a coarse path as a smooth line of `width_px` pixels; wider roads stay on top."""
    if len(path) < 4:
        return
    line = np.concatenate([path[:1], path[1:-1:3], path[-1:]]) * step + step / 2
    if value == MOTORWAY:  # it goes on beyond the region
        line = np.concatenate([2 * line[:1] - line[1:2], line, 2 * line[-1:] - line[-2:-1]])
    for _ in range(6):
        line = np.concatenate([line[:1], line, line[-1:]])
        even = (line[:-2] + 6 * line[1:-1] + line[2:]) / 8
        odd = (line[1:-2] + line[2:-1]) / 2
        mixed = np.empty((len(even) + len(odd), 2))
        mixed[0::2], mixed[1::2] = even, odd
        line = mixed
    spread = np.arange(width_px) - (width_px - 1) / 2
    for down in spread:
        for right in spread:
            if down * down + right * right > (width_px / 2) ** 2:
                continue
            row = np.floor(line[:, 0] + down).astype(int)
            col = np.floor(line[:, 1] + right).astype(int)
            inside = (row >= 0) & (col >= 0) & (row < roads.shape[0]) & (col < roads.shape[1])
            row, col = row[inside], col[inside]
            roads[row, col] = np.maximum(roads[row, col], value)
