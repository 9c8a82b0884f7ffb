"""The report of an abundance map: one page that opens offline, its figures as JSON, its pictures as PNG."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.abundance import figures
from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.calibration import LEVELS
from tesela.assessment.abundance.document import AbundanceReportDocument, LevelFigures, ScoreFigures
from tesela.assessment.abundance.scores import NAMES, SCORES, score_lines
from tesela.assessment.overall import check_frame
from tesela.core.errors import InputError
from tesela.io.abundance import AbundanceSource, open_abundance
from tesela.io.manifest import write_text, write_whole
from tesela.pages.environment import names_apart, page_environment
from tesela.patches.pixels import read_pixel_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AbundanceAssessmentFiles:
    """Scores of one abundance map, and the path of its report."""

    assessment: AbundanceAssessment
    report: Path | None = None
    """The page; None where no folder was given."""

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.assessment.to_dict(), "report": None if self.report is None else str(self.report)}

    @property
    def lines(self) -> tuple[str, ...]:
        """Mean scores, and the page."""
        sums = self.assessment.sums
        return (
            *score_lines({name: sums.mean(name) for name in SCORES}),
            *(() if self.report is None else (f"report    {self.report}",)),
        )

    def to_frame(self, table: str = "classes") -> pd.DataFrame:
        """
        Scores by class, index `code`: mae, rmse, rrmse (per cent), cc and f1; or their means.

        Parameters
        ----------
        table : {"classes", "overall"}
            "overall": index `score`, columns value, and low and high of the 95 % block-bootstrap interval.

        Raises
        ------
        InputError
            If there is no such table.
        """
        import pandas as pd

        check_frame(table)
        if table == "overall":
            low, high = self.assessment.intervals
            values = [self.assessment.sums.mean(name) for name in SCORES]
            overall = {"score": list(SCORES), "value": values, "low": low, "high": high}
            return pd.DataFrame(overall).set_index("score")
        return pd.DataFrame(self.assessment.to_dict()["classes"]).set_index("code")


def is_abundance(path: str | Path) -> bool:
    """Whether a raster is an abundance map of Tesela."""
    try:
        open_abundance(path)
    except InputError:
        return False
    return True


def assess_abundance_files(
    map_file: AbundanceSource,
    reference: AbundanceSource,
    out: str | Path | None = None,
    *,
    within: str | Path | None = None,
    uncertainty: str | Path | None = None,
    title: str = "Abundance map assessment",
) -> AbundanceAssessmentFiles:
    """
    Assess an abundance map against reference shares and write the report.

    Parameters
    ----------
    reference : path or AbundanceMap
        Of the same pixels, as `tesela label --fractions` writes it.
    out : path, optional
        Folder of the report; default: nothing is written.
    within : path, optional
        Pixel table; only its test pixels are evaluated.
    uncertainty : path, optional
        Standard deviation of each share, for its calibration.
    """
    map = open_abundance(map_file)
    table = None if within is None else read_pixel_table(within)
    chosen = None if table is None else table.split_mask("test", map.grid.shape.yx)
    assessment = assess_abundance(
        map,
        open_abundance(reference),
        chosen=chosen,
        uncertainty=uncertainty,
        errors=None if out is None else Path(out) / "errors.tif",
    )
    if out is None:
        return AbundanceAssessmentFiles(assessment)
    facts = {"Map": assessment.map_path, "Reference": assessment.reference_path}
    report = write_abundance_report(
        out,
        assessment,
        title=title,
        facts=facts,
        splits=None if table is None else table.split_map(map.grid.shape.yx),
    )
    return AbundanceAssessmentFiles(assessment, report)


_MOST_ROWS = 400
"""Blocks listed on the page; the JSON has all."""

_DIGITS = {"mae": 2, "rmse": 2, "rrmse": 2, "cc": 4, "f1": 4}
"""As the published tables print them."""


def write_abundance_report(
    out_dir: str | Path,
    assessment: AbundanceAssessment,
    *,
    title: str = "Abundance map assessment",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    splits: NDArray[np.uint8] | None = None,
) -> Path:
    """
    Write the report of an abundance map into a folder.

    Parameters
    ----------
    facts : mapping of str, optional
        Where the map comes from, one line each: model, cube, reference, split.
    notes : sequence of str
        What a reader must know to use the figures.
    splits : (rows, cols) array of uint8, optional
        Split of each pixel, for its map: 0 train, 1 val, 2 test, 255 none.

    Returns
    -------
    Path
        ``report.html``. In the same folder are ``assessment.json`` and ``density.png``, ``classes.png``,
        ``abundances.png``, ``errors.png``, ``remaining.png``, with `splits` ``split.png`` and, for a map with standard
        deviations, ``calibration.png``.
    """
    folder = Path(out_dir)
    pictures = {
        "density": figures.draw_density(assessment),
        "classes": figures.draw_classes(assessment),
        "abundances": figures.draw_abundances(assessment),
        "errors": figures.draw_errors(assessment),
        "remaining": figures.draw_remaining(assessment),
    }
    if splits is not None:
        pictures["split"] = figures.draw_split(splits, cell_px=assessment.overview.cell_px)
    if assessment.calibration is not None:
        pictures["calibration"] = figures.draw_calibration(assessment.calibration)
    document: AbundanceReportDocument = {
        "title": title,
        "facts": dict(facts or {}),
        **assessment.to_dict(),
        "notes": list(notes),
    }
    for name, content in pictures.items():
        with write_whole(folder / f"{name}.png") as part:
            part.write_bytes(content)
    write_text(folder / "assessment.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", render_page(document, pictures, cell_px=assessment.overview.cell_px))
    return folder / "report.html"


def render_page(document: AbundanceReportDocument, pictures: Mapping[str, bytes], *, cell_px: int) -> str:
    """
    The page as HTML.

    Parameters
    ----------
    document : AbundanceReportDocument
        Content of ``assessment.json``; every figure of the page comes from it.
    pictures : mapping of bytes
        PNG files, by name.
    cell_px : int
        Pixels along the side of a cell of the pictures.
    """
    calibration, blocks = document["calibration"], document["by_block"]
    levels: list[LevelFigures] = [*document["levels"].values(), document]
    text: str = (
        page_environment("tesela.assessment")
        .get_template("abundance.html.j2")
        .render(
            title=document["title"],
            facts=document["facts"],
            notes=document["notes"],
            names=names_apart(document["map"], document["reference"]),
            document=document,
            cards=_cards(document),
            tables=[
                {
                    "depth": depth,
                    "rows": [{**row, "cells": _cells(row)} for row in level["classes"]],
                    "mean": _cells(level["mean"]),
                }
                for depth, level in enumerate(levels, start=1)
            ],
            blocks=[
                {"name": name, "px": block["evaluated_px"], "cells": _cells(block)}
                for name, block in list(blocks.items())[:_MOST_ROWS]
            ],
            more_blocks=max(0, len(blocks) - _MOST_ROWS),
            heads=[NAMES[name] for name in SCORES],
            pictures={
                name: "data:image/png;base64," + base64.b64encode(content).decode()
                for name, content in pictures.items()
            },
            cell_px=cell_px,
            coverage=[]
            if calibration is None
            else list(zip(LEVELS, calibration["coverage"].values(), strict=True)),
        )
    )
    return text


def _cards(document: AbundanceReportDocument) -> list[dict[str, object]]:
    """Mean scores with their intervals."""
    rows: list[dict[str, object]] = []
    for name in SCORES:
        low, high = document["interval_95"][name]
        rows.append(
            {
                "name": NAMES[name],
                "value": _cell(document["mean"][name], name),
                "interval": "" if low is None else f"{_cell(low, name)} – {_cell(high, name)}",
                "percent": name in ("mae", "rmse", "rrmse"),
            }
        )
    return rows


def _cells(scores: ScoreFigures) -> list[str]:
    return [_cell(scores[name], name) for name in SCORES]


def _cell(value: float | None, name: str) -> str:
    return "–" if value is None else f"{value:.{_DIGITS[name]}f}"
