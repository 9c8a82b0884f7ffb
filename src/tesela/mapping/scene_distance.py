"""How far a scene lies from the imagery that an expert was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.core.notes import note
from tesela.core.scene import Scene
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

_MOST_PIXELS = 20_000
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
            f"{self.far:.0%} of its pixels are unlike the training pixels (1 % expected); means differ by, in "
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
        If a band has another scale, or is another quantity, and `any_scene` is False.
    """
    if header.imagery is None or not set(header.bands) <= set(scene.band_names):
        return None
    pixels = sample_pixels(scene.select(header.bands))
    if not len(pixels):
        return None
    distance = measure_distance(header, pixels)
    wrong = _impossible(distance)
    if wrong and not any_scene:
        first = wrong[0]
        values = pixels[:, first]
        raise InputError(
            f"Scene '{scene.name}': band {header.bands[first]} has mean {values.mean():.4g} and deviation "
            f"{values.std():.4g}, but {header.mean[first]:.4g} and {header.std[first]:.4g} in the training: another "
            f"scale, unit or band. Give --scale, --offset or --bands, or go on with --any-scene."
        )
    if distance.is_far and advise:
        note(
            f"Scene '{scene.name}' is far from the training imagery: {distance.summary}. Expect a worse map than the "
            f"validation scores"
            + ("." if "transfer" in header.training else "; --transfer auto adapts the expert.")
        )
    return distance


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


def _impossible(distance: SceneDistance) -> list[int]:
    """Bands that cannot be those of the training."""
    shift, ratio = np.abs(distance.shift), np.array(distance.ratio)
    wrong = (shift > MOST_SHIFT) | (ratio > MOST_RATIO)
    if (ratio < 1 / MOST_RATIO).all():  # one band may be constant in a small scene, not all of them
        wrong[:] = True
    return [int(item) for item in np.flatnonzero(wrong)]
