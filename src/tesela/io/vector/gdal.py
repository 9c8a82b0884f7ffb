"""Layers that GDAL reads, through pyogrio: GeoPackage, shapefile, GeoJSON, file geodatabase and all others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.notes import note
from tesela.io.vector.address import VectorAddress
from tesela.io.vector.dbf import check_parts, shapefile_encoding
from tesela.io.vector.endings import check_end

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in the units of a CRS."""

_NO_AREA = ("Point", "LineString", "Curve", "CircularString", "CompoundCurve")


@dataclass(frozen=True)
class LayerFacts:
    """What a source says of a layer before its features are read."""

    layer: str
    crs: str
    """WKT; empty where the layer has none."""
    bounds: Bounds
    fields: tuple[str, ...]
    count: int
    encoding: str | None = None


@dataclass(frozen=True)
class Features:
    """Features as a source gives them."""

    table: pd.DataFrame
    """Attributes, in the order of the source."""
    wkb: NDArray[np.object_]
    """(n,) well-known binary, None without a geometry."""
    numbers: NDArray[np.int64]
    """(n,) number of each feature in its source."""

    def only(self, chosen: NDArray[np.bool_]) -> Features:
        """Some of the features."""
        at = np.flatnonzero(chosen)
        return Features(self.table.iloc[at].reset_index(drop=True), self.wkb[at], self.numbers[at])


def list_area_layers(address: VectorAddress) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Names of the layers that may hold polygons, and of all layers.

    Raises
    ------
    InputError
        If GDAL cannot read the file.
    """
    import pyogrio

    with _quiet(address.text):
        listed = [(str(name), str(kind or "")) for name, kind in pyogrio.list_layers(address.source)]
    areas = [name for name, kind in listed if kind and not _is_linear(kind)]
    return tuple(areas), tuple(name for name, _ in listed)


def _is_linear(kind: str) -> bool:
    """Whether a declared type is of points or lines: "3D Measured Multi Curve", "LineString Z"."""
    plain = kind.replace("2.5D", "").replace("3D", "").replace("Measured", "").replace("Multi", "")
    name = "".join(plain.split())
    return name in _NO_AREA or name.rstrip("ZM") in _NO_AREA


def open_gdal(
    address: VectorAddress, layer: str | None, *, field: str | None = None, option: str = "--layer"
) -> LayerFacts:
    """
    Describe a layer.

    Parameters
    ----------
    layer : str, optional
        Default: the only layer of polygons, or the only one of them that has the field.
    field : str, optional
        Field that will be read.

    Raises
    ------
    InputError
        If the file cannot be read or was cut, or it is ambiguous which layer is meant.
    """
    import pyogrio

    shapefile = address.file if address.source.lower().endswith((".shp", ".dbf")) else None
    if shapefile is not None:
        check_parts(address.source, shapefile)
    areas, names = list_area_layers(address)
    chosen = _only_layer(address, areas, field, option=option) if layer is None else layer
    if chosen not in names:
        alike = [name for name in names if name.casefold() == chosen.casefold()]
        if len(alike) != 1:
            raise InputError(f"{address.text}: {unknown_name('layer', chosen, areas or names)}")
        chosen = alike[0]
    encoding = None if shapefile is None else shapefile_encoding(address.source, shapefile)
    with _quiet(address.text):
        info = pyogrio.read_info(
            address.source, layer=chosen, encoding=encoding, force_feature_count=True, force_total_bounds=True
        )
    check_end(address.source, driver=str(info["driver"]), count=int(info["features"]))
    bounds = info["total_bounds"]
    left, bottom, right, top = (0.0, 0.0, 0.0, 0.0) if bounds is None else (float(side) for side in bounds)
    return LayerFacts(
        layer=chosen,
        crs=info["crs"] or "",
        bounds=(left, bottom, right, top),
        fields=tuple(str(name) for name in info["fields"]),
        count=int(info["features"]),
        encoding=encoding,
    )


def _only_layer(address: VectorAddress, areas: tuple[str, ...], field: str | None, *, option: str) -> str:
    """The layer of polygons, of several the one that has the field."""
    if len(areas) == 1:
        return areas[0]
    listed = f"{address.text}: has {len(areas)} polygon layers ({join_words(areas) or 'none'})"
    if not areas:
        raise InputError(f"{listed}; a reference needs polygons.")
    fields = {} if field is None else {name: _fields_of(address, name) for name in areas}
    having = [name for name, known in fields.items() if str(field).casefold() in map(str.casefold, known)]
    if len(having) == 1:
        note(f"{address.text}: its layer '{having[0]}' is read, the only one with the field {field}.")
        return having[0]
    if field is not None and not having:
        known = "; ".join(f"{name}: {join_words(names) or 'none'}" for name, names in fields.items())
        raise InputError(f"{listed}, none with the field {field}. Name one of their fields ({known}).")
    if having:
        listed += f", of which {join_words(having)} have the field {field}"
    first = (having or areas)[0]
    raise InputError(f"{listed}; name one ({option} {first}, or {address.text}|layername={first}).")


def _fields_of(address: VectorAddress, layer: str) -> list[str]:
    import pyogrio

    with _quiet(address.text):
        return [str(name) for name in pyogrio.read_info(address.source, layer=layer)["fields"]]


def read_gdal(
    address: VectorAddress,
    layer: str,
    *,
    bounds: Bounds | None,
    columns: list[str] | None,
    encoding: str | None,
    numbers: NDArray[np.int64] | None = None,
) -> Features:
    """
    Features whose envelope touches the bounds, by number; of these only the ones with `numbers`, if given.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    import pyogrio

    with _quiet(address.text):
        if address.source.lower().endswith(".fgb"):  # GDAL 3.12 fails with Arrow where no feature matches
            _, fids, shapes, values = pyogrio.raw.read(
                address.source, layer=layer, bbox=bounds, columns=columns, return_fids=True
            )
            features = _by_number(_frame(_["fields"], values), shapes, fids)
            return features if numbers is None else features.only(np.isin(features.numbers, numbers))
        meta, table = pyogrio.raw.read_arrow(
            address.source,
            layer=layer,
            bbox=bounds,
            columns=columns,
            encoding=encoding,
            return_fids=True,
        )
        return _from_arrow(meta, table, numbers)


