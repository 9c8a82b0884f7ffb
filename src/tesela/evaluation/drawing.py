"""Drawings: maps, disagreement, imagery and the matrix as pictures."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.evaluation.assessment import Assessment
from tesela.io.scenes import SceneReader

DIFFERENCE = {
    "under 10\u202f% of the pixels differ": "#bccfd9",
    "10–30\u202f%": "#fdd49e",
    "30–50\u202f%": "#fdbb84",
    "50–70\u202f%": "#fc8d59",
    "70–90\u202f%": "#e34a33",
    "over 90\u202f%": "#b30000",
}
"""Colours of the difference: grey-blue for agreement, then ColorBrewer's OrRd, safe for the colour-blind."""

_NATURAL = (
    ("red", "green", "blue"),
    ("B04", "B03", "B02"),
    ("B4", "B3", "B2"),
    ("nir", "red", "green"),
    ("B08", "B04", "B03"),
    ("B8", "B4", "B3"),
)
"""Bands shown as red, green and blue, the first set that a scene has; names without regard to case."""


def class_picture(values: NDArray[np.uint8], legend: Legend) -> Image.Image:
    """Class values in the colours of their legend; nodata is transparent."""
    palette = np.zeros((256, 3), np.uint8)
    for item in legend.classes:
        palette[item.value] = item.rgb
    return _with_palette(values, palette)


def difference_picture(wrong: NDArray[np.float32]) -> Image.Image:
    """Shares of wrong pixels in the colours of `DIFFERENCE`; what was not judged is transparent."""
    judged = ~np.isnan(wrong)
    step = np.rint(np.where(judged, wrong, 0) * (len(DIFFERENCE) - 1)).astype(np.uint8) + 1
    palette = np.zeros((256, 3), np.uint8)
    for k, color in enumerate(DIFFERENCE.values(), start=1):
        palette[k] = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return _with_palette(np.where(judged, step, 0).astype(np.uint8), palette)


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
    Lowest and highest of the common values of a band, (n,): what is drawn black and full.

    From the 2nd to the 98th percentile, but not further from the median than five times the distance of the
    quartiles: a little snow or cloud does not leave the land black.
    """
    low, first, middle, third, high = np.percentile(values, (2, 25, 50, 75, 98))
    return float(max(low, middle - 5 * (middle - first))), float(min(high, middle + 5 * (third - middle)))


def shown_bands(scene: Scene) -> tuple[str, ...]:
    """
    Three bands to show: natural colours where the names tell, else near infrared, else the first.

    Of several dates ("B04_april", "B04_july") the middle one is shown.
    """
    dates = list(dict.fromkeys(name[name.find("_") :].lower() for name in scene.band_names if "_" in name))
    by_lower = {name.lower(): name for name in scene.band_names}
    suffixes = ["", *dates[len(dates) // 2 :], *dates]
    for names in _NATURAL:
        for suffix in suffixes:
            wanted = [f"{name.lower()}{suffix}" for name in names]
            if all(name in by_lower for name in wanted):
                return tuple(by_lower[name] for name in wanted)
    return scene.band_names[:3] if len(scene.bands) >= 3 else scene.band_names[:1]


def enlarged(picture: Image.Image, *, at_least_px: int = 800) -> Image.Image:
    """A small picture with its pixels repeated a whole number of times, so that it shows in a document."""
    times = max(1, at_least_px // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture.resize(size, Image.Resampling.NEAREST) if times > 1 else picture


def png_bytes(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=9)
    return file.getvalue()


def webp_bytes(picture: Image.Image) -> bytes:
    """The picture as lossy WebP: for imagery, an eighth of its PNG."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=84, method=4)
    return file.getvalue()


def draw_matrix(assessment: Assessment, path: Path) -> None:
    """
    Draw the confusion matrix as PNG: shares of each reference class, right ones blue, wrong ones orange.

    Classes absent from both sides are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores, legend = assessment.scores, assessment.legend
    shown = [k for k, code in enumerate(legend.codes) if code not in scores.absent]
    areas = assessment.areas_ha[np.ix_(shown, shown)]
    shares = areas / np.where(areas.sum(axis=1) > 0, areas.sum(axis=1), 1)[:, None]
    size = len(shown)
    dense = size > 16
    named = [legend.codes[k] if dense else textwrap.fill(legend.names[k], 26) for k in shown]
    side = max(3.2, (0.36 if dense else 0.56) * size)
    figure = Figure(figsize=(side + 2.6, side + 1.9), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    blue, orange = np.array([11, 92, 138]) / 255, np.array([194, 65, 12]) / 255
    ink = np.where(np.eye(size, dtype=bool)[..., None], blue, orange)
    axes.imshow(
        1 - 0.7 * shares[..., None] * (1 - ink)
    )  # 0.7: dark figures stay readable on the fullest colour
    for row, col in zip(*np.nonzero(areas), strict=True):
        share = shares[row, col]
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        axes.text(col, row, text, ha="center", va="center", fontsize=7 if dense else 9, color="#1d2329")
    turned = {"rotation": 90} if dense else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(size), named, **turned)
    axes.set_yticks(range(size), named)
    axes.set_xlabel("Map")
    axes.set_ylabel("Reference")
    axes.set_title("Percent of each reference class", loc="left", fontsize=10)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e3e0d9", linewidth=0.6)
    axes.tick_params(which="both", length=0, labelsize=7 if dense else 9)
    axes.spines[:].set_visible(False)
    figure.savefig(path, format="png")


def _with_palette(indexes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(indexes)
    picture.putpalette(palette.tobytes())
    picture.info["transparency"] = 0
    return picture
