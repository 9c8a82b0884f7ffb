"""The view page: look around a map of any size, beside imagery, a reference and older maps."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tesela.core.errors import GridError
from tesela.core.grid import window_grid
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, open_map
from tesela.io.pyramid import TILE_PX, Pyramid, has_overviews
from tesela.io.raster import grid_of, open_dataset
from tesela.web.layers import ClassLayer, ImageLayer, Layer, ScoreLayer
from tesela.web.server import LOOPBACK, asset_routes, make_app, render

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_RULER_ROWS = 9
"""Rows of the map at which the length of a pixel on the ground is told to the page."""


def view_app(
    source: str | Path | ClassMap,
    *,
    scene: Scene | None = None,
    reference: str | Path | None = None,
    confidence: str | Path | None = None,
    history: Sequence[str | Path] = (),
    legend: Legend | None = None,
    host: str = LOOPBACK,
) -> Starlette:
    """
    Make the application that shows a map.

    Parameters
    ----------
    source : path or ClassMap
        The map; all else is shown on its pixels and in its coordinate system.
    scene : Scene, optional
        Imagery of any grid.
    reference : path, optional
        Class raster of any grid and legend.
    confidence : path, optional
        Confidence raster, see `tesela.io.pixel_values`.
    history : sequence of paths
        Maps of other years; the year is found in the file's name.
    legend : Legend, optional
        Of class rasters that do not say theirs.
    host : str
        Address it will listen on; see `tesela.web.server.make_app`.

    Raises
    ------
    InputError
        If a file cannot be read or is not of its kind.
    """
    page = _View(
        source if isinstance(source, ClassMap) else open_map(source, legend=legend),
        scene=scene,
        reference=reference,
        confidence=confidence,
        history=history,
    )
    routes = [
        Route("/", page.show),
        Route("/api/view", page.describe),
        Route("/api/at", page.at),
        Route("/tiles/{layer}/{level}/{x}/{y}", page.tile),
        *asset_routes("base.css", "view.css", "view.js", "canvas.js", "tiles.js", "panes.js"),
    ]
    return make_app(routes, host=host)


def slow_files(paths: Sequence[str | Path]) -> list[str]:
    """Those rasters that are large and have no overviews, so that looking at all of one takes its time."""
    return [str(path) for path in paths if not has_overviews(path)]


class _View:
    """The answers of the page; a request names a layer by its number, and never a file."""

    def __init__(
        self,
        source: ClassMap,
        *,
        scene: Scene | None,
        reference: str | Path | None,
        confidence: str | Path | None,
        history: Sequence[str | Path],
    ) -> None:
        self.source = source
        self.pyramid = pyramid = Pyramid(source.grid)
        self.layers: list[Layer] = [_class_layer(source, pyramid, "Map")]
        for path in history:
            found = _open_beside(path, source)
            self.layers.append(_class_layer(found, pyramid, Path(path).stem))
        if reference is not None:
            found = _open_beside(reference, source)
            self.layers.append(_class_layer(found, pyramid, "Reference"))
        if scene is not None:
            _check_meets(scene.name, scene.grid, source)
            self.layers.append(ImageLayer(scene, pyramid, name="Image"))
        if confidence is not None:
            with open_dataset(confidence) as data:
                _check_meets(confidence, grid_of(data), source)
            self.layers.append(ScoreLayer(str(confidence), pyramid, name="Confidence"))
        self._document = self._describe()
        self._to_degrees = pyproj.Transformer.from_crs(_wkt(source.grid), "EPSG:4326", always_xy=True)

    def show(self, request: Request) -> Response:
        return render("view.html", {"title": Path(self.source.path).name})

    def describe(self, request: Request) -> Response:
        return JSONResponse(self._document)

    def tile(self, request: Request) -> Response:
        layer = self._layer(request)
        level, x, y = (_whole(request, name) for name in ("level", "x", "y"))
        if not -8 <= level < self.pyramid.levels or not self.pyramid.has(level, x, y):
            raise HTTPException(404, "There is no such tile.")
        picture = layer.tile(level, x, y)
        headers = {"cache-control": "private, max-age=600"}
        if picture.encoding:
            headers["content-encoding"] = picture.encoding
        return Response(picture.content, media_type=picture.media, headers=headers)

    def at(self, request: Request) -> Response:
        """What all layers hold at a pixel of the map, and where that is."""
        try:
            row, col = (int(request.query_params[name]) for name in ("row", "col"))
        except (KeyError, ValueError):
            raise HTTPException(400, "Ask for a row and a col.") from None
        rows, cols = self.source.grid.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise HTTPException(404, "That pixel lies outside the map.")
        pixel = window_grid(self.source.grid, row, col, 1, 1)
        x, y = self.source.grid.affine * (col + 0.5, row + 0.5)
        lon, lat = self._to_degrees.transform(x, y)
        return JSONResponse(
            {
                "row": row,
                "col": col,
                "x": x,
                "y": y,
                "lon": round(lon, 6),
                "lat": round(lat, 6),
                "values": [layer.at(pixel) for layer in self.layers],
            }
        )

    def _layer(self, request: Request) -> Layer:
        number = _whole(request, "layer")
        if not 0 <= number < len(self.layers):
            raise HTTPException(404, "There is no such layer.")
        return self.layers[number]

    def _describe(self) -> dict[str, object]:
        grid = self.source.grid
        return {
            "rows": int(grid.shape[0]),
            "cols": int(grid.shape[1]),
            "tile": TILE_PX,
            "token": secrets.token_hex(4),
            "levels": self.pyramid.levels,
            "transform": [float(number) for number in grid.affine[:6]],
            "crs": _crs_name(grid),
            "degrees": not bool(grid.crs and grid.crs.projected),
            "pixel_m": ruler(grid),
            "layers": [
                {"id": number, "kind": layer.kind, "name": layer.name, **layer.describe()}
                for number, layer in enumerate(self.layers)
            ],
        }


def ruler(grid: GeoBox) -> list[float]:
    """Length on the ground of a pixel along its row, in metres, at rows spread evenly from the first to the last."""
    rows, cols = grid.shape
    middle = cols / 2
    at = np.linspace(0.5, rows - 0.5, _RULER_ROWS)
    to_degrees = pyproj.Transformer.from_crs(_wkt(grid), "EPSG:4326", always_xy=True)
    ends = []
    for col in (middle - 0.5, middle + 0.5):
        x, y = grid.affine * np.stack([np.full(_RULER_ROWS, col), at])
        ends.append(to_degrees.transform(x, y))
    _, _, length = pyproj.Geod(ellps="WGS84").inv(*ends[0], *ends[1])
    return [float(f"{metres:.6g}") for metres in np.asarray(length)]


def _open_beside(path: str | Path, source: ClassMap) -> ClassMap:
    """A class raster in its own legend, or in the map's where it does not say one."""
    from tesela.core.errors import LegendError

    try:
        found = open_map(path)
    except LegendError:
        found = open_map(path, legend=source.legend)
    _check_meets(path, found.grid, source)
    return found


