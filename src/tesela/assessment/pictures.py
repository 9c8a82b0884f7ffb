"""Pictures of an assessment: maps, disagreement, the confusion matrix, borders and reliability."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.assessment.assessment import Assessment
from tesela.assessment.document import AssessmentDocument, BorderFigures, CalibrationFigures
from tesela.core.grid import windows
from tesela.core.legend import Legend
from tesela.io.map_views import with_palette
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import pixels_inside
from tesela.pages.plots import GRID, INK

if TYPE_CHECKING:
    import geopandas as gpd

DIFFERENCE = {
    "under 10\u202f% of the pixels differ": "#bccfd9",
    "10–30\u202f%": "#fdd49e",
    "30–50\u202f%": "#fdbb84",
    "50–70\u202f%": "#fc8d59",
    "70–90\u202f%": "#e34a33",
    "over 90\u202f%": "#b30000",
}
"""Colours of the difference: grey-blue for agreement, then ColorBrewer's OrRd, safe for the colour-blind."""

_RIGHT_INK, _WRONG_INK = (11, 92, 138), (194, 65, 12)
"""Red, green and blue of right and wrong shares of a matrix at their fullest."""

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 14, 50
"""Size and margins of the drawings in SVG."""

_EXACT_PX = 16384
"""Up to this side every pixel is read; larger maps are first sampled down to `_SAMPLE_PX`."""

_SAMPLE_PX = 8000
"""Side to which larger maps are read at every n-th pixel, from overviews where there are any."""

_WINDOW_PX = 2048


@dataclass(frozen=True, eq=False)
class Overview:
    """Map, reference and their disagreement on one coarse grid."""

    grid: GeoBox
    """Grid of the drawing: the map's, with larger pixels."""
    pixels_per_cell: int
    """Side of a drawn cell in pixels of the map."""
    map_values: NDArray[np.uint8]
    """(rows, cols): commonest value of the map in each cell, in the legend of the assessment; 0 for nodata."""
    reference_values: NDArray[np.uint8]
    """(rows, cols): commonest value of the reference in each cell."""
    wrong: NDArray[np.float32]
    """(rows, cols): share of the evaluated pixels of each cell that differ; NaN without any."""


def make_overview(
    assessment: Assessment, map: ClassMap, reference: ClassMap, *, size_px: int = 1000
) -> Overview:
    """`compare_coarsely` in the legend and area of an assessment."""
    return compare_coarsely(
        map, reference, legend=assessment.legend, within=assessment.within, size_px=size_px
    )


