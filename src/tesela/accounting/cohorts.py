"""Cohorts: land by year of conversion, for the rule of 20 years."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.trajectories import Trajectories
from tesela.core.errors import InputError
from tesela.core.legend import Legend

NEVER = 0
"""Year of conversion of land not converted since the first map."""


@dataclass(frozen=True, eq=False)
class CohortTable:
    """
    Area by inventory year, year of the last conversion, category before and category now.

    Land converted in year c counts as "converted to" in the inventories of c to c + `transition_years` - 1,
    then as "remaining" [IPCC2006]_. Conversions before the first map are unknown: all of its land counts as
    remaining.
    """

    legend: Legend
    years: tuple[int, ...]
    """Inventory years; conversions happen from the second on."""
    never_ha: NDArray[np.float64]
    """(Y, K): land not converted since the first year."""
    converted_ha: NDArray[np.float64]
    """(Y, Y, K, K): inventory year, year of conversion, category before, category now."""
    transition_years: int = 20

    def remaining_ha(self, year: int) -> NDArray[np.float64]:
        """Land remaining in each category, (K,): never converted, or converted before the transition period."""
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
            raise InputError(f"The cohorts cover {self.years[0]} to {self.years[-1]}, not {year}.")
        return self.years.index(year)


def follow_cohorts(trajectories: Trajectories, *, transition_years: int = 20) -> CohortTable:
    r"""
    Follow converted land from the year of its conversion.

    Between two maps, :math:`L` years apart, an equal part :math:`A / L` of the change :math:`A` is converted in
    each year. Land that is converted again leaves the cohorts of its interval in equal parts.

    Parameters
    ----------
    transition_years : int
        Years for which land counts as converted; 20 is the default of the IPCC.
    """
    if transition_years < 1:
        raise InputError(f"transition_years is {transition_years}; it is 20 by default and at least 1.")
    years = trajectories.inventory_years
    size, start = len(trajectories.legend), trajectories.years[0]
    never = np.zeros((len(years), size))
    converted = np.zeros((len(years), len(years), size, size))
    never[0] = trajectories.mapped_areas_ha[0]
    for i, (y0, y1) in enumerate(zip(trajectories.years, trajectories.years[1:], strict=False)):
        length = y1 - y0
        for before, after, origin, last, area in _groups(trajectories, i):
            for step in range(1, length + 1):
                y = y0 + step - start
                if before != after:
                    converted[y, y0 + 1 - start : y + 1, before, after] += area / length
                remaining = area if before == after else area * (length - step) / length
                if last < 0:
                    never[y, before] += remaining
                else:
                    first, end = (trajectories.years[last + k] + 1 - start for k in range(2))
                    converted[y, first:end, origin, before] += remaining / (end - first)
    return CohortTable(trajectories.legend, years, never, converted, transition_years)


def _groups(trajectories: Trajectories, interval: int) -> Iterator[tuple[int, int, int, int, float]]:
    """Category before and after, origin and interval (or -1) of the last change before this interval, area."""
    paths = trajectories.paths.astype(np.int64)
    last = np.full(len(paths), -1, np.int64)
    origin = np.zeros(len(paths), np.int64)
    for j in range(interval):
        changed = paths[:, j] != paths[:, j + 1]
        last[changed], origin[changed] = j, paths[changed, j]
    keys = np.column_stack([paths[:, interval], paths[:, interval + 1], origin, last])
    groups, where = np.unique(keys, axis=0, return_inverse=True)
    areas = np.bincount(where.ravel(), weights=trajectories.pixels) * trajectories.pixel_area_ha
    for (before, after, start, when), area in zip(groups.tolist(), areas.tolist(), strict=True):
        yield before, after, start, when, area