def _degrees(grid: GeoBox) -> tuple[float, float, float, float]:
    """West, south, east, north."""
    change = pyproj.Transformer.from_crs(_wkt(grid), "EPSG:4326", always_xy=True)
    west, south, east, north = change.transform_bounds(*grid.extent.boundingbox)
    return west, south, east, north


def _check_meets(path: str | Path, grid: GeoBox, source: ClassMap) -> None:
    """Refuse what lies beside the map, of which nothing would be seen."""
    places = np.array([_degrees(item) for item in (grid, source.grid)])
    if (places[:, :2].max(axis=0) >= places[:, 2:].min(axis=0)).any():
        theirs, ours = (" ".join(f"{side:.4f}" for side in place) for place in places)
        raise GridError(
            f"{path} lies at {theirs}, the map at {ours} (west, south, east, north in degrees): they do not overlap. "
            f"Check the coordinate systems of both."
        )


def _class_layer(source: ClassMap, pyramid: Pyramid, name: str) -> ClassLayer:
    years = _YEAR.findall(Path(source.path).stem)
    return ClassLayer(source, pyramid, name=name, year=years[-1] if years else "")


def _whole(request: Request, name: str) -> int:
    text = request.path_params[name]
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise HTTPException(404, "There is no such tile.")
    return int(text)


def _wkt(grid: GeoBox) -> str:
    assert grid.crs is not None
    return str(grid.crs.to_wkt())


def _crs_name(grid: GeoBox) -> str:
    found = pyproj.CRS.from_user_input(_wkt(grid))
    return ":".join(found.to_authority() or (found.name,))
