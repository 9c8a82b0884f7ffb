"""Clouds over a scene, and the shadows they throw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.simulate.noise import fractal, ramp, smooth


@dataclass(frozen=True, eq=False)
class Clouds:
    """How much of the light clouds take; arrays are (rows, cols)."""

    opacity: NDArray[np.float32]
    """0 clear .. 1 nothing of the ground is seen."""
    shadow: NDArray[np.float32]
    """0 sunlit .. 1 fully in a cloud's shadow."""
    haze: NDArray[np.float32]
    """Aerosol beside the usual, mean 0, variance about 1."""


def make_clouds(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    pixel_m: float,
    cover: float,
    sun_elevation_deg: float,
    sun_azimuth_deg: float,
) -> Clouds:
    """
    Draw fair-weather clouds over a share `cover` of the scene, 900 to 1600 m up.

    Shadows are the clouds moved away from the sun by height / tan(elevation); clouds outside the scene throw
    shadows into it.
    """
    haze = fractal(rng, shape, pixel_m=pixel_m, longest_m=6000, shortest_m=800)
    height_m = float(rng.uniform(900, 1600))
    away = height_m / float(np.tan(np.radians(sun_elevation_deg))) / pixel_m
    down = round(float(np.cos(np.radians(sun_azimuth_deg))) * away)
    right = round(-float(np.sin(np.radians(sun_azimuth_deg))) * away)
    margin = max(abs(down), abs(right)) + 1
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    field = fractal(rng, wide, pixel_m=pixel_m, longest_m=1300, shortest_m=20, gain=0.55)
    field += np.float32(0.45) * fractal(rng, wide, pixel_m=pixel_m, longest_m=9000, shortest_m=2000)
    if cover <= 0:
        clear = np.zeros(shape, np.float32)
        return Clouds(clear, clear, haze)
    inner = field[margin:-margin, margin:-margin]
    base = float(np.quantile(inner, 1 - min(cover, 1.0)))
    cloud = ramp(field, base - 0.10, base + 0.30)
    opacity = cloud[margin : margin + shape[0], margin : margin + shape[1]]
    top, left = margin - down, margin - right
    shadow = smooth(cloud, max(0.5, 15.0 / pixel_m))[top : top + shape[0], left : left + shape[1]]
    return Clouds(np.ascontiguousarray(opacity), np.ascontiguousarray(shadow), haze)
