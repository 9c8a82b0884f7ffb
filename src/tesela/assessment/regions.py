"""The regions: named areas with their own scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score
from tesela.core.errors import InputError
from tesela.io.pixel_areas import areas_on, numbers_on
from tesela.io.vector import code_texts, find_field

if TYPE_CHECKING:
    import geopandas as gpd

_MOST = 5000
"""Each region has a matrix: 16 kB for CORINE's 44 classes."""


@dataclass(frozen=True)
class Region:
    """One region with its own confusion."""

    name: str
    confusion: Confusion
    evaluated_ha: float
    """Evaluated area, in hectares."""

    @cached_property
    def scores(self) -> Scores:
        """Scores of the region alone: a class absent from it is left out of its means."""
        return score(self.confusion)


class RegionCounter:
    """Confusions by region, window by window; polygons of one name form one region."""

    def __init__(self, grid: GeoBox, polygons: gpd.GeoDataFrame, field: str | None, empty: Confusion) -> None:
        areas = areas_on(grid, polygons)
        assert areas is not None
        self.names, numbers = _named(areas, field)
        self._areas = areas
        self._numbers = numbers
        self._confusions = [empty] * len(self.names)
        self._ha = np.zeros(len(self.names))

    def groups(self, window: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Numbers of the regions in a window (0: no region), and each pixel's index into them."""
        numbers = numbers_on(window, self._areas, self._numbers)
        present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=len(self.names) + 1))
        index = np.zeros(len(self.names) + 1, np.uint16)
        index[present] = np.arange(present.size)
        return present, index[numbers]

    def add(self, present: NDArray[np.int64], confusions: list[Confusion], *, pixel_ha: float) -> None:
        """Add the confusions of the regions of a window."""
        for number, confusion in zip(present.tolist(), confusions, strict=True):
            if number:
                self._confusions[number - 1] = self._confusions[number - 1] + confusion
                self._ha[number - 1] += confusion.evaluated_px * pixel_ha

    def result(self) -> tuple[Region, ...]:
        """Regions with a class on either side, in the order of their first polygon."""
        parts = zip(self.names, self._confusions, self._ha.tolist(), strict=True)
        return tuple(
            Region(name, confusion, ha)
            for name, confusion, ha in parts
            if confusion.evaluated_px or confusion.unmapped_px or confusion.unreferenced_px
        )


def _named(areas: gpd.GeoDataFrame, field: str | None) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the regions, and the number of each polygon's region from 1."""
    import pandas as pd

    if field is None:
        names = [str(number) for number in range(1, len(areas) + 1)]
        numbers = np.arange(1, len(areas) + 1, dtype=np.int32)
    else:
        fields = [str(name) for name in areas.columns if name != areas.geometry.name]
        name = find_field(field, fields, where="Regions")
        positions, unique = pd.factorize(code_texts(areas[name]))
        names, numbers = [str(item) for item in unique], (positions + 1).astype(np.int32)
    if not names or len(names) > _MOST:
        raise InputError(
            f"There are {len(names)} regions; from 1 to {_MOST} are possible. Name a field whose values group the "
            f"polygons (--region-field)."
        )
    return names, numbers
