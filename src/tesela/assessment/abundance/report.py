"""The report of an abundance map: one page that opens offline, the same figures as JSON, its pictures as PNG."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesela.assessment.abundance import figures
from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.calibration import LEVELS
from tesela.assessment.abundance.scores import NAMES, SCORES, AbundanceSums, score_lines
from tesela.core.errors import InputError
from tesela.io.abundance import open_abundance
from tesela.io.manifest import write_whole
from tesela.pages.environment import names_apart, page_environment
from tesela.patches.pixels import read_pixel_table


@dataclass(frozen=True)
class AbundanceAssessmentFiles:
    """Scores of one abundance map and where its report lies."""

    assessment: AbundanceAssessment
    report: Path

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.assessment.to_dict(), "report": str(self.report)}

    @property
    def lines(self) -> tuple[str, ...]:
        """Mean scores, and the page."""
        sums = self.assessment.sums
        return (
            *score_lines({name: sums.mean(name) for name in SCORES}),
            f"report    {self.report}",
        )


def is_abundance(path: str | Path) -> bool:
    """Whether a raster is an abundance map of Tesela."""
    try:
        open_abundance(path)
    except InputError:
        return False
    return True


def assess_abundance_files(
    map_file: str | Path,
    reference: str | Path,
    out: str | Path,
    *,
    within: str | Path | None = None,
    uncertainty: str | Path | None = None,
    title: str = "Abundance map assessment",
) -> AbundanceAssessmentFiles:
    """
    Judge an abundance map against reference shares and write the report.

    Parameters
    ----------
    reference : path
        Abundance map of the same pixels, as `tesela label --fractions` writes it.
    within : path, optional
        Pixel table whose test pixels are judged.
    uncertainty : path, optional
        Standard deviation of each share, for its calibration.
    """
    found = open_abundance(map_file)
    chosen = None
    if within is not None:
        chosen = read_pixel_table(within).ground("test", found.grid.shape.yx)
    judged = assess_abundance(
        found,
        open_abundance(reference),
        chosen=chosen,
        uncertainty=uncertainty,
        errors=Path(out) / "errors.tif",
    )
    facts = {"Map": str(map_file), "Reference": str(reference)}
    return AbundanceAssessmentFiles(judged, write_abundance_report(out, judged, title=title, facts=facts))


_MOST_ROWS = 400
"""Blocks listed on the page; the JSON has all."""

_DIGITS = {"mae": 2, "rmse": 2, "rrmse": 2, "cc": 4, "f1": 4}
"""As the published tables print them."""


def write_abundance_report(
    out_dir: str | Path,
    judged: AbundanceAssessment,
    *,
    title: str = "Abundance map assessment",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """
    Write the report of an abundance map into a folder.

    Parameters
    ----------
    facts : mapping of str, optional
        Where the map comes from, one line each: model, cube, reference, split.
    notes : sequence of str
        What a reader must know to use the figures.

    Returns
    -------
    Path
        ``report.html``. Beside it stand ``assessment.json`` and ``density.png``, ``classes.png``, ``abundances.png``,
        ``errors.png`` and, where the map tells its uncertainty, ``calibration.png``.
    """
    folder = Path(out_dir)
    pictures = {
        "density": figures.draw_density(judged),
        "classes": figures.draw_classes(judged),
        "abundances": figures.draw_abundances(judged),
        "errors": figures.draw_errors(judged),
    }
    if judged.calibration is not None:
        pictures["calibration"] = figures.draw_calibration(judged.calibration)
    for name, content in pictures.items():
        with write_whole(folder / f"{name}.png") as part:
            part.write_bytes(content)
    document = {"title": title, "facts": dict(facts or {}), **judged.to_dict()}
    with write_whole(folder / "assessment.json") as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    low, high = judged.intervals
    text = (
        page_environment("tesela.assessment")
        .get_template("abundance.html.j2")
        .render(
            title=title,
            facts=dict(facts or {}),
            notes=list(notes),
            names=names_apart(judged.map_path, judged.reference_path),
            a=judged,
            cards=[
                {
                    "name": NAMES[name],
                    "value": _cell(judged.sums.mean(name), name),
                    "interval": f"{_cell(low[k], name)} – {_cell(high[k], name)}"
                    if math.isfinite(low[k])
                    else "",
                    "percent": name in ("mae", "rmse", "rrmse"),
                }
                for k, name in enumerate(SCORES)
            ],
            tables=[
                _table(sums, depth)
                for depth, sums in [*sorted(judged.levels.items()), (judged.legend.depth, judged.sums)]
            ],
            blocks=[
                {"name": name, "px": sums.evaluated_px, "cells": _cells(sums)}
                for name, sums in list(zip(judged.block_names, judged.block_sums, strict=True))[:_MOST_ROWS]
            ],
            more_blocks=max(0, len(judged.block_names) - _MOST_ROWS),
            heads=[NAMES[name] for name in SCORES],
            pictures={
                name: "data:image/png;base64," + base64.b64encode(content).decode()
                for name, content in pictures.items()
            },
            coverage=[]
            if judged.calibration is None
            else list(zip(LEVELS, judged.calibration.coverage.values(), strict=True)),
        )
    )
    with write_whole(folder / "report.html") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "report.html"


def _table(sums: AbundanceSums, depth: int) -> dict[str, object]:
    n = max(sums.evaluated_px, 1)
    return {
        "depth": depth,
        "rows": [
            {
                "item": item,
                "reference": float(sums.moments[k, 3] / n),
                "map": float(sums.moments[k, 4] / n),
                "cells": [_cell(float(sums.by_class(name)[k]), name) for name in SCORES],
            }
            for k, item in enumerate(sums.legend.classes)
        ],
        "mean": _cells(sums),
    }


def _cells(sums: AbundanceSums) -> list[str]:
    return [_cell(sums.mean(name), name) for name in SCORES]


def _cell(value: float, name: str) -> str:
    return f"{value:.{_DIGITS[name]}f}" if math.isfinite(value) else "–"
