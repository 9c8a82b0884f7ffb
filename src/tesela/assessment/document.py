"""The document of an assessment: its figures as JSON, the one source of the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.borders import BorderAgreement
from tesela.assessment.calibration import Calibration
from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score


class Totals(TypedDict):
    """Scores over all classes; None where one does not exist."""

    accuracy: float | None
    mean_iou: float | None
    macro_f1: float | None
    macro_precision: float | None
    macro_recall: float | None
    kappa: float | None
    majority: float | None
    coverage: float | None


class ClassFigures(TypedDict):
    """Scores of one class; None where it is in neither side."""

    code: str
    name: str
    iou: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    reference_px: int
    map_px: int
    correct_px: int


class ClassRow(ClassFigures):
    """One class of the assessment's legend; areas are not rounded, so that the page rounds them only once."""

    value: int
    color: str
    reference_ha: float
    map_ha: float


class MatrixFigures(TypedDict):
    """The confusion matrix; row is the reference, column the map."""

    rows: str
    columns: str
    codes: list[str]
    pixels: list[list[int]]
    hectares: list[list[float]]
    reference_without_map: list[int]
    map_without_reference: list[int]


class PartFigures(Totals):
    """Scores of a part of the map; of its classes, the IoU by code."""

    evaluated_px: int
    iou: dict[str, float | None]


class TileFigures(PartFigures):
    """One tile; row and column count from 0."""

    row: int
    col: int
    bounds: list[float]


class RegionFigures(PartFigures):
    """One region."""

    name: str
    evaluated_ha: float


class LevelFigures(Totals):
    """The same pixels by the classes of one level of the legend."""

    level: int
    legend: str
    accuracy_where_right_above: float | None
    classes: list[ClassFigures]


class BandFigures(TypedDict):
    """Pixels at one distance from the class borders of the reference; the last band has no end."""

    from_px: float
    to_px: float | None
    from_m: float | None
    to_m: float | None
    evaluated_px: int
    share: float
    accuracy: float | None
    mean_iou: float | None
    macro_f1: float | None


class BorderFigures(TypedDict):
    """Agreement by distance from class borders."""

    of: str
    pixel_m: float | None
    bands: list[BandFigures]


class BinFigures(TypedDict):
    """Pixels whose confidence is above one end of a bin, and not above the other."""

    above: float
    to: float
    evaluated_px: int
    confidence: float | None
    accuracy: float | None


class ClassConfidence(TypedDict):
    """Calibration of one class of the map."""

    code: str
    map_px: int
    confidence: float | None
    accuracy: float | None
    expected_calibration_error: float | None


class CalibrationFigures(TypedDict):
    """How often the map is right, by its confidence."""

    evaluated_px: int
    without_confidence_px: int
    accuracy: float | None
    accuracy_of_most_confident_half: float | None
    mean_confidence: float | None
    mean_where_right: float | None
    mean_where_wrong: float | None
    expected_calibration_error: float | None
    bins: list[BinFigures]
    classes: list[ClassConfidence]


class GridFigures(TypedDict):
    """The map's grid."""

    rows: int
    cols: int
    crs: str
    transform: list[float]


class PixelFigures(TypedDict):
    """Pixels with a class on both sides, or on one only."""

    evaluated: int
    reference_without_map: int
    map_without_reference: int


class AssessmentDocument(TypedDict):
    """All figures of one assessment."""

    map: str
    reference: str
    grid: GridFigures
    confined_to_areas: int | None
    """Number of areas given; None for the whole map."""
    legend: Mapping[str, object]
    pixels: PixelFigures
    evaluated_ha: float
    scores: Totals
    absent: list[str]
    never_mapped: list[str]
    not_in_reference: list[str]
    classes: list[ClassRow]
    matrix: MatrixFigures
    levels: list[LevelFigures]
    """Coarsest first; the last is the level of the assessment."""
    tiles_px: int
    tiles: list[TileFigures]
    regions: list[RegionFigures]
    borders: BorderFigures | None
    calibration: CalibrationFigures | None
    notes: list[str]


class GeneralisedDocument(AssessmentDocument):
    """The same of the generalised map, with its rule."""

    mmu_m2: float
    min_width_m: float


class ComparedModels(TypedDict):
    """Models that the training of an expert compared on its validation patches, as a table of texts."""

    expert: str
    columns: list[str]
    rows: list[list[str]]


class ReportDocument(AssessmentDocument):
    """What ``assessment.json`` holds."""

    title: str
    facts: dict[str, str]
    compared: list[ComparedModels]
    generalised: GeneralisedDocument | None


def class_rows(confusion: Confusion, scores: Scores, areas_ha: NDArray[np.float64]) -> list[ClassRow]:
    """One row per class of the legend; `areas_ha` is the matrix in hectares, (K, K)."""
    in_reference, in_map = areas_ha.sum(axis=1), areas_ha.sum(axis=0)
    return [
        {
            "value": item.value,
            "color": item.color,
            **figures,
            "reference_ha": float(in_reference[k]),
            "map_ha": float(in_map[k]),
        }
        for k, (item, figures) in enumerate(
            zip(confusion.legend.classes, _class_figures(scores), strict=True)
        )
    ]


