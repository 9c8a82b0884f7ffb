"""The spill: rows of a layer that wait in a temporary folder until the order in which they are written is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.layers import add_style, check_complete, dated, plain_frame, write_layer
from tesela.io.manifest import write_whole
from tesela.io.vector.address import DATABASE, check_layer_name

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

_ROWS = 2_000
"""Rows in memory while a layer is written."""


class LayerSpill:
    """
    Rows of one layer in parts on disk; memory holds one part at a time.

    Parameters
    ----------
    folder : Path
        Temporary folder of the caller.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._parts: list[Path] = []
        self._starts = [0]
        self._schemas: list[pa.Schema] = []
        self._crs: str | None = None
        self._multi = False
        self._drawn = 0

    def __len__(self) -> int:
        return self._starts[-1]

    def add(self, frame: gpd.GeoDataFrame) -> None:
        """
        Add rows; all frames have the same columns.

        Raises
        ------
        InputError
            If the disk is full.
        """
        import pyarrow as pa

        if not len(frame) and self._parts:
            return
        frame = plain_frame(frame)
        shapes = frame.geometry.to_numpy()
        self._multi |= bool((shapely.get_type_id(shapes) == 6).any())
        self._drawn += int((~shapely.is_empty(shapes) & ~shapely.is_missing(shapes)).sum())
        table = pa.Table.from_pandas(frame.drop(columns="geometry"), preserve_index=False)
        table = table.replace_schema_metadata(None).append_column(
            "geometry", pa.array(shapely.to_wkb(shapes).tolist(), pa.binary())
        )
        path = self._folder / f"{self._name}-{len(self._parts)}.arrow"
        try:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be written ({error}). Is the disk full?") from None
        self._parts.append(path)
        self._starts.append(self._starts[-1] + len(table))
        self._schemas.append(table.schema)
        self._crs = self._crs or frame.crs.to_wkt()

    def write(
        self,
        path: str | Path,
        *,
        layer: str,
        order: NDArray[np.int64] | None = None,
        style: str | None = None,
        more: Sequence[tuple[LayerSpill, str, str | None]] = (),
        tables: dict[str, object] | None = None,
    ) -> str | Path:
        """
        Write the rows in an order, as `tesela.io.layers.write_layer` does; they must not be empty.

        Parameters
        ----------
        order : (rows,) array of int, optional
            Numbers of the rows, first to last; default: as they were added.
        more : sequence of (spill, layer, style)
            Further layers of a GeoPackage.
        tables : dict of str to DataFrame, optional
            Tables without geometry of a GeoPackage, by name.

        Raises
        ------
        InputError
            If the file cannot be written, or the format is another.
        """
        if str(path).startswith(DATABASE) or Path(path).suffix.lower() != ".gpkg":
            return write_layer(path, self.frame(order), layer=layer, style=style)
        import pyogrio

        check_layer_name(Path(path))
        with dated(path), write_whole(Path(path)) as part:
            for spill, name, one_style, rows in (
                (self, layer, style, order),
                *((spill, name, one_style, None) for spill, name, one_style in more),
            ):
                spill._append_to(part, name, rows, one_style)
            for name, frame in (tables or {}).items():
                pyogrio.write_dataframe(frame, part, layer=name, driver="GPKG", append=True)
        return Path(path)

    def frame(self, order: NDArray[np.int64] | None = None) -> gpd.GeoDataFrame:
        """All rows in memory."""
        import geopandas as gpd
        import pyarrow as pa

        table = pa.Table.from_batches(self._batches(order), schema=self._schema())
        frame = table.drop_columns(["geometry"]).to_pandas()
        shapes = shapely.from_wkb(np.array(table.column("geometry").to_pylist(), object))
        return gpd.GeoDataFrame(frame, geometry=shapes, crs=self._crs)

    def _append_to(self, part: Path, layer: str, order: NDArray[np.int64] | None, style: str | None) -> None:
        import pyarrow as pa
        import pyogrio

        reader = pa.RecordBatchReader.from_batches(self._schema(), self._batches(order))
        pyogrio.raw.write_arrow(
            reader,
            str(part),
            layer=layer,
            driver="GPKG",
            geometry_name="geometry",
            geometry_type="MultiPolygon" if self._multi else "Polygon",
            crs=self._crs,
            append=part.exists(),
        )
        check_complete(part, layer=layer, rows=len(self), drawn=self._drawn)
        if style is not None:
            add_style(part, style, layer=layer)

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        schema = pa.unify_schemas(self._schemas, promote_options="permissive")
        return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema])

    def _batches(self, order: NDArray[np.int64] | None) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        rows = np.arange(len(self)) if order is None else order
        schema, starts = self._schema(), np.array(self._starts)
        for first in range(0, len(rows), _ROWS):
            chosen = rows[first : first + _ROWS]
            part = np.searchsorted(starts, chosen, side="right") - 1
            tables, found = [], []
            for number in np.unique(part):
                mine = np.flatnonzero(part == number)
                with pa.memory_map(str(self._parts[number])) as file:
                    held = pa.ipc.open_file(file).read_all()
                    tables.append(held.take(pa.array(chosen[mine] - starts[number])).cast(schema))
                found.append(mine)
            place = np.empty(len(chosen), np.int64)
            place[np.concatenate(found)] = np.arange(len(chosen))
            table = pa.concat_tables(tables).combine_chunks().take(pa.array(place))
            if self._multi:
                shapes = shapely.from_wkb(np.array(table.column("geometry").to_pylist(), object))
                table = table.set_column(
                    table.column_names.index("geometry"),
                    schema.field("geometry"),
                    pa.array(shapely.to_wkb(_as_multi(shapes)).tolist(), pa.binary()),
                )
            yield from table.combine_chunks().to_batches()


def _as_multi(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons as multipolygons of one part."""
    single = np.flatnonzero(shapely.get_type_id(shapes) == 3)
    shapes = shapes.copy()
    shapes[single] = [shapely.MultiPolygon([shape]) for shape in shapes[single]]
    return shapes
