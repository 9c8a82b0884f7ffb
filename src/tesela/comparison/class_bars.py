"""Bars of a score by class, the settings of a comparison side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tesela.comparison.comparison import Comparison
from tesela.pages.plots import GRID, INK, SCREEN, SERIES, SOFT, Sizes, lettered, new_figure, png_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SETTINGS = len(SERIES)
"""With more settings the bars are too thin to read."""


@dataclass(frozen=True)
class BarPanel:
    """Bars of one score."""

    title: str
    """The score with its unit: "RMSE, %"."""
    by_class: Sequence[Mapping[str, float]]
    """Value by class name, of each setting; NaN or left out where there is none."""
    means: Sequence[float]
    """Mean over the classes, of each setting: drawn as dashed lines."""


def draw_class_bars(comparison: Comparison) -> bytes | None:
    """
    The first two scores by class at the headline's level, as PNG; None without classes, or with too many settings.

    Published comparisons of abundances show these (figures 11 and 14 of Rodriguez-Ortega et al. 2024).
    """
    entries = comparison.entries
    metrics = [one for one in comparison.metrics_of(comparison.headline.level) if one.by_class][:2]
    if not metrics or not 2 <= len(entries) <= MOST_SETTINGS:
        return None
    panels = [
        BarPanel(
            f"{metric.key}{f', {metric.unit}' if metric.unit else ''}",
            [{name: entry.mean(metric.key, name) for name in metric.by_class} for entry in entries],
            [entry.mean(metric.key) for entry in entries],
        )
        for metric in metrics
    ]
    return png_of(class_bars_figure(panels, [" · ".join(entry.labels) for entry in entries]))


def class_bars_figure(panels: Sequence[BarPanel], labels: Sequence[str], *, sizes: Sizes = SCREEN) -> Figure:
    """
    Bars of scores by class.

    Parameters
    ----------
    panels : sequence of BarPanel
        One by score; the classes are those of the first that any setting has a value of.
    labels : sequence of str
        Names of the settings.
    """
    names = [
        name
        for name in dict.fromkeys(name for values in panels[0].by_class for name in values)
        if any(math.isfinite(values.get(name, math.nan)) for values in panels[0].by_class)
    ]
    high = 0.9 + sizes.text * 0.17 * len(names) * (len(labels) + 1)
    figure = new_figure(sizes.wide, high)
    where = np.arange(len(names))[::-1].astype(float)
    height = 0.82 / len(labels)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for k, (label, values, mean) in enumerate(zip(labels, panel.by_class, panel.means, strict=True)):
            axes.barh(
                where + 0.41 - (k + 0.5) * height,
                np.nan_to_num([values.get(name, math.nan) for name in names]),
                height=0.92 * height,
                color=SERIES[k],
                label=label,
            )
            if math.isfinite(mean):
                axes.axvline(mean, color=SERIES[k], linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_yticks(where, names if number == 0 else [""] * len(names))
        axes.set_title(lettered(panel.title, number, sizes), loc="left", fontsize=sizes.pt(10), color=INK)
        axes.tick_params(length=0, labelsize=sizes.pt(8), colors=SOFT)
        axes.spines[:].set_color(GRID)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(labels), 3),
        fontsize=sizes.pt(8),
        frameon=False,
    )
    return figure