def matrix_figures(confusion: Confusion, areas_ha: NDArray[np.float64]) -> MatrixFigures:
    """The matrix in pixels and hectares, with what one side lacks."""
    return {
        "rows": "reference",
        "columns": "map",
        "codes": list(confusion.legend.codes),
        "pixels": confusion.counts.tolist(),
        "hectares": areas_ha.tolist(),
        "reference_without_map": confusion.unmapped.tolist(),
        "map_without_reference": confusion.unreferenced.tolist(),
    }


def part_figures(scores: Scores) -> PartFigures:
    """Scores of a tile or region."""
    return {
        "evaluated_px": scores.evaluated_px,
        **totals(scores),
        "iou": {item.code: _number(item.iou) for item in scores.classes},
    }


def level_figures(confusions: Sequence[Confusion]) -> list[LevelFigures]:
    """One row per level, coarsest first."""
    rows: list[LevelFigures] = []
    above = 1.0
    for confusion in confusions:
        scores = score(confusion)
        rows.append(
            {
                "level": confusion.legend.depth,
                "legend": confusion.legend.address,
                **totals(scores),
                "accuracy_where_right_above": _number(scores.accuracy / above) if above else None,
                "classes": _class_figures(scores),
            }
        )
        above = scores.accuracy
    return rows


def border_figures(borders: BorderAgreement) -> BorderFigures:
    """One row per distance."""
    total = sum(band.confusion.evaluated_px for band in borders.bands)
    metres = borders.pixel_m
    bands: list[BandFigures] = []
    for band in borders.bands:
        scores = score(band.confusion)
        bands.append(
            {
                "from_px": band.low_px,
                "to_px": _number(band.high_px),
                "from_m": None if metres is None else _number(band.low_px * metres, digits=2),
                "to_m": None if metres is None else _number(band.high_px * metres, digits=2),
                "evaluated_px": scores.evaluated_px,
                "share": round(scores.evaluated_px / total, 6),
                "accuracy": _number(scores.accuracy),
                "mean_iou": _number(scores.mean_iou),
                "macro_f1": _number(scores.macro_f1),
            }
        )
    return {"of": "class borders of the reference", "pixel_m": metres, "bands": bands}


def calibration_figures(calibration: Calibration) -> CalibrationFigures:
    """Calibration as a whole, by bin and by class of the map."""
    by_class = [(code, calibration.of_class(code)) for code in calibration.legend.codes]
    return {
        "evaluated_px": calibration.evaluated_px,
        "without_confidence_px": calibration.unknown_px,
        "accuracy": _number(calibration.accuracy),
        "accuracy_of_most_confident_half": _number(calibration.accuracy_of_most_confident(0.5)),
        "mean_confidence": _number(calibration.mean_confidence),
        "mean_where_right": _number(calibration.mean_where_right),
        "mean_where_wrong": _number(calibration.mean_where_wrong),
        "expected_calibration_error": _number(calibration.error()),
        "bins": [
            {
                "above": round(item.low, 6),
                "to": round(item.high, 6),
                "evaluated_px": item.evaluated_px,
                "confidence": _number(item.confidence),
                "accuracy": _number(item.accuracy),
            }
            for item in calibration.bins()
        ],
        "classes": [
            {
                "code": code,
                "map_px": part.evaluated_px,
                "confidence": _number(part.mean_confidence),
                "accuracy": _number(part.accuracy),
                "expected_calibration_error": _number(part.error()),
            }
            for code, part in by_class
        ],
    }


def totals(scores: Scores) -> Totals:
    """Scores over all classes."""
    return {
        "accuracy": _number(scores.accuracy),
        "mean_iou": _number(scores.mean_iou),
        "macro_f1": _number(scores.macro_f1),
        "macro_precision": _number(scores.macro_precision),
        "macro_recall": _number(scores.macro_recall),
        "kappa": _number(scores.kappa),
        "majority": _number(scores.majority),
        "coverage": _number(scores.coverage),
    }


def rule_text(mmu_m2: float, min_width_m: float) -> str:
    """Minimum mapping unit and width in words, such as "25 ha, 100 m"."""
    words = [f"{mmu_m2 / 10_000:g} ha"] if mmu_m2 else []
    return ", ".join([*words, *([f"{min_width_m:g} m"] if min_width_m else [])])


def _class_figures(scores: Scores) -> list[ClassFigures]:
    return [
        {
            "code": item.code,
            "name": item.name,
            "iou": _number(item.iou),
            "f1": _number(item.f1),
            "precision": _number(item.precision),
            "recall": _number(item.recall),
            "reference_px": item.reference_px,
            "map_px": item.predicted_px,
            "correct_px": item.correct_px,
        }
        for item in scores.classes
    ]


def _number(value: float, *, digits: int = 6) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
