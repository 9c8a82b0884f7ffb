"""The page: what the report's template shows, as words and rows."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.assessment import Assessment, Generalised
from tesela.assessment.borders import BorderAgreement
from tesela.assessment.calibration import Calibration
from tesela.assessment.overview import Overview
from tesela.assessment.pictures import DIFFERENCE, band_name
from tesela.assessment.scores import Scores, score
from tesela.core.errors import join_words
from tesela.core.scene import Scene
from tesela.pages.number_format import hectares_text, percent_text, score_text
from tesela.pages.scene_picture import png_bytes, shown_bands, webp_bytes

if TYPE_CHECKING:
    from PIL import Image


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
    if assessment.calibration is not None and assessment.calibration.evaluated_px:
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
    total = sum(band.confusion.evaluated_px for band in borders.bands)
    if first.evaluated_px and last.evaluated_px:
        yield (
            f"Along class borders of the reference ({band_name(borders, 0)} from them, "
            f"{percent_text(first.evaluated_px / total)} of the ground) the two agree on "
            f"{percent_text(score(first).accuracy)}; far from them ({band_name(borders, len(borders.bands) - 1)}, "
            f"{percent_text(last.evaluated_px / total)}) on {percent_text(score(last).accuracy)}."
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
    judged = [region for region in assessment.regions if region.confusion.evaluated_px]
    if len(judged) > 1:
        ranked = sorted(judged, key=lambda region: region.scores.accuracy)
        worst, best = ranked[0], ranked[-1]
        yield (
            f"Of {len(judged)} regions, “{best.name}” agrees best ({percent_text(best.scores.accuracy)}) and "
            f"“{worst.name}” worst ({percent_text(worst.scores.accuracy)})."
        )


_PANES = {
    "image": "Image",
    "map": "Map",
    "generalised": "Generalised",
    "reference": "Reference",
    "difference": "Difference",
    "difference_generalised": "Difference after",
}
"""Panes in their order, with their titles."""


def panes(
    pictures: Mapping[str, Image.Image], scene: Scene | None, generalised: Generalised | None
) -> list[dict[str, str]]:
    """Pictures as data addresses, with title and note."""
    notes = {
        "image": "" if scene is None else ", ".join(shown_bands(scene)),
        "map": "what the model drew",
        "generalised": "" if generalised is None else f"to {generalised.rule}",
        "reference": "what it is judged against",
        "difference": "where the two disagree",
        "difference_generalised": "generalising",
    }
    found = []
    for name, title in _PANES.items():
        if name in pictures:
            kind, data = (
                ("webp", webp_bytes(pictures[name]))
                if name == "image"
                else ("png", png_bytes(pictures[name]))
            )
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            found.append({"name": name, "title": title, "note": notes[name], "source": source})
    return found


def difference_key(overview: Overview) -> list[dict[str, str]]:
    """Colours of the difference pane with their meaning."""
    colors = list(DIFFERENCE.values())
    if overview.pixels_per_cell == 1:
        return [{"color": colors[0], "text": "agree"}, {"color": colors[-1], "text": "differ"}]
    return [{"color": color, "text": text} for text, color in DIFFERENCE.items()]


def classes(assessment: Assessment, overview: Overview) -> list[dict[str, object]]:
    """One row per class that is judged or drawn."""
    drawn = {*np.unique(overview.map_values).tolist(), *np.unique(overview.reference_values).tolist()}
    in_reference, in_map = assessment.areas_ha.sum(axis=1), assessment.areas_ha.sum(axis=0)
    widest = max(float(in_reference.max()), float(in_map.max()))
    rows: list[dict[str, object]] = []
    for k, (item, scores) in enumerate(
        zip(assessment.legend.classes, assessment.scores.classes, strict=True)
    ):
        absent = item.code in assessment.scores.absent
        if absent and item.value not in drawn:
            continue
        remark = "never mapped" if item.code in assessment.scores.missed else ""
        if item.code in assessment.scores.invented:
            remark = "not in the reference"
        rows.append(
            {
                "item": item,
                "scores": scores,
                "absent": absent,
                "remark": "outside the ground judged" if absent else remark,
                "reference_ha": float(in_reference[k]),
                "map_ha": float(in_map[k]),
                "change": float(in_map[k] / in_reference[k] - 1) if in_reference[k] else math.nan,
                "reference_bar": float(in_reference[k]) / widest,
                "map_bar": float(in_map[k]) / widest,
            }
        )
    return rows


def matrix(assessment: Assessment) -> dict[str, object]:
    """The confusion matrix without absent classes, in hectares and shares."""
    legend, scores = assessment.legend, assessment.scores
    shown = [k for k, code in enumerate(legend.codes) if code not in scores.absent]
    areas = assessment.areas_ha[np.ix_(shown, shown)]
    rows, cols = areas.sum(axis=1), areas.sum(axis=0)
    return {
        "items": [legend.classes[k] for k in shown],
        "areas": areas.tolist(),
        "of_row": (areas / np.where(rows > 0, rows, 1)[:, None]).tolist(),
        "of_col": (areas / np.where(cols > 0, cols, 1)).tolist(),
        "row_ha": rows.tolist(),
        "col_ha": cols.tolist(),
        "pixels": assessment.confusion.counts[np.ix_(shown, shown)].tolist(),
    }


def part_row(name: str, scores: Scores) -> dict[str, object]:
    """One row of the table of tiles or regions."""
    return {"name": name, "scores": scores, "iou": {item.code: item.iou for item in scores.classes}}


def levels(assessment: Assessment) -> list[dict[str, object]]:
    """One row per level of the legend, coarsest first; none for a legend of one level."""
    rows: list[dict[str, object]] = []
    above = 1.0
    for confusion in assessment.levels:
        scores = score(confusion)
        rows.append(
            {
                "level": confusion.legend.depth,
                "size": len(confusion.legend) - len(scores.absent),
                "scores": scores,
                "given_above": scores.accuracy / above if above and rows else math.nan,
            }
        )
        above = scores.accuracy
    return rows if len(rows) > 1 else []


def borders(judged: Sequence[BorderAgreement]) -> list[dict[str, object]]:
    """One row per distance: share of the ground, and the scores of each map."""
    total = sum(band.confusion.evaluated_px for band in judged[0].bands)
    return [
        {
            "name": band_name(judged[0], k),
            "share": band.confusion.evaluated_px / total,
            "scores": [score(found.bands[k].confusion) for found in judged],
        }
        for k, band in enumerate(judged[0].bands)
    ]


def reliability(found: Calibration) -> list[dict[str, object]]:
    """One row per class of the map: what it claims and how often it is right."""
    parts = [(item, found.of_class(item.code)) for item in found.legend.classes]
    return [
        {"item": item, "claimed": part.mean_confidence, "right": part.accuracy, "error": part.error()}
        for item, part in parts
        if part.evaluated_px
    ]


def before_and_after(raw: Assessment, generalised: Generalised) -> list[dict[str, object]]:
    """One row per total and per class: the raw map, the generalised one, and the gain."""
    one, other = raw.scores, generalised.assessment.scores
    rows: list[dict[str, object]] = [
        {"name": name, "color": None, "before": getattr(one, key), "after": getattr(other, key)}
        for name, key in (
            ("Accuracy", "accuracy"),
            ("mIoU", "mean_iou"),
            ("Macro F1", "macro_f1"),
            ("Kappa", "kappa"),
        )
    ]
    for item, before, after in zip(raw.legend.classes, one.classes, other.classes, strict=True):
        if not (math.isnan(before.iou) and math.isnan(after.iou)):
            rows.append({"name": item.name, "color": item.color, "before": before.iou, "after": after.iou})
    return rows


def hover(assessment: Assessment, overview: Overview, after: Overview | None = None) -> dict[str, object]:
    """What the page's script needs to name the classes under the pointer."""

    def packed(values: NDArray[np.uint8]) -> str:
        return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()

    rows, cols = overview.grid.shape
    return {
        "rows": rows,
        "cols": cols,
        "transform": list(overview.grid.affine)[:6],
        "crs": str(overview.grid.crs),
        "decimals": 5 if overview.grid.crs is not None and overview.grid.crs.geographic else 0,
        "classes": {str(item.value): [item.name, item.color] for item in assessment.legend.classes},
        "map": packed(overview.map_values),
        "reference": packed(overview.reference_values),
        "generalised": None if after is None else packed(after.map_values),
    }
