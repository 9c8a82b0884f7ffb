"""Polygon layers, read by window through the spatial index."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words, unknown_name

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

NO_CODE = "null"
"""How a polygon without a code is named, in messages and in the `from` column of a crosswalk."""

_NUMBER = re.compile(r"([+-]?\d+)\.0*")

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in the units of a CRS."""


def bounds_text(bounds: Bounds) -> str:
    """Bounds as people read them: degrees with four digits, metres with none."""
    digits = 4 if max(abs(side) for side in bounds) <= 360 else 0
    return " ".join(f"{side:.{digits}f}" for side in bounds)


@dataclass(frozen=True)
class VectorLayer:
    """A layer of polygons in a file; its features are read later, by window."""

    path: str
    layer: str
    """Layer name; empty for formats with one layer."""
    crs: str
    """CRS as WKT."""
    bounds: Bounds
    fields: tuple[str, ...]
    count: int

    def require_field(self, field: str) -> str:
        """
        Name of the field as the file writes it, whatever the case of `field`.

        Raises
        ------
        InputError
            If there is no such field.
        """
        for name in self.fields:
            if name.lower() == field.lower():
                return name
        raise InputError(f"{self.path}: {unknown_name('field', field, self.fields)}")


def open_layer(path: str | Path, *, layer: str | None = None) -> VectorLayer:
    """
    Describe a layer of a GeoPackage, GeoParquet, Shapefile or any other file that GDAL reads.

    Parameters
    ----------
    layer : str, optional
        Needed when the file has several layers of polygons.

    Raises
    ------
    InputError
        If the file is missing or broken, or the layer is not there.
    GridError
        If the layer has no CRS.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file.")
    described = _open_parquet(str(path)) if _is_parquet(path) else _open_ogr(str(path), layer)
    if not described.crs:
        raise GridError(
            f"{path}: the layer has no coordinate system. Assign the right one (ogr2ogr -a_srs EPSG:....), then "
            f"try again."
        )
    return described


def read_layer(
    layer: VectorLayer, *, bounds: Bounds | None = None, columns: Sequence[str] | None = None
) -> gpd.GeoDataFrame:
    """
    Features whose envelope touches `bounds` (in the layer's CRS), with these columns only.

    The spatial index of the file is used where it has one, and the bounding boxes of a GeoParquet that covers its
    features with them; one that does not is read once and kept.

    Returns
    -------
    GeoDataFrame
        In the layer's CRS and in the order of the file.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    names = None if columns is None else list(columns)
    if _is_parquet(layer.path):
        if bounds is not None and "covering" in _geometry_column(layer.path)[1]:
            return _covered_parquet(layer.path, bounds, names)
        frame = _whole_parquet(layer.path)
        if bounds is not None:
            frame = frame.iloc[np.sort(frame.sindex.query(_box(bounds)))]
        return frame if names is None else frame[[*names, frame.geometry.name]]
    try:
        frame = pyogrio.read_dataframe(
            layer.path,
            layer=layer.layer or None,
            bbox=bounds,
            columns=names,
            use_arrow=not layer.path.lower().endswith(".fgb"),  # GDAL 3.12 fails where no feature matches
            fid_as_index=True,
        )
        return frame.sort_index()  # a spatial index gives features in its own order
    except DataSourceError as error:
        raise InputError(f"{layer.path}: cannot be read ({error}).") from None


def code_texts(column: pd.Series[Any]) -> NDArray[np.object_]:
    """
    Write a column of codes as text: numbers without decimals, blanks stripped, missing ones as "null".

    Examples
    --------
    >>> import pandas as pd
    >>> code_texts(pd.Series([311.0, None])).tolist(), code_texts(pd.Series([" 311 ", "2.1"])).tolist()
    (['311', 'null'], ['311', '2.1'])
    """
    import pandas as pd

    numbers, unique = pd.factorize(column)
    texts = np.array([*(_text(item) for item in unique), NO_CODE], object)
    written: NDArray[np.object_] = texts[numbers]
    return written


def _text(item: object) -> str:
    text = str(item).strip()
    match = _NUMBER.fullmatch(text)
    return match[1] if match else text or NO_CODE


def _is_parquet(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".parquet", ".geoparquet")


def _box(bounds: Bounds) -> object:
    import shapely

    return shapely.box(*bounds)


def _open_ogr(path: str, layer: str | None) -> VectorLayer:
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        listed = pyogrio.list_layers(path)
        names = [str(name) for name, kind in listed if kind and ("Polygon" in kind or kind == "Unknown")]
        if layer is None and len(names) != 1:
            raise InputError(
                f"{path}: has {len(names)} polygon layers ({join_words(names) or 'none'}); "
                + ("name one (--layer)." if names else "a reference needs polygons.")
            )
        chosen = names[0] if layer is None else layer
        if chosen not in [str(name) for name, _ in listed]:
            raise InputError(f"{path}: {unknown_name('layer', chosen, names)}")
        info = pyogrio.read_info(path, layer=chosen, force_feature_count=True, force_total_bounds=True)
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path}: not a vector file that GDAL can read ({error}).") from None
    return VectorLayer(
        path=path,
        layer=chosen,
        crs=info["crs"] or "",
        bounds=tuple(info["total_bounds"]) if info["total_bounds"] is not None else (0.0, 0.0, 0.0, 0.0),
        fields=tuple(str(name) for name in info["fields"]),
        count=int(info["features"]),
    )


