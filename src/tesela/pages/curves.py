"""Training curves: Lightning's CSV log drawn as SVG, without a plotting library in the page."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesela.core.errors import InputError

_NAMES = {
    "train_loss": "training",
    "val_loss": "validation",
    "miou": "mIoU",
    "macro_f1": "macro F1",
}
"""Names on the page for the columns of our own logs."""
_RATES = ("lr", "learning_rate")
_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 34


@dataclass(frozen=True)
class Panel:
    """One small graph."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    """Points (epoch, value) by name of the quantity."""


def read_curves(path: Path) -> tuple[Panel, ...]:
    """
    Panels of a `metrics.csv` of Lightning's CSVLogger: losses, and scores between 0 and 1.

    Rows of one epoch are averaged; gaps, epochs without a value and quantities without any are left out.

    Raises
    ------
    InputError
        If the file is missing or has no column `epoch`.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: the training log cannot be read ({error.strerror}).") from None
    if not rows or "epoch" not in rows[0]:
        raise InputError(f"{path}: is no log of lightning's CSVLogger: it has no rows with a column 'epoch'.")
    by_name: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        epoch = _finite(row.get("epoch"))
        for name, text in row.items():
            value = _finite(text)
            if name and name not in ("epoch", "step") and epoch is not None and value is not None:
                by_name.setdefault(name, {}).setdefault(epoch, []).append(value)
    lines = {
        name: [(epoch, sum(values) / len(values)) for epoch, values in sorted(by_epoch.items())]
        for name, by_epoch in by_name.items()
    }
    losses = {name: line for name, line in lines.items() if "loss" in name.lower()}
    scores = {
        name: line
        for name, line in lines.items()
        if name not in losses
        and not any(word in name.lower() for word in _RATES)
        and all(0 <= value <= 1 for _, value in line)
    }
    panels = (("Loss by epoch", losses), ("Scores on validation patches by epoch", scores))
    return tuple(
        Panel(title, {_NAMES.get(name, name): line for name, line in quantities.items()})
        for title, quantities in panels
        if quantities
    )


def draw_panel(panel: Panel) -> str:
    """
    The panel as an SVG element that takes its colours from the page.

    The SVG has no names, so nothing in it needs escaping: line k has the class ``line-k``.
    """
    points = [point for line in panel.lines.values() for point in line]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    ticks = _ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
    low, high = ticks[0], ticks[-1]

    def position(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - low) / (high - low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{panel.title}">']
    for tick in ticks:
        _, y = position(first, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for epoch in _epochs(first, last):
        x, _ = position(epoch, low)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{epoch:g}</text>')
    for k, line in enumerate(panel.lines.values()):
        path = " ".join("{:.1f},{:.1f}".format(*position(x, y)) for x, y in line)
        if len(line) > 1:
            parts.append(f'<polyline class="line-{k % 6}" points="{path}"/>')
        x, y = position(*line[-1])
        parts.append(f'<circle class="line-{k % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers, from `low` or less to `high` or more."""
    span = max(high - low, 1e-9)
    size = 10 ** math.floor(math.log10(span))
    step = next(size * part for part in (0.2, 0.25, 0.5, 1, 2) if span / (size * part) <= 6)
    start, end = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(start, max(end, start + 1) + 1)]


def _epochs(first: float, last: float) -> list[float]:
    """The first epoch and up to six round ones after it."""
    size = 10 ** math.floor(math.log10(max(last - first, 1)))
    step = max(next(size * part for part in (0.2, 0.5, 1, 2) if (last - first) / (size * part) <= 6), 1)
    rounds = [k * step for k in range(math.floor(first / step) + 1, math.floor(last / step) + 1)]
    return [first, *(epoch for epoch in rounds if epoch - first >= step / 2)]


def _finite(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
