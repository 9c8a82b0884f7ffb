"""Pictures of an assessment: maps, disagreement and the confusion matrix."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tesela.assessment.assessment import Assessment
from tesela.core.legend import Legend

DIFFERENCE = {
    "under 10\u202f% of the pixels differ": "#bccfd9",
    "10–30\u202f%": "#fdd49e",
    "30–50\u202f%": "#fdbb84",
    "50–70\u202f%": "#fc8d59",
    "70–90\u202f%": "#e34a33",
    "over 90\u202f%": "#b30000",
}
"""Colours of the difference: grey-blue for agreement, then ColorBrewer's OrRd, safe for the colour-blind."""


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
