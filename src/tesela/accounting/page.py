"""The page of a land account: areas, changes, conversions, checks and the crosswalk; it opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.accounts import Accounts
from tesela.accounting.change_uncertainty import ChangeEstimates
from tesela.io.manifest import write_text
from tesela.pages.environment import hectares_text, page_environment
from tesela.sampling.estimates import Estimate

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 620, 230, 62, 18, 12, 28


@dataclass(frozen=True)
class _Cell:
    """A change between two categories."""

    mapped: str
    yearly: str
    shade: float
    stays: bool


def write_account_page(out: str | Path, accounts: Accounts, *, title: str = "") -> Path:
    """Write the page of an account, without links to other files or hosts."""
    text = (
        page_environment("tesela.accounting")
        .get_template("account.html.j2")
        .render(
            title=title or "Land account",
            a=accounts,
            first=accounts.trajectories.years[0],
            last=accounts.trajectories.years[-1],
            cards=list(_cards(accounts)),
            areas=_areas(accounts),
            chart=draw_net_changes(accounts),
            matrices=list(_matrices(accounts)),
            estimates=[_estimates(item) for item in accounts.estimates],
            conversions=_conversions(accounts),
            crosswalk=accounts.crosswalk[1:],
            names={path.name for key, path in accounts.files.items() if key != "page"},
        )
    )
    write_text(out, text)
    return Path(out)


def draw_net_changes(accounts: Accounts) -> str:
    """Area of each category minus its area in the first year, over the years, as an SVG element."""
    trajectories = accounts.trajectories
    years = trajectories.inventory_years
    lines = np.array([trajectories.areas_ha(year) for year in years]) - trajectories.mapped_areas_ha[0]
    top, low = max(float(lines.max()), 0.0), min(float(lines.min()), 0.0)
    span = (top - low) or 1.0

    def place(year: int, value: float) -> tuple[float, float]:
        across = (year - years[0]) / (years[-1] - years[0])
        up = (value - low) / span
        x = _LEFT + across * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Net change by category and year">'
    ]
    for tick in sorted({low, 0.0, top}):
        _, y = place(years[0], tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_signed(tick)}</text>')
    for year in trajectories.years:
        x, _ = place(year, 0)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{year}</text>')
    for item, line in zip(accounts.legend.classes, lines.T, strict=True):
        points = [place(year, float(value)) for year, value in zip(years, line, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="2.5" stroke="{item.color}"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{item.color}"/>'
            for year, (x, y) in zip(years, points, strict=True)
            if year in trajectories.years
        ]
    return "".join([*parts, "</svg>"])


def _cards(accounts: Accounts) -> Iterator[dict[str, str]]:
    trajectories = accounts.trajectories
    first, last = trajectories.mapped_areas_ha[0], trajectories.mapped_areas_ha[-1]
    yield {
        "name": "Land in the account",
        "value": hectares_text(trajectories.total_ha),
        "unit": "ha",
        "more": "area with a category in every year",
    }
    net = last - first
    k = int(np.abs(net).argmax())
    yield {
        "name": "Largest net change",
        "value": _signed(float(net[k])),
        "unit": "ha",
        "more": f"{accounts.legend.names[k]}, {trajectories.years[0]} to {trajectories.years[-1]}",
    }
    moved = sum(
        float(matrix.sum() - np.trace(matrix))
        for matrix in (trajectories.changes_ha(i) for i in range(len(trajectories.years) - 1))
    )
    yield {
        "name": "Area that changed",
        "value": hectares_text(moved / (trajectories.years[-1] - trajectories.years[0])),
        "unit": "ha a year",
        "more": "mean of all years, as mapped",
    }
    made = [check for check in accounts.checks if check.passed is not None]
    passed = len(made) - len(accounts.failed)
    yield {
        "name": "Checks",
        "value": f"{passed} of {len(made)}",
        "unit": "passed",
        "more": f"{len(accounts.checks) - len(made)} could not be made"
        if len(made) < len(accounts.checks)
        else "",
    }


def _areas(accounts: Accounts) -> list[dict[str, object]]:
    mapped = accounts.trajectories.mapped_areas_ha
    return [
        {
            "item": item,
            "areas": [hectares_text(value) for value in mapped[:, k].tolist()],
            "net": _signed(float(mapped[-1, k] - mapped[0, k])),
        }
        for k, item in enumerate(accounts.legend.classes)
    ]


def _matrices(accounts: Accounts) -> Iterator[dict[str, object]]:
    trajectories = accounts.trajectories
    for i, (first, last) in enumerate(pairwise(trajectories.years)):
        matrix = trajectories.changes_ha(i)
        moved = matrix - np.diag(np.diag(matrix))
        yield {
            "years": f"{first} to {last}",
            "length": last - first,
            "rows": [
                {
                    "item": item,
                    "cells": _cells(matrix[a], a, most=float(moved.max()), years=last - first),
                    "sum": hectares_text(float(matrix[a].sum())),
                }
                for a, item in enumerate(accounts.legend.classes)
            ],
            "sums": [hectares_text(value) for value in matrix.sum(axis=0).tolist()],
        }


def _cells(row: NDArray[np.float64], stays: int, *, most: float, years: int) -> list[_Cell]:
    return [
        _Cell(
            hectares_text(value) if value else "–",
            hectares_text(value / years) if value and k != stays else "",
            0.0 if k == stays or not most else value / most,
            k == stays,
        )
        for k, value in enumerate(row.tolist())
    ]


def _estimates(item: ChangeEstimates) -> dict[str, object]:
    names = dict(zip(item.legend.codes, item.legend.names, strict=True))
    return {
        "years": f"{item.years[0]} to {item.years[1]}",
        "basis": item.basis,
        "detail": item.detail,
        "rows": [
            {
                "change": f"{names[before]} to {names[after]}",
                "mapped": hectares_text(mapped),
                **_interval(estimate),
            }
            for before, after, mapped, estimate in item.rows()
            if before != after and (mapped or estimate.value)
        ],
        "areas": [
            {"name": name, "before": _interval(first), "after": _interval(last)}
            for name, first, last in zip(item.legend.names, item.before, item.after, strict=True)
        ],
    }


def _interval(estimate: Estimate) -> dict[str, str]:
    if not np.isfinite([estimate.low, estimate.high]).all():
        return {"estimate": hectares_text(estimate.value), "interval": "–"}
    interval = f"{hectares_text(estimate.low)} to {hectares_text(estimate.high)}"
    interval = interval if estimate.has_interval else "all points alike"
    return {"estimate": hectares_text(estimate.value), "interval": interval}


def _conversions(accounts: Accounts) -> list[dict[str, object]]:
    cohorts, year = accounts.cohorts, accounts.trajectories.years[-1]
    remaining, converting = cohorts.remaining_ha(year), cohorts.converting_ha(year)
    return [
        {
            "item": item,
            "remaining": hectares_text(float(remaining[k])),
            "converted": hectares_text(float(converting[:, k].sum())) if converting[:, k].any() else "–",
            "origins": ", ".join(
                f"{accounts.legend.names[o]} {hectares_text(float(converting[o, k]))}"
                for o in np.argsort(-converting[:, k])
                if converting[o, k]
            ),
        }
        for k, item in enumerate(accounts.legend.classes)
    ]


def _signed(value: float) -> str:
    return "0" if not value else ("+" if value > 0 else "−") + hectares_text(abs(value))
