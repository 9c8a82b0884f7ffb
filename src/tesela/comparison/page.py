"""The page of a comparison: the tables of the papers, and a chart of scores with their intervals."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tesela.chains.metrics import Metric
from tesela.comparison.class_bars import draw_class_bars
from tesela.comparison.comparison import Comparison, Entry, best_of, p_text
from tesela.io.manifest import write_text, write_whole
from tesela.pages.environment import page_environment
from tesela.pages.plots import ACCENT, SOFT, new_figure, png_of

_MOST_TILES = 24
"""Most tiles on the page; the JSON has all."""
_FAINT = "#cfd6da"


def write_page(comparison: Comparison, *, page: Path, picture: Path) -> None:
    """Write the chart as PNG, and the page, which holds the chart and opens offline."""
    with write_whole(picture) as part:
        _draw(comparison, part)
    bars = draw_class_bars(comparison)
    text = (
        page_environment("tesela.comparison")
        .get_template("comparison.html.j2")
        .render(
            title=comparison.title,
            c=comparison,
            finding=_finding(comparison),
            picture=base64.b64encode(picture.read_bytes()).decode("ascii"),
            bars="" if bars is None else base64.b64encode(bars).decode("ascii"),
            summary=_summary(comparison),
            others=[_level_table(comparison, level) for level in comparison.levels[1:]],
            by_class=[_class_table(comparison, metric) for metric in comparison.metrics if metric.by_class],
            by_tile=_tile_table(comparison),
            best_tiles=_best_tiles(comparison),
            more_tiles=max(0, len(comparison.tiles) - _MOST_TILES),
        )
    )
    write_text(page, text)


def _finding(comparison: Comparison) -> str:
    best, headline = comparison.best, comparison.headline
    name = " · ".join(best.labels)
    low, high = best.interval
    digits = min(3, headline.digits)
    interval = (
        ""
        if math.isnan(low)
        else f" (95 % interval {low:.{digits}f} to {high:.{digits}f}, {best.blocks} blocks)"
    )
    level = [
        entry
        for entry in comparison.entries
        if entry is not best and entry.difference is not None and entry.difference.p > 0.05
    ]
    text = f"Best {headline.key}: {name} with {best.mean(headline.key):.{headline.digits}f}{interval}."
    if level:
        others = "; ".join(" · ".join(entry.labels) for entry in level)
        text += f" On this test area, no significant difference from it (p > 0.05): {others}."
    return text


def _summary(comparison: Comparison) -> list[dict[str, Any]]:
    digits = min(3, comparison.headline.digits)
    rows = []
    for entry, cells in zip(
        comparison.entries, _score_cells(comparison, comparison.headline.level), strict=True
    ):
        gap = entry.difference
        rows.append(
            {
                "labels": entry.labels,
                "best": entry is comparison.best,
                "cells": cells,
                "interval": "–"
                if math.isnan(entry.interval[0])
                else f"{entry.interval[0]:.{digits}f} to {entry.interval[1]:.{digits}f}",
                "gap": "" if gap is None else f"{gap.value:+.{comparison.headline.digits}f}",
                "gap_interval": "" if gap is None else f"{gap.low:+.{digits}f} to {gap.high:+.{digits}f}",
                "p": "" if gap is None else p_text(gap.p),
                "minutes": f"{entry.minutes:.1f}",
                "mflops": f"{entry.mflops_per_px:,.3g}",
            }
        )
    return rows


def _level_table(comparison: Comparison, level: int | None) -> dict[str, Any]:
    """Scores at another level than the headline's."""
    return {
        "level": level,
        "head": [metric.head for metric in comparison.metrics_of(level)],
        "rows": [
            {"labels": entry.labels, "cells": cells}
            for entry, cells in zip(comparison.entries, _score_cells(comparison, level), strict=True)
        ],
    }


def _score_cells(comparison: Comparison, level: int | None) -> list[list[dict[str, Any]]]:
    """Scores of a level as cells, one row per setting; the best of each column is marked."""
    metrics = comparison.metrics_of(level)
    columns = [[entry.mean(metric.key) for entry in comparison.entries] for metric in metrics]
    winners = [best_of(values, metric) for values, metric in zip(columns, metrics, strict=True)]
    return [
        [
            {
                "text": _score(values[row], metric),
                "spread": _spread(entry, metric),
                "best": winner == row,
            }
            for values, winner, metric in zip(columns, winners, metrics, strict=True)
        ]
        for row, entry in enumerate(comparison.entries)
    ]


