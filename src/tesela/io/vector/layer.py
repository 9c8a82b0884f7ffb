"""The one door for polygons: a layer is described first, and its features are read later, by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, wrong_kind
from tesela.core.polygons import find_overlaps, mend_polygons, separate_polygons
from tesela.io.held import Held
from tesela.io.vector.address import VectorAddress, parse_address
from tesela.io.vector.decode import decode_shapes
from tesela.io.vector.fields import find_field
from tesela.io.vector.frames import is_frame, write_frame
from tesela.io.vector.gdal import Bounds, Features, iter_gdal, list_area_layers, open_gdal, read_gdal
from tesela.io.vector.parquet import iter_parquet, open_parquet, read_parquet
from tesela.io.vector.postgis import open_postgis, read_postgis
from tesela.io.vector.repairs import Repairs

if TYPE_CHECKING:
    import geopandas as gpd


def bounds_text(bounds: Bounds) -> str:
    """Bounds as people read them: degrees with four digits, metres with none."""
    digits = 4 if max(abs(side) for side in bounds) <= 360 else 0
    return " ".join(f"{side:.{digits}f}" for side in bounds)


@dataclass(frozen=True)
class VectorLayer:
    """A layer of polygons; its features are read later, by window."""

    path: str
    """As given, without the layer."""
    layer: str
    """Layer name; empty for formats with one layer."""
    crs: str
    """CRS as WKT."""
    bounds: Bounds
    fields: tuple[str, ...]
    count: int
    address: VectorAddress = field(repr=False)
    encoding: str | None = None
    """Text encoding of a shapefile, where it matters."""
    repairs: Repairs = field(default_factory=Repairs, repr=False, compare=False)
    """What reading mended so far."""
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary file of a layer made from a GeoDataFrame; see `tesela.io.held`."""

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """All polygons with all fields, in the order of the file."""
        return read_layer(self, report=False)

    def require_field(self, name: str) -> str:
        """
        Name of a field as the file writes it: the exact name wins before case is ignored.

        Raises
        ------
        InputError
            If there is no such field.
        """
        return find_field(name, self.fields, where=self.path)

    def require_features(self) -> None:
        """
        Check that the layer is not empty.

        Raises
        ------
        InputError
            If it is.
        """
        if not self.count:
            raise InputError(f"{self.path}: its layer {self.layer or 'of polygons'} holds no features.")

    def report(self) -> None:
        """Report what reading mended, left out and decided, once."""
        self.repairs.report(self.path)


def open_layer(
    path: str | Path | VectorLayer | gpd.GeoDataFrame,
    *,
    layer: str | None = None,
    field: str | None = None,
    option: str = "--layer",
) -> VectorLayer:
    """
    Describe a layer of a GeoPackage, GeoParquet, Shapefile or any other file that GDAL reads, zipped or not, of a
    PostGIS database (a table, or a query), or a GeoDataFrame.

    Parameters
    ----------
    path : str, Path, GeoDataFrame or VectorLayer
        See `tesela.io.vector.address.parse_address`. A GeoDataFrame is written to a temporary file.
    layer : str, optional
        Needed when the file has several layers of polygons, unless only one of them has the `field`.
    field : str, optional
        Field that is read; of several layers the only one with it is taken.
    option : str
        What names the layer on the command line, for messages.

    Raises
    ------
    InputError
        If the file is missing or broken, or the layer is not there.
    GridError
        If the layer has no CRS, or a local one.
    """
    if isinstance(path, VectorLayer):
        return path
    if is_frame(path):
        held = Held()
        return replace(open_layer(write_frame(path, held.folder)), held=held)
    if not isinstance(path, str | Path):
        raise wrong_kind("A layer of polygons", "a path, a postgresql:// address or a GeoDataFrame", path)
    address = parse_address(path)
    wanted = layer or address.layer
    if address.file is not None and not address.file.exists():
        raise InputError(f"{address.text}: no such file.")
    if address.is_parquet and wanted is not None:
        raise InputError(f"{address.text}: a GeoParquet has no layers; leave the layer out (--layer).")
    if address.is_database:
        facts = open_postgis(address.source, wanted, option=option)
    elif address.is_parquet:
        facts = open_parquet(address.source)
    else:
        facts = open_gdal(address, wanted, field=field, option=option)
    if not facts.crs:
        raise GridError(
            f"{address.text}: the layer has no coordinate system. Assign the right one (ogr2ogr -a_srs EPSG:....), "
            f"then try again."
        )
    _check_crs(facts.crs, address.text)
    return VectorLayer(
        path=address.text,
        layer=facts.layer,
        crs=facts.crs,
        bounds=facts.bounds,
        fields=facts.fields,
        count=facts.count,
        address=address,
        encoding=facts.encoding,
    )


def _check_crs(wkt: str, where: str) -> None:
    """Refuse a local CRS, as of a drawing, which lies nowhere on the Earth."""
    crs = pyproj.CRS.from_user_input(wkt)
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if not (crs.is_geographic or crs.is_projected):
        raise GridError(
            f"{where}: its coordinate system '{crs.name}' is a local one ({crs.type_name}), without a place on the "
            f"Earth. Assign the right one (ogr2ogr -a_srs EPSG:....), then try again."
        )


def layer_of(path: str | Path | None, layer: str | None) -> str | None:
    """
    The layer to read from one of several files to which one name was given (``--layer``).

    A file with one layer of polygons needs no name, and may have another one.

    Examples
    --------
    >>> layer_of(None, "clc18")
    """
    if path is None or layer is None:
        return None
    address = parse_address(path)
    if address.is_database:
        return layer
    if address.layer is not None or address.is_parquet or (address.file and not address.file.exists()):
        return None
    areas, names = list_area_layers(address)
    return None if len(areas) == 1 and layer not in names else layer


