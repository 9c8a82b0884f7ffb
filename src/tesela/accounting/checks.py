"""Checks of a land account that a reviewer of the inventory makes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.cohorts import CohortTable
from tesela.accounting.forest_definition import ForestFinding, ForestRule
from tesela.accounting.table41 import CATEGORIES, TransitionTable
from tesela.accounting.trajectories import Trajectories
from tesela.core.errors import InputError, join_words

IMPLAUSIBLE: tuple[tuple[str, str], ...] = (("settlements", "forest_land"), ("wetlands", "cropland"))
"""Changes that are rare in reality: mostly an error of one of the two maps."""

TOLERANCE_KHA = 1e-9
"""Largest difference of sums, 0.01 m²: only rounding of floating-point numbers."""


@dataclass(frozen=True)
class Check:
    """One check of an account and its result."""

    name: str
    kind: str
    """"arithmetic": must pass; "plausibility": to be reviewed; "definition": of the national inventory."""
    passed: bool | None
    """None where the check could not be made."""
    result: str
    """Result as text."""
    area_ha: float = 0.0
    """Area concerned."""


def check_tables(tables: Sequence[TransitionTable]) -> Iterator[Check]:
    """Row and column sums, no negative number, continuity of years, constant total of transition tables."""
    ordered = sorted(tables, key=lambda table: table.year)
    yield from (
        _sums(ordered, axis=1, name="row sums", stated="initial area"),
        _sums(ordered, axis=0, name="column sums", stated="final area"),
    )
    negative = [
        f"{table.year} {_names()[i]} to {_names()[j]} {table.matrix_kha[i, j]:.6g} kha"
        for table in ordered
        for i, j in zip(*np.nonzero(table.matrix_kha < -TOLERANCE_KHA), strict=True)
    ]
    yield _check("no negative area", negative, "No cell is below 0.")
    gaps = [
        f"{_names()[i]} ends {before.year} with {before.final_kha[i]:.6g} kha and starts {after.year} with "
        f"{after.initial_kha[i]:.6g}"
        for before, after in pairwise(ordered)
        if after.year == before.year + 1
        for i in np.flatnonzero(_differ(before.final_kha, after.initial_kha))
    ]
    skipped = [
        f"{after.year} follows {before.year}"
        for before, after in pairwise(ordered)
        if after.year != before.year + 1
    ]
    yield _check("continuity of years", gaps + skipped, "Each year starts with the areas of the year before.")
    totals = {table.year: float(table.final_kha.sum()) for table in ordered}
    wrong = [
        f"{table.year} {sides} {total:.6g} kha instead of {totals[ordered[0].year]:.6g}"
        for table in ordered
        for sides, total in (("starts with", table.initial_kha.sum()), ("ends with", table.final_kha.sum()))
        if _differ(total, totals[ordered[0].year])
    ]
    yield _check("constant total", wrong, "The area of all categories is the same in all years.")


def check_cohorts(cohorts: CohortTable, trajectories: Trajectories) -> Iterator[Check]:
    """Remaining and converted land of each year add up to the areas of that year."""
    wrong = []
    for year in cohorts.years:
        areas = cohorts.remaining_ha(year) + cohorts.converting_ha(year).sum(axis=0)
        wrong += [
            f"{year} {code} {areas[k]:.6g} ha instead of {area:.6g}"
            for k, (code, area) in enumerate(
                zip(cohorts.legend.codes, trajectories.areas_ha(year), strict=True)
            )
            if _differ(areas[k] / 1000, area / 1000)
        ]
    yield _check("cohort totals", wrong, "Remaining and converted land add up to the areas of each year.")


def check_changes(
    trajectories: Trajectories,
    *,
    implausible: Iterable[tuple[str, str]] = IMPLAUSIBLE,
    tolerated_ha: float = 0.0,
) -> Iterator[Check]:
    """
    Implausible changes, areas that changed and changed back, and areas without a category at some date.

    Parameters
    ----------
    implausible : iterable of (before, after)
        Codes of changes to review; changes of categories that the account lacks are ignored.
    tolerated_ha : float
        Largest area of each with which the check passes.
    """
    codes = trajectories.legend.codes
    changes, area = [], 0.0
    for i in range(len(trajectories.years) - 1):
        matrix = trajectories.changes_ha(i)
        for before, after in implausible:
            if before in codes and after in codes:
                ha = float(matrix[codes.index(before), codes.index(after)])
                if ha > tolerated_ha:
                    changes.append(
                        f"{before} to {after} {ha:,.2f} ha in {trajectories.years[i]}-{trajectories.years[i + 1]}"
                    )
                    area += ha
    yield _check(
        "implausible changes",
        changes,
        "No implausible change occurs.",
        kind="plausibility",
        area_ha=area,
    )
    flips = trajectories.flip_flops()
    shown = [
        f"{item.category} to {item.between} and back {item.area_ha:,.2f} ha in "
        f"{item.years[0]}-{item.years[1]}-{item.years[2]}"
        for item in flips
    ]
    area = sum(item.area_ha for item in flips)
    passed = area <= tolerated_ha
    yield _check(
        "flip-flops",
        [] if passed else shown,
        "No area changed and changed back.",
        kind="plausibility",
        area_ha=area,
    )
    gaps = [
        f"{missing * trajectories.pixel_area_ha:,.2f} ha without a category in {year}"
        for year, missing in zip(trajectories.years, trajectories.missing_px, strict=False)
        if missing
    ]
    area = sum(trajectories.missing_px) * trajectories.pixel_area_ha
    yield _check(
        "area left out",
        gaps,
        "Every pixel of any map has a category at every date.",
        kind="plausibility",
        area_ha=area,
    )


def check_forest(findings: Sequence[ForestFinding], rule: ForestRule) -> Iterator[Check]:
    """Minimum area and crown cover of forest stands."""
    small = [
        f"{item.small} stands under {rule.min_area_ha:g} ha, {item.small_ha:,.2f} ha in all, in {item.year}"
        for item in findings
        if item.small
    ]
    yield _check(
        "minimum forest area",
        small,
        f"No stand inside the map is smaller than {rule.min_area_ha:g} ha.",
        kind="definition",
        area_ha=max((item.small_ha for item in findings), default=0.0),
    )
    with_cover = [item for item in findings if item.open is not None]
    if not with_cover:
        text = f"Not checked: no layer of tree cover was given (the rule requires {rule.min_cover:g} %)."
        yield Check("forest crown cover", "definition", None, text)
        return
    open_stands = [
        f"{item.open} stands, {item.open_ha:,.2f} ha in {item.year}" for item in with_cover if item.open
    ]
    years = join_words(item.year for item in with_cover)
    yield _check(
        "forest crown cover",
        open_stands,
        f"Every stand has {rule.min_cover:g} % of crown cover in {years}.",
        kind="definition",
        area_ha=max((item.open_ha or 0.0 for item in with_cover), default=0.0),
    )


def check_land_area(trajectories: Trajectories, official_ha: float, *, tolerance: float = 0.01) -> Check:
    """
    Compare the total with the official land area, within a relative tolerance.

    Raises
    ------
    InputError
        If the official area is not above 0.
    """
    if not official_ha > 0:
        raise InputError(f"The official land area is {official_ha:g} ha; it must be above 0.")
    difference = trajectories.total_ha - official_ha
    share = difference / official_ha
    text = f"{trajectories.total_ha:,.1f} ha counted, {official_ha:,.1f} ha official: {share:+.2%}."
    return Check("official land area", "definition", abs(share) <= tolerance, text, abs(difference))


def _sums(tables: Sequence[TransitionTable], *, axis: int, name: str, stated: str) -> Check:
    wrong = []
    for table in tables:
        sums, given = table.matrix_kha.sum(axis=axis), table.initial_kha if axis == 1 else table.final_kha
        wrong += [
            f"{table.year} {_names()[i]} {sums[i]:.6g} kha, {stated} {given[i]:.6g}"
            for i in np.flatnonzero(_differ(sums, given))
        ]
    return _check(name, wrong, f"In each table the {name} are the {stated}s.")


def _check(
    name: str, wrong: Sequence[str], right: str, *, kind: str = "arithmetic", area_ha: float = 0.0
) -> Check:
    """Check that passes when nothing is wrong."""
    text = (
        right
        if not wrong
        else f"{'; '.join(wrong[:8])}{f'; and {len(wrong) - 8} more' if len(wrong) > 8 else ''}."
    )
    return Check(name, kind, not wrong, text, area_ha)


def _differ(one: object, other: object) -> NDArray[np.bool_]:
    near = np.isclose(
        np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=1e-9, atol=TOLERANCE_KHA
    )
    return np.asarray(~near)


def _names() -> list[str]:
    return list(CATEGORIES)
