"""How far a scene lies from the imagery that an expert was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.core.notes import note
from tesela.core.scene import Band, Scene
from tesela.core.training_imagery import LEVELS
from tesela.io.raster import open_dataset
from tesela.io.scenes import SceneReader
from tesela.models.header import ExpertHeader

WINDOWS = 25
"""Windows of a sample, spread evenly over the scene."""

FAR_SHARE = 0.05
"""Share of pixels unlike the training pixels from which a scene is called far; of training pixels it is 0.01. In
``benchmarks/transfer.py`` scenes below it lose little, see docs/transfer.md."""

MOST_SHIFT = 20.0
"""Deviations by which the mean of a band can differ in imagery of the same kind."""

MOST_RATIO = 50.0
"""Ratio of the deviations of a band, likewise."""

OUT_OF_RANGE = 0.9
"""Share of pixels outside the range of the training in every band from which no band can be of the same quantity."""

CLEAR_GAIN = 3.0
"""Gain of a pixel's log likelihood by another order of the bands that no real pair of scenes reaches in
``benchmarks/scene_checks.py``."""

OFFSET_GAIN = 6.0
"""Gain by an offset, likewise."""

LEAST_GAIN = 1.0
"""Gain that is enough where the share of pixels unlike the training is at least halved, too."""

_DN_OFFSET = 1000.0
"""Offset of Sentinel-2's numbers since baseline 04.00 (January 2022)."""
_REFLECTANCE_OFFSET = 0.1
_REFLECTANCE = re.compile(r"B\d|blue|green|red|re\d|nir|swir|band\d", re.IGNORECASE)
"""How names of bands of reflectance begin; an index, such as NDVI, may differ by 0.1 in all months of a year."""
_HIGH = LEVELS.index(0.95)
_MOST_PIXELS = 20_000
_ORDER_PIXELS = 1000
_ALL_ORDERS = 4
"""Most bands for which all orders are tried; of more, all swaps of two, then further swaps, and the reverse."""
_LISTED = 3


@dataclass(frozen=True)
class SceneDistance:
    """A sample of a scene compared with the training pixels of an expert."""

    bands: tuple[str, ...]
    shift: tuple[float, ...]
    """Mean of each band less that of the training, in deviations of the training."""
    ratio: tuple[float, ...]
    """Deviation of each band divided by that of the training."""
    outside: tuple[float, ...]
    """Share of the pixels below the 0.5 % or above the 99.5 % quantile of the training, by band; there it is 0.01."""
    far: float
    """Share of the pixels whose combination of bands is unlike that of 99 % of the training pixels."""

    @property
    def is_far(self) -> bool:
        """Whether the scene differs so much that the map is likely to be worse than the validation scores."""
        return self.far > FAR_SHARE

    @property
    def summary(self) -> str:
        """One line for people."""
        order = sorted(range(len(self.bands)), key=lambda k: -abs(self.shift[k]))[:_LISTED]
        bands = ", ".join(f"{self.bands[k]} {self.shift[k]:+.1f}" for k in order)
        return (
            f"{self.far:.0%} of its pixels are unlike the training pixels (1% expected); means differ by, in "
            f"deviations: {bands}"
        )

    def to_dict(self) -> dict[str, object]:
        """Figures for JSON."""
        return {
            "unlike_training": round(self.far, 4),
            "bands": {
                name: {"shift": round(shift, 3), "ratio": round(ratio, 3), "outside": round(outside, 4)}
                for name, shift, ratio, outside in zip(
                    self.bands, self.shift, self.ratio, self.outside, strict=True
                )
            },
        }


def check_imagery(
    header: ExpertHeader, scene: Scene, *, any_scene: bool = False, advise: bool = True
) -> SceneDistance | None:
    """
    Compare a scene with the training imagery of an expert, and note when it is far.

    Parameters
    ----------
    any_scene : bool
        Go on where the imagery cannot be of the same kind.
    advise : bool
        Note when the scene is far.

    Returns
    -------
    SceneDistance or None
        None where the expert does not describe its training imagery, the scene lacks a date, or the sample has no data.

    Raises
    ------
    InputError
        If a band has another scale, offset or quantity, or the bands another order, and `any_scene` is False.
    """
    if not set(header.bands) <= set(scene.band_names):
        return None
    chosen = scene.select(header.bands)
    pixels = sample_pixels(chosen)
    if not len(pixels):
        return None
    wrong = _impossible(header, pixels)
    if wrong and not any_scene:
        first = wrong[0]
        values = pixels[:, first]
        raise InputError(
            f"Scene '{scene.name}': band {header.bands[first]} has mean {values.mean():.4g} and deviation "
            f"{values.std():.4g}, but {header.mean[first]:.4g} and {header.std[first]:.4g} in the training: another "
            f"scale, unit or band. Give --scale, --offset or --bands, or go on with --any-scene."
        )
    if header.imagery is None:
        return None
    distance = measure_distance(header, pixels)
    named = () if any_scene else [k for k, band in enumerate(chosen.bands) if _is_named(band)]
    doubt = "" if any_scene else find_mismatch(header, chosen, pixels, distance, named=named)
    if doubt:
        raise InputError(f"Scene '{scene.name}': {doubt} Go on as it is with --any-scene.")
    if distance.is_far and advise:
        note(
            f"Scene '{scene.name}' is far from the training imagery: {distance.summary}. Expect a worse map than the "
            f"validation scores"
            + ("." if "transfer" in header.training else "; --transfer auto adapts the expert.")
        )
    return distance