def _open_parquet(path: str) -> VectorLayer:
    import pyarrow.parquet as pq
    import pyproj

    column, about = _geometry_column(path)
    if "covering" in about and "bbox" in about:  # the metadata hold all: do not read the features
        crs = about.get("crs", "OGC:CRS84")
        hidden = {column, *(part["bbox"][side][0] for part in [about["covering"]] for side in part["bbox"])}
        bounds = [float(side) for side in about["bbox"]]
        return VectorLayer(
            path=path,
            layer="",
            crs="" if crs is None else pyproj.CRS.from_user_input(crs).to_wkt(),
            bounds=(bounds[0], bounds[1], bounds[len(bounds) // 2], bounds[len(bounds) // 2 + 1]),
            fields=tuple(name for name in pq.read_schema(path).names if name not in hidden),
            count=pq.read_metadata(path).num_rows,
        )
    frame = _whole_parquet(path)
    fields = tuple(str(name) for name in frame.columns if name != frame.geometry.name)
    crs = frame.crs.to_wkt() if frame.crs is not None else ""
    left, bottom, right, top = (float(value) for value in frame.total_bounds)
    return VectorLayer(
        path=path, layer="", crs=crs, bounds=(left, bottom, right, top), fields=fields, count=len(frame)
    )


def _geometry_column(path: str) -> tuple[str, dict[str, Any]]:
    """Name of the geometry column of a GeoParquet, and its metadata."""
    import pyarrow.parquet as pq

    try:
        document = json.loads((pq.read_schema(path).metadata or {})[b"geo"])
        name = document["primary_column"]
        return name, document["columns"][name]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a GeoParquet file ({str(error).splitlines()[0]}).") from None


def _covered_parquet(path: str, bounds: Bounds, names: list[str] | None) -> gpd.GeoDataFrame:
    import geopandas as gpd

    column, _ = _geometry_column(path)
    try:
        return gpd.read_parquet(path, columns=None if names is None else [*names, column], bbox=bounds)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}).") from None


def _whole_parquet(path: str) -> gpd.GeoDataFrame:
    status = Path(path).stat()
    return _read_parquet(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)  # one reference, and regions of a split; a file that was rewritten is read again
def _read_parquet(path: str, written_ns: int, size: int) -> gpd.GeoDataFrame:
    import geopandas as gpd

    try:
        return gpd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a GeoParquet file ({str(error).splitlines()[0]}).") from None
