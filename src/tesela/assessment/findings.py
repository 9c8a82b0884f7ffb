"""Findings: the main figures of an assessment in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from tesela.assessment.document import (
    AssessmentDocument,
    BorderFigures,
    CalibrationFigures,
    GeneralisedDocument,
    RegionFigures,
    ReportDocument,
    Totals,
    rule_text,
)
from tesela.assessment.pictures import band_name
from tesela.core.errors import join_words
from tesela.pages.environment import hectares_text, percent_text, score_text


def findings(document: ReportDocument) -> Iterator[str]:
    """Sentences for each part of the assessment, the most important first."""
    scores, classes = document["scores"], document["classes"]
    common = max(classes, key=lambda row: row["reference_px"])
    yield (
        f"Map and reference agree on {percent_text(scores['accuracy'])} of the area assessed. "
        f"A map of “{common['name']}” alone, the most common class, would reach "
        f"{percent_text(scores['majority'])}."
    )
    if document["generalised"] is not None:
        yield _of_generalised(scores, document["generalised"])
    ranked = sorted(
        ((row["iou"], row["name"]) for row in classes if row["reference_px"] and row["iou"] is not None),
        key=lambda pair: pair[0],
    )
    if len(ranked) > 1:
        (lowest, worst), (highest, best) = ranked[0], ranked[-1]
        yield (
            f"Best mapped: “{best}” (IoU {score_text(highest)}). Worst: “{worst}” (IoU {score_text(lowest)})."
        )
    yield from _of_areas(document)
    if document["borders"] is not None:
        yield from _of_borders(document["borders"])
    if document["calibration"] is not None and document["calibration"]["evaluated_px"]:
        yield _of_calibration(document["calibration"])
    yield from _of_regions(document["regions"])
    names = {row["code"]: row["name"] for row in classes}
    for codes, text in (
        (document["never_mapped"], "In the reference but never mapped, counted as 0: {}."),
        (document["not_in_reference"], "Mapped but not in the reference, counted as 0: {}."),
        (document["absent"], "In neither, left out of all means: {}."),
    ):
        if codes:
            yield text.format(join_words((f"“{names[code]}”" for code in codes), most=6))
    for note in document["notes"]:
        yield re.sub(r"(?<=\d),(?=\d{3})", "\u202f", note)


def _of_generalised(raw: Totals, generalised: GeneralisedDocument) -> str:
    scores, rule = generalised["scores"], rule_text(generalised["mmu_m2"], generalised["min_width_m"])
    return (
        f"Generalised to the unit of the reference ({rule}) the map agrees on "
        f"{percent_text(scores['accuracy'])} instead of {percent_text(raw['accuracy'])}, "
        f"with an mIoU of {score_text(scores['mean_iou'])} instead of {score_text(raw['mean_iou'])}."
    )


def _of_areas(document: AssessmentDocument) -> Iterator[str]:
    """The largest confusion, and the class whose area differs most."""
    classes, total = document["classes"], document["evaluated_ha"]
    mixed = np.array(document["matrix"]["hectares"])
    np.fill_diagonal(mixed, 0)
    if mixed.max() <= 0:
        return
    row, col = (int(k) for k in np.unravel_index(mixed.argmax(), mixed.shape))
    yield (
        f"Most frequent confusion: “{classes[row]['name']}” mapped as “{classes[col]['name']}”, "
        f"{hectares_text(mixed[row, col])} ha or {percent_text(mixed[row, col] / total)} of the area assessed."
    )
    excess = [item["map_ha"] - item["reference_ha"] for item in classes]
    most = int(np.abs(excess).argmax())
    if abs(excess[most]) >= 0.005 * total:
        yield (
            f"Largest difference of area: “{classes[most]['name']}” covers {hectares_text(abs(excess[most]))} ha "
            f"{'more' if excess[most] > 0 else 'less'} in the map than in the reference."
        )


def _of_borders(borders: BorderFigures) -> Iterator[str]:
    last = len(borders["bands"]) - 1
    near, far = borders["bands"][0], borders["bands"][last]
    if near["evaluated_px"] and far["evaluated_px"]:
        yield (
            f"Along class borders of the reference ({band_name(borders, 0)} from them, "
            f"{percent_text(near['share'])} of the area) the two agree on {percent_text(near['accuracy'])}; "
            f"far from them ({band_name(borders, last)}, {percent_text(far['share'])}) on "
            f"{percent_text(far['accuracy'])}."
        )


def _of_calibration(calibration: CalibrationFigures) -> str:
    confidence, accuracy = calibration["mean_confidence"], calibration["accuracy"]
    gap = (confidence or 0) - (accuracy or 0)
    verdict = "is too high" if gap > 0.02 else "is too low" if gap < -0.02 else "fits its accuracy"
    return (
        f"The map’s mean confidence is {percent_text(confidence)}, and {percent_text(accuracy)} of it is right: its "
        f"confidence {verdict} (calibration error {score_text(calibration['expected_calibration_error'])}). "
        f"Of its most confident half, {percent_text(calibration['accuracy_of_most_confident_half'])} is right."
    )


def _of_regions(regions: Sequence[RegionFigures]) -> Iterator[str]:
    ranked = sorted(
        ((region["accuracy"], region["name"]) for region in regions if region["accuracy"] is not None),
        key=lambda pair: pair[0],
    )
    if len(ranked) > 1:
        (lowest, worst), (highest, best) = ranked[0], ranked[-1]
        yield (
            f"Of {len(ranked)} regions, “{best}” agrees best ({percent_text(highest)}) and "
            f"“{worst}” worst ({percent_text(lowest)})."
        )
