"""Class maps: rasters whose pixels are values of a legend, with colours and names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import windows
from tesela.core.legend import NODATA, Legend
from tesela.io.cog import BLOCK_PX, CogWriter
from tesela.io.legends import legend_of_tag
from tesela.io.manifest import write_text
from tesela.io.outputs import check_file_outputs
from tesela.io.pixel_values import read_pixel_values
from tesela.io.ramp_style import ramp_style
from tesela.io.raster import Closing, grid_of, open_dataset
from tesela.io.tiles import count_values

_TAG = "TESELA_LEGEND"


@dataclass(frozen=True)
class ClassMap:
    """A class raster in a file: uint8 values of a legend, 0 for nodata."""

    path: str
    grid: GeoBox
    legend: Legend

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return (
            f"<ClassMap {Path(self.path).name}: {self.legend.address}, {rows} x {cols} px, {self.grid.crs}>"
        )


def open_map(path: str | Path, *, legend: Legend | None = None) -> ClassMap:
    """
    Describe a class raster; the legend is read from the file where Tesela wrote it.

    Raises
    ------
    InputError
        If the file is missing, or has several bands or a type that cannot hold classes.
    LegendError
        If the file does not name its legend and none is given.
    """
    with open_dataset(path) as data:
        if data.count != 1:
            raise InputError(
                f"{path}: has {data.count} bands; a class map has one. Extract it (gdal_translate -b N)."
            )
        if np.dtype(data.dtypes[0]).kind not in "iu":
            raise InputError(
                f"{path}: holds {data.dtypes[0]} values; a class map holds whole numbers. "
                "Convert it, if its values are classes (gdal_translate -ot Byte)."
            )
        tag = data.tags().get(_TAG)
        grid = grid_of(data)
    if legend is None:
        if not tag:
            raise LegendError(
                f"{path}: does not name its legend; name it (--legend corine-2, or a CSV of your own)."
            )
        return ClassMap(str(path), grid, legend_of_tag(tag, where=path))
    own = legend_of_tag(tag, where=path) if tag else legend
    if not own.same_classes(legend):
        raise LegendError(
            f"{path}: has legend '{own.address}', which the file names, and not '{legend.address}'. Leave the "
            f"legend out, or translate the map (tesela legend convert)."
        )
    return ClassMap(str(path), grid, legend)


class MapReader(Closing):
    """Reads windows of a class map on any grid, always by nearest pixel; use it in a `with` block."""

    def __init__(self, source: ClassMap) -> None:
        self.map = source
        self._data = open_dataset(source.path)

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
        raw, valid = read_pixel_values(self._data, [1], grid, nodata=self._data.nodata, continuous=False)
        numbers = raw[0] * valid[0]  # NODATA is 0
        if numbers.dtype != np.uint8:
            self.map.legend.check_values(np.unique(numbers).tolist(), where=self.map.path)
        values: NDArray[np.uint8] = numbers.astype(np.uint8, copy=False)
        counts = np.zeros(256, np.int64)
        count_values(values, counts)
        self.map.legend.check_values(np.flatnonzero(counts).tolist(), where=self.map.path)
        return values


class MapWriter(CogWriter):
    """
    Writes a class map as a COG, with names and styles in files beside it.

    ``.aux.xml`` holds category names and attribute table (for GDAL and QGIS), ``.qml`` the QGIS style. Overviews
    take the most frequent class of four pixels, see `tesela.io.tiles.halve_by_mode`.
    """

    def __init__(self, path: str | Path, grid: GeoBox, legend: Legend) -> None:
        super().__init__(path, grid)
        self.legend = legend
        self.counts = np.zeros(256, np.int64)
        """Pixels written, by value."""

    def write(self, row: int, col: int, values: NDArray[np.unsignedinteger]) -> None:
        """Write a window of class values, (rows, cols) uint8; see `CogWriter.write`."""
        count_values(values, self.counts)
        super().write(row, col, values)

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Palette, legend and its address."""
        legend = self.legend
        legend.check_values(np.flatnonzero(self.counts).tolist(), where=str(self.path))
        data.write_colormap(
            1, {item.value: (*item.rgb, 255) for item in legend.classes} | {NODATA: (0, 0, 0, 0)}
        )
        data.set_band_description(1, legend.address)
        data.update_tags(
            **{_TAG: json.dumps({"name": legend.name, "levels": legend.levels, "rows": legend.to_rows()})}
        )

    def finish_beside(self) -> None:
        """Attribute table and QGIS style."""
        for target, text in (
            (self.path.with_name(self.path.name + ".aux.xml"), attribute_xml(self.legend, self.counts)),
            (self.path.with_suffix(".qml"), qml_style(self.legend)),
        ):
            write_text(target, text)


class ScoreWriter(CogWriter):
    """Writes layers of scores (confidence, entropy, probabilities) as uint8 bands; 255 is nodata."""

    overviews = "mean"
    packing = "deflate"

    def __init__(
        self,
        path: str | Path,
        grid: GeoBox,
        names: Sequence[str],
        *,
        scale: float,
        unit: str,
        most: float | None = None,
    ) -> None:
        """`most`: quantity at which the colours of the QGIS style end; default: 100 %, or 1."""
        super().__init__(path, grid, bands=len(names), nodata=255)
        self._names, self._scale, self._unit = tuple(names), scale, unit
        self._most = (100.0 if unit == "%" else 1.0) if most is None else most

    def finish_beside(self) -> None:
        """QGIS style of the first layer."""
        write_text(self.path.with_suffix(".qml"), ramp_style(self._most, unit=self._unit))

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Names, scale and unit of the layers."""
        data.descriptions = self._names
        data.scales = [self._scale] * len(self._names)
        data.units = [self._unit] * len(self._names)


def write_map(path: str | Path, values: NDArray[np.uint8], grid: GeoBox, *, legend: Legend) -> ClassMap:
    """
    Write an array of class values as a map.

    Parameters
    ----------
    values : (rows, cols) array of uint8
    """
    if values.shape != tuple(grid.shape):
        raise GridError(
            f"The array has {values.shape} pixels, the grid {tuple(grid.shape)}; they must be the same."
        )
    with MapWriter(path, grid, legend) as writer:
        writer.write(0, 0, values)
    return ClassMap(str(path), grid, legend)


def convert_map(source: ClassMap, out: str | Path, *, crosswalk: Crosswalk) -> ClassMap:
    """
    Translate a class map to another legend, window by window; a code that the crosswalk splits takes its main target.

    Raises
    ------
    LegendError
        If the crosswalk lacks a class of the map's legend.
    """
    check_file_outputs([out], inputs=[source.path])
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
        ElementTree.SubElement(categories, "Category").text = (
            by_value[value].name if value in by_value else ""
        )
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # name, GDAL's field type (0 integer, 2 text) and usage (5 value, 1 count, 2 name, 0 generic, 6 to 8 colour)
    columns = [
        ("Value", 0, 5),
        ("Count", 0, 1),
        ("Class_Name", 2, 2),
        ("Code", 2, 0),
        ("R", 0, 6),
        ("G", 0, 7),
        ("B", 0, 8),
    ]
    for index, (name, kind, usage) in enumerate(columns):
        field = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for key, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ElementTree.SubElement(field, key).text = text
    for index, item in enumerate(legend.classes):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        for entry in (item.value, counts[item.value], item.name, item.code, *item.rgb):
            ElementTree.SubElement(row, "F").text = str(entry)
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
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )
