"""Class maps: rasters whose pixels are values of a legend, with colours and names."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError, LegendError, unknown_name, wrong_kind
from tesela.core.grid import windows
from tesela.core.legend import NODATA, Legend
from tesela.io.array_views import LEGEND_ATTRIBUTE, class_attributes, legend_of_array, raster_array
from tesela.io.arrays import is_array, write_array
from tesela.io.cog import BLOCK_PX, CogWriter
from tesela.io.held import Held
from tesela.io.legends import legend_as_tag, legend_of_tag, open_legend
from tesela.io.manifest import record_step, write_text, write_whole
from tesela.io.outputs import check_file_outputs
from tesela.io.pixel_values import read_pixel_values
from tesela.io.ramp_style import ramp_style
from tesela.io.raster import Closing, grid_of, open_dataset
from tesela.io.tiles import count_values

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes


MapSource: TypeAlias = Union[str, Path, "ClassMap", "xr.DataArray"]
"""What is opened as a class map."""


@dataclass(frozen=True)
class ClassMap:
    """A class raster in a file: uint8 values of a legend, 0 for nodata."""

    path: str
    grid: GeoBox
    legend: Legend
    layers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Rasters written in the same pass, by name: "confidence", "entropy", "probabilities", "narrow"."""
    details: object = field(default=None, repr=False, compare=False)
    """How the verb that made the map made it, such as a `Prediction` or a `ChangeLog`; None for an opened map."""
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary files of a map that was given no path; see `tesela.io.held`."""

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return (
            f"<ClassMap {Path(self.path).name}: {self.legend.address}, {rows} x {cols} px, {self.grid.crs}>"
        )

    def _repr_html_(self) -> str:
        from tesela.io.map_views import map_card

        return map_card(self)

    @property
    def areas(self) -> pd.DataFrame:
        """Pixels, hectares and share of each class that occurs; see `tesela.io.map_views.area_table`."""
        from tesela.io.map_views import map_areas

        return map_areas(self)

    def to_xarray(self, layer: str | None = None, *, lazy: bool | None = None) -> xr.DataArray:
        """
        Class values as a DataArray, (y, x) uint8, with CRS, legend, colours and nodata in its attributes.

        Parameters
        ----------
        layer : str, optional
            One of `layers` instead, such as "confidence"; "probabilities" has the dimension band, the class codes.
        lazy : bool, optional
            Whether the array is one of Dask, read when it is computed; default: where it is over 256 MiB.

        Raises
        ------
        InputError
            If there is no such layer, or the file is broken.
        """
        import tesela.io.accessor  # noqa: F401 - registers it

        if layer is None:
            attributes = class_attributes(self.legend)
            return raster_array(
                self.path, self.grid, name="classes", attributes=attributes, held=self.held, lazy=lazy
            )
        if layer not in self.layers:
            raise InputError(f"{self.path}: {unknown_name('layer', layer, tuple(self.layers))}")
        names = self.legend.codes if layer == "probabilities" else None
        return raster_array(self.layers[layer], self.grid, names=names, name=layer, held=self.held, lazy=lazy)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the map in the colours of its legend with matplotlib; large maps are drawn from their overviews."""
        from tesela.io.map_views import draw_map

        return draw_map(self, ax=ax)

    def save(self, path: str | Path) -> ClassMap:
        """
        Copy the map with the files beside it (names, style) to a path, whole or not at all.

        A map that has no such files, as one made from an array, is written anew, as a COG with overviews.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        target = Path(path)
        check_file_outputs([target], inputs=[self.path])
        source = Path(self.path)
        pairs = [(source.with_name(source.name + ".aux.xml"), target.with_name(target.name + ".aux.xml"))]
        pairs += [(source.with_suffix(".qml"), target.with_suffix(".qml")), (source, target)]
        if not all(old.exists() for old, _ in pairs):
            with MapReader(self) as reader, MapWriter(target, self.grid, self.legend) as writer:
                for row, col, window in windows(self.grid, 4 * BLOCK_PX):
                    writer.write(row, col, reader.read(window))
            return ClassMap(str(target), self.grid, self.legend, details=self.details)
        try:
            for old, new in pairs:
                with write_whole(new) as part:
                    shutil.copyfile(old, part)
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from None
        return ClassMap(str(target), self.grid, self.legend, details=self.details)


def open_map(source: MapSource, *, legend: Legend | str | Path | None = None) -> ClassMap:
    """
    Describe a class raster; the legend is read from the file where Tesela wrote it.

    Parameters
    ----------
    source : path, ClassMap or DataArray
        A DataArray holds class values and a CRS; it is written to a temporary file by blocks. Its legend is that of
        `ClassMap.to_xarray`, or is given.
    legend : Legend, name or path, optional
        Needed where the source does not name its legend.

    Raises
    ------
    GridError
        If a DataArray has no CRS.
    InputError
        If the file is missing, or has several bands or a type that cannot hold classes.
    LegendError
        If the file does not name its legend and none is given.
    """
    if legend is not None:
        legend = open_legend(legend)
    if isinstance(source, ClassMap):
        if legend is None or source.legend.same_classes(legend):
            return source
        source = source.path
    if is_array(source):
        return _map_of_array(source, legend)
    if not isinstance(source, str | Path):
        raise wrong_kind("A map", "a path, a ClassMap, or a DataArray of classes with a CRS", source)
    path = source
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
        tag = data.tags().get(LEGEND_ATTRIBUTE)
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


def _map_of_array(data: xr.DataArray | xr.Dataset, legend: Legend | None) -> ClassMap:
    own = legend_of_array(data)
    named = own or legend
    held = Held()
    files = write_array(
        data,
        held.folder,
        classes=True,
        tags={} if named is None else {LEGEND_ATTRIBUTE: legend_as_tag(named)},
    )
    if len(files) != 1:
        raise InputError(
            f"A map is one DataArray of classes; the Dataset has {len(files)}. Choose one (dataset[name])."
        )
    try:
        return replace(open_map(files[0], legend=legend), held=held)
    except LegendError as error:
        raise error if named is not None else LegendError(_NO_LEGEND) from None


_NO_LEGEND = (
    "The DataArray of classes does not name its legend; give it (tesela.open_map(array, legend='corine-2'), or "
    "legend= and source= of the function called)."
)


def legend_of(source: str | Path | Legend | ClassMap) -> Legend:
    """
    A legend by name or from a CSV, see `tesela.io.legends.open_legend`; a class map stands for the legend in its tag.

    Raises
    ------
    InputError, LegendError
        As `open_map` and `open_legend`.
    """
    if isinstance(source, ClassMap):
        return source.legend
    if isinstance(source, str | Path) and Path(source).suffix.lower() in (".tif", ".tiff", ".vrt"):
        return open_map(source).legend
    return open_legend(source)


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
        numbers = raw[0] if valid.all() else raw[0] * valid[0]  # NODATA is 0
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
        data.update_tags(**{LEGEND_ATTRIBUTE: legend_as_tag(legend)})

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
    record_step(
        "legend convert",
        [out],
        inputs=[source.path],
        settings={"from": source.legend.address, "crosswalk": list(crosswalk.steps)},
        legend=crosswalk.target.address,
    )
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
