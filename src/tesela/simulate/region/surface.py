"""The surface within each class: crops, roofs and gardens, rows of trees, patches of wood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.simulate.noise import draw, fractal
from tesela.simulate.region.landscape import Landscape
from tesela.simulate.region.parcels import make_blocks
from tesela.simulate.region.settlement import MOTORWAY, ROAD, STREET, TRACK
from tesela.simulate.region.spectra import KINDS, STATES

Mix = dict[str, float]

_PARCEL_MIX: dict[int, Mix] = {
    12: {
        "cereal": 0.50,
        "fallow": 0.22,
        "sunflower": 0.16,
        "alfalfa": 0.04,
        "vegetables": 0.04,
        "vine": 0.04,
    },
    13: {
        "maize": 0.30,
        "alfalfa": 0.24,
        "vegetables": 0.22,
        "cereal": 0.14,
        "sunflower": 0.06,
        "orchard": 0.04,
    },
    15: {"vine": 0.88, "olive": 0.06, "fallow": 0.06},
    16: {"orchard": 0.50, "citrus": 0.36, "vegetables": 0.06, "olive": 0.04, "fallow": 0.04},
    17: {"olive": 0.74, "grove": 0.14, "cereal": 0.04, "vine": 0.04, "orchard": 0.04},
    18: {"meadow": 0.80, "alfalfa": 0.08, "grassland": 0.12},
    19: {"olive": 0.42, "vine": 0.16, "cereal": 0.32, "fallow": 0.10},
    20: {
        "vegetables": 0.22,
        "citrus": 0.12,
        "orchard": 0.12,
        "vine": 0.13,
        "olive": 0.13,
        "cereal": 0.12,
        "alfalfa": 0.10,
        "house": 0.06,
    },
    21: {
        "cereal": 0.22,
        "olive": 0.18,
        "fallow": 0.14,
        "meadow": 0.08,
        "shrub": 0.22,
        "oak": 0.10,
        "vine": 0.06,
    },
    22: {"meadow": 0.45, "grassland": 0.30, "cereal": 0.25},
}
"""Kinds on the parcels of a farmland class, with their shares."""

_PLOT_MIX: dict[int, Mix] = {
    1: {"tile": 0.60, "concrete": 0.24, "asphalt": 0.12, "garden": 0.04},
    2: {"tile": 0.24, "house": 0.16, "garden": 0.34, "yard": 0.12, "asphalt": 0.08, "bare": 0.06},
    9: {"bare": 0.62, "marl": 0.12, "yard": 0.16, "concrete": 0.10},
    10: {"turf": 0.45, "oak": 0.35, "garden": 0.15, "bare": 0.05},
    11: {"turf": 0.66, "oak": 0.12, "pine": 0.08, "bare": 0.08, "concrete": 0.06},
}
"""Kinds on the plots, about 26 m wide, of a built class."""

_HALL_MIX: Mix = {"metal": 0.36, "concrete": 0.24, "asphalt": 0.24, "yard": 0.12, "bare": 0.04}
"""Kinds on the plots, about 75 m wide, of an industrial area."""

_WHOLE: dict[int, str] = {
    4: "asphalt",
    7: "marl",
    23: "broadleaf",
    24: "pine",
    25: "pine",
    26: "grassland",
    28: "shrub",
    29: "shrub",
    30: "sand",
    31: "rock",
    32: "thin",
    33: "burnt",
    35: "reed",
    37: "samphire",
    38: "brine",
    40: "stream",
    41: "lake",
    44: "sea",
}
"""Kind of the other classes, before patches are drawn over them."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface that a sensor images, the same at every date; arrays are (rows, cols) unless stated."""

    kind: NDArray[np.uint8]
    """Index into `spectra.KINDS`."""
    soil: NDArray[np.uint8]
    """0 pale, 1 red, 2 dark."""
    vigour: NDArray[np.float32]
    """Density of the cover relative to the usual one, mean 0, about -1 .. 1: soil depth, parcel, grain."""
    rows: NDArray[np.float32]
    """Planting rows and tree grids, -1 between them .. 1 on them; 0 where there are none."""
    tone: NDArray[np.float32]
    """(3, rows, cols) brightness relative to the usual one in visible, near and short-wave infrared, about 1."""
    state: NDArray[np.uint8]
    """(seasons, parcels) state of each parcel's crop, 0 .. STATES-1."""
    stand: NDArray[np.uint8]
    """State outside farmland, by patches of vegetation; 255 on farmland and in towns."""


