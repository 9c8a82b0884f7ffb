"""
From imagery and an existing land-cover map to trained models, and from the models to publishable maps.

The public names are flat, ``tesela.open_scene``, and each is loaded when it is first asked for:
``import tesela`` alone loads neither torch nor rasterio. A new public name is one line in `_HOME` and its
twin under ``if TYPE_CHECKING``, which editors and type checkers read; a test keeps the two equal.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tesela.assessment.assessment import assess as assess
    from tesela.assessment.report import write_report as write_report
    from tesela.chains.run import run_recipe as run_recipe
    from tesela.chains.transfer import adapt_expert as adapt_expert
    from tesela.core.crosswalk import Crosswalk as Crosswalk
    from tesela.core.errors import ExpertError as ExpertError
    from tesela.core.errors import GridError as GridError
    from tesela.core.errors import InputError as InputError
    from tesela.core.errors import LegendError as LegendError
    from tesela.core.errors import RecipeError as RecipeError
    from tesela.core.errors import TeselaError as TeselaError
    from tesela.core.legend import LandClass as LandClass
    from tesela.core.legend import Legend as Legend
    from tesela.core.publication import Publication as Publication
    from tesela.core.scene import Band as Band
    from tesela.core.scene import Scene as Scene
    from tesela.generalise.generalise import generalise_map as generalise_map
    from tesela.io.legends import list_legends as list_legends
    from tesela.io.legends import open_crosswalk as open_crosswalk
    from tesela.io.legends import open_legend as open_legend
    from tesela.io.maps import convert_map as convert_map
    from tesela.io.maps import open_map as open_map
    from tesela.io.maps import write_map as write_map
    from tesela.io.scenes import open_scene as open_scene
    from tesela.io.vector import open_layer as open_layer
    from tesela.labels.masks import write_labels as write_labels
    from tesela.mapping.abundance.unmix import unmix_cube as unmix_cube
    from tesela.mapping.predict import predict_map as predict_map
    from tesela.models.expert import open_expert as open_expert
    from tesela.patches.split import split_patches as split_patches
    from tesela.patches.table import make_patches as make_patches
    from tesela.patches.table import open_patches as open_patches
    from tesela.publishing.products import publish as publish
    from tesela.recipes.schema import open_recipe as open_recipe
    from tesela.simulate.region.region import write_region as write_region
    from tesela.sources.areas import make_area as make_area
    from tesela.sources.layers import write_layer_mosaic as write_layer_mosaic
    from tesela.sources.modis.cube import write_modis_cube as write_modis_cube
    from tesela.sources.mosaic.mosaic import write_mosaics as write_mosaics
    from tesela.sources.periods import parse_periods as parse_periods
    from tesela.sources.providers import open_catalogue as open_catalogue
    from tesela.training.segmentation.settings import SegmentationSettings as SegmentationSettings
    from tesela.training.segmentation.train import train_segmentation as train_segmentation
    from tesela.training.unmixing.settings import UnmixingSettings as UnmixingSettings
    from tesela.training.unmixing.train import train_unmixing as train_unmixing

__version__ = "0.1.0"

# OpenMP's threads sleep while they wait instead of spinning, which beside other work on the machine costs several
# times the processor time. Read once, when torch is loaded, so it stands here; a setting of yours wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _choose_kernel_cache() -> None:
    """
    Name a folder for the compiled kernels of numba where it would find none, and would refuse to load them.

    It takes the folder of the package or the user's cache folder. A container or a service user may write to neither.
    The folder is private: what it holds is run.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    package = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs as much as all of this
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    if _is_writable(os.path.join(package, "generalise", "__pycache__")) or _is_writable(  # noqa: PTH118
        os.path.join(home, "numba")  # noqa: PTH118
    ):
        return
    from tesela.core.machine import private_folder

    folder = private_folder("tesela-kernels")
    if folder is not None:  # else numba reports it
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


def _is_writable(folder: str) -> bool:
    """Whether a folder can be written to, or made."""
    while not os.path.exists(folder):  # noqa: PTH110
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return False
        folder = above
    return os.access(folder, os.W_OK | os.X_OK)


_choose_kernel_cache()

_HOME = {
    "Band": "tesela.core.scene",
    "Crosswalk": "tesela.core.crosswalk",
    "ExpertError": "tesela.core.errors",
    "GridError": "tesela.core.errors",
    "InputError": "tesela.core.errors",
    "LandClass": "tesela.core.legend",
    "Legend": "tesela.core.legend",
    "LegendError": "tesela.core.errors",
    "Publication": "tesela.core.publication",
    "RecipeError": "tesela.core.errors",
    "Scene": "tesela.core.scene",
    "SegmentationSettings": "tesela.training.segmentation.settings",
    "TeselaError": "tesela.core.errors",
    "UnmixingSettings": "tesela.training.unmixing.settings",
    "adapt_expert": "tesela.chains.transfer",
    "assess": "tesela.assessment.assessment",
    "convert_map": "tesela.io.maps",
    "generalise_map": "tesela.generalise.generalise",
    "list_legends": "tesela.io.legends",
    "make_area": "tesela.sources.areas",
    "make_patches": "tesela.patches.table",
    "open_catalogue": "tesela.sources.providers",
    "open_crosswalk": "tesela.io.legends",
    "open_expert": "tesela.models.expert",
    "open_layer": "tesela.io.vector",
    "open_legend": "tesela.io.legends",
    "open_map": "tesela.io.maps",
    "open_patches": "tesela.patches.table",
    "open_recipe": "tesela.recipes.schema",
    "open_scene": "tesela.io.scenes",
    "parse_periods": "tesela.sources.periods",
    "predict_map": "tesela.mapping.predict",
    "publish": "tesela.publishing.products",
    "run_recipe": "tesela.chains.run",
    "split_patches": "tesela.patches.split",
    "train_segmentation": "tesela.training.segmentation.train",
    "train_unmixing": "tesela.training.unmixing.train",
    "unmix_cube": "tesela.mapping.abundance.unmix",
    "write_labels": "tesela.labels.masks",
    "write_layer_mosaic": "tesela.sources.layers",
    "write_map": "tesela.io.maps",
    "write_modis_cube": "tesela.sources.modis.cube",
    "write_mosaics": "tesela.sources.mosaic.mosaic",
    "write_region": "tesela.simulate.region.region",
    "write_report": "tesela.assessment.report",
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
