"""Bars of a score by class, the settings of a comparison side by side."""

from __future__ import annotations

import io
import math

import numpy as np

from tesela.comparison.comparison import Comparison

_MOST_ENTRIES = 6
"""With more settings the bars are too thin to read."""
_COLORS = ("#0b5c8a", "#d98e04", "#5b8c5a", "#a44a3f", "#7a6fa1", "#8a8f94")
_INK, _SOFT, _GRID = "#1d2329", "#5b6770", "#e3e0d9"


def draw_class_bars(comparison: Comparison) -> bytes | None:
    """
    The first two scores by class at the headline's level, as PNG; None without classes, or with too many settings.

    Published comparisons of abundances show these (figures 11 and 14 of Rodriguez-Ortega et al. 2024).
    """
    from matplotlib.figure import Figure

    entries = comparison.entries
    metrics = [one for one in comparison.metrics_of(comparison.headline.level) if one.by_class][:2]
    if not metrics or not 2 <= len(entries) <= _MOST_ENTRIES:
        return None
    names = [
        name
        for name in metrics[0].by_class
        if any(math.isfinite(entry.mean(metrics[0].key, name)) for entry in entries)
    ]
    figure = Figure(figsize=(11, 0.9 + 0.17 * len(names) * (len(entries) + 1)), layout="constrained", dpi=110)
    where = np.arange(len(names))[::-1].astype(float)
    height = 0.82 / len(entries)
    for number, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), number + 1)
        for k, entry in enumerate(entries):
            values = [entry.mean(metric.key, name) for name in names]
            axes.barh(
                where + 0.41 - (k + 0.5) * height,
                np.nan_to_num(values),
                height=0.92 * height,
                color=_COLORS[k],
                label=" · ".join(entry.labels),
            )
            if math.isfinite(mean := entry.mean(metric.key)):
                axes.axvline(mean, color=_COLORS[k], linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_yticks(where, names if number == 0 else [""] * len(names))
        axes.set_title(
            f"{metric.key}{f', {metric.unit}' if metric.unit else ''}", loc="left", fontsize=10, color=_INK
        )
        axes.tick_params(length=0, labelsize=8, colors=_SOFT)
        axes.spines[:].set_color(_GRID)
        axes.grid(axis="x", color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(entries),
        fontsize=8,
        frameon=False,
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
