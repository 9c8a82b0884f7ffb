"""The measured layer: the class areas of all polygons that touch a map, in batches that wait in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.core.outlines import CellPlane
from tesela.generalise.polygon_areas import PolygonAreas, measure_window, pixel_bounds
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_values import ConfidenceReader
from tesela.io.raster import Closing, open_dataset
from tesela.io.vector import (
    NO_CODE,
    Bounds,
    VectorLayer,
    code_texts,
    iter_layer,
    read_layer,
    separate_layer,
)

WINDOW_PX = 2048
"""Side of the windows of the map in which polygons are measured; memory depends on it, not on the layer."""
_POLYGONS = 8_000
"""In a window with more polygons than this, on average, the side is halved, ..."""
_LEAST_PX = 512
"""... down to this."""
_TOLERANCE_PX = 0.01
"""Largest distance between a reprojected edge of a polygon and its true curve."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Polygons whose areas are complete, in the order of the file."""

    bounds: Bounds | None
    """Where they are read again, in the layer's CRS; None for those away from the map."""
    numbers: NDArray[np.int64]
    """(polygons,) number of each feature in its source."""
    codes: NDArray[np.int32]
    """(polygons,) position of its code in `MeasuredLayer.codes`."""
    measured: PolygonAreas

    def only(self, chosen: NDArray[np.int64]) -> Batch:
        """Some of the polygons, by their positions."""
        return Batch(self.bounds, self.numbers[chosen], self.codes[chosen], self.measured[chosen])


_POLYGON = np.dtype([("number", "<i8"), ("code", "<i4"), ("total", "<f8")])
_ENTRY = np.dtype([("polygon", "<u4"), ("plane", "u1"), ("area", "<f8"), ("scored", "<f8"), ("score", "<f8")])
"""A polygon of a batch, and one class in one polygon, as the scratch file holds them."""


@dataclass
class _Stored:
    bounds: Bounds | None
    polygons: int
    entries: int


