"""Pictures of scenes: which bands are shown, how they are stretched, and the files they become."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.band_dates import split_date
from tesela.core.scene import Scene
from tesela.io.scenes import SceneReader

_NATURAL = (
    ("red", "green", "blue"),
    ("B04", "B03", "B02"),
    ("B4", "B3", "B2"),
    ("nir", "red", "green"),
    ("B08", "B04", "B03"),
    ("B8", "B4", "B3"),
)
"""Bands shown as red, green and blue: the first set that a scene has; upper and lower case are equal."""


def scene_picture(scene: Scene, grid: GeoBox, *, bands: Sequence[str] | None = None) -> Image.Image:
    """
    A scene on a grid, each band stretched over its common values, see `common_range`; nodata is transparent.

    Parameters
    ----------
    bands : sequence of str, optional
        Three bands for red, green and blue, or one for grey; default: see `shown_bands`.
    """
    chosen = shown_bands(scene) if bands is None else tuple(bands)
    with SceneReader(scene.select(chosen)) as reader:
        pixels = reader.read(grid)
    seen = ~np.isnan(pixels).any(axis=0)
    out = np.zeros((*grid.shape, 4), np.uint8)
    for channel in range(3):
        band = pixels[channel if len(chosen) == 3 else 0]
        if seen.any():
            low, high = common_range(band[seen])
            scaled = np.clip((np.where(seen, band, low) - low) / max(high - low, 1e-12), 0, 1)
            out[..., channel] = (scaled**0.8 * 255).astype(np.uint8)
    out[..., 3] = np.where(seen, 255, 0)
    return Image.fromarray(out)


def common_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """
    Range of the common values of a band, (n,): the values drawn black and at full brightness.

    From the 2nd to the 98th percentile, but not further from the median than five times the distance of the
    quartiles, so that a little snow or cloud does not make the land black.
    """
    low, first, middle, third, high = np.percentile(values, (2, 25, 50, 75, 98))
    return float(max(low, middle - 5 * (middle - first))), float(min(high, middle + 5 * (third - middle)))


def shown_bands(scene: Scene) -> tuple[str, ...]:
    """
    Three bands to show: natural colours if the names allow it, else near infrared, else the first bands.

    Of several dates ("B04_april", "B04_july") the middle one is shown.
    """
    dates = list(dict.fromkeys(f"_{date}" for _, date in map(split_date, scene.band_names) if date))
    by_lower = {name.lower(): name for name in scene.band_names}
    suffixes = ["", *dates[len(dates) // 2 :], *dates]
    for names in _NATURAL:
        for suffix in suffixes:
            wanted = [f"{name.lower()}{suffix}" for name in names]
            if all(name in by_lower for name in wanted):
                return tuple(by_lower[name] for name in wanted)
    return scene.band_names[:3] if len(scene.bands) >= 3 else scene.band_names[:1]


def enlarged(picture: Image.Image, *, at_least_px: int = 800) -> Image.Image:
    """A small picture with its pixels repeated a whole number of times, large enough for a document."""
    times = max(1, at_least_px // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture.resize(size, Image.Resampling.NEAREST) if times > 1 else picture


def png_bytes(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=9)
    return file.getvalue()


def webp_bytes(picture: Image.Image) -> bytes:
    """The picture as lossy WebP: for imagery, an eighth of the size of its PNG."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=84, method=4)
    return file.getvalue()
