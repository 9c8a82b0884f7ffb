"""The join of sheets: their maps become one, in one CRS, where each ground point comes from one sheet only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from tesela.core.errors import GridError, InputError, LegendError, join_words
from tesela.core.grid import bounds_in, crs_of, crs_text, windows
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapReader, MapWriter, ScoreWriter
from tesela.io.outputs import check_file_outputs
from tesela.io.pixel_values import NO_SCORE, read_pixel_values
from tesela.io.raster import open_dataset

if TYPE_CHECKING:
    import geopandas as gpd

_WINDOW_PX = 1024
_STEP_PX = 32
"""Between pixels of this distance, positions in another CRS are interpolated: half a millimetre beside the true ones
for pixels of 0.5 m, 0.2 m for pixels of 10 m."""


@dataclass(frozen=True)
class Sheet:
    """The map of a sheet, and the area that is its own."""

    name: str
    map: ClassMap
    outline: gpd.GeoSeries | None = None
    """Polygons in any CRS; None: what lies deeper in this map than in those that overlap it."""
    scores: Mapping[str, str | Path] = field(default_factory=dict)
    """Rasters of scores beside the map, such as its confidence, by kind."""


def join_sheets(
    sheets: Sequence[Sheet],
    out: str | Path,
    *,
    crs: str = "auto",
    scores: Mapping[str, str | Path] | None = None,
) -> ClassMap:
    """
    Join the maps of sheets, of one or several UTM zones.

    A pixel of the joined map is the nearest pixel of one sheet: of that in whose outline its centre lies; of sheets
    without outlines, or where outlines overlap, of that with a class whose edge is farthest away, so that the joint
    runs through the middle of the overlap. The order of the sheets does not matter. Maps in the joined map's CRS whose
    pixels are aligned are copied, not resampled. Memory is that of windows of 1024 px.

    Parameters
    ----------
    out : path
        The joined map, a COG.
    crs : str
        Such as "EPSG:25830"; "auto": that of most sheets. Its pixels are those of the first sheet by name in it, else
        as large as those of the first of all.
    scores : mapping of kind to path, optional
        Scores to join, too: each pixel has those of the sheet that its class comes from, and 255 without a class.

    Raises
    ------
    InputError
        If there is no sheet, a sheet lacks a raster of scores, or one has other bands than those of the first sheet.
    LegendError
        If the maps have several legends.
    GridError
        If the CRS is unknown, or not projected while the sheets' pixels are in metres.
    """
    if not sheets:
        raise InputError("No map was given to join; give at least one.")
    ordered = sorted(sheets, key=lambda sheet: sheet.name)
    legend = ordered[0].map.legend
    strange = [sheet.name for sheet in ordered if not sheet.map.legend.same_classes(legend)]
    if strange:
        raise LegendError(
            f"The map of {join_words(strange)} has another legend than that of {ordered[0].name} "
            f"('{legend.address}'). Join maps of one legend (tesela legend convert)."
        )
    scores = scores or {}
    for kind in scores:
        lacking = [sheet.name for sheet in ordered if kind not in sheet.scores]
        if lacking:
            raise InputError(
                f"No {kind} of {join_words(lacking)} was given to join; give it, or join the maps alone."
            )
    inputs = [sheet.map.path for sheet in ordered]
    inputs += [str(sheet.scores[kind]) for kind in scores for sheet in ordered]
    check_file_outputs([out, *scores.values()], inputs=inputs)
    grid = _joined_grid(ordered, crs)
    with ExitStack() as stack:
        readers = {sheet.name: stack.enter_context(MapReader(sheet.map)) for sheet in ordered}
        owners = [_Owner(sheet, grid) for sheet in ordered]
        writer = stack.enter_context(MapWriter(out, grid, legend))
        joins = [_ScoreJoin(kind, path, ordered, grid=grid, stack=stack) for kind, path in scores.items()]
        for row, col, window in windows(grid, _WINDOW_PX):
            values = np.zeros(tuple(window.shape), np.uint8)
            for join in joins:
                join.begin(values.shape)
            deepest = np.full(values.shape, -np.inf, np.float32)
            for owner in owners:
                depth = owner.depth(window)
                if depth is None:
                    continue
                own = readers[owner.sheet.name].read(window)
                better = (own > 0) & (depth > deepest)
                values[better] = own[better]
                deepest[better] = depth[better]
                for join in joins:
                    join.take(owner.sheet.name, window, better)
            writer.write(row, col, values)
            for join in joins:
                join.write(row, col)
    record_step(
        "join",
        [out, *scores.values()],
        inputs=inputs,
        settings={"crs": crs},
        legend=legend.address,
    )
    return ClassMap(str(out), grid, legend)


class _ScoreJoin:
    """The joined raster of one kind of scores, window by window; its files are closed with the stack."""

    def __init__(
        self, kind: str, out: str | Path, sheets: Sequence[Sheet], *, grid: GeoBox, stack: ExitStack
    ) -> None:
        self._data = {sheet.name: stack.enter_context(open_dataset(sheet.scores[kind])) for sheet in sheets}
        first = self._data[sheets[0].name]
        facts = [(data.descriptions, data.scales, data.units, data.dtypes) for data in self._data.values()]
        strange = [sheet.name for sheet, fact in zip(sheets, facts, strict=True) if fact != facts[0]]
        if strange:
            raise InputError(
                f"The {kind} of {join_words(strange)} has other bands, scale or type than that of {sheets[0].name}. "
                f"Map the sheets with the same expert."
            )
        names = [str(name) for name in first.descriptions]
        writer = ScoreWriter(out, grid, names, scale=first.scales[0], unit=str(first.units[0]))
        self._writer = stack.enter_context(writer)
        self._indexes = list(range(1, len(names) + 1))
        self._values = np.empty((len(names), 0, 0), np.uint8)

    def begin(self, shape: tuple[int, ...]) -> None:
        """Begin a window."""
        self._values = np.full((len(self._indexes), *shape), NO_SCORE, np.uint8)

    def take(self, name: str, window: GeoBox, chosen: NDArray[np.bool_]) -> None:
        """Take the scores of a sheet where `chosen`, a (rows, cols) array, is true."""
        if chosen.any():
            own, valid = read_pixel_values(
                self._data[name], self._indexes, window, nodata=NO_SCORE, continuous=False
            )
            self._values[:, chosen] = np.where(valid, own, NO_SCORE)[:, chosen]

    def write(self, row: int, col: int) -> None:
        """Write the window."""
        self._writer.write(row, col, self._values)


class _Owner:
    """Which pixels of a joined grid a sheet may give, and how deep in it they lie."""

    def __init__(self, sheet: Sheet, grid: GeoBox) -> None:
        self.sheet = sheet
        self._bounds = bounds_in(sheet.map.grid, crs_text(grid))
        self._change = pyproj.Transformer.from_crs(
            crs_of(grid).to_wkt(), crs_of(sheet.map.grid).to_wkt(), always_xy=True
        )
        self._outline: list[BaseGeometry] | None = None
        if sheet.outline is not None:
            self._outline = [
                shape for shape in sheet.outline.to_crs(crs_text(grid)) if shape and not shape.is_empty
            ]

    def depth(self, window: GeoBox) -> NDArray[np.float32] | None:
        """Pixels from the edge, (rows, cols); -inf outside the sheet, None where it does not reach the window."""
        left, bottom, right, top = window.extent.boundingbox
        if (
            right <= self._bounds[0]
            or left >= self._bounds[2]
            or top <= self._bounds[1]
            or bottom >= self._bounds[3]
        ):
            return None
        rows, cols = (int(side) for side in self.sheet.map.grid.shape)
        col, row = self._positions(window)
        depth = np.minimum(np.minimum(col, cols - col), np.minimum(row, rows - row)).astype(np.float32)
        depth[depth < 0] = -np.inf
        if self._outline is not None:
            shape = tuple(int(side) for side in window.shape)
            if not self._outline:
                return None
            outside = geometry_mask(self._outline, shape, window.affine)
            depth[outside] = -np.inf
        return depth

    def _positions(self, window: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows, in the sheet's map, of the centres of a window's pixels."""
        rows, cols = (int(side) for side in window.shape)
        down, across = _knots(rows), _knots(cols)
        x, y = _moved(window.affine, *np.meshgrid(across + 0.5, down + 0.5))
        if crs_of(window) != crs_of(self.sheet.map.grid):
            x, y = self._change.transform(x, y)
        col, row = _moved(~self.sheet.map.grid.affine, np.asarray(x), np.asarray(y))
        return _between(col, down, across, (rows, cols)), _between(row, down, across, (rows, cols))


