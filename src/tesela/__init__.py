"""
From imagery and an existing land-cover map to trained models, and from the models to publishable maps.

The public names are flat, ``tesela.open_scene``, and each is loaded when it is first asked for:
``import tesela`` alone loads neither torch nor rasterio. A new public name is one line in `_HOME` and its
twin under ``if TYPE_CHECKING``, which editors and type checkers read; a test keeps the two equal.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tesela.core.crosswalk import Crosswalk as Crosswalk
    from tesela.core.errors import ExpertError as ExpertError
    from tesela.core.errors import GridError as GridError
    from tesela.core.errors import InputError as InputError
    from tesela.core.errors import LegendError as LegendError
    from tesela.core.errors import RecipeError as RecipeError
    from tesela.core.errors import TeselaError as TeselaError
    from tesela.core.legend import LandClass as LandClass
    from tesela.core.legend import Legend as Legend
    from tesela.core.scene import Band as Band
    from tesela.core.scene import Scene as Scene
    from tesela.io.legends import list_legends as list_legends
    from tesela.io.legends import load_crosswalk as load_crosswalk
    from tesela.io.legends import load_legend as load_legend
    from tesela.io.maps import open_map as open_map
    from tesela.io.maps import write_map as write_map
    from tesela.io.raster import open_scene as open_scene
    from tesela.io.vector import open_layer as open_layer

__version__ = "0.1.0"

_HOME = {
    "Band": "tesela.core.scene",
    "Crosswalk": "tesela.core.crosswalk",
    "ExpertError": "tesela.core.errors",
    "GridError": "tesela.core.errors",
    "InputError": "tesela.core.errors",
    "LandClass": "tesela.core.legend",
    "Legend": "tesela.core.legend",
    "LegendError": "tesela.core.errors",
    "RecipeError": "tesela.core.errors",
    "Scene": "tesela.core.scene",
    "TeselaError": "tesela.core.errors",
    "list_legends": "tesela.io.legends",
    "load_crosswalk": "tesela.io.legends",
    "load_legend": "tesela.io.legends",
    "open_layer": "tesela.io.vector",
    "open_map": "tesela.io.maps",
    "open_scene": "tesela.io.raster",
    "write_map": "tesela.io.maps",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the table is the list


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tesela' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
