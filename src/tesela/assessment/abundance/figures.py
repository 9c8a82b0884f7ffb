"""Figures of an abundance report, as PNG: densities, scores by class, abundances, errors, calibration."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.abundance.assessment import AbundanceAssessment
from tesela.assessment.abundance.calibration import ShareCalibration
from tesela.pages.map_figure import add_scale_and_north, north_note
from tesela.pages.plots import (
    ACCENT,
    GRID,
    INK,
    NO_DATA,
    SCREEN,
    SOFT,
    Sizes,
    halo,
    lettered,
    new_figure,
    plain_axes,
    png_of,
    put_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def draw_density(assessment: AbundanceAssessment) -> bytes:
    """`density_figure` for a page, as PNG."""
    return png_of(density_figure(assessment))


def density_figure(assessment: AbundanceAssessment, *, sizes: Sizes = SCREEN) -> Figure:
    """Shares of the map over shares of the reference, one panel by class; darker is more pixels, on a log scale."""
    from matplotlib.colors import LogNorm

    legend = assessment.legend
    cols = min(len(legend), 5 if len(legend) > 4 else 4)
    rows = math.ceil(len(legend) / cols)
    wide = sizes.wide / cols
    high = 0.25 + rows * (0.66 * wide + 0.55) if sizes.article else 0.4 + rows * (0.84 * wide + 0.5)
    figure = new_figure(sizes.wide, high)
    most = max(int(assessment.density.max()), 2)
    for k, item in enumerate(legend.classes):
        axes = figure.add_subplot(rows, cols, k + 1)
        counts = np.ma.masked_equal(assessment.density[k].T, 0)
        image = axes.imshow(
            counts,
            origin="lower",
            extent=(0, 100, 0, 100),
            cmap=_dark_from_one(),
            norm=LogNorm(1, most),
            aspect="equal",
            interpolation="nearest",
        )
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        cc, rmse = assessment.sums.by_class("cc")[k], assessment.sums.by_class("rmse")[k]
        axes.text(
            3,
            97,
            f"CC {_text(cc, 3)}\nRMSE {_text(rmse, 1)} %",
            va="top",
            fontsize=sizes.pt(8),
            color=INK,
            linespacing=1.3,
            path_effects=halo(),
        )
        put_title(axes, item.name, sizes=sizes, number=k)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        plain_axes(axes, sizes=sizes)
        axes.set_xticks([0, 50, 100])
        axes.set_yticks([0, 50, 100])
        if k % cols == 0:
            axes.set_ylabel("map, %", fontsize=sizes.pt(8), color=SOFT)
        if k + cols >= len(legend):
            axes.set_xlabel("reference, %", fontsize=sizes.pt(8), color=SOFT)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.6, aspect=30, pad=0.015, format="%d")
    bar.minorticks_off()
    _plain_bar(bar, "pixels in a square of 2 × 2 %", sizes)
    return figure


def draw_classes(assessment: AbundanceAssessment) -> bytes:
    """The five scores by class, as bars in the colours of the legend; a line marks the mean."""
    legend = assessment.legend
    count = len(legend)
    figure = new_figure(SCREEN.wide, 0.9 + 0.34 * count)
    where = np.arange(count)[::-1]
    for k, (name, label) in enumerate(
        (
            ("mae", "MAE, %"),
            ("rmse", "RMSE, %"),
            ("rrmse", "RRMSE, %"),
            ("cc", "CC"),
            ("f1", "F1 of the majority"),
        )
    ):
        axes = figure.add_subplot(1, 5, k + 1)
        values = assessment.sums.by_class(name)  # type: ignore[arg-type]
        axes.barh(
            where,
            np.nan_to_num(values),
            height=0.66,
            color=[item.color for item in legend.classes],
            edgecolor="#00000033",
            linewidth=0.6,
        )
        part = name in ("cc", "f1")
        most = 1.0 if part else float(np.nanmax(values, initial=1.0))
        mean = assessment.sums.mean(name)  # type: ignore[arg-type]
        if math.isfinite(mean):
            axes.axvline(mean, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for y, value in zip(where, values, strict=True):
            at = max(0.0, float(np.nan_to_num(value)))
            axes.text(
                at + 0.02 * most,
                y,
                _text(value, 3 if part else 1),
                va="center",
                fontsize=8,
                color=INK,
                path_effects=halo(),
            )
        axes.set_xlim(min(0.0, float(np.nanmin(values, initial=0.0))), most * 1.3)
        if part:
            axes.set_xticks([0, 0.5, 1])
        axes.set_yticks(where, [_two_lines(name) for name in legend.names])
        plain_axes(axes)
        axes.tick_params(axis="y", labelleft=k == 0, labelsize=8.5, colors=INK)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(label, loc="left", fontsize=9, color=INK)
    return png_of(figure)


def draw_abundances(assessment: AbundanceAssessment) -> bytes:
    """`abundances_figure` for a page, as PNG."""
    return png_of(abundances_figure(assessment))


def abundances_figure(assessment: AbundanceAssessment, *, sizes: Sizes = SCREEN) -> Figure:
    """
    Shares of each class, reference above and map below, from white (none) to dark (all of the pixel).

    In an article the first map has a scale bar and a north arrow.
    """
    legend, overview = assessment.legend, assessment.overview
    cols = min(len(legend), 5)
    pairs = math.ceil(len(legend) / cols)
    ratio = overview.rmse.shape[0] / overview.rmse.shape[1]
    wide = sizes.wide / cols
    room = (0.83, 0.42) if sizes.article else (0.88, 0.6)
    figure = new_figure(sizes.wide, 0.3 + pairs * (2 * room[0] * wide * ratio + room[1]))
    for k, item in enumerate(legend.classes):
        row, col = divmod(k, cols)
        for part, (shares, label) in enumerate(
            ((overview.reference_shares, "reference"), (overview.map_shares, "map"))
        ):
            axes = figure.add_subplot(2 * pairs, cols, (2 * row + part) * cols + col + 1)
            image = _image(axes, 100 * shares[k], "YlGnBu", 0, 100)
            if part == 0:
                put_title(axes, item.name, sizes=sizes, number=k)
            if col == 0:
                axes.set_ylabel(label, fontsize=sizes.pt(8), color=SOFT)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.5, aspect=30, pad=0.015)
    _plain_bar(bar, "share of the pixel, %", sizes)
    if sizes.article:
        _add_furniture(figure, figure.axes[:1], assessment, np.isnan(overview.reference_shares[0]))
    return figure


def draw_errors(assessment: AbundanceAssessment) -> bytes:
    """`errors_figure` for a page, as PNG."""
    return png_of(errors_figure(assessment))


def errors_figure(assessment: AbundanceAssessment, *, sizes: Sizes = SCREEN) -> Figure:
    """
    RMSE and RRMSE over the classes of each evaluated pixel, as maps.

    In an article both maps have a scale bar and a north arrow.
    """
    overview = assessment.overview
    ratio = overview.rmse.shape[0] / overview.rmse.shape[1]
    wide = min((sizes.wide - 1.8 * sizes.text) / 2, 6.5 / ratio)
    figure = new_figure(2 * wide + 1.8 * sizes.text, wide * ratio + 0.6 * sizes.text)
    maps = []
    for k, (values, label) in enumerate(((overview.rmse, "RMSE, %"), (overview.rrmse, "RRMSE, %"))):
        axes = figure.add_subplot(1, 2, k + 1)
        seen = values[np.isfinite(values)]
        most = float(np.percentile(100 * seen, 99)) if seen.size else 1.0
        image = _image(axes, 100 * values, "YlOrRd", 0, max(most, 1.0))
        axes.set_title(lettered(label, k, sizes), loc="left", fontsize=sizes.pt(10), color=INK)
        _plain_bar(figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, extend="max"), "", sizes)
        maps.append(axes)
    if sizes.article:
        _add_furniture(figure, maps, assessment, np.isnan(overview.rmse))
    return figure


def _plain_bar(bar: Colorbar, label: str, sizes: Sizes) -> None:
    if label:
        bar.set_label(label, fontsize=sizes.pt(8), color=SOFT)
    bar.ax.tick_params(labelsize=sizes.pt(8), colors=SOFT, length=0)
    bar.outline.set_visible(False)


def _add_furniture(
    figure: Figure, maps: Sequence[Axes], assessment: AbundanceAssessment, empty: NDArray[np.bool_]
) -> None:
    """Scale bars, north arrows and what they show, once the figure is laid out."""
    cell_px, shape = assessment.overview.cell_px, assessment.overview.rmse.shape
    grid = GeoBox(shape, assessment.grid.affine * Affine.scale(cell_px), assessment.grid.crs)
    figure.supxlabel(north_note(grid), x=0.01, ha="left", fontsize=5.3, color=SOFT)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in maps:
        add_scale_and_north(axes, grid, empty=empty)


def draw_remaining(assessment: AbundanceAssessment) -> bytes:
    """Parts of all pixels and of all errors, by kind of pixel and by the largest class of the reference."""
    remaining = assessment.remaining
    groups = [remaining.by_kind, remaining.by_class]
    figure = new_figure(SCREEN.wide, 1.2 + 0.42 * max(map(len, groups)))
    parts = (
        ("pixels", "pixels", "#c9c4b8"),
        ("absolute", "absolute error", "#7fb0cc"),
        ("squared", "squared error", ACCENT),
    )
    for number, (group, title) in enumerate(
        zip(groups, ("By kind of pixel", "By the largest class of the reference"), strict=True)
    ):
        axes = figure.add_subplot(1, 2, number + 1)
        where = np.arange(len(group))[::-1]
        for k, (key, label, color) in enumerate(parts):
            values = [100 * row[key] for row in group]  # type: ignore[literal-required]
            axes.barh(where + 0.27 * (1 - k), values, height=0.24, color=color, label=label)
            for y, value in zip(where + 0.27 * (1 - k), values, strict=True):
                axes.annotate(
                    f"{value:.0f}",
                    (value, y),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    color=SOFT,
                )
        axes.set_yticks(where, [_two_lines(row["name"]) for row in group])
        plain_axes(axes)
        axes.tick_params(axis="y", labelsize=8.5, colors=INK)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f"{title}, %", loc="left", fontsize=10, color=INK)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return png_of(figure)


def draw_split(splits: NDArray[np.uint8], *, cell_px: int) -> bytes:
    """
    Map of the split, as figure 10 of Rodriguez-Ortega et al. (2024).

    Parameters
    ----------
    splits : (rows, cols) array of uint8
        0 train, 1 val, 2 test, 255 none.
    cell_px : int
        Every so many pixels one is drawn.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    shown = splits[::cell_px, ::cell_px]
    ratio = shown.shape[0] / shown.shape[1]
    wide = min(6.0, 6.5 / ratio)
    figure = new_figure(wide + 1.8, wide * ratio + 0.7)
    axes = figure.add_subplot(1, 1, 1)
    colors = (("#b9cfdc", "train"), ("#e5b25d", "validation"), ("#a44a3f", "test"))
    axes.imshow(
        np.ma.masked_greater(shown, 2),
        cmap=ListedColormap([color for color, _ in colors]),
        vmin=-0.5,
        vmax=2.5,
        interpolation="nearest",
    )
    axes.set_facecolor(NO_DATA)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GRID)
    handles = [
        Patch(color=color, label=f"{name}, {int((splits == code).sum()):,} px")
        for code, (color, name) in enumerate(colors)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return png_of(figure)


def draw_calibration(calibration: ShareCalibration) -> bytes:
    """
    RMSE over claimed standard deviation; on the dashed line the two are equal.

    Bins with fewer than one share in 200 are left out.
    """
    figure = new_figure(5.4, 4.0)
    axes = figure.add_subplot()
    curve = calibration.curve
    some = curve[:, 2] > curve[:, 2].sum() / 200
    most = 100 * float(np.nanmax(curve[some, :2])) * 1.1 if some.any() else 1.0
    axes.plot([0, most], [0, most], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    size = 20 + 180 * curve[some, 2] / max(curve[:, 2].max(), 1)
    axes.plot(100 * curve[some, 0], 100 * curve[some, 1], color=ACCENT, linewidth=1.2)
    axes.scatter(100 * curve[some, 0], 100 * curve[some, 1], s=size, color=ACCENT, alpha=0.85, linewidths=0)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("claimed standard deviation, %", fontsize=9, color=SOFT)
    axes.set_ylabel("RMSE, %", fontsize=9, color=SOFT)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    plain_axes(axes)
    return png_of(figure)


def _image(axes: Axes, values: NDArray[np.float32], cmap: str, low: float, high: float) -> AxesImage:
    import matplotlib as mpl

    colors = mpl.colormaps[cmap].with_extremes(
        bad=NO_DATA
    )  # and not transparent: viewers of PDF draw an edge there
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=colors, vmin=low, vmax=high, interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return image


def _two_lines(name: str) -> str:
    """A class name in at most two lines of 24 letters."""
    return textwrap.fill(name, 24, max_lines=2, placeholder=" …")


def _dark_from_one() -> Colormap:
    """Colours of counts; a single pixel is visible on white."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    colors = mpl.colormaps["YlGnBu"](np.linspace(0.3, 1, 256))
    return LinearSegmentedColormap.from_list("counts", [tuple(color) for color in colors])


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
