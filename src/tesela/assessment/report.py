"""The report: one page that opens offline, the same figures as JSON, and its pictures as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.assessment.assessment import Assessment, Generalised
from tesela.assessment.document import ComparedModels, ReportDocument
from tesela.assessment.page import ReportPictures, render_page
from tesela.assessment.pictures import Overview, difference_picture, make_overview, matrix_svg
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.manifest import write_text, write_whole
from tesela.io.map_views import class_picture
from tesela.io.maps import ClassMap
from tesela.pages.curves import read_curves
from tesela.pages.scene_picture import enlarged, png_bytes, scene_picture, shown_bands

if TYPE_CHECKING:
    from PIL import Image


def write_report(
    out_dir: str | Path,
    assessment: Assessment,
    *,
    map: ClassMap,
    reference: ClassMap,
    scene: Scene | None = None,
    title: str = "Map assessment",
    facts: Mapping[str, str] | None = None,
    compared: Sequence[ComparedModels] = (),
    training_log: Path | None = None,
    generalised: Generalised | None = None,
) -> Path:
    """
    Write the report of an assessment into a folder.

    Parameters
    ----------
    map, reference : ClassMap
        What was assessed; both are read once more for the pictures.
    scene : Scene, optional
        Imagery to show beside them.
    facts : mapping of str, optional
        Where the map comes from, one line each: model, scene, dates, settings.
    compared : sequence of ComparedModels
        Models that the training of each expert compared.
    training_log : Path, optional
        `metrics.csv` of Lightning's CSVLogger, drawn as curves.
    generalised : Generalised, optional
        The generalised map and its assessment, to show beside the raw one.

    Returns
    -------
    Path
        ``report.html``. In the same folder are ``assessment.json``, ``map.png``, ``reference.png``,
        ``difference.png``, ``matrix.svg`` and, with a scene, ``image.png``; with a generalised map,
        ``generalised.png`` and ``difference_generalised.png``.
    """
    folder = Path(out_dir)
    curves = () if training_log is None else read_curves(training_log)
    overview = make_overview(assessment, map, reference)
    after = None
    if generalised is not None:
        after = make_overview(generalised.assessment, generalised.map, reference)
    pictures = ReportPictures(
        overview,
        _panes(assessment.legend, overview, after, scene),
        generalised=after,
        image_bands=() if scene is None else shown_bands(scene),
        curves=curves,
    )
    document: ReportDocument = {
        "title": title,
        "facts": dict(facts or {}),
        "compared": list(compared),
        **assessment.to_dict(),
        "generalised": None if generalised is None else generalised.to_dict(),
    }
    for name, picture in pictures.panes.items():
        with write_whole(folder / f"{name}.png") as part:
            part.write_bytes(png_bytes(enlarged(picture)))
    write_text(folder / "matrix.svg", matrix_svg(document))
    write_text(folder / "assessment.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", render_page(document, pictures))
    return folder / "report.html"


def _panes(
    legend: Legend, overview: Overview, after: Overview | None, scene: Scene | None
) -> dict[str, Image.Image]:
    pictures = {
        "map": class_picture(overview.map_values, legend),
        "reference": class_picture(overview.reference_values, legend),
        "difference": difference_picture(overview.wrong),
    }
    if after is not None:
        pictures["generalised"] = class_picture(after.map_values, legend)
        pictures["difference_generalised"] = difference_picture(after.wrong)
    return pictures if scene is None else {"image": scene_picture(scene, overview.grid), **pictures}