def _class_table(comparison: Comparison, metric: Metric) -> dict[str, Any]:
    names = [
        name
        for name in metric.by_class
        if any(math.isfinite(entry.mean(metric.key, name)) for entry in comparison.entries)
    ]
    columns = [[entry.mean(metric.key, name) for entry in comparison.entries] for name in names]
    columns.append([entry.mean(metric.key) for entry in comparison.entries])
    return {
        "metric": metric.key,
        "unit": metric.unit,
        "head": [*names, "mean"],
        "rows": [
            {"labels": entry.labels, "cells": cells}
            for entry, cells in zip(comparison.entries, _cells(columns, metric), strict=True)
        ],
    }


def _tile_table(comparison: Comparison) -> dict[str, Any]:
    headline, tiles = comparison.headline, comparison.tiles[:_MOST_TILES]
    columns = [[entry.mean(headline.key, tile=tile) for entry in comparison.entries] for tile in tiles]
    return {
        "head": list(tiles),
        "rows": [
            {"labels": entry.labels, "cells": cells}
            for entry, cells in zip(comparison.entries, _cells(columns, headline), strict=True)
        ]
        if tiles
        else [],
    }


def _best_tiles(comparison: Comparison) -> dict[str, Any]:
    """Classes by tile of the best setting."""
    headline, best = comparison.headline, comparison.best
    return {
        "head": [*headline.by_class, "mean"],
        "rows": [
            {
                "tile": tile,
                "cells": [
                    _cell(best.mean(headline.key, name, tile=tile), headline)
                    for name in (*headline.by_class, None)
                ],
            }
            for tile in comparison.tiles[:_MOST_TILES]
        ],
    }


def _cells(columns: Sequence[Sequence[float]], metric: Metric) -> list[list[dict[str, Any]]]:
    """Cells by row: text, shade, and whether it is the best of its column."""
    rows = len(columns[0]) if columns else 0
    winners = [best_of(values, metric) for values in columns]
    return [
        [
            _cell(values[row], metric, best=winner == row)
            for values, winner in zip(columns, winners, strict=True)
        ]
        for row in range(rows)
    ]


def _cell(value: float, metric: Metric, *, best: bool = False) -> dict[str, Any]:
    bounded = metric.better == "higher" and math.isfinite(value)
    shade = min(1.0, max(0.0, value)) * 0.55 if bounded else 0.0
    return {"text": _score(value, metric), "shade": f"{shade:.2f}", "best": best}


def _score(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}" if math.isfinite(value) else "–"


def _spread(entry: Entry, metric: Metric) -> str:
    spread = entry.spread(metric.key)
    return "" if math.isnan(spread) else f"± {_score(spread, metric)}"


def _draw(comparison: Comparison, path: Path) -> None:
    """Headline score of each setting: the mean, its 95 % interval, and a dot for each seed."""
    headline, entries = comparison.headline, comparison.entries
    figure = new_figure(8.5, 1.1 + 0.34 * len(entries), dpi=150)
    axes = figure.add_subplot()
    for row, entry in enumerate(entries):
        color = ACCENT if entry is comparison.best else SOFT
        low, high = entry.interval
        if math.isfinite(low):
            axes.plot([low, high], [row, row], color=color, linewidth=5, alpha=0.28, solid_capstyle="round")
        seeds = [run.metrics[0].overall for run in entry.runs]
        if len(seeds) > 1:
            axes.plot(seeds, [row] * len(seeds), "o", color=color, markersize=3, markerfacecolor="white")
        axes.plot([entry.mean(headline.key)], [row], "o", color=color, markersize=7)
        axes.annotate(
            f"{entry.mean(headline.key):.{min(3, headline.digits)}f}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=color,
            fontsize=9,
            fontweight="bold" if entry is comparison.best else "normal",
        )
    axes.set_yticks(range(len(entries)), [" · ".join(entry.labels) for entry in entries], fontsize=9)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    unit = f" ({headline.unit})" if headline.unit else ""
    axes.set_xlabel(
        f"{headline.key}{unit}: mean of the seeds, each seed, 95 % interval over blocks", fontsize=9
    )
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    path.write_bytes(png_of(figure))
