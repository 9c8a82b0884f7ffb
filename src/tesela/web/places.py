"""Places: what a picture of the review page shows, and what of it is judged."""

from __future__ import annotations

from dataclasses import dataclass

import pyproj
from odc.geo.geobox import GeoBox

Point = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """What a picture shows and what of it is judged, in pixels as (column, row)."""

    corner: Point
    """Upper left corner of the picture."""
    side: int
    """Of the picture, which is square."""
    frame: tuple[Point, Point, Point, Point]
    """Corners of what is judged; around it is context."""
    home: float
    """Width that is seen at first."""

    def to_dict(self) -> dict[str, object]:
        """Document for the page."""
        return {"corner": self.corner, "side": self.side, "frame": self.frame, "home": self.home}


def centre_of(grid: GeoBox) -> dict[str, object]:
    """Centre of a grid and the name of its system, for people."""
    x, y = grid.extent.centroid.coords[0]
    return name_place(x, y, crs=str(grid.crs))


def name_place(x: float, y: float, *, crs: str) -> dict[str, object]:
    """Coordinates, to the metre or to 0.1 m in degrees, and the name of their system."""
    found = pyproj.CRS.from_user_input(crs)
    return {
        "centre": [round(value, 6 if abs(value) < 1000 else 0) for value in (x, y)],
        "crs": ":".join(found.to_authority() or (found.name,)),
    }
