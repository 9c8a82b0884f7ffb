"""Class maps: rasters whose pixels are values of a legend, with colours and names."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.legend import NODATA, Legend
from tesela.io.raster import grid_of, open_dataset, raster_crs, read_numbers, windows

BLOCK_PX = 512
"""Side of the blocks of every raster that we write."""

_TAG = "TESELA_LEGEND"


@dataclass(frozen=True)
class ClassMap:
    """A class raster in a file: uint8 values of a legend, 0 for nodata."""

    path: str
    grid: GeoBox
    legend: Legend

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return f"<ClassMap {Path(self.path).name}: {self.legend.address}, {rows} x {cols} px, {self.grid.crs}>"


def open_map(path: str | Path, *, legend: Legend | None = None) -> ClassMap:
    """
    Describe a class raster; the legend is read from the file where Tesela wrote it.

    Raises
    ------
    InputError
        If the file is missing, or has several bands or a type that cannot hold classes.
    LegendError
        If the file does not say its legend and none is given.
    """
    with open_dataset(path) as data:
        if data.count != 1:
            raise InputError(f"{path}: has {data.count} bands; a class map has one. Extract it (gdal_translate -b N).")
        if np.dtype(data.dtypes[0]).kind not in "iu":
            raise InputError(f"{path}: holds {data.dtypes[0]} numbers; a class map holds whole numbers.")
        tag = data.tags().get(_TAG)
        grid = grid_of(data)
    if legend is None:
        if not tag:
            raise LegendError(f"{path}: does not say its legend; name it (--legend corine-2, or a CSV of your own).")
        document = json.loads(tag)
        legend = Legend.from_rows(document["name"], document["rows"], levels=document["levels"])
    return ClassMap(str(path), grid, legend)


class MapReader:
    """Reads windows of a class map on any grid, always by nearest pixel; use it in a `with` block."""

    def __init__(self, source: ClassMap) -> None:
        self.map = source
        self._data = open_dataset(source.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """
        Class values on a grid, (rows, cols) uint8; 0 where the map has no data or does not reach.

        Raises
        ------
        LegendError
            If the file holds values that its legend does not have.
        """
        raw, valid = read_numbers(self._data, [1], grid, nodata=self._data.nodata, continuous=False)
        numbers = np.where(valid[0], raw[0], NODATA)
        if numbers.dtype != np.uint8:
            self.map.legend.check_values(np.unique(numbers).tolist(), where=self.map.path)
        values = numbers.astype(np.uint8)
        counts = np.bincount(values.ravel(), minlength=256)
        self.map.legend.check_values(np.flatnonzero(counts).tolist(), where=self.map.path)
        return values


class TiledWriter:
    """
    Writes a raster of bytes, or of another unsigned type, by windows in any order, and makes it a COG at the end.

    In a `with` block: the file appears at `path` when the block ends well, and not at all otherwise. Windows must
    not overlap; pixels never written stay nodata.
    """

    def __init__(
        self, path: str | Path, grid: GeoBox, *, bands: int = 1, nodata: int = NODATA, dtype: str = "uint8"
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self._nodata = nodata
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
            self._tiles = self._folder / "tiles.tif"
            self._data = rasterio.open(self._tiles, "w", **_tiled_profile(grid, bands=bands, nodata=nodata, dtype=dtype))
        except (OSError, RasterioError) as error:
            raise InputError(f"{path}: cannot be written ({error}).") from None

    def __enter__(self) -> Self:
        return self

    def write(self, row: int, col: int, values: NDArray[np.unsignedinteger]) -> None:
        """
        Write a window whose corner lies at `row`, `col`.

        Parameters
        ----------
        values : (rows, cols) or (bands, rows, cols) array of uint8, or of the raster's type
        """
        layers = values if values.ndim == 3 else values[np.newaxis]
        self._data.write(layers, window=Window(col, row, layers.shape[2], layers.shape[1]))

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._data.close()
            if kind is None:
                self._finish()
        except (OSError, RasterioError) as error:
            raise InputError(f"{self.path}: cannot be written ({error}). Is the disk full?") from error
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        raise NotImplementedError

    def _make_cog(self, *, overviews: str) -> Path:
        cog = self._folder / self.path.name
        rasterio.shutil.copy(
            self._tiles,
            cog,
            driver="COG",
            compress="DEFLATE",
            blocksize=BLOCK_PX,
            overview_resampling=overviews,
            num_threads="ALL_CPUS",
            bigtiff="IF_SAFER",
        )
        with rasterio.open(cog) as data:  # a full disk can leave a file without its last blocks
            data.read(1, window=Window(data.width - 1, data.height - 1, 1, 1))
        return cog


class MapWriter(TiledWriter):
    """
    Writes a class map; beside the COG stand names and styles.

    ``.aux.xml`` holds category names and attribute table (for GDAL and QGIS), ``.qml`` the QGIS style.
    """

    def __init__(self, path: str | Path, grid: GeoBox, legend: Legend) -> None:
        super().__init__(path, grid)
        self.legend = legend
        self.counts = np.zeros(256, np.int64)
        """Pixels written, by value."""

    def write(self, row: int, col: int, values: NDArray[np.unsignedinteger]) -> None:
        """Write a window of class values; see `TiledWriter.write`."""
        self.counts += np.bincount(values.ravel(), minlength=256)
        super().write(row, col, values)

    def _finish(self) -> None:
        legend = self.legend
        legend.check_values(np.flatnonzero(self.counts).tolist(), where=str(self.path))
        with rasterio.open(self._tiles, "r+") as data:
            data.write_colormap(1, {item.value: (*item.rgb, 255) for item in legend.classes} | {NODATA: (0, 0, 0, 0)})
            data.set_band_description(1, legend.address)
            data.update_tags(**{_TAG: json.dumps({"name": legend.name, "levels": legend.levels, "rows": legend.to_rows()})})
        cog = self._make_cog(overviews="MODE")
        table, style = self._folder / "table.xml", self._folder / "style.qml"
        table.write_text(attribute_xml(legend, self.counts), encoding="utf-8")
        style.write_text(qml_style(legend), encoding="utf-8")
        table.replace(self.path.with_name(self.path.name + ".aux.xml"))
        style.replace(self.path.with_suffix(".qml"))
        cog.replace(self.path)


class ScoreWriter(TiledWriter):
    """Writes layers of scores (confidence, entropy, probabilities) as uint8 bands; 255 is nodata."""

    def __init__(
        self, path: str | Path, grid: GeoBox, names: Sequence[str], *, scale: float, unit: str
    ) -> None:
        super().__init__(path, grid, bands=len(names), nodata=255)
        self._names, self._scale, self._unit = tuple(names), scale, unit

    def _finish(self) -> None:
        with rasterio.open(self._tiles, "r+") as data:
            data.descriptions = self._names
            data.scales = [self._scale] * len(self._names)
            data.units = [self._unit] * len(self._names)
        self._make_cog(overviews="AVERAGE").replace(self.path)


def _tiled_profile(grid: GeoBox, *, bands: int, nodata: int, dtype: str) -> dict[str, object]:
    return {
        "driver": "GTiff",
        "width": grid.shape[1],
        "height": grid.shape[0],
        "count": bands,
        "dtype": dtype,
        "crs": raster_crs(grid),
        "transform": grid.affine,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "LZW",
        "nodata": nodata,
        "BIGTIFF": "IF_SAFER",
        "SPARSE_OK": True,
    }


def write_map(path: str | Path, values: NDArray[np.uint8], grid: GeoBox, *, legend: Legend) -> ClassMap:
    """
    Write an array of class values as a map.

    Parameters
    ----------
    values : (rows, cols) array of uint8
    """
    if values.shape != tuple(grid.shape):
        raise GridError(f"The array has {values.shape} pixels, the grid {tuple(grid.shape)}; they must be the same.")
    with MapWriter(path, grid, legend) as writer:
        writer.write(0, 0, values)
    return ClassMap(str(path), grid, legend)


def convert_map(source: ClassMap, out: str | Path, *, crosswalk: Crosswalk) -> ClassMap:
    """
    Translate a class map to another legend, window by window; codes that the crosswalk splits take its main target.

    Raises
    ------
    LegendError
        If the crosswalk says nothing about a class of the map's legend.
    """
    table = crosswalk.table(source.legend)
    with MapReader(source) as reader, MapWriter(out, source.grid, crosswalk.target) as writer:
        for row, col, window in windows(source.grid, 4 * BLOCK_PX):
            writer.write(row, col, table[reader.read(window)])
    return ClassMap(str(out), source.grid, crosswalk.target)


def attribute_xml(legend: Legend, counts: NDArray[np.int64]) -> str:
    """Text of the GDAL side file: category names, and an attribute table (value, count, name, code, colours)."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    by_value = {item.value: item for item in legend.classes}
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(by_value) + 1):
        ElementTree.SubElement(categories, "Category").text = by_value[value].name if value in by_value else ""
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # name, GDAL's field type (0 integer, 2 text) and usage (5 value, 1 count, 2 name, 0 generic, 6 to 8 colour)
    columns = [("Value", 0, 5), ("Count", 0, 1), ("Class_Name", 2, 2), ("Code", 2, 0), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8)]
    for index, (name, kind, usage) in enumerate(columns):
        field = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for key, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ElementTree.SubElement(field, key).text = text
    for index, item in enumerate(legend.classes):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        for text in (item.value, counts[item.value], item.name, item.code, *item.rgb):
            ElementTree.SubElement(row, "F").text = str(text)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def qml_style(legend: Legend) -> str:
    """Text of a QGIS style: one palette entry per class, labelled with code and name."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="AllStyleCategories")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for item in legend.classes:
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(item.value),
            color=item.color,
            alpha="255",
            label=item.name if item.code == item.name else f"{item.code} {item.name}",
        )
    ElementTree.indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(root, encoding="unicode") + "\n"
