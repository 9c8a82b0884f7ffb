"""The view page: a map of any size beside imagery, a reference and older maps."""

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

from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import window_grid
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.abundance import AbundanceMap, open_abundance
from tesela.io.cube import open_cube
from tesela.io.maps import ClassMap, open_map
from tesela.io.pyramid import TILE_PX, Pyramid, has_overviews
from tesela.io.raster import grid_of, open_dataset
from tesela.io.spectra import read_spectra
from tesela.web.layers import ClassLayer, ImageLayer, Layer, ScoreLayer
from tesela.web.mixture import (
    DeviationLayer,
    LargestLayer,
    PixelMixture,
    ShareLayer,
    check_cube,
    check_endmembers,
)
from tesela.web.server import LOOPBACK, asset_routes, make_app, render

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_RULER_ROWS = 9
"""Rows of the map at which the page gets the length of a pixel in metres."""


def view_app(
    source: str | Path | ClassMap | AbundanceMap,
    *,
    scene: Scene | None = None,
    reference: str | Path | None = None,
    confidence: str | Path | None = None,
    uncertainty: str | Path | None = None,
    cube: str | Path | None = None,
    endmembers: str | Path | None = None,
    history: Sequence[str | Path] = (),
    legend: Legend | None = None,
    host: str = LOOPBACK,
) -> Starlette:
    """
    Make the application that shows a map.

    Parameters
    ----------
    source : path, ClassMap or AbundanceMap
        The map, of classes or of shares; all other layers are shown on its pixels and in its coordinate system.
    scene : Scene, optional
        Imagery on any grid.
    reference : path, optional
        Class raster on any grid and in any legend; of an abundance map, the reference's shares are possible too.
    uncertainty, cube, endmembers : path, optional
        Of an abundance map: the standard deviation of each share, the series it was made from, and the spectra of its
        classes, which are drawn for a clicked pixel.
    confidence : path, optional
        Confidence raster, see `tesela.io.pixel_values`.
    history : sequence of paths
        Maps of other years; the year is taken from the file name.
    legend : Legend, optional
        Legend of class rasters without their own.
    host : str
        Address of the server; see `tesela.web.server.make_app`.

    Raises
    ------
    InputError
        If a file cannot be read or is of another kind.
    """
    if isinstance(source, str | Path):
        source = (
            open_abundance(source, legend=legend) if holds_shares(source) else open_map(source, legend=legend)
        )
    page = _View(
        source,
        scene=scene,
        reference=reference,
        confidence=confidence,
        history=history,
        behind=(uncertainty, cube, endmembers),
    )
    routes = [
        Route("/", page.show),
        Route("/api/view", page.describe),
        Route("/api/at", page.at),
        Route("/tiles/{layer}/{level}/{x}/{y}", page.tile),
        *asset_routes("base.css", "view.css", "view.js", "canvas.js", "tiles.js", "panes.js", "mixture.js"),
    ]
    return make_app(routes, host=host)


def slow_files(paths: Sequence[str | Path]) -> list[str]:
    """Large rasters without overviews, which are slow to display as a whole."""
    return [str(path) for path in paths if not has_overviews(path)]


