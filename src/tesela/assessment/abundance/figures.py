"""Figures of an abundance report, as PNG: densities, scores by class, abundances, errors, calibration."""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.abundance.assessment import AbundanceAssessment
from tesela.assessment.abundance.calibration import ShareCalibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.patheffects import AbstractPathEffect

_INK, _SOFT, _ACCENT, _GRID = "#1d2329", "#5b6770", "#0b5c8a", "#e3e0d9"
_NO_DATA = "#eceae4"
"""Behind pixels without data."""
_WIDE = 11.0


def draw_density(assessment: AbundanceAssessment) -> bytes:
    """Shares of the map over shares of the reference, one panel by class; darker is more pixels, on a log scale."""
    from matplotlib.colors import LogNorm

    legend = assessment.legend
    cols = min(len(legend), 5 if len(legend) > 4 else 4)
    rows = math.ceil(len(legend) / cols)
    figure = new_figure(_WIDE, 0.4 + rows * (0.84 * _WIDE / cols + 0.5))
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
        )
        axes.plot([0, 100], [0, 100], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        cc, rmse = assessment.sums.by_class("cc")[k], assessment.sums.by_class("rmse")[k]
        axes.text(
            3,
            97,
            f"CC {_text(cc, 3)}\nRMSE {_text(rmse, 1)} %",
            va="top",
            fontsize=8,
            color=_INK,
            linespacing=1.3,
            path_effects=_halo(),
        )
        put_title(axes, item.name)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        plain_axes(axes)
        axes.set_xticks([0, 50, 100])
        axes.set_yticks([0, 50, 100])
        if k % cols == 0:
            axes.set_ylabel("map, %", fontsize=8, color=_SOFT)
        if k + cols >= len(legend):
            axes.set_xlabel("reference, %", fontsize=8, color=_SOFT)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.6, aspect=30, pad=0.015, format="%d")
    bar.set_label("pixels in a square of 2 × 2 %", fontsize=8, color=_SOFT)
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8, colors=_SOFT, length=0)
    bar.outline.set_visible(False)
    return png_of(figure)


def draw_classes(assessment: AbundanceAssessment) -> bytes:
    """The five scores by class, as bars in the colours of the legend; a line marks the mean."""
    legend = assessment.legend
    count = len(legend)
    figure = new_figure(_WIDE, 0.9 + 0.34 * count)
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
            axes.axvline(mean, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for y, value in zip(where, values, strict=True):
            at = max(0.0, float(np.nan_to_num(value)))
            axes.text(
                at + 0.02 * most,
                y,
                _text(value, 3 if part else 1),
                va="center",
                fontsize=8,
                color=_INK,
                path_effects=_halo(),
            )
        axes.set_xlim(min(0.0, float(np.nanmin(values, initial=0.0))), most * 1.3)
        if part:
            axes.set_xticks([0, 0.5, 1])
        axes.set_yticks(where, [_two_lines(name) for name in legend.names])
        plain_axes(axes)
        axes.tick_params(axis="y", labelleft=k == 0, labelsize=8.5, colors=_INK)
        axes.grid(axis="x", color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(label, loc="left", fontsize=9, color=_INK)
    return png_of(figure)


def draw_abundances(assessment: AbundanceAssessment) -> bytes:
    """Shares of each class, reference above and map below, from white (none) to dark (all of the pixel)."""
    legend, overview = assessment.legend, assessment.overview
    cols = min(len(legend), 5)
    pairs = math.ceil(len(legend) / cols)
    ratio = overview.rmse.shape[0] / overview.rmse.shape[1]
    wide = _WIDE / cols
    figure = new_figure(_WIDE, 0.3 + pairs * (2 * 0.88 * wide * ratio + 0.6))
    for k, item in enumerate(legend.classes):
        row, col = divmod(k, cols)
        for part, (shares, label) in enumerate(
            ((overview.reference_shares, "reference"), (overview.map_shares, "map"))
        ):
            axes = figure.add_subplot(2 * pairs, cols, (2 * row + part) * cols + col + 1)
            image = _image(axes, 100 * shares[k], "YlGnBu", 0, 100)
            if part == 0:
                put_title(axes, item.name)
            if col == 0:
                axes.set_ylabel(label, fontsize=8, color=_SOFT)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.5, aspect=30, pad=0.015)
    bar.set_label("share of the pixel, %", fontsize=8, color=_SOFT)
    bar.ax.tick_params(labelsize=8, colors=_SOFT, length=0)
    bar.outline.set_visible(False)
    return png_of(figure)


def draw_errors(assessment: AbundanceAssessment) -> bytes:
    """RMSE and RRMSE over the classes of each evaluated pixel, as maps."""
    overview = assessment.overview
    ratio = overview.rmse.shape[0] / overview.rmse.shape[1]
    wide = min(4.6, 6.5 / ratio)
    figure = new_figure(2 * wide + 1.8, wide * ratio + 0.6)
    for k, (values, label) in enumerate(((overview.rmse, "RMSE, %"), (overview.rrmse, "RRMSE, %"))):
        axes = figure.add_subplot(1, 2, k + 1)
        seen = values[np.isfinite(values)]
        most = float(np.percentile(100 * seen, 99)) if seen.size else 1.0
        image = _image(axes, 100 * values, "YlOrRd", 0, max(most, 1.0))
        axes.set_title(label, loc="left", fontsize=10, color=_INK)
        bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, extend="max")
        bar.ax.tick_params(labelsize=8, colors=_SOFT, length=0)
        bar.outline.set_visible(False)
    return png_of(figure)


