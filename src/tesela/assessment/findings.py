"""The findings: what the figures say, in sentences for a person who reads nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tesela.assessment.assessment import Assessment, Generalised
from tesela.assessment.borders import BorderAgreement
from tesela.assessment.calibration import Calibration
from tesela.assessment.figures import band_name
from tesela.assessment.scores import Scores, score
from tesela.core.errors import join_words
from tesela.pages.number_format import hectares_text, percent_text, score_text


def findings(assessment: Assessment, generalised: Generalised | None = None) -> Iterator[str]:
    """What the figures say, in sentences for a person who reads nothing else."""
    scores, legend, areas = assessment.scores, assessment.legend, assessment.areas_ha
    total = areas.sum()
    common = max(scores.classes, key=lambda item: item.reference_px)
    yield (
        f"Map and reference agree on {percent_text(scores.accuracy)} of the ground judged. "
        f"A map of nothing but “{common.name}”, the commonest class, would reach {percent_text(scores.majority)}."
    )
    if generalised is not None:
        yield _of_generalised(scores, generalised)
    ranked = sorted((item for item in scores.classes if item.reference_px), key=lambda item: item.iou)
    if len(ranked) > 1:
        best, worst = ranked[-1], ranked[0]
        yield (
            f"Best mapped: “{best.name}” (IoU {score_text(best.iou)}). "
            f"Worst: “{worst.name}” (IoU {score_text(worst.iou)})."
        )
    mixed = areas - np.diag(np.diag(areas))
    if mixed.max() > 0:
        row, col = (int(k) for k in np.unravel_index(mixed.argmax(), mixed.shape))
        yield (
            f"Most frequent confusion: “{legend.names[row]}” mapped as “{legend.names[col]}”, "
            f"{hectares_text(mixed[row, col])} ha or {percent_text(mixed[row, col] / total)} of the ground judged."
        )
        excess = areas.sum(axis=0) - areas.sum(axis=1)
        most = int(np.abs(excess).argmax())
        if abs(excess[most]) >= 0.005 * total:
            yield (
                f"Largest shift of area: “{legend.names[most]}” covers {hectares_text(abs(excess[most]))} ha "
                f"{'more' if excess[most] > 0 else 'less'} in the map than in the reference."
            )
    if assessment.borders is not None:
        yield from _of_borders(assessment.borders)
    if assessment.calibration is not None and assessment.calibration.judged_px:
        yield _of_calibration(assessment.calibration)
    yield from _of_regions(assessment)
    for codes, text in (
        (scores.missed, "In the reference but never mapped, counted as 0: {}."),
        (scores.invented, "Mapped but not in the reference, counted as 0: {}."),
        (scores.absent, "In neither, left out of all means: {}."),
    ):
        if codes:
            yield text.format(join_words((f"“{legend[code].name}”" for code in codes), most=6))
    for note in assessment.notes:
        yield re.sub(r"(?<=\d),(?=\d{3})", "\u202f", note)


def _of_generalised(raw: Scores, generalised: Generalised) -> str:
    after = generalised.assessment.scores
    return (
        f"Generalised to the unit of the reference ({generalised.rule}) the map agrees on "
        f"{percent_text(after.accuracy)} instead of {percent_text(raw.accuracy)}, "
        f"with an mIoU of {score_text(after.mean_iou)} instead of {score_text(raw.mean_iou)}."
    )


def _of_borders(borders: BorderAgreement) -> Iterator[str]:
    first, last = borders.bands[0].confusion, borders.bands[-1].confusion
    total = sum(band.confusion.judged_px for band in borders.bands)
    if first.judged_px and last.judged_px:
        yield (
            f"Along class borders of the reference ({band_name(borders, 0)} from them, "
            f"{percent_text(first.judged_px / total)} of the ground) the two agree on "
            f"{percent_text(score(first).accuracy)}; far from them ({band_name(borders, len(borders.bands) - 1)}, "
            f"{percent_text(last.judged_px / total)}) on {percent_text(score(last).accuracy)}."
        )


def _of_calibration(found: Calibration) -> str:
    gap = found.mean_confidence - found.accuracy
    verdict = "claims too much" if gap > 0.02 else "claims too little" if gap < -0.02 else "can be believed"
    return (
        f"The map is {percent_text(found.mean_confidence)} sure on average and right on "
        f"{percent_text(found.accuracy)}: its confidence {verdict} (calibration error {score_text(found.error())}). "
        f"Its surest half is right on {percent_text(found.accuracy_of_surest(0.5))}."
    )


def _of_regions(assessment: Assessment) -> Iterator[str]:
    judged = [region for region in assessment.regions if region.confusion.judged_px]
    if len(judged) > 1:
        ranked = sorted(judged, key=lambda region: region.scores.accuracy)
        worst, best = ranked[0], ranked[-1]
        yield (
            f"Of {len(judged)} regions, “{best.name}” agrees best ({percent_text(best.scores.accuracy)}) and "
            f"“{worst.name}” worst ({percent_text(worst.scores.accuracy)})."
        )