class _View:
    """Handlers of the page; a request refers to a layer by its number, never to a file."""

    def __init__(
        self,
        source: ClassMap | AbundanceMap,
        *,
        scene: Scene | None,
        reference: str | Path | None,
        confidence: str | Path | None,
        history: Sequence[str | Path],
        behind: tuple[str | Path | None, str | Path | None, str | Path | None],
    ) -> None:
        self.source = source
        self.pyramid = pyramid = Pyramid(source.grid)
        self.layers: list[Layer] = []
        self.mixture: PixelMixture | None = None
        if isinstance(source, AbundanceMap):
            self._add_shares(source, reference, *behind)
            if reference is not None and holds_shares(reference):
                reference = None  # is shown with the shares
        elif any(item is not None for item in behind):
            raise InputError(
                f"{source.path}: is a class map; uncertainty, cube and endmembers are of abundance maps "
                f"(tesela unmix). Leave them out."
            )
        else:
            self.layers.append(_class_layer(source, pyramid, "Map"))
        for path in history:
            self.layers.append(_class_layer(_open_beside(path, source), pyramid, Path(path).stem))
        if reference is not None:
            self.layers.append(_class_layer(_open_beside(reference, source), pyramid, "Reference"))
        if scene is not None:
            _check_overlap(scene.name, scene.grid, source)
            self.layers.append(ImageLayer(scene, pyramid, name="Image"))
        if confidence is not None:
            with open_dataset(confidence) as data:
                _check_overlap(confidence, grid_of(data), source)
            self.layers.append(ScoreLayer(str(confidence), pyramid, name="Confidence"))
        self._document = self._describe()
        self._to_degrees = pyproj.Transformer.from_crs(_wkt(source.grid), "EPSG:4326", always_xy=True)

    def _add_shares(
        self,
        source: AbundanceMap,
        reference: str | Path | None,
        uncertainty: str | Path | None,
        cube: str | Path | None,
        endmembers: str | Path | None,
    ) -> None:
        """Layers of an abundance map: largest class, shares, uncertainty, largest class of the reference."""
        largest = LargestLayer(source, self.pyramid, name="Largest class")
        self.layers.append(largest)
        self.layers += [ShareLayer(source, self.pyramid, position=at) for at in range(len(source.legend))]
        deviations = beside = None
        if uncertainty is not None:
            deviations = DeviationLayer(
                str(uncertainty), self.pyramid, legend=source.legend, name="Uncertainty"
            )
            self.layers.append(deviations)
        if reference is not None and holds_shares(reference):
            opened = open_abundance(reference)
            if opened.legend.codes != source.legend.codes:
                raise LegendError(
                    f"{reference}: has shares of '{opened.legend.address}', the map of '{source.legend.address}'; make "
                    f"both in one legend (tesela unmix --level)."
                )
            beside = LargestLayer(opened, self.pyramid, name="Reference")
            self.layers.append(beside)
        series, spectra = None, None
        if cube is not None:
            series = open_cube(cube)
            check_cube(series, source)
        if endmembers is not None:
            if series is None:
                raise InputError(
                    "Endmembers are drawn beside the series of a pixel: also give the cube (--cube)."
                )
            spectra = read_spectra(endmembers)
            check_endmembers(endmembers, spectra, source.legend)
        self.mixture = PixelMixture(largest, deviations, beside, series, spectra)

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
        """Values of all layers at a pixel of the map, and its coordinates."""
        try:
            row, col = (int(request.query_params[name]) for name in ("row", "col"))
        except (KeyError, ValueError):
            raise HTTPException(400, "The request needs a row and a col.") from None
        rows, cols = self.source.grid.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise HTTPException(404, "This pixel is outside the map.")
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
                **({} if self.mixture is None else self.mixture.at(pixel)),
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
    """Length of a pixel along its row, in metres on the ellipsoid, at rows spread evenly from the first to the last."""
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


def holds_shares(path: str | Path) -> bool:
    """Whether a raster is an abundance map: one band of uint16 for each class."""
    with open_dataset(path) as data:
        return set(data.dtypes) == {"uint16"} and (data.count > 1 or data.descriptions[0] is not None)


def _open_beside(path: str | Path, source: ClassMap | AbundanceMap) -> ClassMap:
    """Open a class raster in its own legend, or in that of the map if it has none."""
    try:
        opened = open_map(path)
    except LegendError:
        opened = open_map(path, legend=source.legend)
    _check_overlap(path, opened.grid, source)
    return opened


def _degrees(grid: GeoBox) -> tuple[float, float, float, float]:
    """West, south, east, north."""
    change = pyproj.Transformer.from_crs(_wkt(grid), "EPSG:4326", always_xy=True)
    west, south, east, north = change.transform_bounds(*grid.extent.boundingbox)
    return west, south, east, north


def _check_overlap(path: str | Path, grid: GeoBox, source: ClassMap | AbundanceMap) -> None:
    """Refuse a raster that does not overlap the map."""
    boxes = np.array([_degrees(item) for item in (grid, source.grid)])
    if (boxes[:, :2].max(axis=0) >= boxes[:, 2:].min(axis=0)).any():
        theirs, ours = (" ".join(f"{side:.4f}" for side in box) for box in boxes)
        raise GridError(
            f"{path} extends over {theirs}, the map over {ours} (west, south, east, north in degrees): they do not "
            f"overlap. Check the coordinate systems of both."
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
    crs = pyproj.CRS.from_user_input(_wkt(grid))
    return ":".join(crs.to_authority() or (crs.name,))