def iter_gdal(
    address: VectorAddress, layer: str, *, columns: list[str] | None, encoding: str | None, size: int
) -> Iterator[Features]:
    """
    All features in the order of the file, about `size` at a time.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    import pyarrow as pa
    import pyogrio

    if address.source.lower().endswith(".fgb"):
        yield read_gdal(address, layer, bounds=None, columns=columns, encoding=encoding)
        return
    with (
        _quiet(address.text),
        pyogrio.raw.open_arrow(
            address.source,
            layer=layer,
            columns=columns,
            encoding=encoding,
            return_fids=True,
            batch_size=size,
            use_pyarrow=True,
        ) as (meta, reader),
    ):
        for batch in reader:
            if batch.num_rows:
                yield _from_arrow(meta, pa.Table.from_batches([batch]))


def _from_arrow(meta: dict[str, Any], table: pa.Table, wanted: NDArray[np.int64] | None = None) -> Features:
    names = list(table.column_names)
    # A field can be called like the column of numbers or of geometries: ogr2ogr leaves OGC_FID behind.
    shape_at = len(names) - 1 - names[::-1].index(meta["geometry_name"] or "wkb_geometry")
    number_at = names.index(meta["fid_column"] or "OGC_FID")
    if wanted is not None:
        table = table.filter(np.isin(table.column(number_at).to_numpy(), wanted))
    shapes = np.empty(table.num_rows, object)
    shapes[:] = table.column(shape_at).to_pylist()
    numbers = table.column(number_at).to_numpy()
    kept = [at for at in range(len(names)) if at not in (shape_at, number_at)]
    return _by_number(_decoded(table.select(kept)).to_pandas(), shapes, numbers)


def _decoded(table: pa.Table) -> pa.Table:
    """The table with text that is no UTF-8 read as Windows-1252, as people write GeoJSON by hand."""
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        try:
            table.column(at).validate(full=True)
        except pa.ArrowInvalid:
            raw = [chunk.view(pa.binary() if pa.types.is_string(field.type) else pa.large_binary())
                   for chunk in table.column(at).chunks]  # fmt: skip
            texts = [None if item is None else _text(item) for chunk in raw for item in chunk.to_pylist()]
            table = table.set_column(at, field.name, pa.array(texts, field.type))
    return table


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _frame(names: NDArray[np.object_], values: list[NDArray[np.generic]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(zip([str(name) for name in names], values, strict=True)))


def _by_number(table: pd.DataFrame, shapes: object, numbers: object) -> Features:
    """Features in the order of the file: a spatial index gives them in its own."""
    fids = np.asarray(numbers, np.int64)
    order = np.argsort(fids, kind="stable")
    wkb = np.empty(len(fids), object)
    wkb[:] = list(shapes)  # type: ignore[call-overload]
    return Features(table.iloc[order].reset_index(drop=True), wkb[order], fids[order])


@contextmanager
def _quiet(path: str) -> Iterator[None]:
    """Keep GDAL's warnings off the screen, and raise its errors, and those of text, as `InputError`."""
    from pyogrio.errors import DataLayerError, DataSourceError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except UnicodeDecodeError:
            raise InputError(
                f"{path}: its text is not in the encoding that it declares; convert it (ogr2ogr -oo ENCODING=CP1252)."
            ) from None
        except (DataSourceError, DataLayerError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            raise InputError(f"{path}: not a vector file that GDAL can read ({reason}).") from None
