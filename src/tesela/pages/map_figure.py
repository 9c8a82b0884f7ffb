"""Map figures: lettered panels of one area with scale bar, north arrow and a legend, in the widths of journals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.grid import crs_of, pixel_size_m
from tesela.core.legend import LandClass
from tesela.pages.plots import INK, MM, NO_DATA, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE_MM, DOUBLE_MM = 90.0, 180.0
"""Widths of one and of both columns of a journal."""

_MOST_HIGH_MM = 200.0
"""Height that the panels may take of a page."""
_LEGEND_MM = 44.0
"""Width of the legend beside several panels."""
_GAP_MM, _TITLE_MM, _NOTE_MM, _EDGE_MM = 2.0, 5.0, 4.6, 1.0
_PT = 6.5
"""Size of the letters."""
_LINE_MM = 2.7
"""Height of a line of the legend."""
_PART_MM, _ENTRY_MM = 2.0, 0.6
"""Room between the parts of a legend, and between entries."""
_WRAP = 28
"""Letters in a line of the legend."""
_BAR_SHARE = 0.3
"""Part of a panel that the scale bar takes at most."""
_FULL_SIZE_MM = 55.0
"""Panels of at least this width have a scale bar and an arrow of full size; smaller panels smaller ones."""


@dataclass(frozen=True)
class MapPanel:
    """One map of a figure."""

    title: str
    picture: Image.Image
    """RGBA, a pixel for each cell of the figure's grid."""
    outlined: NDArray[np.bool_] | None = None
    """(rows, cols): cells whose outline is drawn, such as the test area."""


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    label: str
    color: str
    outline: bool = False
    """Whether it is the colour of a line and not of an area."""


@dataclass(frozen=True)
class LegendPart:
    """Entries under a heading; without a heading if it is empty."""

    heading: str
    entries: Sequence[Entry]


def class_entries(classes: Sequence[LandClass]) -> list[Entry]:
    """Entries of classes, with their codes where all of these have digits, as those of CORINE."""
    coded = all(any(letter.isdigit() for letter in item.code) for item in classes)
    return [Entry(f"{item.code} {item.name}" if coded else item.name, item.color) for item in classes]


