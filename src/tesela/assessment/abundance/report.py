"""The report of an abundance map: one page that opens offline, the same figures as JSON, its pictures as PNG."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tesela.assessment.abundance import figures
from tesela.assessment.abundance.assessment import AbundanceAssessment
from tesela.assessment.abundance.calibration import LEVELS
from tesela.assessment.abundance.scores import NAMES, SCORES, AbundanceSums
from tesela.io.manifest import write_whole
from tesela.pages.environment import names_apart, page_environment

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
                {"name": name, "px": sums.judged_px, "cells": _cells(sums)}
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
    n = max(sums.judged_px, 1)
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
