"""What reading a layer mended, left out or decided, counted once for each feature and reported in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tesela.core.errors import join_words
from tesela.core.notes import note
from tesela.core.polygons import MendedPolygons

_LINES = {
    "curved": ("{} with arcs", "read as chords of one degree"),
    "broken": (
        "{} with rings that are open or have fewer than three corners",
        "closed, or left out where nothing is enclosed",
    ),
    "crossing": (
        "{} invalid (it crosses itself, or its parts overlap)",
        "read with the area that make_valid gives it",
    ),
    "without_area": ("{} without an area (a point, a line, or a polygon that collapses to one)", "left out"),
    "missing": ("{} without a geometry", "left out"),
}

LEAST_OVERLAP_HA = 0.0001
"""Overlaps below a square metre come from rounded coordinates: they are decided like all, but not listed."""


@dataclass
class Repairs:
    """Features of a layer that were not read as they stand; those of several windows count once."""

    features: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of the features by kind of repair."""
    without_code: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of the features without a code, by field."""
    overlaps: dict[tuple[int, int], float] = field(default_factory=dict)
    """Hectares under two features, by their numbers, the earlier first."""

    def add(self, kind: str, numbers: Iterable[int]) -> None:
        """Count features of a kind of repair."""
        found = {int(number) for number in numbers}
        if found:
            self.features.setdefault(kind, set()).update(found)

    def add_mended(
        self, mended: MendedPolygons, numbers: NDArray[np.int64], *, counted: NDArray[np.int64]
    ) -> None:
        """Count what `mend_polygons` changed; positions in `counted` are empty for a reason that is counted already."""
        for kind in ("crossing", "without_area", "missing"):
            self.add(kind, numbers[np.setdiff1d(getattr(mended, kind), counted)])

    def add_without_code(self, name: str, numbers: Iterable[int]) -> None:
        """Count features whose field is empty."""
        found = {int(number) for number in numbers}
        if found:
            self.without_code.setdefault(name, set()).update(found)

    def add_overlaps(self, pairs: NDArray[np.int64], shared: NDArray[np.object_], crs: str) -> None:
        """Count pairs of features that share ground, and the ground."""
        listed = [(int(a), int(b)) for a, b in pairs]
        fresh = [number for number, pair in enumerate(listed) if pair not in self.overlaps]
        for number, area in zip(fresh, _hectares(shared[fresh], crs).tolist(), strict=True):
            self.overlaps[listed[number]] = area

    def lines(self, where: str) -> Iterator[str]:
        """One line for each kind, with its count, the first features, and what was done."""
        for kind, (what, done) in _LINES.items():
            found = self.features.get(kind)
            if found:
                yield f"{where}: {_numbered(what, found)}: {done}."
        for name, found in self.without_code.items():
            yield (
                f"{where}: {_numbered('{}' + f' without a code in the field {name!r}', found)}: without a class. Give "
                "the crosswalk a row from 'null' to class them."
            )
        seen = {pair: area for pair, area in self.overlaps.items() if area >= LEAST_OVERLAP_HA}
        if seen:
            total = sum(seen.values())
            pairs = [f"{later} over {earlier}" for earlier, later in sorted(seen)]
            yield (
                f"{where}: {len(pairs):,} {'overlap' if len(pairs) == 1 else 'overlaps'} of polygons, {total:,.4f} ha "
                f"in all (feature {join_words(pairs, most=3)}): there the later one in the file counts."
            )

    def report(self, where: str) -> None:
        """Report all lines as notes, and begin to count anew."""
        for line in self.lines(where):
            note(line)
        self.features.clear()
        self.without_code.clear()
        self.overlaps.clear()


def _numbered(what: str, found: set[int]) -> str:
    noun = f"{len(found):,} {'polygon' if len(found) == 1 else 'polygons'}"
    return f"{what.format(noun)} (feature {join_words(sorted(found), most=3)})"


def _hectares(shapes: NDArray[np.object_], crs: str) -> NDArray[np.float64]:
    """Areas on the ground; geodesic where the CRS is in degrees or Web Mercator."""
    system = pyproj.CRS.from_user_input(crs)
    if system.is_projected and system.to_epsg() != 3857:
        unit_m = float(system.axis_info[0].unit_conversion_factor)
        return np.asarray(shapely.area(shapes) * unit_m**2 / 10_000, np.float64)
    if not system.is_geographic and not system.is_projected:
        return np.asarray(shapely.area(shapes) / 10_000, np.float64)
    to = pyproj.Transformer.from_crs(system, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(shapes, lambda xy: np.stack(to.transform(*xy.T), axis=1))
    geod = pyproj.Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(shapely.normalize(shape))[0]) for shape in degrees]
    return np.array(areas, np.float64) / 10_000
