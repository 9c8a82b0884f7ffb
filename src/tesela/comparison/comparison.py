"""The comparison: scores and cost of the runs of a grid, setting by setting."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tesela.chains.metrics import Metric
from tesela.comparison.parameter_grid import Axis
from tesela.comparison.significance import Difference
from tesela.core.plain_text import cell_text


@dataclass(frozen=True)
class SeedRun:
    """One run of a setting."""

    seed: int
    folder: str
    """Folder of its files, relative to that of the comparison."""
    metrics: tuple[Metric, ...]
    minutes: float
    """Time of all its stages together; stages shared with other runs count in each."""
    mflops_per_px: float


@dataclass(frozen=True)
class Entry:
    """One setting of the grid: a row of the tables."""

    labels: tuple[str, ...]
    runs: tuple[SeedRun, ...]
    interval: tuple[float, float]
    """95 % interval of the headline score by block bootstrap."""
    blocks: int
    """Blocks of the test area."""
    difference: Difference | None = None
    """Headline score minus that of the best setting; None for the best, and where they share no blocks."""

    def mean(self, metric: str, name: str | None = None, *, tile: str | None = None) -> float:
        """Mean over the seeds of a metric, of a class if one is named; NaN where no seed has it."""
        return _mean([_value(run, metric, name, tile) for run in self.runs])

    def spread(self, metric: str) -> float:
        """Standard deviation of a metric over the seeds; NaN for one seed."""
        values = [_value(run, metric, None, None) for run in self.runs]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    @property
    def minutes(self) -> float:
        """Mean time of a run."""
        return _mean([run.minutes for run in self.runs])

    @property
    def mflops_per_px(self) -> float:
        """Million floating-point operations to map a pixel."""
        return self.runs[0].mflops_per_px


@dataclass(frozen=True)
class Comparison:
    """All settings of a grid."""

    title: str
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    """In the order of the grid."""

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the first run: their names, classes and directions; the headline first."""
        return self.entries[0].runs[0].metrics

    @property
    def headline(self) -> Metric:
        """The score by which the best is selected."""
        return self.metrics[0]

    @cached_property
    def best(self) -> Entry:
        """Setting with the best headline score."""
        return self.entries[best_of([entry.mean(self.headline.key) for entry in self.entries], self.headline)]

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """Levels of the legend that have tables, that of the headline first; None alone where there is one table."""
        return tuple(dict.fromkeys(metric.level for metric in self.metrics))

    def metrics_of(self, level: int | None) -> tuple[Metric, ...]:
        """Metrics of the table of a level."""
        return tuple(metric for metric in self.metrics if metric.level == level)

    @cached_property
    def tiles(self) -> tuple[str, ...]:
        """Tiles on which every run was evaluated."""
        runs = [run for entry in self.entries for run in entry.runs]
        shared = set.intersection(*(set(run.metrics[0].tiles) for run in runs))
        return tuple(name for name in runs[0].metrics[0].tiles if name in shared)

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON; missing numbers are None."""
        return {
            "title": self.title,
            "axes": {axis.key: [choice.label for choice in axis.choices] for axis in self.axes},
            "seeds": list(self.seeds),
            "headline": self.headline.key,
            "better": {metric.key: metric.better for metric in self.metrics},
            "best": dict(zip((axis.key for axis in self.axes), self.best.labels, strict=True)),
            "settings": [self._entry(entry) for entry in self.entries],
        }

    def to_csv(self) -> str:
        """Table of all settings: the varied keys, each metric over all classes and by class, and the cost."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [(metric.key, name) for metric in self.metrics for name in metric.by_class]
        totals = [metric.key for metric in self.metrics]
        low_high = (f"{self.headline.key} low", f"{self.headline.key} high")
        head = [part for name in totals for part in (name, f"{name} sd")]
        classes = [f"{metric}: {name}" for metric, name in names]
        names_of = [axis.key for axis in self.axes] + head + [*low_high, "minutes", "MFLOPs/px", *classes]
        writer.writerow([cell_text(name) for name in names_of])
        for entry in self.entries:
            cells = [part for name in totals for part in (entry.mean(name), entry.spread(name))]
            cells += [*entry.interval, entry.minutes, entry.mflops_per_px]
            cells += [entry.mean(metric, name) for metric, name in names]
            writer.writerow([*map(cell_text, entry.labels), *(_text(cell) for cell in cells)])
        return text.getvalue()

    def to_table(self, level: int | None) -> tuple[list[str], list[list[str]]]:
        """
        Head and rows of a level for a terminal.

        In the table of the headline, the best setting has a star, the others their difference from it, and all the
        cost.
        """
        metrics = self.metrics_of(level)
        head = [axis.name for axis in self.axes] + [metric.head for metric in metrics]
        if level != self.headline.level:
            return head, [
                [*entry.labels, *(_with_spread(entry, one) for one in metrics)] for entry in self.entries
            ]
        return [*head, "minutes", "MFLOPs/px", "to the best", "p"], list(self._rows(metrics))

    def _rows(self, metrics: Sequence[Metric]) -> Iterator[list[str]]:
        for entry in self.entries:
            scores = [_with_spread(entry, metric) for metric in metrics]
            if entry is self.best:
                scores[0] += " *"
            gap = entry.difference
            ends = ["", ""] if gap is None else [f"{gap.value:+.{self.headline.digits}f}", p_text(gap.p)]
            yield [*entry.labels, *scores, f"{entry.minutes:.1f}", f"{entry.mflops_per_px:.4g}", *ends]

    def _entry(self, entry: Entry) -> dict[str, object]:
        gap = entry.difference
        return {
            "setting": dict(zip((axis.key for axis in self.axes), entry.labels, strict=True)),
            "best": entry is self.best,
            "metrics": {
                metric.key: {
                    "mean": _number(entry.mean(metric.key)),
                    "sd": _number(entry.spread(metric.key)),
                    "classes": {name: _number(entry.mean(metric.key, name)) for name in metric.by_class},
                }
                for metric in self.metrics
            },
            "tiles": {
                tile: {
                    "mean": _number(entry.mean(self.headline.key, tile=tile)),
                    "classes": {
                        name: _number(entry.mean(self.headline.key, name, tile=tile))
                        for name in self.headline.by_class
                    },
                }
                for tile in self.tiles
            },
            "interval_95": [_number(end) for end in entry.interval],
            "blocks": entry.blocks,
            "minutes": _number(entry.minutes),
            "mflops_per_px": _number(entry.mflops_per_px),
            "to_the_best": None
            if gap is None
            else {"value": gap.value, "low": gap.low, "high": gap.high, "p": gap.p, "blocks": gap.blocks},
            "runs": [
                {
                    "seed": run.seed,
                    "folder": run.folder,
                    "minutes": _number(run.minutes),
                    "metrics": {metric.key: _number(metric.overall) for metric in run.metrics},
                }
                for run in entry.runs
            ],
        }


def p_text(p: float) -> str:
    """A p value for people, with three digits, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def best_of(values: Sequence[float], metric: Metric) -> int:
    """Position of the best value; a missing value is never the best."""
    numbers = np.asarray(values, np.float64)
    worst = -math.inf if metric.better == "higher" else math.inf
    filled = np.where(np.isfinite(numbers), numbers, worst)
    return int(filled.argmax() if metric.better == "higher" else filled.argmin())


def _value(run: SeedRun, metric: str, name: str | None, tile: str | None) -> float:
    score = next(item for item in run.metrics if item.key == metric)
    if tile is not None:
        score = score.tiles[tile]
    values: Mapping[str, float] = score.by_class
    return score.overall if name is None else values.get(name, math.nan)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _with_spread(entry: Entry, metric: Metric) -> str:
    spread = entry.spread(metric.key)
    text = f"{entry.mean(metric.key):.{metric.digits}f}"
    return text if math.isnan(spread) else f"{text} ± {spread:.{metric.digits}f}"


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _text(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
