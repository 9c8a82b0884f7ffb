"""The page: the report as HTML, a pure function of the assessment's document and pictures."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.document import (
    AssessmentDocument,
    BorderFigures,
    CalibrationFigures,
    ClassRow,
    GeneralisedDocument,
    LevelFigures,
    PartFigures,
    ReportDocument,
    rule_text,
)
from tesela.assessment.findings import findings
from tesela.assessment.pictures import DIFFERENCE, Overview, band_name, draw_borders, draw_reliability
from tesela.pages.curves import Panel, draw_panel
from tesela.pages.environment import names_apart, page_environment
from tesela.pages.scene_picture import png_bytes, webp_bytes

if TYPE_CHECKING:
    from PIL import Image

_MOST_ROWS = 400
"""Tiles or regions listed on the page; the JSON has all."""


@dataclass(frozen=True, eq=False)
class ReportPictures:
    """What the page shows beside the figures."""

    overview: Overview
    """Map and reference as they are drawn."""
    panes: Mapping[str, Image.Image]
    """Pictures by the names of `_PANES`."""
    generalised: Overview | None = None
    image_bands: tuple[str, ...] = ()
    """Bands of the scene that the image shows."""
    curves: tuple[Panel, ...] = ()
    """Training curves."""


def render_page(document: ReportDocument, pictures: ReportPictures) -> str:
    """
    The page as HTML.

    Parameters
    ----------
    document : ReportDocument
        Content of ``assessment.json``; every figure of the page comes from it.
    """
    generalised, calibration = document["generalised"], document["calibration"]
    if calibration is not None and not calibration["evaluated_px"]:
        calibration = None
    maps: list[AssessmentDocument] = [document] if generalised is None else [document, generalised]
    borders = [item["borders"] for item in maps if item["borders"] is not None]
    regions = [part_row(item["name"], item) for item in document["regions"] if item["evaluated_px"]]
    tiles = [
        part_row(f"{item['row'] + 1}, {item['col'] + 1}", item)
        for item in document["tiles"]
        if item["evaluated_px"]
    ]
    rows, cols = pictures.overview.grid.shape
    rule = "" if generalised is None else rule_text(generalised["mmu_m2"], generalised["min_width_m"])
    text: str = (
        page_environment("tesela.assessment")
        .get_template("report.html.j2")
        .render(
            title=document["title"],
            facts=document["facts"],
            names=names_apart(document["map"], document["reference"]),
            document=document,
            scores=document["scores"],
            legend=document["levels"][-1]["legend"],
            rule=rule,
            findings=list(findings(document)),
            panes=panes(pictures, rule),
            ratio=cols / rows,
            cell=pictures.overview.pixels_per_cell,
            difference=difference_key(pictures.overview),
            classes=class_rows(document, pictures.overview),
            absent=[row["name"] for row in document["classes"] if row["code"] in document["absent"]],
            matrix=matrix(document),
            before_and_after=[] if generalised is None else before_and_after(document, generalised),
            levels=level_rows(document["levels"]),
            borders=border_rows(borders) if borders else [],
            borders_svg=draw_borders(borders) if borders else "",
            calibration=calibration,
            reliability=[] if calibration is None else reliability_rows(calibration, document["classes"]),
            reliability_svg="" if calibration is None else draw_reliability(calibration),
            regions=regions[:_MOST_ROWS],
            more_regions=max(0, len(regions) - _MOST_ROWS),
            tiles=tiles[:_MOST_ROWS],
            more_tiles=max(0, len(tiles) - _MOST_ROWS),
            curves=[{"panel": panel, "svg": draw_panel(panel)} for panel in pictures.curves],
            hover=hover(document["classes"], pictures),
        )
    )
    return text


_PANES = {
    "image": "Image",
    "map": "Map",
    "generalised": "Generalised",
    "reference": "Reference",
    "difference": "Difference",
    "difference_generalised": "Difference after",
}
"""Panes in their order, with their titles."""


def panes(pictures: ReportPictures, rule: str) -> list[dict[str, str]]:
    """Pictures as data addresses, with title and note; `rule` is that of the generalised map."""
    notes = {
        "image": ", ".join(pictures.image_bands),
        "map": "the map assessed",
        "generalised": f"to {rule}",
        "reference": "the map is compared with it",
        "difference": "where the two disagree",
        "difference_generalised": "generalising",
    }
    rows = []
    for name, title in _PANES.items():
        if name in pictures.panes:
            picture = pictures.panes[name]
            kind, data = ("webp", webp_bytes(picture)) if name == "image" else ("png", png_bytes(picture))
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            rows.append({"name": name, "title": title, "note": notes[name], "source": source})
    return rows


def difference_key(overview: Overview) -> list[dict[str, str]]:
    """Colours of the difference pane with their meaning."""
    colors = list(DIFFERENCE.values())
    if overview.pixels_per_cell == 1:
        return [{"color": colors[0], "text": "agree"}, {"color": colors[-1], "text": "differ"}]
    return [{"color": color, "text": text} for text, color in DIFFERENCE.items()]


def class_rows(document: AssessmentDocument, overview: Overview) -> list[dict[str, object]]:
    """One row per class that is evaluated or drawn."""
    drawn = {*np.unique(overview.map_values).tolist(), *np.unique(overview.reference_values).tolist()}
    widest = max(max(row["reference_ha"], row["map_ha"]) for row in document["classes"])
    rows: list[dict[str, object]] = []
    for row in document["classes"]:
        absent = row["code"] in document["absent"]
        if absent and row["value"] not in drawn:
            continue
        remark = "never mapped" if row["code"] in document["never_mapped"] else ""
        if row["code"] in document["not_in_reference"]:
            remark = "not in the reference"
        reference_ha, map_ha = row["reference_ha"], row["map_ha"]
        rows.append(
            {
                **row,
                "absent": absent,
                "remark": "outside the area assessed" if absent else remark,
                "change": map_ha / reference_ha - 1 if reference_ha else None,
                "reference_bar": reference_ha / widest,
                "map_bar": map_ha / widest,
            }
        )
    return rows


def matrix(document: AssessmentDocument) -> dict[str, object]:
    """The confusion matrix without absent classes, in hectares and shares."""
    rows, figures = document["classes"], document["matrix"]
    shown = [k for k, row in enumerate(rows) if row["code"] not in document["absent"]]
    pick = np.ix_(shown, shown)
    areas = np.array(figures["hectares"])[pick]
    in_reference, in_map = areas.sum(axis=1), areas.sum(axis=0)
    return {
        "classes": [rows[k] for k in shown],
        "areas": areas.tolist(),
        "of_row": (areas / np.where(in_reference > 0, in_reference, 1)[:, None]).tolist(),
        "of_col": (areas / np.where(in_map > 0, in_map, 1)).tolist(),
        "pixels": np.array(figures["pixels"])[pick].tolist(),
    }


def part_row(name: str, part: PartFigures) -> dict[str, object]:
    """One row of the table of tiles or regions."""
    return {"name": name, "scores": part, "iou": part["iou"]}


def level_rows(levels: Sequence[LevelFigures]) -> list[dict[str, object]]:
    """One row per level of the legend, coarsest first; none for a legend of one level."""
    rows: list[dict[str, object]] = [
        {
            "level": item["level"],
            "size": sum(row["iou"] is not None for row in item["classes"]),
            "scores": item,
            "given_above": item["accuracy_where_right_above"] if k else None,
        }
        for k, item in enumerate(levels)
    ]
    return rows if len(rows) > 1 else []


def border_rows(maps: Sequence[BorderFigures]) -> list[dict[str, object]]:
    """One row per distance: share of the pixels, and the scores of each map."""
    return [
        {
            "name": band_name(maps[0], k),
            "share": band["share"],
            "scores": [borders["bands"][k] for borders in maps],
        }
        for k, band in enumerate(maps[0]["bands"])
    ]


def reliability_rows(calibration: CalibrationFigures, classes: Sequence[ClassRow]) -> list[dict[str, object]]:
    """One row per class of the map: its mean confidence and how often it is right."""
    return [
        {"item": item, **part}
        for item, part in zip(classes, calibration["classes"], strict=True)
        if part["map_px"]
    ]


def before_and_after(raw: AssessmentDocument, generalised: GeneralisedDocument) -> list[dict[str, object]]:
    """One row per total and per class: the raw map, the generalised one, and the gain."""
    one, other = raw["scores"], generalised["scores"]
    rows = [
        _gain_row("Accuracy", None, one["accuracy"], other["accuracy"]),
        _gain_row("mIoU", None, one["mean_iou"], other["mean_iou"]),
        _gain_row("Macro F1", None, one["macro_f1"], other["macro_f1"]),
        _gain_row("Kappa", None, one["kappa"], other["kappa"]),
    ]
    for before, after in zip(raw["classes"], generalised["classes"], strict=True):
        if before["iou"] is not None or after["iou"] is not None:
            rows.append(_gain_row(before["name"], before["color"], before["iou"], after["iou"]))
    return rows


def _gain_row(name: str, color: str | None, before: float | None, after: float | None) -> dict[str, object]:
    gain = None if before is None or after is None else after - before
    return {"name": name, "color": color, "before": before, "after": after, "gain": gain}


def hover(classes: Sequence[ClassRow], pictures: ReportPictures) -> dict[str, object]:
    """What the page's script needs to name the classes under the pointer."""

    def packed(values: NDArray[np.uint8]) -> str:
        return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()

    overview, after = pictures.overview, pictures.generalised
    rows, cols = overview.grid.shape
    return {
        "rows": rows,
        "cols": cols,
        "transform": list(overview.grid.affine)[:6],
        "crs": str(overview.grid.crs),
        "decimals": 5 if overview.grid.crs is not None and overview.grid.crs.geographic else 0,
        "classes": {str(row["value"]): [row["name"], row["color"]] for row in classes},
        "map": packed(overview.map_values),
        "reference": packed(overview.reference_values),
        "generalised": None if after is None else packed(after.map_values),
    }