def compare_coarsely(
    map: ClassMap,
    reference: ClassMap,
    *,
    legend: Legend,
    within: gpd.GeoDataFrame | None = None,
    window: GeoBox | None = None,
    size_px: int = 1000,
) -> Overview:
    """
    Reduce map and reference so that the longer side has at most `size_px` cells, by streaming windows.

    Each cell gets the commonest value of its pixels; of equally common ones, the smaller.

    Parameters
    ----------
    legend : Legend
        Level of the legend at which both are compared.
    within : GeoDataFrame, optional
        Polygons of the evaluated area, in the CRS of the map.
    window : GeoBox, optional
        A window of the map's pixels; default: all of it.
    """
    whole = map.grid if window is None else window
    longest = max(whole.shape)
    step = 1 if longest <= _EXACT_PX else math.ceil(longest / _SAMPLE_PX)
    sample = _coarser(whole, step)
    factor = math.ceil(max(sample.shape) / size_px)
    grid = _coarser(sample, factor)
    values = np.zeros((2, *grid.shape), np.uint8)
    wrong = np.full(grid.shape, np.nan, np.float32)
    tables = [_table(side.legend, legend) for side in (map, reference)]
    with MapReader(map) as map_reader, MapReader(reference) as reference_reader:
        for row, col, part in windows(sample, max(1, _WINDOW_PX // factor) * factor):
            mine = tables[0][map_reader.read(part)]
            theirs = tables[1][reference_reader.read(part)]
            evaluated = (mine > 0) & (theirs > 0)
            if within is not None:
                evaluated &= pixels_inside(part, within)
            top, left = row // factor, col // factor
            rows, cols = (math.ceil(size / factor) for size in part.shape)
            cells = (slice(top, top + rows), slice(left, left + cols))
            values[0][cells] = commonest(mine, factor)
            values[1][cells] = commonest(theirs, factor)
            wrong[cells] = share_wrong(mine != theirs, evaluated, factor)
    return Overview(grid, step * factor, map_values=values[0], reference_values=values[1], wrong=wrong)


@njit(cache=True, nogil=True)
def commonest(values: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:  # pragma: no cover - compiled
    """Commonest value of each square of `factor` x `factor` pixels, cut at the edges."""
    rows, cols = values.shape
    out = np.zeros(((rows + factor - 1) // factor, (cols + factor - 1) // factor), np.uint8)
    counts = np.zeros(256, np.int64)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            counts[:] = 0
            most, best = 0, 0
            for r in range(i * factor, min((i + 1) * factor, rows)):
                for c in range(j * factor, min((j + 1) * factor, cols)):
                    value = values[r, c]
                    counts[value] += 1
                    if counts[value] > most or (counts[value] == most and value < best):
                        most, best = counts[value], value
            out[i, j] = best
    return out


@njit(cache=True, nogil=True)
def share_wrong(
    differs: NDArray[np.bool_], evaluated: NDArray[np.bool_], factor: int
) -> NDArray[np.float32]:  # pragma: no cover - compiled
    """Share of evaluated pixels that differ in each square of `factor` x `factor` pixels; NaN without any."""
    rows, cols = differs.shape
    out = np.full(((rows + factor - 1) // factor, (cols + factor - 1) // factor), np.nan, np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            seen, differing = 0, 0
            for r in range(i * factor, min((i + 1) * factor, rows)):
                for c in range(j * factor, min((j + 1) * factor, cols)):
                    if evaluated[r, c]:
                        seen += 1
                        differing += differs[r, c]
            if seen:
                out[i, j] = differing / seen
    return out


def _coarser(grid: GeoBox, factor: int) -> GeoBox:
    rows, cols = (math.ceil(size / factor) for size in grid.shape)
    return GeoBox((rows, cols), grid.affine * Affine.scale(factor), grid.crs)


def _table(side: Legend, legend: Legend) -> NDArray[np.uint8]:
    return side.level_table(legend.depth)


def draw_borders(maps: Sequence[BorderFigures]) -> str:
    """
    Accuracy by distance from the borders of the reference, one bar per band.

    Parameters
    ----------
    maps : sequence of BorderFigures
        Those of the map and, where there is one, of the generalised map: the second bar of each band.
    """
    bands = maps[0]["bands"]
    parts = [_open("Accuracy by distance from class borders"), *_grid()]
    step = (_WIDTH - _LEFT - _RIGHT) / len(bands)
    wide = 0.72 * step / len(maps)
    for k, band in enumerate(bands):
        middle = _LEFT + (k + 0.5) * step
        for n, borders in enumerate(maps):
            accuracy = borders["bands"][k]["accuracy"]
            if accuracy is not None:
                x = middle + (n - len(maps) / 2) * wide
                parts.append(_bar(x + 1, wide - 2, accuracy, f"bar-{n}"))
                parts.append(_text(x + wide / 2, _up(accuracy) - 4, f"{100 * accuracy:.0f}", kind="value"))
        parts.append(_text(middle, _HEIGHT - 32, band_name(maps[0], k)))
        parts.append(_text(middle, _HEIGHT - 18, f"{100 * band['share']:.0f}\u202f%", kind="faint"))
    parts.append(_text(_LEFT - 6, _HEIGHT - 18, "pixels", kind="faint", anchor="end"))
    return "".join([*parts, "</svg>"])


def draw_reliability(calibration: CalibrationFigures) -> str:
    """Reliability diagram: accuracy by confidence, and below it the number of pixels."""
    parts = [_open("Accuracy by confidence"), *_grid()]
    bins = calibration["bins"]
    step = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    most = max(item["evaluated_px"] for item in bins)
    for k, item in enumerate(bins):
        accuracy, confidence = item["accuracy"], item["confidence"]
        if accuracy is None or confidence is None:
            continue
        x = _LEFT + k * step
        parts.append(_bar(x + 1, step - 2, accuracy, "bar-0"))
        low, high = sorted((accuracy, confidence))
        kind = "over" if confidence > accuracy else "under"
        parts.append(
            f'<rect class="{kind}" x="{x + 1:.1f}" y="{_up(high):.1f}" width="{step - 2:.1f}" '
            f'height="{max(0.0, _up(low) - _up(high)):.1f}"/>'
        )
        height = 14 * item["evaluated_px"] / most
        parts.append(
            f'<rect class="pixels" x="{x + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}"/>'
        )
    parts.append(f'<line class="ideal" x1="{_LEFT}" y1="{_up(0)}" x2="{_WIDTH - _RIGHT}" y2="{_up(1)}"/>')
    for percent in range(0, 101, 20):
        x = _LEFT + percent / 100 * (_WIDTH - _LEFT - _RIGHT)
        parts.append(_text(x, _HEIGHT - 34, f"{percent}"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 20, "confidence, %", kind="faint"))
    parts.append(_text(_LEFT - 6, _HEIGHT - 4, "pixels", kind="faint", anchor="end"))
    return "".join([*parts, "</svg>"])


def band_name(borders: BorderFigures, number: int) -> str:
    """Distance of a band, in metres where pixels have a side in metres, else in pixels."""
    band, side_m = borders["bands"][number], borders["pixel_m"]
    unit, size = ("px", 1.0) if side_m is None else ("m", side_m)
    start = _plain(band["from_px"] * size)
    if band["to_px"] is None:
        return f"> {start}\u202f{unit}"
    return f"{start}–{_plain(band['to_px'] * size)}\u202f{unit}"


def _plain(number: float) -> str:
    return f"{number:.4g}"


def _open(label: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'


def _grid() -> Iterable[str]:
    for percent in range(0, 101, 20):
        y = _up(percent / 100)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 6, y + 4, f"{percent}\u202f%" if percent == 100 else f"{percent}", anchor="end")


def _bar(x: float, width: float, share: float, kind: str) -> str:
    top = _up(share)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{_HEIGHT - _BOTTOM - top:.1f}"/>'
    )


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "middle") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _up(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def difference_picture(wrong: NDArray[np.float32]) -> Image.Image:
    """Shares of wrong pixels in the colours of `DIFFERENCE`; cells without an evaluated pixel are transparent."""
    evaluated = ~np.isnan(wrong)
    step = np.rint(np.where(evaluated, wrong, 0) * (len(DIFFERENCE) - 1)).astype(np.uint8) + 1
    palette = np.zeros((256, 3), np.uint8)
    for k, color in enumerate(DIFFERENCE.values(), start=1):
        palette[k] = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return with_palette(np.where(evaluated, step, 0).astype(np.uint8), palette)


def matrix_svg(document: AssessmentDocument) -> str:
    """
    The confusion matrix as a drawing: shares of each reference class, right ones blue, wrong ones orange.

    Classes absent from both sides are left out. Over 16 classes are named by their codes. The file stands alone:
    browsers, office programs and Inkscape open it.
    """
    rows = document["classes"]
    shown = [k for k, row in enumerate(rows) if row["code"] not in document["absent"]]
    areas = np.array(document["matrix"]["hectares"])[np.ix_(shown, shown)]
    shares = areas / np.where(areas.sum(axis=1) > 0, areas.sum(axis=1), 1)[:, None]
    size = len(shown)
    dense = size > 16
    names = [rows[k]["code"] if dense else rows[k]["name"] for k in shown]
    cell, letter = (22, 10) if dense else (40, 12)
    longest = max((len(line) for name in names for line in _lines(name)), default=0)
    left = 34 + math.ceil(0.58 * letter * longest)
    wide, high = max(220, left + cell * size + 12), 34 + cell * size + left + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'font-family="sans-serif" font-size="{letter}" fill="{INK}">',
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
        '<text x="14" y="20" font-size="13">Percent of each reference class</text>',
    ]
    for row, col in np.ndindex(size, size):
        x, y, share = left + col * cell, 34 + row * cell, float(shares[row, col])
        ink = _RIGHT_INK if row == col else _WRONG_INK
        # 0.7: dark figures stay readable on the fullest colour
        red, green, blue = (round(255 - 0.7 * share * (255 - part)) for part in ink)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="#{red:02x}{green:02x}{blue:02x}" '
            f'stroke="{GRID}"/>'
        )
        if areas[row, col] > 0:
            text = f"{100 * share:.0f}" if share >= 0.005 else "&lt;1"
            parts.append(
                f'<text x="{x + cell / 2}" y="{y + cell / 2 + letter / 3:.1f}" text-anchor="middle">{text}</text>'
            )
    for k, name in enumerate(names):
        middle = 34 + (k + 0.5) * cell
        parts.append(_label(name, left - 6, middle, letter))
        across, below = left + (k + 0.5) * cell, 34 + cell * size + 8
        parts.append(f'<g transform="rotate(-90 {across} {below})">{_label(name, across, below, letter)}</g>')
    parts.append(f'<text x="{left + cell * size / 2}" y="{high - 6}" text-anchor="middle">Map</text>')
    middle = 34 + cell * size / 2
    parts.append(
        f'<text transform="rotate(-90 14 {middle})" x="14" y="{middle}" text-anchor="middle">Reference</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _lines(name: str) -> list[str]:
    return textwrap.wrap(name, 26) or [""]


def _label(name: str, x: float, y: float, letter: int) -> str:
    """Lines of a name that end at a point, centred in height on it."""
    lines = _lines(name)
    top = y + letter / 3 - (len(lines) - 1) * letter * 0.55
    return "".join(
        f'<text x="{x}" y="{top + k * letter * 1.1:.1f}" text-anchor="end">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
