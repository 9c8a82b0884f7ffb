"""The report: one page that opens offline, the same figures as JSON, and its pictures as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.assessment import page
from tesela.assessment.assessment import Assessment, Generalised
from tesela.assessment.overview import Overview, make_overview
from tesela.assessment.page import findings
from tesela.assessment.pictures import (
    class_picture,
    difference_picture,
    draw_borders,
    draw_matrix,
    draw_reliability,
)
from tesela.core.scene import Scene
from tesela.io.manifest import write_whole
from tesela.io.maps import ClassMap
from tesela.pages.curves import draw_panel, read_curves
from tesela.pages.environment import names_apart, page_environment
from tesela.pages.scene_picture import enlarged, png_bytes, scene_picture

if TYPE_CHECKING:
    from PIL import Image

_MOST_ROWS = 400
"""Tiles or regions listed on the page; the JSON has all."""


def write_report(
    out_dir: str | Path,
    assessment: Assessment,
    *,
    map: ClassMap,
    reference: ClassMap,
    scene: Scene | None = None,
    title: str = "Map assessment",
    facts: Mapping[str, str] | None = None,
    training_log: Path | None = None,
    generalised: Generalised | None = None,
) -> Path:
    """
    Write the report of an assessment into a folder.

    Parameters
    ----------
    map, reference : ClassMap
        What was assessed; they are read once more, to be drawn.
    scene : Scene, optional
        Imagery shown beside them.
    facts : mapping of str, optional
        Where the map comes from, one line each, in order: model, scene, dates, settings.
    training_log : Path, optional
        `metrics.csv` of Lightning's CSVLogger, drawn as curves.
    generalised : Generalised, optional
        The same map judged after generalising it, shown beside the raw one.

    Returns
    -------
    Path
        ``report.html``. Beside it stand ``assessment.json``, ``map.png``, ``reference.png``,
        ``difference.png``, ``matrix.png`` and, with a scene, ``image.png``; with a generalised map,
        ``generalised.png`` and ``difference_generalised.png``.
    """
    folder = Path(out_dir)
    curves = () if training_log is None else read_curves(training_log)
    overview = make_overview(assessment, map, reference)
    after = None
    if generalised is not None:
        after = make_overview(generalised.assessment, generalised.map, reference)
    pictures = _pictures(assessment, overview, after, scene)
    for name, picture in pictures.items():
        with write_whole(folder / f"{name}.png") as part:
            part.write_bytes(png_bytes(enlarged(picture)))
    with write_whole(folder / "matrix.png") as part:
        draw_matrix(assessment, part)
    document = {
        "title": title,
        "facts": dict(facts or {}),
        **assessment.to_dict(),
        "generalised": None if generalised is None else generalised.to_dict(),
    }
    with write_whole(folder / "assessment.json") as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    judged = [assessment] if generalised is None else [assessment, generalised.assessment]
    borders = [item.borders for item in judged if item.borders is not None]
    calibration = assessment.calibration
    if calibration is not None and not calibration.evaluated_px:
        calibration = None
    tiles = [tile for tile in assessment.tiles if tile.confusion.evaluated_px]
    regions = [region for region in assessment.regions if region.confusion.evaluated_px]
    text = (
        page_environment("tesela.assessment")
        .get_template("report.html.j2")
        .render(
            title=title,
            facts=dict(facts or {}),
            names=names_apart(assessment.map_path, assessment.reference_path),
            a=assessment,
            s=assessment.scores,
            generalised=generalised,
            findings=list(findings(assessment, generalised)),
            panes=page.panes(pictures, scene, generalised),
            ratio=overview.grid.shape[1] / overview.grid.shape[0],
            cell=overview.pixels_per_cell,
            difference=page.difference_key(overview),
            classes=page.classes(assessment, overview),
            absent=[assessment.legend[code].name for code in assessment.scores.absent],
            matrix=page.matrix(assessment),
            before_and_after=[] if generalised is None else page.before_and_after(assessment, generalised),
            levels=page.levels(assessment),
            borders=page.borders(borders) if borders else [],
            borders_svg=draw_borders(borders) if borders else "",
            calibration=calibration,
            reliability=[] if calibration is None else page.reliability(calibration),
            reliability_svg="" if calibration is None else draw_reliability(calibration),
            regions=[page.part_row(item.name, item.scores) for item in regions[:_MOST_ROWS]],
            more_regions=max(0, len(regions) - _MOST_ROWS),
            tiles=[
                page.part_row(f"{item.row + 1}, {item.col + 1}", item.scores) for item in tiles[:_MOST_ROWS]
            ],
            more_tiles=max(0, len(tiles) - _MOST_ROWS),
            curves=[{"panel": panel, "svg": draw_panel(panel)} for panel in curves],
            hover=page.hover(assessment, overview, after),
        )
    )
    with write_whole(folder / "report.html") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "report.html"


def _pictures(
    assessment: Assessment, overview: Overview, after: Overview | None, scene: Scene | None
) -> dict[str, Image.Image]:
    pictures = {
        "map": class_picture(overview.map_values, assessment.legend),
        "reference": class_picture(overview.reference_values, assessment.legend),
        "difference": difference_picture(overview.wrong),
    }
    if after is not None:
        pictures["generalised"] = class_picture(after.map_values, assessment.legend)
        pictures["difference_generalised"] = difference_picture(after.wrong)
    return pictures if scene is None else {"image": scene_picture(scene, overview.grid), **pictures}