def draw_remaining(assessment: AbundanceAssessment) -> bytes:
    """Parts of all pixels and of all errors, by kind of pixel and by the largest class of the reference."""
    remaining = assessment.remaining
    groups = [remaining.by_kind, remaining.by_class]
    figure = new_figure(_WIDE, 1.2 + 0.42 * max(map(len, groups)))
    parts = (
        ("pixels", "pixels", "#c9c4b8"),
        ("absolute", "absolute error", "#7fb0cc"),
        ("squared", "squared error", _ACCENT),
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
                axes.text(value + 1, y, f"{value:.0f}", va="center", fontsize=7, color=_SOFT)
        axes.set_yticks(where, [_two_lines(row["name"]) for row in group])
        plain_axes(axes)
        axes.tick_params(axis="y", labelsize=8.5, colors=_INK)
        axes.grid(axis="x", color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f"{title}, %", loc="left", fontsize=10, color=_INK)
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
    axes.set_facecolor(_NO_DATA)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_GRID)
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
    axes.plot([0, most], [0, most], color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    size = 20 + 180 * curve[some, 2] / max(curve[:, 2].max(), 1)
    axes.plot(100 * curve[some, 0], 100 * curve[some, 1], color=_ACCENT, linewidth=1.2)
    axes.scatter(100 * curve[some, 0], 100 * curve[some, 1], s=size, color=_ACCENT, alpha=0.85, linewidths=0)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("claimed standard deviation, %", fontsize=9, color=_SOFT)
    axes.set_ylabel("RMSE, %", fontsize=9, color=_SOFT)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    plain_axes(axes)
    return png_of(figure)


def _image(axes: Axes, values: NDArray[np.float32], cmap: str, low: float, high: float) -> AxesImage:
    axes.set_facecolor(_NO_DATA)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return image


def new_figure(wide: float, high: float) -> Figure:
    """A white figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def put_title(axes: Axes, name: str) -> None:
    """Name of a class above its panel."""
    axes.set_title(_two_lines(name), loc="left", fontsize=9, color=_INK, linespacing=1.1)


def _two_lines(name: str) -> str:
    """A class name in at most two lines of 24 letters."""
    return textwrap.fill(name, 24, max_lines=2, placeholder=" …")


def _halo() -> list[AbstractPathEffect]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def _dark_from_one() -> Colormap:
    """Colours of counts; a single pixel is visible on white."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    colors = mpl.colormaps["YlGnBu"](np.linspace(0.3, 1, 256))
    return LinearSegmentedColormap.from_list("counts", [tuple(color) for color in colors])


def plain_axes(axes: Axes) -> None:
    """Quiet frame and numbers."""
    axes.spines[:].set_color(_GRID)
    axes.tick_params(length=0, labelsize=8, colors=_SOFT)


def png_of(figure: Figure) -> bytes:
    """The figure as PNG; the same content gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
