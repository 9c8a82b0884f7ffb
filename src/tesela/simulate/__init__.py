"""The virtual region: landscapes of known truth, for the demo, tests and benchmarks."""

from tesela.simulate.region.landscape import Landscape, make_landscape
from tesela.simulate.region.references import Reference, WrongPolygon, make_reference
from tesela.simulate.region.region import Region, write_region
from tesela.simulate.region.sensors import SensorImage, simulate_image, write_image
from tesela.simulate.region.surface import Surface, lay_surface
from tesela.simulate.sheet.files import SheetFiles, write_sheet
from tesela.simulate.sheet.sheet import Sheet, make_sheet

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