class MeasuredLayer(Closing):
    """
    The polygons of a layer that touch a map, with the area of each class in them; use it in a `with` block.

    The map is read window by window, and with each window the polygons that touch it, through the spatial index of
    their file. Memory holds a few numbers of each polygon; the areas of the classes wait in a scratch file.
    """

    def __init__(
        self, layer: VectorLayer, source: ClassMap, *, field: str, folder: Path | None = None
    ) -> None:
        self.layer, self.source, self.field = layer, source, field
        self.plane = CellPlane.between(layer.crs, source.grid, tolerance=_TOLERANCE_PX)
        self.codes: list[str] = []
        """Codes that occur, in the order of their first polygon."""
        self.overlaps: dict[int, dict[int, shapely.Geometry]] = {}
        """Ground of a polygon under later ones, by their numbers."""
        self._stored: list[_Stored] = []
        try:
            # without a name: the system removes it when it is closed, even when this process is killed
            self._file = tempfile.TemporaryFile(prefix=".tesela-areas.", dir=folder)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{folder}: no scratch file can be made there ({error.strerror}).") from None

    def close(self) -> None:
        """Remove the scratch file."""
        self._file.close()

    def __iter__(self) -> Iterator[Batch]:
        """The batches in the order in which they were complete."""
        classes = len(self.source.legend)
        self._file.seek(0)
        for stored in self._stored:
            polygons = self._read(_POLYGON, stored.polygons)
            entries = self._read(_ENTRY, stored.entries)
            areas = np.zeros((stored.polygons, classes))
            scored = np.zeros((stored.polygons, classes, 2))
            at = entries["polygon"], entries["plane"]
            areas[at] = entries["area"]
            scored[at] = np.stack([entries["scored"], entries["score"]], axis=1)
            number, code, total = (np.ascontiguousarray(polygons[name]) for name in _POLYGON.names or ())
            yield Batch(stored.bounds, number, code, PolygonAreas(areas, total, scored))

    def _read(self, kind: np.dtype[np.void], count: int) -> NDArray[np.void]:
        records = np.frombuffer(self._file.read(count * kind.itemsize), kind)
        if len(records) != count:
            raise InputError("The scratch file ended too early. Is the disk full?")
        return records

    def measure(
        self,
        *,
        confidence: str | Path | None = None,
        everything: bool = False,
        check: Callable[[list[str]], None] | None = None,
    ) -> None:
        """
        Measure the polygons that touch the map.

        Parameters
        ----------
        confidence : str or Path, optional
            Confidence raster of the map.
        everything : bool
            The layer's other polygons too, without areas.
        check : function of the list of codes, optional
            Called when new codes occur, before they are measured.

        Raises
        ------
        GridError
            If the polygons cannot be transformed to the map's CRS.
        InputError
            If a file cannot be read, or the disk is full.
        """
        position = self.source.legend.index_table.astype(np.int64)
        plane_of = np.where(position == 255, -1, position)
        walk = _Walk(self.source, self._window_shape())
        with ExitStack() as stack:
            reader = stack.enter_context(MapReader(self.source))
            scores = None if confidence is None else stack.enter_context(ConfidenceReader(confidence))
            for row, col, grid in walk.windows():
                bounds = self._bounds(row, col, tuple(grid.shape))
                frame = read_layer(self.layer, bounds=bounds, columns=[self.field])
                if not len(frame):
                    continue
                numbers = frame.index.to_numpy().astype(np.int64)
                whole = self.plane.outlines(frame.geometry.to_numpy())
                reach = pixel_bounds(whole, len(frame))
                apart = self._separate(frame)
                outlines = whole if apart is None else self.plane.outlines(apart)
                final = walk.final_window(reach)
                codes = self._codes(frame, numbers[final >= 0], check)
                measured = measure_window(
                    outlines,
                    len(frame),
                    corner=(row, col),
                    values=reader.read(grid),
                    scores=None if scores is None else scores.read(grid),
                    plane_of=plane_of,
                    classes=len(self.source.legend),
                )
                measured = PolygonAreas(measured.areas, whole.areas(len(frame)), measured.scored)
                for batch in walk.add((row, col), bounds, numbers, codes, final, measured):
                    self._store(batch)
            for batch in walk.rest():
                self._store(batch)
        if everything:
            self._add_others(check)

    def _window_shape(self) -> tuple[int, int]:
        """Rows and columns of the windows: squares, or whole rows where the map is stored by rows."""
        rows, cols = (int(side) for side in self.source.grid.shape)
        with open_dataset(self.source.path) as data:
            wide = int(data.block_shapes[0][1])
        if wide >= cols:
            return max(1, WINDOW_PX**2 // max(cols, 1)), cols
        side = WINDOW_PX
        density = self._polygons_on_map() / (rows * cols)
        while side > _LEAST_PX and density * side**2 > _POLYGONS:
            side //= 2
        return side, side

    def _polygons_on_map(self) -> float:
        """About how many polygons lie on the map, as if all of the layer had the same size."""
        left, bottom, right, top = self.layer.bounds
        west, south, east, north = self._bounds(0, 0, tuple(self.source.grid.shape))
        wide, tall = min(right, east) - max(left, west), min(top, north) - max(bottom, south)
        whole = (right - left) * (top - bottom)
        return self.layer.count * max(wide, 0.0) * max(tall, 0.0) / whole if whole > 0 else 0.0

    def _bounds(self, row: int, col: int, shape: tuple[int, ...]) -> Bounds:
        window = self.plane.window(row, col, (shape[0], shape[1]))
        return window.bounds() or self.layer.bounds

    def _separate(self, frame: gpd.GeoDataFrame) -> NDArray[np.object_] | None:
        """Polygons without overlaps; None where there are none."""
        apart = separate_layer(self.layer, frame, shared=self.overlaps)
        whole = zip(apart, frame.geometry.to_numpy(), strict=True)
        return None if all(one is other for one, other in whole) else apart

    def _codes(
        self,
        frame: gpd.GeoDataFrame,
        counted: NDArray[np.int64],
        check: Callable[[list[str]], None] | None,
    ) -> NDArray[np.int32]:
        texts = code_texts(frame[self.field])
        missing = frame.index[texts == NO_CODE].to_numpy()
        self.layer.repairs.add_without_code(self.field, np.intersect1d(missing, counted))
        known = {code: at for at, code in enumerate(self.codes)}
        fresh = [code for code in dict.fromkeys(texts.tolist()) if code not in known]
        if fresh:
            self.codes += fresh
            known = {code: at for at, code in enumerate(self.codes)}
            if check is not None:
                check(self.codes)
        return np.array([known[code] for code in texts.tolist()], np.int32)

    def _store(self, batch: Batch) -> None:
        total = batch.measured.total.copy()
        for at in np.flatnonzero(np.isin(batch.numbers, list(self.overlaps))):
            under = shapely.union_all(list(self.overlaps[int(batch.numbers[at])].values()))
            total[at] -= self.plane.outlines(np.array([under], object)).areas(1)[0]
        polygons = np.empty(len(total), _POLYGON)
        polygons["number"], polygons["code"] = batch.numbers, batch.codes
        polygons["total"] = np.maximum(total, 0)
        polygon, plane = np.nonzero(batch.measured.areas)
        entries = np.empty(len(polygon), _ENTRY)
        entries["polygon"], entries["plane"] = polygon, plane
        entries["area"] = batch.measured.areas[polygon, plane]
        entries["scored"], entries["score"] = batch.measured.scored[polygon, plane].T
        try:
            self._file.write(polygons.tobytes())
            self._file.write(entries.tobytes())
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"The scratch file cannot be written ({error.strerror}). Is the disk full?"
            ) from None
        self._stored.append(_Stored(batch.bounds, len(polygons), len(entries)))

    def _add_others(self, check: Callable[[list[str]], None] | None) -> None:
        """Store the polygons of the layer that do not touch the map."""
        done = np.sort(np.concatenate([np.empty(0, np.int64), *(batch.numbers for batch in self)]))
        for frame in iter_layer(self.layer, columns=[self.field]):
            numbers = frame.index.to_numpy().astype(np.int64)
            other = ~np.isin(numbers, done)
            if not other.any():
                continue
            frame, numbers = frame[other], numbers[other]
            apart = separate_layer(self.layer, frame, shared={})
            codes = self._codes(frame, numbers, check)
            classes = len(self.source.legend)
            total = self._pixels(apart)
            measured = PolygonAreas(
                np.zeros((len(numbers), classes)), total, np.zeros((len(numbers), classes, 2))
            )
            self._store(Batch(None, numbers, codes, measured))

    def _pixels(self, shapes: NDArray[np.object_]) -> NDArray[np.float64]:
        """Areas in pixels; those of shapes that the map's CRS does not reach are left at 0."""
        areas = np.zeros(len(shapes))
        placed = self.plane.outlines(shapes)
        areas[:] = placed.areas(len(shapes))
        return areas