def _moved(
    step: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions under an affine transform."""
    return step.a * x + step.b * y + step.c, step.d * x + step.e * y + step.f


def _knots(length: int) -> NDArray[np.float64]:
    """Pixels whose position is computed, the last one too."""
    return np.unique([*range(0, length, _STEP_PX), length - 1]).astype(float)


def _between(
    values: NDArray[np.float64],
    down: NDArray[np.float64],
    across: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Values of all pixels from those at the knots, linear along both axes."""
    rows, cols = np.arange(shape[0], dtype=float), np.arange(shape[1], dtype=float)
    wide = np.stack([np.interp(cols, across, line) for line in values])
    at = np.clip(np.searchsorted(down, rows, side="right") - 1, 0, max(0, len(down) - 2))
    following = np.minimum(at + 1, len(down) - 1)
    span = np.where(following > at, down[following] - down[at], 1.0)
    share = ((rows - down[at]) / span)[:, None]
    return np.asarray(wide[at] * (1 - share) + wide[following] * share)


def _joined_grid(sheets: Sequence[Sheet], crs: str) -> GeoBox:
    """Grid that holds the own areas of all maps: the pixels of the first one in the CRS, extended or cut."""
    if crs == "auto":
        counts = Counter(crs_text(sheet.map.grid) for sheet in sheets)
        crs = max(sorted(counts), key=lambda name: counts[name])
    try:
        system = CRS(crs)
    except Exception:  # noqa: BLE001 - odc and pyproj raise several kinds
        raise GridError(f"'{crs}' is no coordinate system. Name one such as EPSG:25830.") from None
    first = sheets[0].map.grid
    same = [sheet.map.grid for sheet in sheets if crs_of(sheet.map.grid) == system]
    if not same and system.projected != crs_of(first).projected:
        raise GridError(
            f"The maps are in {crs_text(first)}, and pixels of that size do not fit to {crs}. Join them in a projected "
            f"CRS such as that of one sheet."
        )
    model = same[0] if same else first
    width, height = abs(float(model.resolution.x)), abs(float(model.resolution.y))
    origin = (float(model.affine.c), float(model.affine.f)) if same else (0.0, 0.0)
    bounds = np.array([_own_bounds(sheet, str(system.to_wkt())) for sheet in sheets])
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    slack = 1e-3  # of a pixel: maps that are aligned are not widened by rounding
    first_col = math.floor((low[0] - origin[0]) / width + slack)
    last_col = math.ceil((high[0] - origin[0]) / width - slack)
    first_row = math.floor((origin[1] - high[1]) / height + slack)
    last_row = math.ceil((origin[1] - low[1]) / height - slack)
    affine = Affine(width, 0, origin[0] + first_col * width, 0, -height, origin[1] - first_row * height)
    return GeoBox((last_row - first_row, last_col - first_col), affine, system)


def _own_bounds(sheet: Sheet, crs: str) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a map inside its outline, if it has one that meets it."""
    left, bottom, right, top = bounds_in(sheet.map.grid, crs)
    if sheet.outline is None or sheet.outline.is_empty.all():
        return left, bottom, right, top
    west, south, east, north = sheet.outline.to_crs(crs).total_bounds.tolist()
    if min(right, east) <= max(left, west) or min(top, north) <= max(bottom, south):
        return left, bottom, right, top
    return max(left, west), max(bottom, south), min(right, east), min(top, north)
