"""The page of a sample's estimates, accuracy and areas with their intervals, and the same figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesela.core.legend import Legend
from tesela.core.plain_text import check_text
from tesela.io.manifest import write_text
from tesela.pages.environment import count_text, page_environment
from tesela.sampling.estimates import AccuracyEstimates, Estimate


def write_sample_page(
    out_dir: str | Path,
    estimates: AccuracyEstimates,
    *,
    legend: Legend,
    title: str = "Accuracy and area from a sample",
    facts: Mapping[str, str] | None = None,
) -> Path:
    """
    Write the estimates into a folder, as ``accuracy.html``, which opens offline, and ``accuracy.json``.

    Parameters
    ----------
    legend : Legend
        Names and colours of the sample's classes.
    facts : mapping of str, optional
        Origin of map and sample, one line each.

    Returns
    -------
    Path
        The page.
    """
    check_text(title, what="The title")
    folder = Path(out_dir)
    document = {"title": title, "facts": dict(facts or {}), **estimates.to_dict()}
    write_text(folder / "accuracy.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    sample = estimates.sample
    items = {item.code: item for item in legend.classes}
    text = (
        page_environment("tesela.sampling")
        .get_template("sample.html.j2")
        .render(
            title=title,
            facts=dict(facts or {}),
            estimates=estimates,
            overall=_cell(estimates.overall),
            macro_f1=_cell(estimates.macro_f1),
            classes=[
                _row(estimates, k, items[code].name, items[code].color)
                for k, code in enumerate(sample.classes)
            ],
            strata=[
                {
                    "code": code,
                    "px": count_text(int(size)),
                    "share": f"{size / sample.sizes_px.sum():.1%}",
                    "points": int(n),
                }
                for code, size, n in zip(
                    sample.strata, sample.sizes_px, sample.counts.sum(axis=(1, 2)), strict=True
                )
            ],
            matrix=_matrix(estimates),
        )
    )
    write_text(folder / "accuracy.html", text)
    return folder / "accuracy.html"


def _row(estimates: AccuracyEstimates, k: int, name: str, color: str) -> dict[str, Any]:
    area = estimates.areas_ha[k]
    seen = area.value > 0
    alike = (
        "all points alike: no interval"
        if seen
        else f"0 to {_hectares(estimates.unseen_ha)}: no point has this class"
    )
    mapped = estimates.mapped_shares[k].value * estimates.sample.area_ha
    return {
        "code": estimates.sample.classes[k],
        "name": name,
        "color": color,
        "users": _cell(estimates.users[k]),
        "producers": _cell(estimates.producers[k]),
        "f1": _cell(estimates.f1[k]),
        "mapped": _hectares(mapped),
        "area": _hectares(area.value) if seen else "not seen",
        "half": _hectares(area.half_width) if area.has_interval else "–",
        "interval": f"{_hectares(area.low)} to {_hectares(area.high)}" if area.has_interval else alike,
    }


def _cell(item: Estimate) -> dict[str, Any]:
    """An estimate as text, with the position of its interval on a bar from 0 to 100 %."""
    if not math.isfinite(item.value):
        return {"text": "–", "interval": "not in the sample", "bar": None}
    if item.se == 0 and item.value in (0, 1):
        return {
            "text": f"{100 * item.value:.1f} %",
            "interval": "all points alike: no interval",
            "bar": None,
        }
    finite = math.isfinite(item.low) and math.isfinite(item.high)
    return {
        "text": f"{100 * item.value:.1f} %",
        "interval": f"{100 * item.low:.1f} to {100 * item.high:.1f} (SE {100 * item.se:.1f})"
        if finite
        else "",
        "bar": {
            "left": f"{100 * item.low:.1f}",
            "width": f"{max(100 * (item.high - item.low), 0.8):.1f}",
            "at": f"{100 * item.value:.1f}",
        }
        if finite
        else None,
    }


def _matrix(estimates: AccuracyEstimates) -> list[dict[str, Any]]:
    points = estimates.sample.matrix
    rows = points.sum(axis=1)
    return [
        {
            "cells": [
                {
                    "points": int(points[i, j]),
                    "share": f"{100 * estimates.cells[i, j]:.2f}",
                    "agree": i == j,
                    "shade": f"{0.6 * points[i, j] / max(rows[i], 1):.2f}",
                }
                for j in range(len(rows))
            ],
            "total": int(rows[i]),
        }
        for i in range(len(rows))
    ]


def _hectares(value: float) -> str:
    if 0 < abs(value) < 0.05:
        return f"{value:.1g}"
    return f"{value:.1f}" if abs(value) < 1000 else count_text(round(value))