class _Walk:
    """Polygons that reach into windows still to come, and those that are complete."""

    def __init__(self, source: ClassMap, window: tuple[int, int]) -> None:
        rows, cols = source.grid.shape
        self._grid = source.grid
        self._tall, self._wide = window
        self._last_row, self._last_col = (rows - 1) // self._tall, (cols - 1) // self._wide
        self._shape = rows, cols
        self._numbers = np.empty(0, np.int64)
        self._codes = np.empty(0, np.int32)
        self._window = np.empty(0, np.int64)
        self._where: list[Bounds] = []
        none = len(source.legend)
        self._measured = PolygonAreas(np.zeros((0, none)), np.zeros(0), np.zeros((0, none, 2)))

    def windows(self) -> Iterator[tuple[int, int, GeoBox]]:
        """Row, column and grid of the windows, row by row."""
        rows, cols = self._shape
        for row in range(0, rows, self._tall):
            for col in range(0, cols, self._wide):
                size = min(self._tall, rows - row), min(self._wide, cols - col)
                yield row, col, window_grid(self._grid, row, col, *size)

    def final_window(self, reach: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the last window that each polygon reaches by its bounds; -1 for those off the map."""
        left, top, right, low = reach
        rows, cols = self._shape
        with np.errstate(invalid="ignore"):
            on_map = (right > 0) & (low > 0) & (left < cols) & (top < rows)
        row = np.clip(np.ceil(np.where(on_map, low, 1) / self._tall) - 1, 0, self._last_row)
        col = np.clip(np.ceil(np.where(on_map, right, 1) / self._wide) - 1, 0, self._last_col)
        return np.where(on_map, row * (self._last_col + 1) + col, -1).astype(np.int64)

    def add(
        self,
        corner: tuple[int, int],
        bounds: Bounds,
        numbers: NDArray[np.int64],
        codes: NDArray[np.int32],
        final: NDArray[np.int64],
        measured: PolygonAreas,
    ) -> Iterator[Batch]:
        """Add what was measured in a window; yields the polygons that are complete."""
        here = corner[0] // self._tall * (self._last_col + 1) + corner[1] // self._wide
        waiting = np.isin(numbers, self._numbers)
        counted = (final >= here) | waiting
        numbers, codes, final, measured = numbers[counted], codes[counted], final[counted], measured[counted]
        place = {number: at for at, number in enumerate(self._numbers.tolist())}
        held = np.array([place.get(number, -1) for number in numbers.tolist()], np.int64)
        old, new = held[held >= 0], held >= 0
        measured.areas[new] += self._measured.areas[old]
        measured.scored[new] += self._measured.scored[old]
        kept = np.ones(len(self._numbers), np.bool_)
        kept[old] = False
        done = final == here
        if done.any():
            order = np.argsort(numbers[done], kind="stable")
            chosen = np.flatnonzero(done)[order]
            yield Batch(bounds, numbers[chosen], codes[chosen], measured[chosen])
        later = np.flatnonzero(~done)
        self._where.append(bounds)
        self._window = np.concatenate(
            [self._window[kept], np.full(len(later), len(self._where) - 1, np.int64)]
        )
        self._numbers = np.concatenate([self._numbers[kept], numbers[later]])
        self._codes = np.concatenate([self._codes[kept], codes[later]])
        self._measured = PolygonAreas.join([self._measured[kept], measured[later]])

    def rest(self) -> Iterator[Batch]:
        """Polygons whose last window, by their bounds, did not see them: each with the window that did."""
        for window in np.unique(self._window):
            chosen = np.flatnonzero(self._window == window)
            chosen = chosen[np.argsort(self._numbers[chosen], kind="stable")]
            yield Batch(
                self._where[window], self._numbers[chosen], self._codes[chosen], self._measured[chosen]
            )
