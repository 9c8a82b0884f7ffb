"""What a run gives to `tesela compare`: its scores, the counts of the blocks of its test area, its cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.assessment import Assessment
from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score
from tesela.chains.run import Chain
from tesela.core.errors import InputError
from tesela.core.legend import Legend


@dataclass(frozen=True)
class Metric:
    """One score of a run, over all classes and by class."""

    name: str
    """Head of its column: "IoU", "MAE"."""
    overall: float
    by_class: Mapping[str, float]
    """Value by class name, in the order of the legend; nan where a class is absent; empty where there is none."""
    better: Literal["higher", "lower"] = "higher"
    tiles: Mapping[str, Metric] = field(default_factory=dict)
    """The same score on each tile of the test area, by the tile's name; of the headline only."""
    level: int | None = None
    """Level of the legend, where a chain evaluates several; each has a table of its own."""

    digits: int = 4
    """Decimals that are printed."""
    unit: str = ""
    """Printed in heads of columns."""

    @property
    def head(self) -> str:
        """Head of its column."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def key(self) -> str:
        """Name that no other metric of the run has."""
        return self.name if self.level is None else f"{self.name}, level {self.level}"


@dataclass(frozen=True)
class Blocks:
    """Counts of each block of the test area: the headline score is computed from their sum."""

    names: tuple[str, ...]
    """Names of the blocks; runs that are compared are paired by them."""
    counts: NDArray[np.float64]
    """(blocks, ...): sums over a block, such as a confusion matrix or sums of squared errors."""
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Headline score, that of the first metric, of counts summed over blocks: (draws, ...) -> (draws,)."""


class Comparable(Chain, Protocol):
    """A chain that `tesela compare` can vary; it calls all three methods when the last stage has run."""

    def metrics(self) -> tuple[Metric, ...]:
        """Scores on the test area, the headline first."""
        ...

    def blocks(self) -> Blocks:
        """Counts by block of the test area, for intervals and for the significance of differences."""
        ...

    def mflops_per_px(self) -> float:
        """Million floating-point operations (a multiplication and an addition are two) to map one pixel."""
        ...


def summary_lines(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Last lines of a run for a person: scores, if any map was evaluated, maps and reports."""
    names = {"accuracy": "accuracy", "miou": "mIoU", "macro_f1": "macro F1"}
    after = summary.get("generalised")
    return (
        *(
            f"{name:<9} {summary[key]:.4f}"
            + (f"   {after[key]:.4f} generalised ({after['rule']})" if after else "")
            for key, name in names.items()
            if key in summary
        ),
        *(f"map       {path}" for path in summary["maps"]),
        *([f"joined    {summary['joined']}"] if "joined" in summary else []),
        *(f"report    {path}" for path in summary["reports"]),
    )


def total_scores(scores: Scores) -> dict[str, float]:
    """The three figures of a summary."""
    return {"accuracy": scores.accuracy, "miou": scores.mean_iou, "macro_f1": scores.macro_f1}


def read_metrics(
    files: Mapping[str, Path], legend: Legend, *, scenes: Mapping[str, Metric] | None = None
) -> tuple[Metric, ...]:
    """
    IoU, F1 and accuracy of all evaluated maps together, and IoU by tile.

    Parameters
    ----------
    files : mapping
        ``assessment.json`` of each map, by the map's name.
    scenes : mapping, optional
        IoU by scene, which stand before the tiles.

    Raises
    ------
    InputError
        If no map was evaluated.
    """
    if not files:
        raise InputError(
            "No map was evaluated, so there are no scores to compare. Map a scene that has test patches, or one with "
            "a reference that was not trained on."
        )
    documents = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
    counts = sum(np.array(item["matrix"]["pixels"], np.int64) for item in documents.values())
    none = np.zeros(len(legend), np.int64)
    scores = score(Confusion(legend, np.asarray(counts), none, none))
    codes = dict(zip(legend.codes, legend.names, strict=True))
    tiles = dict(scenes or {})
    for name, document in documents.items():
        for tile in document["tiles"]:
            values = {codes[code]: _number(value) for code, value in tile["iou"].items()}
            label = f"{tile['row'] + 1}.{tile['col'] + 1}"
            label = label if len(documents) == 1 else f"{name} {label}"
            tiles[label] = Metric("IoU", _number(tile["mean_iou"]), values)
    return (
        Metric("IoU", scores.mean_iou, _by_class(scores, "iou"), tiles=tiles),
        Metric("F1", scores.macro_f1, _by_class(scores, "f1")),
        Metric("accuracy", scores.accuracy, {}),
    )


def count_blocks(assessments: Iterable[Assessment]) -> Blocks:
    """Confusions by tile of assessments whose tiles are the blocks, named by their corner; scored by mean IoU."""
    counts: dict[str, NDArray[np.float64]] = {}
    for assessment in assessments:
        for tile in assessment.tiles:
            if tile.confusion.evaluated_px:
                left, _, _, top = tile.bounds
                name = f"{left:.8g} {top:.8g}"
                counts[name] = counts.get(name, 0.0) + tile.confusion.counts.astype(np.float64)
    return Blocks(tuple(counts), np.stack(list(counts.values())), mean_iou)


def mean_iou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU over the present classes of many confusions, (..., K, K) -> (...)."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - correct
    present = union > 0
    values = np.divide(correct, union, out=np.zeros_like(union), where=present)
    return np.asarray(values.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def count_mflops_per_px(expert_file: Path, *, side_px: int, part: str = "") -> float:
    """
    Floating-point operations of an expert's network on a square of this side, in millions a pixel.

    Parameters
    ----------
    part : str
        Name of a module of the network, such as "head"; default: the whole network.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tesela.models.expert import open_expert

    expert = open_expert(expert_file)
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        expert.network(torch.zeros(1, len(expert.header.bands), side_px, side_px))
    name = f"{type(expert.network).__name__}.{part}" if part else "Global"
    return sum(counter.get_flop_counts().get(name, {}).values()) / side_px**2 / 1e6


def _by_class(scores: Scores, name: str) -> dict[str, float]:
    return {item.name: float(getattr(item, name)) for item in scores.classes}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
