"""The document of an abundance assessment: its figures as JSON, the one source of the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.abundance.calibration import CalibrationFigures
from tesela.assessment.abundance.remaining import RemainingFigures
from tesela.assessment.abundance.scores import SCORES, AbundanceSums


class ScoreFigures(TypedDict):
    """The five scores, in the order of `SCORES`; None where one is undefined."""

    mae: float | None
    rmse: float | None
    rrmse: float | None
    cc: float | None
    f1: float | None


class ClassFigures(ScoreFigures):
    """Scores of one class, with its mean share on both sides."""

    code: str
    name: str
    color: str
    reference_share: float
    map_share: float


class LevelFigures(TypedDict):
    """Scores at one level of the legend."""

    mean: ScoreFigures
    classes: list[ClassFigures]


class BlockFigures(ScoreFigures):
    """Mean scores of one block."""

    evaluated_px: int


class AbundanceDocument(LevelFigures):
    """All figures of one assessment."""

    map: str
    reference: str
    legend: str
    evaluated_px: int
    blocks: int
    interval_95: dict[str, list[float | None]]
    """Ends of the interval of each mean score."""
    levels: dict[str, LevelFigures]
    """Coarser levels, by depth."""
    by_block: dict[str, BlockFigures]
    remaining: dict[str, list[RemainingFigures]]
    """Parts of pixels and errors by kind of pixel, and by the largest class of the reference."""
    calibration: CalibrationFigures | None


class AbundanceReportDocument(AbundanceDocument):
    """What ``assessment.json`` holds."""

    title: str
    facts: dict[str, str]
    notes: list[str]


def make_document(
    sums: AbundanceSums,
    *,
    paths: tuple[str, str],
    intervals: tuple[NDArray[np.float64], NDArray[np.float64]],
    levels: Mapping[int, AbundanceSums],
    blocks: Mapping[str, AbundanceSums],
    remaining: dict[str, list[RemainingFigures]],
    calibration: CalibrationFigures | None,
) -> AbundanceDocument:
    """
    Collect all figures.

    Parameters
    ----------
    paths : (str, str)
        Of the map and of the reference.
    intervals : (array, array)
        Low and high ends for the mean scores, in the order of `SCORES`.
    levels, blocks : mapping of AbundanceSums
        By depth of the coarser levels; by name of the block.
    """
    return {
        "map": paths[0],
        "reference": paths[1],
        "legend": sums.legend.address,
        "evaluated_px": sums.evaluated_px,
        "blocks": len(blocks),
        "mean": _means(sums),
        "interval_95": {
            name: [_number(low), _number(high)] for name, low, high in zip(SCORES, *intervals, strict=True)
        },
        "classes": _classes(sums),
        "levels": {
            str(depth): {"mean": _means(coarse), "classes": _classes(coarse)}
            for depth, coarse in levels.items()
        },
        "by_block": {
            name: {"evaluated_px": block.evaluated_px, **_means(block)} for name, block in blocks.items()
        },
        "remaining": remaining,
        "calibration": calibration,
    }


def _means(sums: AbundanceSums) -> ScoreFigures:
    return _scores([sums.mean(name) for name in SCORES])


def _classes(sums: AbundanceSums) -> list[ClassFigures]:
    n = max(sums.evaluated_px, 1)
    return [
        {
            "code": item.code,
            "name": item.name,
            "color": item.color,
            "reference_share": float(sums.moments[k, 3] / n),
            "map_share": float(sums.moments[k, 4] / n),
            **_scores(sums.table[:, k].tolist()),
        }
        for k, item in enumerate(sums.legend.classes)
    ]


def _scores(values: Sequence[float]) -> ScoreFigures:
    mae, rmse, rrmse, cc, f1 = (_number(value) for value in values)
    return {"mae": mae, "rmse": rmse, "rrmse": rrmse, "cc": cc, "f1": f1}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