def read_layer(
    layer: VectorLayer,
    *,
    bounds: Bounds | None = None,
    columns: Sequence[str] | None = None,
    numbers: NDArray[np.int64] | None = None,
    report: bool = True,
) -> gpd.GeoDataFrame:
    """
    Features whose envelope touches `bounds` (in the layer's CRS), with these columns only.

    Every geometry is a valid polygon or multipolygon in two dimensions, or empty: curves become chords, collections
    are taken apart, invalid polygons get the area of `shapely.make_valid`. `VectorLayer.repairs` counts them; a
    whole layer is reported at once, windows by `VectorLayer.report`. Polygons may still overlap, see
    `separate_layer`.

    Parameters
    ----------
    numbers : (n,) array of int, optional
        Only these features.
    report : bool
        False for a layer that Tesela has just written: what was mended is known.

    Returns
    -------
    GeoDataFrame
        In the layer's CRS and in the order of the file; the index holds the numbers of the features.

    Raises
    ------
    InputError
        If the file cannot be read, or a geometry is damaged.
    """
    names = None if columns is None else list(dict.fromkeys(columns))
    frame = _frame(layer, _features(layer, bounds, names, numbers))
    if bounds is None and report:
        layer.report()
    return frame


def iter_layer(
    layer: VectorLayer, *, columns: Sequence[str] | None = None, size: int = 5_000
) -> Iterator[gpd.GeoDataFrame]:
    """
    All features of a layer as `read_layer` returns them, about `size` at a time, in the order of the file.

    Tables of a database come at once. What was mended is reported by `VectorLayer.report`.

    Raises
    ------
    InputError
        If the file cannot be read, or a geometry is damaged.
    """
    names = None if columns is None else list(dict.fromkeys(columns))
    if layer.address.is_parquet:
        batches = iter_parquet(layer.address.source, columns=names, size=size)
    elif layer.address.is_database:
        batches = iter([read_postgis(layer.address.source, layer.layer, bounds=None, columns=names)])
    else:
        batches = iter_gdal(layer.address, layer.layer, columns=names, encoding=layer.encoding, size=size)
    for features in batches:
        yield _frame(layer, features)


def _frame(layer: VectorLayer, features: Features) -> gpd.GeoDataFrame:
    import geopandas as gpd

    decoded = decode_shapes(features.wkb, where=layer.path, numbers=features.numbers)
    mended = mend_polygons(decoded.shapes)
    if mended.not_finite.size:
        raise InputError(
            f"{layer.path}: feature {features.numbers[mended.not_finite[0]]} has a coordinate that is not a number; "
            "delete the feature, or draw it again."
        )
    layer.repairs.add("curved", features.numbers[decoded.curved])
    layer.repairs.add("broken", features.numbers[decoded.broken])
    layer.repairs.add_mended(mended, features.numbers, counted=decoded.broken)
    taken = {str(name) for name in features.table.columns}
    name = next(text for text in ("geometry", "shape", "area_shape", "tesela_shape") if text not in taken)
    table = features.table.set_axis(features.numbers).rename_axis("fid")
    shapes = gpd.GeoSeries(mended.shapes, index=table.index, crs=layer.crs)
    return gpd.GeoDataFrame(table.assign(**{name: shapes}), geometry=name, crs=layer.crs)


def separate_layer(
    layer: VectorLayer,
    frame: gpd.GeoDataFrame,
    *,
    shared: dict[int, dict[int, shapely.Geometry]] | None = None,
) -> NDArray[np.object_]:
    """
    Polygons of a frame of `read_layer` without overlaps: ground under two belongs to the later one in the file.

    The overlaps are counted in `VectorLayer.repairs`.

    Parameters
    ----------
    shared : dict, optional
        Gets the ground of each earlier polygon under later ones, by the numbers of both.
    """
    apart = separate_polygons(frame.geometry.to_numpy())
    if len(apart.pairs):
        numbers = frame.index.to_numpy()[apart.pairs]
        layer.repairs.add_overlaps(numbers, apart.shared, layer.crs)
        if shared is not None:
            for (earlier, later), ground in zip(numbers.tolist(), apart.shared, strict=True):
                shared.setdefault(earlier, {})[later] = ground
    return apart.shapes


def count_overlaps(layer: VectorLayer, frame: gpd.GeoDataFrame) -> None:
    """Count the overlaps of a frame in `VectorLayer.repairs`, for what draws the polygons in their order anyhow."""
    pairs, shared = find_overlaps(frame.geometry.to_numpy())
    if len(pairs):
        layer.repairs.add_overlaps(frame.index.to_numpy()[pairs], shared, layer.crs)


def _features(
    layer: VectorLayer,
    bounds: Bounds | None,
    columns: list[str] | None,
    numbers: NDArray[np.int64] | None,
) -> Features:
    source = layer.address.source
    if layer.address.is_parquet:
        return read_parquet(source, bounds=bounds, columns=columns, numbers=numbers)
    if layer.address.is_database:
        features = read_postgis(source, layer.layer, bounds=bounds, columns=columns)
        return features if numbers is None else features.only(np.isin(features.numbers, numbers))
    return read_gdal(
        layer.address, layer.layer, bounds=bounds, columns=columns, encoding=layer.encoding, numbers=numbers
    )
