"""Cohorts: land by the year in which it was converted, for the rule of 20 years."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.trajectories import Histories
from tesela.core.errors import InputError
from tesela.core.legend import Legend

NEVER = 0
"""Year of conversion of land that was not converted since the first map."""


@dataclass(frozen=True, eq=False)
class CohortTable:
    """
    Area by inventory year, year of its last conversion, category before and category now.

    Land converted in year c counts as "converted to" in the inventories of c to c + `transition_years` - 1,
    then as "remaining" [IPCC2006]_. What happened before the first map is not known: all of its land counts
    as remaining.
    """

    legend: Legend
    years: tuple[int, ...]
    """Inventory years; conversions happen from the second on."""
    never_ha: NDArray[np.float64]
    """(Y, K): land that was not converted since the first year."""
    converted_ha: NDArray[np.float64]
    """(Y, Y, K, K): inventory year, year of conversion, category before, category now."""
    transition_years: int = 20

    def remaining_ha(self, year: int) -> NDArray[np.float64]:
        """Land remaining in each category, (K,): never converted, or longer ago than the transition takes."""
        y = self._position(year)
        old = [c for c, when in enumerate(self.years) if year - when >= self.transition_years]
        return np.asarray(self.never_ha[y] + self.converted_ha[y, old].sum(axis=(0, 1)))

    def converting_ha(self, year: int) -> NDArray[np.float64]:
        """Land in conversion, (K, K): category before and category now."""
        y = self._position(year)
        recent = [c for c, when in enumerate(self.years) if year - when < self.transition_years]
        return np.asarray(self.converted_ha[y, recent].sum(axis=0))

    def rows(self) -> Iterator[tuple[int, int, str, str, float, str]]:
        """Year, year of conversion (0: never), category before, category now, hectares, status."""
        codes = self.legend.codes
        for y, year in enumerate(self.years):
            for k in np.flatnonzero(self.never_ha[y]):
                yield year, NEVER, codes[k], codes[k], float(self.never_ha[y, k]), "remaining"
            for c, before, now in zip(*np.nonzero(self.converted_ha[y]), strict=True):
                when = self.years[c]
                status = "converted" if year - when < self.transition_years else "remaining"
                yield (
                    year,
                    when,
                    codes[before],
                    codes[now],
                    float(self.converted_ha[y, c, before, now]),
                    status,
                )

    def _position(self, year: int) -> int:
        if year not in self.years:
            raise InputError(f"The cohorts span {self.years[0]} to {self.years[-1]}; {year} was asked for.")
        return self.years.index(year)


def follow_cohorts(histories: Histories, *, transition_years: int = 20) -> CohortTable:
    r"""
    Follow every parcel of converted land from its conversion on.

    Between two maps, :math:`L` years apart, an equal part :math:`A / L` of what changed is converted in each
    year. Land that is converted again leaves its cohort, in equal parts of every cohort of one interval.

    Parameters
    ----------
    transition_years : int
        Years for which land counts as converted; 20 by default of the IPCC.
    """
    if transition_years < 1:
        raise InputError(f"transition_years is {transition_years}; it is 20 by default and at least 1.")
    years = histories.inventory_years
    size, start = len(histories.legend), histories.years[0]
    never = np.zeros((len(years), size))
    converted = np.zeros((len(years), len(years), size, size))
    never[0] = histories.mapped_areas_ha[0]
    for i, (y0, y1) in enumerate(zip(histories.years, histories.years[1:], strict=False)):
        length = y1 - y0
        for before, after, origin, last, area in _groups(histories, i):
            for step in range(1, length + 1):
                y = y0 + step - start
                if before != after:
                    converted[y, y0 + 1 - start : y + 1, before, after] += area / length
                left = area if before == after else area * (length - step) / length
                if last < 0:
                    never[y, before] += left
                else:
                    first, end = (histories.years[last + k] + 1 - start for k in range(2))
                    converted[y, first:end, origin, before] += left / (end - first)
    return CohortTable(histories.legend, years, never, converted, transition_years)


def _groups(histories: Histories, interval: int) -> Iterator[tuple[int, int, int, int, float]]:
    """Category before and after, origin and interval (or -1) of the last change before these, area."""
    paths = histories.paths.astype(np.int64)
    last = np.full(len(paths), -1, np.int64)
    origin = np.zeros(len(paths), np.int64)
    for j in range(interval):
        changed = paths[:, j] != paths[:, j + 1]
        last[changed], origin[changed] = j, paths[changed, j]
    keys = np.column_stack([paths[:, interval], paths[:, interval + 1], origin, last])
    groups, where = np.unique(keys, axis=0, return_inverse=True)
    areas = np.bincount(where.ravel(), weights=histories.pixels) * histories.pixel_area_ha
    for (before, after, start, when), area in zip(groups.tolist(), areas.tolist(), strict=True):
        yield before, after, start, when, area
