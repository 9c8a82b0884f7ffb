"""The virtual region: landscapes whose truth is known, for the demo, tests and benchmarks."""

from tesela.simulate.landscape import Landscape, make_landscape
from tesela.simulate.references import Reference, WrongPolygon, make_reference
from tesela.simulate.region import Region, write_region
from tesela.simulate.sensors import SensorImage, simulate_image, write_image
from tesela.simulate.sheet import Sheet, make_sheet
from tesela.simulate.sheet_files import SheetFiles, write_sheet
from tesela.simulate.surface import Surface, lay_surface

__all__ = [
    "Landscape",
    "Reference",
    "Region",
    "SensorImage",
    "Sheet",
    "SheetFiles",
    "Surface",
    "WrongPolygon",
    "lay_surface",
    "make_landscape",
    "make_reference",
    "make_sheet",
    "simulate_image",
    "write_image",
    "write_region",
    "write_sheet",
]
