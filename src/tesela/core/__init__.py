"""Values that the whole package uses: legends, crosswalks, scenes, quantities and errors."""

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import (
    ExpertError,
    GridError,
    InputError,
    LegendError,
    RecipeError,
    TeselaError,
)
from tesela.core.legend import NODATA, LandClass, Legend
from tesela.core.scene import Band, Scene
from tesela.core.units import parse_area_m2, parse_length_m

__all__ = [
    "NODATA",
    "Band",
    "Crosswalk",
    "ExpertError",
    "GridError",
    "InputError",
    "LandClass",
    "Legend",
    "LegendError",
    "RecipeError",
    "Scene",
    "TeselaError",
    "parse_area_m2",
    "parse_length_m",
]
