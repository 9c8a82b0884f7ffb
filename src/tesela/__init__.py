"""
From imagery and an existing land-cover map to trained models, and from the models to publishable maps.

The public names are flat: each command is a function, ``tesela sample draw`` is `tesela.sample_draw`, and what opens
begins with ``open_``. Each is loaded when it is first asked for: ``import tesela`` alone loads neither torch nor
rasterio nor xarray. A new public name is one line in `_HOME` and its twin under ``if TYPE_CHECKING``, which editors
and type checkers read; a test keeps the two equal.
"""

import os
import sys
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
    from tesela.io.abundance import AbundanceMap as AbundanceMap
    from tesela.io.abundance import open_abundance as open_abundance
    from tesela.io.crosswalks import open_crosswalk as open_crosswalk
    from tesela.io.cube_arrays import open_cube as open_cube
    from tesela.io.legends import open_legend as open_legend
    from tesela.io.maps import ClassMap as ClassMap
    from tesela.io.maps import open_map as open_map
    from tesela.io.maps import write_map as write_map
    from tesela.io.scenes import open_scene as open_scene
    from tesela.io.vector import open_layer as open_layer
    from tesela.patches.table import PatchTable as PatchTable
    from tesela.patches.table import open_patches as open_patches
    from tesela.recipes.schema import open_recipe as open_recipe
    from tesela.simulate.region.region import write_region as write_region
    from tesela.sources.providers import open_catalogue as open_catalogue
    from tesela.training.segmentation.settings import SegmentationSettings as SegmentationSettings
    from tesela.training.unmixing.settings import UnmixingSettings as UnmixingSettings
    from tesela.verbs.accuracy import account as account
    from tesela.verbs.accuracy import assess as assess
    from tesela.verbs.accuracy import change_layer as change_layer
    from tesela.verbs.accuracy import sample_changes as sample_changes
    from tesela.verbs.accuracy import sample_draw as sample_draw
    from tesela.verbs.accuracy import sample_estimate as sample_estimate
    from tesela.verbs.chains import compare as compare
    from tesela.verbs.chains import demo as demo
    from tesela.verbs.chains import figures as figures
    from tesela.verbs.chains import init as init
    from tesela.verbs.chains import run as run
    from tesela.verbs.chains import train as train
    from tesela.verbs.experts import Expert as Expert
    from tesela.verbs.experts import open_cascade as open_cascade
    from tesela.verbs.experts import open_expert as open_expert
    from tesela.verbs.experts import predict as predict
    from tesela.verbs.experts import unmix as unmix
    from tesela.verbs.imagery import mosaic_layer as mosaic_layer
    from tesela.verbs.imagery import mosaic_modis as mosaic_modis
    from tesela.verbs.imagery import mosaic_sentinel_2 as mosaic_sentinel_2
    from tesela.verbs.imagery import mosaic_stack as mosaic_stack
    from tesela.verbs.labels import label as label
    from tesela.verbs.labels import patches as patches
    from tesela.verbs.legends import legend_crosswalk as legend_crosswalk
    from tesela.verbs.legends import legend_init as legend_init
    from tesela.verbs.legends import legend_list as legend_list
    from tesela.verbs.legends import legend_show as legend_show
    from tesela.verbs.maps import generalise as generalise
    from tesela.verbs.maps import legend_convert as legend_convert
    from tesela.verbs.maps import update as update
    from tesela.verbs.maps import update_apply as update_apply
    from tesela.verbs.maps import vectorise as vectorise
    from tesela.verbs.pages import open_review as open_review
    from tesela.verbs.pages import review_agreement as review_agreement
    from tesela.verbs.pages import review_export as review_export
    from tesela.verbs.pages import review_rank as review_rank
    from tesela.verbs.pages import review_serve as review_serve
    from tesela.verbs.pages import view as view
    from tesela.verbs.products import doctor as doctor
    from tesela.verbs.products import publish as publish
    from tesela.verbs.products import published_checkpoint as published_checkpoint
    from tesela.verbs.products import published_msmtu as published_msmtu
    from tesela.verbs.products import published_timespec as published_timespec
    from tesela.verbs.training import train_segmentation as train_segmentation
    from tesela.verbs.training import train_unmixing as train_unmixing

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
    "AbundanceMap": "tesela.io.abundance",
    "Band": "tesela.core.scene",
    "ClassMap": "tesela.io.maps",
    "Crosswalk": "tesela.core.crosswalk",
    "Expert": "tesela.verbs.experts",
    "ExpertError": "tesela.core.errors",
    "GridError": "tesela.core.errors",
    "InputError": "tesela.core.errors",
    "LandClass": "tesela.core.legend",
    "Legend": "tesela.core.legend",
    "LegendError": "tesela.core.errors",
    "PatchTable": "tesela.patches.table",
    "RecipeError": "tesela.core.errors",
    "Scene": "tesela.core.scene",
    "SegmentationSettings": "tesela.training.segmentation.settings",
    "TeselaError": "tesela.core.errors",
    "UnmixingSettings": "tesela.training.unmixing.settings",
    "account": "tesela.verbs.accuracy",
    "assess": "tesela.verbs.accuracy",
    "change_layer": "tesela.verbs.accuracy",
    "compare": "tesela.verbs.chains",
    "demo": "tesela.verbs.chains",
    "doctor": "tesela.verbs.products",
    "figures": "tesela.verbs.chains",
    "generalise": "tesela.verbs.maps",
    "init": "tesela.verbs.chains",
    "label": "tesela.verbs.labels",
    "legend_convert": "tesela.verbs.maps",
    "legend_crosswalk": "tesela.verbs.legends",
    "legend_init": "tesela.verbs.legends",
    "legend_list": "tesela.verbs.legends",
    "legend_show": "tesela.verbs.legends",
    "mosaic_layer": "tesela.verbs.imagery",
    "mosaic_modis": "tesela.verbs.imagery",
    "mosaic_sentinel_2": "tesela.verbs.imagery",
    "mosaic_stack": "tesela.verbs.imagery",
    "open_abundance": "tesela.io.abundance",
    "open_cascade": "tesela.verbs.experts",
    "open_catalogue": "tesela.sources.providers",
    "open_crosswalk": "tesela.io.crosswalks",
    "open_cube": "tesela.io.cube_arrays",
    "open_expert": "tesela.verbs.experts",
    "open_layer": "tesela.io.vector",
    "open_legend": "tesela.io.legends",
    "open_map": "tesela.io.maps",
    "open_patches": "tesela.patches.table",
    "open_recipe": "tesela.recipes.schema",
    "open_review": "tesela.verbs.pages",
    "open_scene": "tesela.io.scenes",
    "patches": "tesela.verbs.labels",
    "predict": "tesela.verbs.experts",
    "publish": "tesela.verbs.products",
    "published_checkpoint": "tesela.verbs.products",
    "published_msmtu": "tesela.verbs.products",
    "published_timespec": "tesela.verbs.products",
    "review_agreement": "tesela.verbs.pages",
    "review_export": "tesela.verbs.pages",
    "review_rank": "tesela.verbs.pages",
    "review_serve": "tesela.verbs.pages",
    "run": "tesela.verbs.chains",
    "sample_changes": "tesela.verbs.accuracy",
    "sample_draw": "tesela.verbs.accuracy",
    "sample_estimate": "tesela.verbs.accuracy",
    "train": "tesela.verbs.chains",
    "train_segmentation": "tesela.verbs.training",
    "train_unmixing": "tesela.verbs.training",
    "unmix": "tesela.verbs.experts",
    "update": "tesela.verbs.maps",
    "update_apply": "tesela.verbs.maps",
    "vectorise": "tesela.verbs.maps",
    "view": "tesela.verbs.pages",
    "write_map": "tesela.io.maps",
    "write_region": "tesela.simulate.region.region",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the table is the list


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tesela' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


# Two verbs have the name of a package. Loading a package sets the attribute of its parent, once: so both, which hold
# nothing themselves, are loaded here, and then make way for the function. `from tesela.generalise.unit import ...` and
# `import tesela.generalise.unit` work as ever; what does not is to walk there by attributes.
for _name in ("generalise", "patches"):
    import_module(f"tesela.{_name}")
    del globals()[_name]

if "xarray" in sys.modules:
    import_module("tesela.xr")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