def lay_surface(landscape: Landscape) -> Surface:
    """Make the surface of `landscape`; the same landscape gives the same surface."""
    rng = np.random.default_rng([landscape.seed, 10])
    shape = landscape.truth.shape
    pixel_m = abs(float(landscape.grid.affine.a))
    count = len(landscape.turn)
    truth, parcel = landscape.truth, landscape.parcel
    index = {name: k for k, name in enumerate(KINDS)}

    def picked(mix: Mix, size: int) -> NDArray[np.uint8]:
        names = np.asarray([index[name] for name in mix], np.uint8)
        return names[draw(rng, tuple(mix.values()), size)]

    def noise(longest_m: float, shortest_m: float) -> NDArray[np.float32]:
        return fractal(rng, shape, pixel_m=pixel_m, longest_m=longest_m, shortest_m=shortest_m, gain=0.65)

    kind = np.zeros(shape, np.uint8)
    for code, name in _WHOLE.items():
        kind[truth == code] = index[name]
    for code, mix in _PARCEL_MIX.items():
        kind = np.where(truth == code, picked(mix, count)[parcel], kind)
    plots = make_blocks(rng, shape, pixel_m=pixel_m, spacing_m=26, bend_m=5, bend_length_m=120)
    for code, mix in _PLOT_MIX.items():
        kind = np.where(truth == code, picked(mix, plots.count)[plots.index], kind)
    halls = make_blocks(rng, shape, pixel_m=pixel_m, spacing_m=75, bend_m=4, bend_length_m=300)
    kind = np.where(truth == 3, picked(_HALL_MIX, halls.count)[halls.index], kind)

    clump, patch, broad = noise(90, 10), noise(320, 20), noise(2400, 150)
    _scatter(kind, truth, index, clump=clump, patch=patch)
    kind[(truth == 30) & (landscape.altitude_m > 2.5)] = index["gravel"]
    hidden = np.isin(landscape.roads, (STREET, ROAD)) & (truth < 39)
    kind[hidden] = index["asphalt"]
    track = (landscape.roads == TRACK) & (clump > -0.6) & (truth < 30)
    kind[track] = index["bare"]
    kind[(landscape.roads == MOTORWAY) & (clump > 1.1)] = index["garden"]

    soil = (broad > -0.25).astype(np.uint8) + ((broad > 0.85) | (landscape.moisture > 0.78)).astype(np.uint8)
    stray = rng.random(count) < 0.15
    soil = np.where(stray[parcel] & (truth < 23), draw(rng, (1, 1, 1), count)[parcel], soil).astype(np.uint8)
    kept = (truth < 23).astype(np.float32)  # parcels differ where people farm or build
    of_parcel = rng.normal(0, 1, count).astype(np.float32)
    vigour = (
        0.50 * kept * of_parcel[parcel]
        + 0.42 * patch
        + 0.35 * clump
        + 1.6 * (landscape.moisture - np.float32(0.5))
    )
    tone = np.empty((3, *shape), np.float32)
    for k, spread in enumerate((0.09, 0.08, 0.08)):
        own = rng.normal(0, spread, count).astype(np.float32)
        tone[k] = (
            1 + kept * own[parcel] + np.float32(0.8 * spread) * noise(700, 60) + np.float32(0.035) * clump
        )
    return Surface(
        kind=kind,
        soil=soil,
        vigour=np.clip(vigour, -2.5, 2.5).astype(np.float32),
        rows=_rows(landscape, kind, index, pixel_m=pixel_m),
        tone=np.clip(tone, 0.6, 1.5),
        state=rng.integers(0, STATES, (3, count)).astype(np.uint8),
        stand=np.where(truth < 23, 255, np.clip(np.floor(2.2 * patch + 4), 0, STATES - 1)).astype(np.uint8),
    )


