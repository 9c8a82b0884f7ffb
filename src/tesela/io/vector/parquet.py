"""GeoParquet, read by the bounding boxes of its features where it states them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.vector.decode import decode_shapes
from tesela.io.vector.gdal import Bounds, Features, LayerFacts

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def open_parquet(path: str) -> LayerFacts:
    """
    Describe a GeoParquet; one that states no bounds is read.

    Raises
    ------
    InputError
        If the file is none.
    """
    import pyarrow.parquet as pq
    import pyproj

    column, about = _geometry_column(path)
    try:
        fields = _fields(path, column, about)
        crs = about.get("crs", "OGC:CRS84")
        text = "" if crs is None else pyproj.CRS.from_user_input(crs).to_wkt()
        count = pq.read_metadata(path).num_rows
        stated = [float(side) for side in about.get("bbox", ())]
    except (OSError, ValueError, TypeError, pyproj.exceptions.CRSError) as error:
        raise _broken(path, error) from None
    if len(stated) in (4, 6) and _covering(about):
        half = len(stated) // 2
        bounds = (stated[0], stated[1], stated[half], stated[half + 1])
    else:
        boxes = _boxes(path)
        full = boxes[np.isfinite(boxes).all(axis=1)]
        low, high = (full.min(axis=0), full.max(axis=0)) if len(full) else (np.zeros(4), np.zeros(4))
        bounds = (float(low[0]), float(low[1]), float(high[2]), float(high[3]))
    return LayerFacts("", text, bounds, fields, count)


def read_parquet(
    path: str,
    *,
    bounds: Bounds | None,
    columns: list[str] | None,
    numbers: NDArray[np.int64] | None = None,
) -> Features:
    """
    Features whose envelope touches the bounds, in the order of the file; of these only the ones with `numbers`.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    column, about = _geometry_column(path)
    names = list(_fields(path, column, about)) if columns is None else columns
    boxes = None if bounds is None else _boxes(path)
    if boxes is None or not _covering(about):
        table, wkb = _whole(path)
        rows = np.arange(len(wkb)) if boxes is None or bounds is None else _touching(boxes, bounds)
        rows = rows if numbers is None else np.intersect1d(rows, numbers)
        return Features(table[names].iloc[rows].reset_index(drop=True), wkb[rows], rows)
    assert bounds is not None
    rows = _touching(boxes, bounds)
    rows = rows if numbers is None else np.intersect1d(rows, numbers)
    kept = _rows_of(path, [*names, column], rows)
    return Features(_frame(kept.drop_columns([column])), _bytes(kept.column(column)), rows)


def iter_parquet(path: str, *, columns: list[str] | None, size: int) -> Iterator[Features]:
    """
    All features in the order of the file, about `size` at a time.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    column, about = _geometry_column(path)
    if about.get("encoding") != "WKB":
        yield read_parquet(path, bounds=None, columns=columns)
        return
    names = list(_fields(path, column, about)) if columns is None else columns
    first = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=size, columns=[*names, column]):
                table = pa.Table.from_batches([batch])
                rows = np.arange(first, first + len(table))
                first += len(table)
                yield Features(_frame(table.drop_columns([column])), _bytes(table.column(column)), rows)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from None


def _rows_of(path: str, names: list[str], rows: NDArray[np.int64]) -> pa.Table:
    """Rows of the file, of which only the row groups are read that hold some."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
            group = np.searchsorted(starts, rows, side="right") - 1
            wanted = np.unique(group)
            before = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64)[wanted])]).astype(np.int64)
            table = file.read_row_groups(wanted.tolist(), columns=names)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from None
    at = rows - starts[group] + before[np.searchsorted(wanted, group)]
    return table.take(at)


def _geometry_column(path: str) -> tuple[str, dict[str, Any]]:
    """Name of the geometry column, and its metadata."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        document = json.loads((schema.metadata or {})[b"geo"])
        name = document["primary_column"]
        about = document["columns"][name]
        if not isinstance(name, str) or not isinstance(about, dict) or schema.names.count(name) != 1:
            raise ValueError("its metadata are damaged")
        return name, about
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, error) from None


def _covering(about: dict[str, Any]) -> dict[str, list[str]] | None:
    """Columns of the bounding boxes by side, where the file has them and its geometries are WKB."""
    try:
        box = about["covering"]["bbox"]
        sides = {side: [str(part) for part in box[side]] for side in _SIDES}
    except (KeyError, TypeError):
        return None
    return sides if about.get("encoding") == "WKB" else None


def _fields(path: str, column: str, about: dict[str, Any]) -> tuple[str, ...]:
    import pyarrow.parquet as pq

    hidden = {column, *(parts[0] for parts in (_covering(about) or {}).values())}
    names = [str(name) for name in pq.read_schema(path).names]
    return tuple(name for name in names if name not in hidden and not name.startswith("__index_level_"))


def _touching(boxes: NDArray[np.float64], bounds: Bounds) -> NDArray[np.int64]:
    left, bottom, right, top = bounds
    near = (boxes[:, 0] <= right) & (boxes[:, 2] >= left) & (boxes[:, 1] <= top) & (boxes[:, 3] >= bottom)
    return np.flatnonzero(near)


def _boxes(path: str) -> NDArray[np.float64]:
    return _read_boxes(path, *_version(path))


def _whole(path: str) -> tuple[pd.DataFrame, NDArray[np.object_]]:
    return _read_whole(path, *_version(path))


def _version(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _read_boxes(path: str, written_ns: int, size: int) -> NDArray[np.float64]:
    """(features, 4) left, bottom, right and top; NaN without a geometry."""
    import pyarrow.parquet as pq

    _, about = _geometry_column(path)
    sides = _covering(about)
    if sides is None:
        return np.asarray(shapely.bounds(decode_shapes(_whole(path)[1], where=path).shapes))
    try:
        table = pq.read_table(path, columns=sorted({parts[0] for parts in sides.values()}))
        columns = []
        for parts in sides.values():
            values = table.column(parts[0]).combine_chunks()
            for part in parts[1:]:
                values = values.field(part)
            columns.append(np.asarray(values.to_numpy(zero_copy_only=False), np.float64))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _broken(path, error) from None
    return np.stack(columns, axis=1)


@lru_cache(maxsize=2)  # one reference, and regions of a split; a file that was rewritten is read again
def _read_whole(path: str, written_ns: int, size: int) -> tuple[pd.DataFrame, NDArray[np.object_]]:
    import pyarrow.parquet as pq

    column, about = _geometry_column(path)
    try:
        if about.get("encoding") != "WKB":  # GeoArrow's own encodings
            import geopandas as gpd

            frame = gpd.read_parquet(path)
            shapes = np.asarray(shapely.to_wkb(frame.geometry.to_numpy()), object)
            return frame.drop(columns=frame.geometry.name).reset_index(drop=True), shapes
        table = pq.read_table(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # of damaged metadata, too
        raise _broken(path, error) from None
    return _frame(table.drop_columns([column])), _bytes(table.column(column))


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _bytes(column: pa.ChunkedArray) -> NDArray[np.object_]:
    shapes = np.empty(len(column), object)
    shapes[:] = column.to_pylist()
    return shapes


def _broken(path: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].strip("'b").rstrip(".")
    if isinstance(error, KeyError):  # the metadata of GeoParquet
        reason = f"it lacks {reason}, as a plain Parquet does"
    return InputError(f"{path}: not a GeoParquet file that can be read ({reason}).")
