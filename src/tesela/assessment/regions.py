"""The regions: named parts of the ground that are scored one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score
from tesela.core.errors import InputError, unknown_name
from tesela.io.pixel_areas import areas_on, numbers_on
from tesela.io.vector import code_texts

if TYPE_CHECKING:
    import geopandas as gpd

_MOST = 5000
"""Regions have a matrix each: 16 kB of CORINE's 44 classes."""


@dataclass(frozen=True)
class Region:
    """One region with its own confusion."""

    name: str
    confusion: Confusion
    evaluated_ha: float
    """Ground judged in it, in hectares."""

    @cached_property
    def scores(self) -> Scores:
        """Scores of the region alone: a class absent from it is left out of its means."""
        return score(self.confusion)


class RegionCounter:
    """Confusions by region, window after window; polygons of one name are one region."""

    def __init__(
        self, grid: GeoBox, polygons: gpd.GeoDataFrame, field: str | None, judged: Confusion
    ) -> None:
        areas = areas_on(grid, polygons)
        assert areas is not None
        self.names, numbers = _named(areas, field)
        self._areas = areas
        self._numbers = numbers
        self._found = [judged] * len(self.names)
        self._ha = np.zeros(len(self.names))

    def groups(self, window: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Regions of a window, 0 for none and else from 1, and the place among them of each pixel's own."""
        numbers = numbers_on(window, self._areas, self._numbers)
        present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=len(self.names) + 1))
        places = np.zeros(len(self.names) + 1, np.uint16)
        places[present] = np.arange(present.size)
        return present, places[numbers]

    def add(self, present: NDArray[np.int64], found: list[Confusion], *, pixel_ha: float) -> None:
        """Add the confusions of the regions of a window."""
        for number, confusion in zip(present.tolist(), found, strict=True):
            if number:
                self._found[number - 1] = self._found[number - 1] + confusion
                self._ha[number - 1] += confusion.evaluated_px * pixel_ha

    def result(self) -> tuple[Region, ...]:
        """Regions with a class on either side, in the order of their first polygon."""
        parts = zip(self.names, self._found, self._ha.tolist(), strict=True)
        return tuple(
            Region(name, confusion, ha)
            for name, confusion, ha in parts
            if confusion.evaluated_px or confusion.unmapped_px or confusion.unjudged_px
        )


def _named(areas: gpd.GeoDataFrame, field: str | None) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the regions, and the number of each polygon's region from 1."""
    import pandas as pd

    if field is None:
        names = [str(number) for number in range(1, len(areas) + 1)]
        numbers = np.arange(1, len(areas) + 1, dtype=np.int32)
    else:
        fields = [str(name) for name in areas.columns if name != areas.geometry.name]
        known = {name.lower(): name for name in fields}
        if field.lower() not in known:
            raise InputError(f"Regions: {unknown_name('field', field, fields)}")
        found, unique = pd.factorize(code_texts(areas[known[field.lower()]]))
        names, numbers = [str(item) for item in unique], (found + 1).astype(np.int32)
    if not names or len(names) > _MOST:
        raise InputError(
            f"{len(names)} regions were given, {_MOST} is the most and 1 the least; name a field whose values "
            f"group the polygons (--region-field)."
        )
    return names, numbers