def _scatter(
    kind: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    index: dict[str, int],
    *,
    clump: NDArray[np.float32],
    patch: NDArray[np.float32],
) -> None:
    """Draw trees, shrubs and openings, in place, over classes that are mixed in nature."""
    for code, field, above, name in (
        (25, patch + 0.6 * clump, 0.0, "broadleaf"),
        (23, clump, 1.5, "shrub"),
        (23, -clump, 1.9, "oak"),
        (24, clump, 1.4, "shrub"),
        (24, patch - clump, 2.0, "broadleaf"),
        (28, clump, 1.0, "grassland"),
        (28, patch - clump, 1.5, "oak"),
        (28, clump - patch, 2.0, "thin"),
        (29, clump, 0.35, "grassland"),
        (29, -clump + 0.3 * patch, 0.5, "pine"),
        (29, -clump - 0.5 * patch, 0.9, "oak"),
        (26, clump + 0.3 * patch, 1.0, "shrub"),
        (26, -clump, 1.7, "thin"),
        (32, clump + 0.4 * patch, 0.9, "shrub"),
        (32, -clump, 1.2, "rock"),
        (31, clump, 0.6, "thin"),
        (31, -clump + 0.4 * patch, 1.0, "shrub"),
        (33, clump + 0.5 * patch, 1.2, "shrub"),
        (21, clump + 0.5 * patch, 0.9, "shrub"),
        (21, -clump, 1.4, "oak"),
        (22, clump, 0.75, "oak"),
        (18, clump, 1.9, "oak"),
        (19, -clump, 1.6, "olive"),
        (17, clump, 2.1, "bare"),
        (7, patch, 0.4, "bare"),
        (7, -patch, 1.2, "gravel"),
        (11, patch, 1.1, "oak"),
        (35, clump, 0.9, "lake"),
        (37, clump, 1.0, "stream"),
        (38, clump, 1.2, "samphire"),
        (40, clump, 1.6, "gravel"),
    ):
        kind[(truth == code) & (field > above)] = index[name]


def _rows(
    landscape: Landscape, kind: NDArray[np.uint8], index: dict[str, int], *, pixel_m: float
) -> NDArray[np.float32]:
    """Draw the planting pattern of vines (rows) and of orchards and olives (grids) along each parcel."""
    turn = landscape.turn.astype(np.float64)
    cosine = np.round(np.cos(turn), 6).astype(np.float32)[landscape.parcel]
    sine = np.round(np.sin(turn), 6).astype(np.float32)[landscape.parcel]
    south = (np.arange(kind.shape[0], dtype=np.float32) * np.float32(pixel_m))[:, None]
    east = (np.arange(kind.shape[1], dtype=np.float32) * np.float32(pixel_m))[None, :]
    across, along = east * cosine + south * sine, south * cosine - east * sine
    pattern = np.zeros(kind.shape, np.float32)
    for name, apart_m, grid in (
        ("vine", 24.0, False),
        ("orchard", 28.0, False),
        ("citrus", 26.0, False),
        ("olive", 32.0, True),
    ):
        here = kind == index[name]
        wave = _wave(across[here] / np.float32(apart_m))
        pattern[here] = (wave + _wave(along[here] / np.float32(apart_m))) / 2 if grid else wave
    return pattern


def _wave(turns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a triangle wave of period 1 between -1 and 1."""
    saw = np.abs(turns - np.floor(turns) - np.float32(0.5))
    return np.asarray(saw * np.float32(4) - np.float32(1), np.float32)