def find_mismatch(
    header: ExpertHeader,
    scene: Scene,
    pixels: NDArray[np.float32],
    distance: SceneDistance,
    *,
    named: Collection[int],
) -> str:
    """
    What is wrong with the order, offset or range of a scene's bands, as sentences for people; empty if nothing is.

    Other orders of the bands, and offsets of 1000 numbers (0.1 of reflectance), are tried on a sample: where one makes
    the pixels much more likely under the mixture of the training pixels, the bands are not what their names say. A
    season or region changes bands, but does not exchange them. Bands whose names stand in the files are believed.

    Parameters
    ----------
    scene : Scene
        With the bands of the expert, in its order.
    pixels : (pixels, bands) array of float32
        Of `sample_pixels`.
    named : collection of int
        Positions of the bands whose names stand in their files.
    """
    imagery = header.imagery
    assert imagery is not None
    outside = np.array(distance.outside)
    if (outside > OUT_OF_RANGE).all():
        values = pixels[:, 0]
        return (
            f"in every band more than {OUT_OF_RANGE:.0%} of the pixels lie outside the range of the training "
            f"({header.bands[0]} {values.min():.4g} to {values.max():.4g}, there {imagery.quantiles[0][0]:.4g} to "
            f"{imagery.quantiles[0][-1]:.4g}): another scale, unit or stretch. Give --scale and --offset."
        )
    if all(_reaches(band) < row[_HIGH] / 2 for band, row in zip(scene.bands, imagery.quantiles, strict=True)):
        return (
            f"its files hold bytes, so {header.bands[0]} is {_reaches(scene.bands[0]):g} at most, but the training "
            f"imagery reaches {imagery.quantiles[0][_HIGH]:.4g}: another scale, unit or stretch. Give --scale and "
            f"--offset, or the imagery without the stretch."
        )
    if not distance.is_far:
        return ""
    sample = pixels[:: max(1, len(pixels) // _ORDER_PIXELS)].astype(np.float64)
    mean, std = np.array(header.mean), np.array(header.std)

    def fit(values: NDArray[np.float64]) -> tuple[float, float]:
        """Cost of a pixel, in nats, and share unlike the training."""
        near = imagery.distances((values - mean) / std).min(1)
        cost = (5 + len(mean)) / 2 * np.log1p(near / 5).mean()
        return float(cost), float((near > imagery.reach).mean())

    as_given = fit(sample)
    order = _likely_order(sample, fit)
    if order is not None and _is_better(as_given, fit(sample[:, order]), enough=CLEAR_GAIN):
        moved = [k for k, item in enumerate(order) if item != k]
        if not set(moved) <= set(named):
            likely = ", ".join(f"{header.bands[order[k]]} for {header.bands[k]}" for k in moved)
            return (
                f"its bands fit the training much better in another order ({likely}). Name the bands of the file in "
                f"their order (--bands), or write the names into it."
            )
    for sign in (1.0, -1.0) if all(map(_REFLECTANCE.match, header.bands)) else ():
        offsets = np.array(
            [
                _DN_OFFSET * band.scale if np.dtype(band.dtype).kind in "iu" else _REFLECTANCE_OFFSET
                for band in scene.bands
            ]
        )
        if _is_better(as_given, fit(sample + sign * offsets), enough=OFFSET_GAIN):
            was = np.array([band.offset for band in scene.bands])
            more = f"{float((was + sign * offsets)[0]):g}"
            return (
                f"its numbers fit the training much better with {sign * offsets[0]:+g} added in every band, the offset "
                f"of Sentinel-2's numbers since January 2022. Give --offset {more}."
            )
    return ""


def _reaches(band: Band) -> float:
    """Largest quantity that a band of bytes can hold; infinite of other types."""
    limits = (0.0, 255.0) if np.dtype(band.dtype) == np.uint8 else (math.inf, math.inf)
    return max(limit * band.scale + band.offset if math.isfinite(limit) else math.inf for limit in limits)


def _is_better(given: tuple[float, float], other: tuple[float, float], *, enough: float = math.inf) -> bool:
    """Whether another reading of the pixels is so much more likely that the given one is wrong."""
    gain, halved = given[0] - other[0], other[1] <= given[1] / 2
    return gain > enough or (gain > LEAST_GAIN and halved)


def _is_named(band: Band) -> bool:
    """Whether the name of a band stands in its file, or is that of its file."""
    with open_dataset(band.path) as data:
        return band.name == (data.descriptions[band.index - 1] or Path(band.path).stem)


def _likely_order(
    pixels: NDArray[np.float64], fit: Callable[[NDArray[np.float64]], tuple[float, float]]
) -> list[int] | None:
    """Order of the bands that fits best, or None where it is the given one."""
    count = pixels.shape[1]
    own = list(range(count))
    tried = [list(item) for item in permutations(own)] if count <= _ALL_ORDERS else [own, own[::-1]]
    costs = [fit(pixels[:, item])[0] for item in tried]
    best, cost = tried[int(np.argmin(costs))], min(costs)
    for _ in range(0 if count <= _ALL_ORDERS else count):
        swapped = [_swap(best, *pair) for pair in combinations(own, 2)]
        costs = [fit(pixels[:, item])[0] for item in swapped]
        if min(costs) >= cost:
            break
        best, cost = swapped[int(np.argmin(costs))], min(costs)
    return None if best == own else best


def _swap(order: list[int], first: int, second: int) -> list[int]:
    swapped = order.copy()
    swapped[first], swapped[second] = order[second], order[first]
    return swapped


def measure_distance(header: ExpertHeader, pixels: NDArray[np.float32]) -> SceneDistance:
    """
    Compare (pixels, bands) quantities with the training imagery of an expert.

    Examples
    --------
    >>> measure_distance(header, pixels).far                      # doctest: +SKIP
    0.31
    """
    imagery = header.imagery
    assert imagery is not None
    mean, std = np.array(header.mean), np.array(header.std)
    scaled = (pixels - mean) / std
    quantiles = np.array(imagery.quantiles)
    outside = (pixels < quantiles[:, 0]) | (pixels > quantiles[:, -1])
    return SceneDistance(
        header.bands,
        tuple(scaled.mean(0).tolist()),
        tuple(scaled.std(0).tolist()),
        tuple(outside.mean(0).tolist()),
        float((imagery.distances(scaled[:: max(1, len(scaled) // 4000)]).min(1) > imagery.reach).mean()),
    )


def sample_pixels(scene: Scene) -> NDArray[np.float32]:
    """At most 20,000 (pixels, bands) with data in all bands, in physical quantities, from all over a scene."""
    images = sample_windows(scene, side_px=64)
    pixels = np.concatenate([image.reshape(len(image), -1).T for image in images])
    valid: NDArray[np.float32] = pixels[np.isfinite(pixels).all(1)]
    return valid[:: max(1, -(-len(valid) // _MOST_PIXELS))]


def sample_windows(scene: Scene, *, side_px: int, count: int = WINDOWS) -> list[NDArray[np.float32]]:
    """Windows spread evenly over a scene, (bands, rows, cols) in physical quantities, NaN where there is no data."""
    height, width = int(scene.grid.shape[0]), int(scene.grid.shape[1])
    each = math.isqrt(count)
    rows, cols = (
        np.unique(np.linspace(0, max(0, length - side_px), each).astype(int)) for length in (height, width)
    )
    tall, wide = min(side_px, height), min(side_px, width)
    with SceneReader(scene) as reader:
        return [
            reader.read(window_grid(scene.grid, int(row), int(col), tall, wide))
            for row in rows
            for col in cols
        ]


def _impossible(header: ExpertHeader, pixels: NDArray[np.float32]) -> list[int]:
    """Bands that cannot be those of the training, by mean and deviation."""
    mean, std = np.array(header.mean), np.array(header.std)
    own, spread = pixels.mean(0, dtype=np.float64), pixels.std(0, dtype=np.float64)
    wrong = (np.abs(own - mean) > MOST_SHIFT * std) | (spread > MOST_RATIO * std)
    small = (spread < std / MOST_RATIO) & (np.abs(own) < np.abs(mean) / MOST_RATIO)
    if small.all():  # a pixel alone, or a lake, has no spread, but numbers of the usual size
        wrong[:] = True
    return [int(item) for item in np.flatnonzero(wrong)]