def map_figure(panels: Sequence[MapPanel], grid: GeoBox, *, legend: Sequence[LegendPart]) -> Figure:
    """
    Draw maps of one area.

    A single map is as wide as one column of a journal, with the legend below; several are lettered, in two columns,
    as wide as the page, with the legend on the right. Every map has a scale bar and a north arrow, see
    `add_scale_and_north`.

    Parameters
    ----------
    grid : GeoBox
        Of the pictures.

    Raises
    ------
    GridError
        If the grid has no CRS.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, cols = (int(side) for side in grid.shape)
    pixel = pixel_size_m(grid)
    ratio = rows * pixel[1] / (cols * pixel[0])
    several = len(panels) > 1
    across = 2 if several else 1
    down = math.ceil(len(panels) / across)
    width = DOUBLE_MM if several else SINGLE_MM
    beside = _LEGEND_MM if several and legend else 0.0
    title = _TITLE_MM if several else 0.0
    wide = (width - beside - (across - 1) * _GAP_MM - 2 * _EDGE_MM) / across
    wide = min(wide, (_MOST_HIGH_MM / down - title) / ratio)
    high = wide * ratio
    columns = [legend] if several else _in_columns(legend)
    listed = max((_height(column) for column in columns), default=0.0)
    maps = down * (high + title) + (down - 1) * _GAP_MM
    body = max(maps, listed + title) if several else maps + (listed + _GAP_MM if listed else 0.0)
    total = body + _NOTE_MM + 2 * _EDGE_MM
    figure = Figure(figsize=(width * MM, total * MM), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    left = _EDGE_MM if several else (width - wide) / 2
    empty = np.all([np.asarray(panel.picture.convert("RGBA"))[..., 3] == 0 for panel in panels], axis=0)
    for k, panel in enumerate(panels):
        row, col = divmod(k, across)
        x = left + col * (wide + _GAP_MM)
        top = total - _EDGE_MM - row * (high + title + _GAP_MM)
        if several:
            figure.text(
                x / width,
                (top - 0.6 * title) / total,
                f"({chr(ord('a') + k)})",
                fontsize=_PT + 1,
                weight="bold",
                color=INK,
                va="center",
            )
            figure.text(
                (x + 5) / width,
                (top - 0.6 * title) / total,
                panel.title,
                fontsize=_PT + 0.5,
                color=INK,
                va="center",
            )
        place = (x / width, (top - title - high) / total, wide / width, high / total)
        _draw_panel(figure, place, panel, grid, empty=empty)
    for k, column in enumerate(columns):
        if several:
            at = (left + across * (wide + _GAP_MM) + 1.0, total - _EDGE_MM - title)
        else:
            at = (_EDGE_MM + k * width / len(columns), total - _EDGE_MM - maps - _GAP_MM)
        _draw_legend(figure, column, at, (width, total))
    figure.text(
        (left if several else _EDGE_MM) / width,
        (_EDGE_MM + 0.8) / total,
        north_note(grid),
        fontsize=_PT - 1.2,
        color=SOFT,
    )
    return figure


def north_note(grid: GeoBox) -> str:
    """What the arrow shows: "Arrow: grid north of ETRS89 / UTM zone 30N (EPSG:25830)."."""
    crs = crs_of(grid)
    name, way = crs.proj.name, crs.proj.coordinate_operation
    if name.lower() in ("", "unknown", "unnamed") and way is not None:
        name = f"the projection {way.method_name}"
    return f"Arrow: grid north of {name}{f' (EPSG:{crs.epsg})' if crs.epsg else ''}."


def round_length_m(most_m: float) -> float:
    """
    Largest length of 1, 2 or 5 times a power of ten that is not above another one.

    Examples
    --------
    >>> [round_length_m(length) for length in (2900, 110, 0.7)]
    [2000.0, 100.0, 0.5]
    """
    power = 10.0 ** math.floor(math.log10(most_m))
    return next(
        float(f"{factor * power:.6g}") for factor in (5, 2, 1) if factor * power <= most_m * (1 + 1e-9)
    )


def length_text(length_m: float) -> str:
    """
    A round length with its unit.

    Examples
    --------
    >>> length_text(2000.0), length_text(50.0), length_text(0.5)
    ('2 km', '50 m', '0.5 m')
    """
    return f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"


def add_scale_and_north(axes: Axes, grid: GeoBox, *, empty: NDArray[np.bool_] | None = None) -> None:
    """
    Draw a scale bar and a north arrow into a corner of a map, the lower left one if all are as full.

    The bar is a round number of metres on the ground at the middle of the grid, at most 30 % of the map; the arrow
    points where the y axis of the CRS does, also on a rotated grid or one whose rows run north.

    Parameters
    ----------
    axes : Axes
        Shows a picture of the grid, a pixel for each cell, on its final place in the figure.
    empty : (rows, cols) array of bool, optional
        Cells without data: the corner with the most of them is taken.
    """
    from matplotlib.patches import Polygon, Rectangle

    rows, cols = (int(side) for side in grid.shape)
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.apply_aspect()
    box = axes.get_window_extent()
    wide_mm, high_mm = (side / figure.dpi / MM for side in (box.width, box.height))
    px, py = cols / wide_mm, rows / high_mm  # cells in a millimetre
    size = min(1.0, max(0.78, wide_mm / _FULL_SIZE_MM))  # letters of 5 pt at least
    pixel_m = pixel_size_m(grid)[0]
    length_m = round_length_m(_BAR_SHARE * cols * pixel_m)
    bar_mm = length_m / pixel_m / px
    text = length_text(length_m)
    inner_mm = max(bar_mm, 1.3 * size * len(text))
    high, pad, arrow = 8.5 * size, 1.2 * size, 5.0 * size
    whole = inner_mm + arrow + 3 * pad

    right, top = _freest_corner(empty, (whole + pad) * px, (high + pad) * py)
    x0 = wide_mm - pad - whole if right else pad
    y0 = high_mm - pad - high if top else pad

    def at(x_mm: float, y_mm: float) -> tuple[float, float]:
        """Place in the picture, from the lower left corner of the box."""
        return (x0 + x_mm) * px - 0.5, rows - (y0 + y_mm) * py - 0.5

    corner = at(0, 0)
    keep: dict[str, Any] = {"in_layout": False, "zorder": 5}
    axes.add_patch(
        Rectangle(corner, whole * px, -high * py, facecolor="white", alpha=0.85, linewidth=0, **keep)
    )
    y = 0.28 * high
    start, end = at(pad, y), at(pad + bar_mm, y)
    axes.plot(
        [start[0], end[0]],
        [start[1], end[1]],
        color=INK,
        linewidth=2.2 * size,
        solid_capstyle="butt",
        gid="scale-bar",
        scalex=False,
        scaley=False,
        **keep,
    )
    middle = at(pad + bar_mm / 2 if bar_mm >= inner_mm else pad + inner_mm / 2, y + 1.1 * size)
    axes.text(
        *middle, text, ha="center", va="bottom", fontsize=_PT * size, color=INK, gid="scale-length", **keep
    )
    north = np.linalg.solve(
        np.array([[grid.affine.a, grid.affine.b], [grid.affine.d, grid.affine.e]]), [0.0, 1.0]
    )
    up = np.array([north[0] / px, -north[1] / py])  # in millimetres of the page, y upwards
    up /= np.hypot(*up)
    side = np.array([up[1], -up[0]])
    centre = np.array([2 * pad + inner_mm + arrow / 2, high / 2]) - 0.9 * size * up
    half = 2.2 * size
    shape = [
        centre + half * up,
        centre - half * up + 1.3 * size * side,
        centre - 0.5 * half * up,
        centre - half * up - 1.3 * size * side,
    ]
    axes.add_patch(
        Polygon([at(*p) for p in shape], closed=True, facecolor=INK, linewidth=0, gid="north-arrow", **keep)
    )
    axes.text(
        *at(*(centre + (half + 1.4 * size) * up)),
        "N",
        ha="center",
        va="center",
        fontsize=_PT * size,
        weight="bold",
        color=INK,
        **keep,
    )


def _freest_corner(empty: NDArray[np.bool_] | None, wide: float, high: float) -> tuple[bool, bool]:
    """Whether the corner with the most empty cells in a box of this size is a right, and an upper one."""
    if empty is None or not empty.any():
        return False, False
    across, down = (max(1, round(side)) for side in (wide, high))
    corners = {
        (right, top): int(
            empty[
                slice(0, down) if top else slice(-down, None),
                slice(-across, None) if right else slice(0, across),
            ].sum()
        )
        for top in (False, True)
        for right in (False, True)
    }
    return max(corners, key=lambda corner: corners[corner])


def _draw_panel(
    figure: Figure,
    place: tuple[float, float, float, float],
    panel: MapPanel,
    grid: GeoBox,
    *,
    empty: NDArray[np.bool_],
) -> None:
    axes = figure.add_axes(place)
    wide_m, high_m = pixel_size_m(grid)
    base = Image.new("RGBA", panel.picture.size, NO_DATA)
    filled = Image.alpha_composite(base, panel.picture.convert("RGBA")).convert("RGB")
    axes.imshow(np.asarray(filled), interpolation="nearest", aspect=high_m / wide_m)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=SOFT, linewidth=0.5)
    if panel.outlined is not None and panel.outlined.any() and not panel.outlined.all():
        axes.contour(panel.outlined.astype(float), levels=[0.5], colors=[INK], linewidths=0.7)
    add_scale_and_north(axes, grid, empty=empty)


def _lines(entry: Entry) -> list[str]:
    return textwrap.wrap(entry.label, _WRAP) or [""]


def _height(parts: Sequence[LegendPart]) -> float:
    """Millimetres that a column of the legend takes."""
    lines = sum(len(_lines(entry)) for part in parts for entry in part.entries)
    headed = sum(1.4 * _LINE_MM for part in parts if part.heading)
    between = _PART_MM * max(0, len(parts) - 1)
    return _LINE_MM * lines + headed + between + _ENTRY_MM * sum(len(part.entries) for part in parts)


def _in_columns(parts: Sequence[LegendPart]) -> list[list[LegendPart]]:
    """A legend in two columns of about the same height, whose parts may be cut."""
    if sum(len(part.entries) for part in parts) < 4:
        return [list(parts)] if parts else []
    half = _height(parts) / 2
    columns: list[list[LegendPart]] = [[], []]
    for part in parts:
        for k, entry in enumerate(part.entries):
            column = columns[0 if _height(columns[0]) < half - 0.1 else 1]
            heading = part.heading if k == 0 else ""
            if column and k and column[-1].heading in (part.heading, ""):
                column[-1] = LegendPart(column[-1].heading, [*column[-1].entries, entry])
            else:
                column.append(LegendPart(heading, [entry]))
    return [column for column in columns if column]


def _draw_legend(
    figure: Figure, parts: Sequence[LegendPart], at: tuple[float, float], size: tuple[float, float]
) -> None:
    """Draw a column from its upper left corner, in millimetres from the lower left one of the figure."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    (x, y), (width, total) = at, size
    for number, part in enumerate(parts):
        y -= _PART_MM if number else 0.0
        if part.heading:
            y -= 1.4 * _LINE_MM
            figure.text(x / width, (y + 0.7) / total, part.heading, fontsize=_PT, weight="bold", color=INK)
        for entry in part.entries:
            lines = _lines(entry)
            y -= _LINE_MM * len(lines) + _ENTRY_MM
            first = y + _LINE_MM * (len(lines) - 1)
            if entry.outline:
                place = ([x / width, (x + 3.6) / width], [(first + 1.2) / total] * 2)
                figure.add_artist(Line2D(*place, color=entry.color, linewidth=0.9))
            else:
                figure.add_artist(
                    Rectangle(
                        (x / width, (first + 0.1) / total),
                        3.6 / width,
                        2.2 / total,
                        facecolor=entry.color,
                        edgecolor="#888888",
                        linewidth=0.4,
                    )
                )
            for k, line in enumerate(lines):
                figure.text(
                    (x + 4.8) / width,
                    (first - k * _LINE_MM + 0.35) / total,
                    line,
                    fontsize=_PT,
                    color=INK,
                    gid="legend",
                )
