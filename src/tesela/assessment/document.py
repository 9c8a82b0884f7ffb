"""The document of an assessment: all its figures as JSON takes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tesela.assessment.borders import BorderAgreement
from tesela.assessment.calibration import Calibration
from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score

if TYPE_CHECKING:
    from tesela.assessment.assessment import Assessment

_TOTALS = (
    "accuracy",
    "mean_iou",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "kappa",
    "majority",
    "coverage",
)


def make_document(assessment: Assessment) -> dict[str, object]:
    """All figures of an assessment; numbers that do not exist are None."""
    judged = assessment.scores
    rows, cols = assessment.grid.shape
    confusion, areas, legend = assessment.confusion, assessment.areas_ha, assessment.legend
    return {
        "map": assessment.map_path,
        "reference": assessment.reference_path,
        "grid": {
            "rows": rows,
            "cols": cols,
            "crs": str(assessment.grid.crs),
            "transform": list(assessment.grid.affine)[:6],
        },
        "confined_to_areas": None if assessment.within is None else len(assessment.within),
        "legend": legend.to_dict(),
        "pixels": {
            "judged": confusion.evaluated_px,
            "reference_without_map": confusion.unmapped_px,
            "map_without_reference": confusion.unjudged_px,
        },
        "area_judged_ha": _number(float(areas.sum()), digits=2),
        "scores": _totals(judged),
        "absent": list(judged.absent),
        "never_mapped": list(judged.missed),
        "not_in_reference": list(judged.invented),
        "classes": [
            {
                "value": item.value,
                "color": item.color,
                **document,
                "reference_ha": _number(float(areas[k].sum()), digits=2),
                "map_ha": _number(float(areas[:, k].sum()), digits=2),
            }
            for k, (item, document) in enumerate(zip(legend.classes, _classes(judged), strict=True))
        ],
        "matrix": {
            "rows": "reference",
            "columns": "map",
            "codes": list(legend.codes),
            "pixels": confusion.counts.tolist(),
            "reference_without_map": confusion.unmapped.tolist(),
            "map_without_reference": confusion.unjudged.tolist(),
        },
        "levels": _levels(assessment.levels),
        "tiles_px": assessment.tiles_px,
        "tiles": [
            {"row": tile.row, "col": tile.col, "bounds": list(tile.bounds), **_part(tile.scores)}
            for tile in assessment.tiles
        ],
        "regions": [
            {
                "name": region.name,
                "evaluated_ha": _number(region.evaluated_ha, digits=2),
                **_part(region.scores),
            }
            for region in assessment.regions
        ],
        "borders": None if assessment.borders is None else _borders(assessment.borders),
        "calibration": None if assessment.calibration is None else _calibration(assessment.calibration),
        "notes": list(assessment.notes),
    }


def _classes(scores: Scores) -> list[dict[str, object]]:
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


def _part(scores: Scores) -> dict[str, object]:
    """Scores of a tile or region."""
    return {
        "evaluated_px": scores.evaluated_px,
        **_totals(scores),
        "iou": {item.code: _number(item.iou) for item in scores.classes},
    }


def _levels(confusions: tuple[Confusion, ...]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    above = 1.0
    for confusion in confusions:
        scores = score(confusion)
        found.append(
            {
                "level": confusion.legend.depth,
                "legend": confusion.legend.address,
                **_totals(scores),
                "accuracy_where_right_above": _number(scores.accuracy / above) if above else None,
                "classes": _classes(scores),
            }
        )
        above = scores.accuracy
    return found


def _borders(borders: BorderAgreement) -> dict[str, object]:
    total = sum(band.confusion.evaluated_px for band in borders.bands)
    metres = borders.pixel_m
    found = []
    for band in borders.bands:
        scores = score(band.confusion)
        found.append(
            {
                "from_px": band.low_px,
                "to_px": _number(band.high_px),
                "from_m": None if metres is None else _number(band.low_px * metres, digits=2),
                "to_m": None if metres is None else _number(band.high_px * metres, digits=2),
                "evaluated_px": scores.evaluated_px,
                "share": _number(scores.evaluated_px / total),
                **{name: _number(getattr(scores, name)) for name in ("accuracy", "mean_iou", "macro_f1")},
            }
        )
    return {"of": "class borders of the reference", "pixel_m": metres, "bands": found}


def _calibration(found: Calibration) -> dict[str, object]:
    by_class = [(code, found.of_class(code)) for code in found.legend.codes]
    return {
        "evaluated_px": found.evaluated_px,
        "without_confidence_px": found.unknown_px,
        "accuracy": _number(found.accuracy),
        "mean_confidence": _number(found.mean_confidence),
        "mean_where_right": _number(found.mean_where_right),
        "mean_where_wrong": _number(found.mean_where_wrong),
        "expected_calibration_error": _number(found.error()),
        "bins": [
            {
                "above": round(item.low, 6),
                "to": round(item.high, 6),
                "evaluated_px": item.evaluated_px,
                "confidence": _number(item.confidence),
                "accuracy": _number(item.accuracy),
            }
            for item in found.bins()
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


def _totals(scores: Scores) -> dict[str, float | None]:
    return {name: _number(getattr(scores, name)) for name in _TOTALS}


def _number(value: float, *, digits: int = 6) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
