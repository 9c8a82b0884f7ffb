"""The spill: rows of a layer that wait in a temporary folder until the order in which they are written is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
"""Rows that are brought into order at a time, ..."""
_BUCKETS = 128
"""... or more, where that would need more files than this."""
_PLACE = "tesela place"


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

        schema = self._schema()
        for table in self._tables(schema) if order is None else self._ordered(schema, order):
            if self._multi:
                shapes = shapely.from_wkb(np.array(table.column("geometry").to_pylist(), object))
                table = table.set_column(
                    table.column_names.index("geometry"),
                    schema.field("geometry"),
                    pa.array(shapely.to_wkb(_as_multi(shapes)).tolist(), pa.binary()),
                )
            yield from table.combine_chunks().to_batches()

    def _tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The parts as they were added."""
        import pyarrow as pa

        for path in self._parts:
            with pa.memory_map(str(path)) as file:
                yield pa.ipc.open_file(file).read_all().cast(schema)

    def _ordered(self, schema: pa.Schema, order: NDArray[np.int64]) -> Iterator[pa.Table]:
        """All rows in their order: each part is dealt to buckets of some of the places, which are sorted one by one."""
        import pyarrow as pa

        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        size = max(_ROWS, -(-len(order) // _BUCKETS))
        paths = [self._folder / f"{self._name}-bucket-{k}.arrow" for k in range(-(-len(order) // size))]
        dealt = schema.append(pa.field(_PLACE, pa.int64()))
        with ExitStack() as stack:
            writers = []
            for path in paths:
                file = stack.enter_context(pa.OSFile(str(path), "wb"))
                writers.append(stack.enter_context(pa.ipc.new_stream(file, dealt)))
            for first, table in zip(self._starts, self._tables(schema), strict=False):
                mine = place[first : first + len(table)]
                turn = np.argsort(mine)
                table = table.append_column(dealt.field(_PLACE), pa.array(mine)).take(pa.array(turn))
                ends = np.searchsorted(mine[turn] // size, np.arange(len(paths) + 1))
                for writer, start, stop in zip(writers, ends, ends[1:], strict=False):
                    if stop > start:
                        writer.write_table(table.slice(start, stop - start))
        for path in paths:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_stream(file).read_all()
                turn = np.argsort(table.column(_PLACE).to_numpy())
                yield table.take(pa.array(turn)).drop_columns([_PLACE])
            path.unlink()


def _as_multi(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons as multipolygons of one part."""
    single = np.flatnonzero(shapely.get_type_id(shapes) == 3)
    shapes = shapes.copy()
    shapes[single] = [shapely.MultiPolygon([shape]) for shape in shapes[single]]
    return shapes
