"""The report: one page that opens offline, the same figures as JSON, and its pictures as PNG."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import join_words
from tesela.core.scene import Scene
from tesela.evaluation.assessment import Assessment, Tile
from tesela.evaluation.curves import draw_panel, read_curves
from tesela.evaluation.drawing import (
    DIFFERENCE,
    class_picture,
    difference_picture,
    draw_matrix,
    enlarged,
    png_bytes,
    scene_picture,
    shown_bands,
    webp_bytes,
)
from tesela.evaluation.overview import Overview, make_overview
from tesela.io.manifest import write_whole
from tesela.io.maps import ClassMap

if TYPE_CHECKING:
    from PIL import Image

_MOST_TILES = 400
"""Tiles listed on the page; the JSON has all."""


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

    Returns
    -------
    Path
        ``report.html``. Beside it stand ``assessment.json``, ``map.png``, ``reference.png``,
        ``difference.png``, ``matrix.png`` and, with a scene, ``image.png``.
    """
    folder = Path(out_dir)
    curves = () if training_log is None else read_curves(training_log)
    overview = make_overview(assessment, map, reference)
    pictures = _pictures(assessment, overview, scene)
    for name, picture in pictures.items():
        with write_whole(folder / f"{name}.png") as part:
            part.write_bytes(png_bytes(enlarged(picture)))
    with write_whole(folder / "matrix.png") as part:
        draw_matrix(assessment, part)
    document = {"title": title, "facts": dict(facts or {}), **assessment.to_dict()}
    with write_whole(folder / "assessment.json") as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        facts=dict(facts or {}),
        names={"map": Path(map.path).name, "reference": Path(reference.path).name},
        a=assessment,
        s=assessment.scores,
        findings=list(_findings(assessment)),
        panes=_panes(pictures, scene),
        ratio=overview.grid.shape[1] / overview.grid.shape[0],
        cell=overview.pixels_per_cell,
        difference=_difference_key(overview),
        classes=_classes(assessment, overview),
        absent=[assessment.legend[code].name for code in assessment.scores.absent],
        matrix=_matrix(assessment),
        tiles=[_tile_row(tile) for tile in assessment.tiles if tile.confusion.judged_px][:_MOST_TILES],
        more_tiles=max(0, len(assessment.tiles) - _MOST_TILES),
        curves=[{"panel": panel, "svg": draw_panel(panel)} for panel in curves],
        hover=_hover(assessment, overview),
    )
    with write_whole(folder / "report.html") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "report.html"


def _environment() -> Any:
    """Jinja environment: everything is escaped, unknown names are errors, no template comes from outside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tesela.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "change": _change,
        "count": _count,
        "ha": _hectares,
        "percent": _percent,
        "score": _score,
    }
    return environment


def _pictures(assessment: Assessment, overview: Overview, scene: Scene | None) -> dict[str, Image.Image]:
    pictures = {
        "map": class_picture(overview.map_values, assessment.legend),
        "reference": class_picture(overview.reference_values, assessment.legend),
        "difference": difference_picture(overview.wrong),
    }
    return pictures if scene is None else {"image": scene_picture(scene, overview.grid), **pictures}


def _panes(pictures: Mapping[str, Image.Image], scene: Scene | None) -> list[dict[str, str]]:
    texts = {
        "image": ("Image", "" if scene is None else ", ".join(shown_bands(scene))),
        "map": ("Map", "what the model drew"),
        "reference": ("Reference", "what it is judged against"),
        "difference": ("Difference", "where the two disagree"),
    }
    panes = []
    for name in ("image", "map", "reference", "difference"):
        if name in pictures:
            kind, data = (
                ("webp", webp_bytes(pictures[name]))
                if name == "image"
                else ("png", png_bytes(pictures[name]))
            )
            source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            panes.append({"name": name, "title": texts[name][0], "note": texts[name][1], "source": source})
    return panes


def _difference_key(overview: Overview) -> list[dict[str, str]]:
    """Colours of the difference pane with their meaning."""
    colors = list(DIFFERENCE.values())
    if overview.pixels_per_cell == 1:
        return [{"color": colors[0], "text": "agree"}, {"color": colors[-1], "text": "differ"}]
    return [{"color": color, "text": text} for text, color in DIFFERENCE.items()]


def _findings(assessment: Assessment) -> Iterator[str]:
    """What the figures say, in sentences for a person who reads nothing else."""
    scores, legend, areas = assessment.scores, assessment.legend, assessment.areas_ha
    total = areas.sum()
    common = max(scores.classes, key=lambda item: item.reference_px)
    yield (
        f"Map and reference agree on {_percent(scores.accuracy)} of the ground judged. "
        f"A map of nothing but “{common.name}”, the commonest class, would reach {_percent(scores.majority)}."
    )
    ranked = sorted((item for item in scores.classes if item.reference_px), key=lambda item: item.iou)
    if len(ranked) > 1:
        best, worst = ranked[-1], ranked[0]
        yield (
            f"Best mapped: “{best.name}” (IoU {_score(best.iou)}). "
            f"Worst: “{worst.name}” (IoU {_score(worst.iou)})."
        )
    mixed = areas - np.diag(np.diag(areas))
    if mixed.max() > 0:
        row, col = (int(k) for k in np.unravel_index(mixed.argmax(), mixed.shape))
        yield (
            f"Most frequent confusion: “{legend.names[row]}” mapped as “{legend.names[col]}”, "
            f"{_hectares(mixed[row, col])} ha or {_percent(mixed[row, col] / total)} of the ground judged."
        )
        excess = areas.sum(axis=0) - areas.sum(axis=1)
        most = int(np.abs(excess).argmax())
        if abs(excess[most]) >= 0.005 * total:
            yield (
                f"Largest shift of area: “{legend.names[most]}” covers {_hectares(abs(excess[most]))} ha "
                f"{'more' if excess[most] > 0 else 'less'} in the map than in the reference."
            )
    for codes, text in (
        (scores.missed, "In the reference but never mapped, counted as 0: {}."),
        (scores.invented, "Mapped but not in the reference, counted as 0: {}."),
        (scores.absent, "In neither, left out of all means: {}."),
    ):
        if codes:
            yield text.format(join_words((f"“{legend[code].name}”" for code in codes), most=6))
    for note in assessment.notes:
        yield re.sub(r"(?<=\d),(?=\d{3})", "\u202f", note)


def _classes(assessment: Assessment, overview: Overview) -> list[dict[str, object]]:
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


def _matrix(assessment: Assessment) -> dict[str, object]:
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


def _tile_row(tile: Tile) -> dict[str, object]:
    return {"tile": tile, "scores": tile.scores, "iou": {item.code: item.iou for item in tile.scores.classes}}


def _hover(assessment: Assessment, overview: Overview) -> dict[str, object]:
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
    }


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _hectares(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def _percent(value: float, digits: int = 1) -> str:
    return f"{value * 100:.{digits}f}\u202f%" if math.isfinite(value) else "–"


def _change(share: float) -> str:
    return f"{share * 100:+.0f}\u202f%".replace("-", "−")


def _score(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
