"""Elevation, heights and other rasters as bands on the grid of a scene."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core import GridError, InputError
from tesela.core.grid import bounds_in
from tesela.core.scene import Scene
from tesela.io.images import write_bands
from tesela.io.scenes import open_scene
from tesela.sources import scene_layers
from tesela.sources.scene_layers import SceneLayer, write_scene_layers
from tesela.sources.terrain import DERIVATIVES, band_names

UTM = "EPSG:25830"
LEFT, TOP = 500_000, 4_100_000
ROWS, COLS = np.mgrid[0:40, 0:40]


def grid_of(rows: int, cols: int, side: float, *, left: float = 0.0, top: float = 0.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(side, 0, LEFT + left, 0, -side, TOP - top), UTM)


def write(
    path: Path, values: object, *, side: float = 10, left: float = 0, top: float = 0, **more: float
) -> Path:
    array = np.asarray(values)
    array = array[np.newaxis] if array.ndim == 2 else array
    grid = grid_of(*array.shape[1:], side, left=left, top=top)
    return write_bands(path, array, grid, names=[f"b{n}" for n in range(len(array))], **more)


def scene_of(folder: Path, *, pixels: int = 40, side: float = 10) -> Scene:
    return open_scene(write(folder / "scene.tif", np.ones((pixels, pixels), np.uint8), side=side))


def elevation(path: Path, *derive: str, neighbourhood_m: float = 50) -> SceneLayer:
    return SceneLayer("dem", (path,), "elevation", derive or DERIVATIVES, neighbourhood_m)


def written(folder: Path, scene: Scene, *layers: SceneLayer) -> dict[str, NDArray[np.float32]]:
    with rasterio.open(write_scene_layers(scene, layers, folder / "layers.tif")) as data:
        assert data.transform == scene.grid.affine
        assert np.isnan(data.nodata)
        return dict(zip(data.descriptions, data.read(), strict=True))


# --- terrain


@pytest.mark.parametrize(
    ("rise", "sine", "cosine"),
    [(ROWS, 0, 1), (-COLS, 1, 0), (-ROWS, 0, -1), (COLS, -1, 0), (ROWS - COLS, 0.5**0.5, 0.5**0.5)],
    ids=["north", "east", "south", "west", "north-east"],
)
def test_the_aspect_is_the_direction_in_which_a_plane_falls(
    rise: NDArray[np.int64], sine: float, cosine: float, tmp_path: Path
) -> None:
    dem = write(tmp_path / "dem.tif", (500 + 4 * rise).astype(np.float32))
    bands = written(tmp_path, scene_of(tmp_path), elevation(dem))
    assert tuple(bands) == band_names(DERIVATIVES)
    assert bands["aspect_sin"] == pytest.approx(sine, abs=1e-3)
    assert bands["aspect_cos"] == pytest.approx(cosine, abs=1e-3)
    steepness = 0.4 if 0 in (sine, cosine) else 0.4 * 2**0.5
    assert bands["slope"] == pytest.approx(np.degrees(np.arctan(steepness)), abs=1 / 128), "at borders, too"
    assert np.array_equal(bands["altitude"], 500 + 4 * rise)
    assert bands["position"][5:-5, 5:-5] == pytest.approx(0), "a plane has no ridges"


def test_flat_terrain_has_no_aspect(tmp_path: Path) -> None:
    dem = write(tmp_path / "dem.tif", np.full((40, 40), 7, np.int16))
    bands = written(tmp_path, scene_of(tmp_path), elevation(dem))
    assert all((bands[name] == 0).all() for name in ("slope", "aspect_sin", "aspect_cos", "position"))


def test_a_peak_is_above_its_neighbourhood_and_all_around_it_below(tmp_path: Path) -> None:
    values = np.full((40, 40), 100, np.float32)
    values[20, 20] += 98
    dem = write(tmp_path / "dem.tif", values)
    position = written(tmp_path, scene_of(tmp_path), elevation(dem, "position", neighbourhood_m=60))[
        "position"
    ]
    expected = np.zeros((40, 40))
    expected[17:24, 17:24] = -2  # 98 m over 7 x 7 pixels
    expected[20, 20] = 96
    assert np.array_equal(position, expected)


def test_missing_elevation_is_missing_and_its_neighbours_are_not(tmp_path: Path) -> None:
    values = 500 + 3.0 * COLS
    values[10, 10] = -9999
    dem = write(tmp_path / "dem.tif", values.astype(np.float32), nodata=-9999)
    bands = written(tmp_path, scene_of(tmp_path), elevation(dem))
    for name, band in bands.items():
        assert np.argwhere(np.isnan(band)).tolist() == [[10, 10]], name
    assert bands["slope"][9:12, 9:12][bands["slope"][9:12, 9:12] > 0] == pytest.approx(
        np.degrees(np.arctan(0.3)), abs=1 / 128
    )


def test_slopes_are_those_of_the_elevation_pixels_not_of_their_means(tmp_path: Path) -> None:
    zigzag = np.where(np.arange(80) % 4 < 2, np.arange(80) % 2, 1 - np.arange(80) % 2) * 10.0
    dem = write(tmp_path / "dem.tif", zigzag[np.newaxis].repeat(80, axis=0).astype(np.float32), side=10)
    slope = written(tmp_path, scene_of(tmp_path, pixels=10, side=80), elevation(dem, "slope"))["slope"]
    assert slope.min() > 10, "the mean altitude of 8 x 8 pixels is the same everywhere"


# --- files


def test_sheets_continue_each_other(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(500, 40, (40, 40)).astype(np.float32)
    scene = scene_of(tmp_path)
    whole = written(tmp_path, scene, elevation(write(tmp_path / "whole.tif", values)))
    west = write(tmp_path / "west.tif", values[:, :17])
    east = write(tmp_path / "east.tif", values[:, 15:], left=150)
    for paths in ((west, east), (east, west)):
        joined = written(tmp_path, scene, replace(elevation(west), paths=paths))
        for name, band in whole.items():
            assert np.array_equal(joined[name], band), name


def test_a_sheet_of_another_zone_is_warped(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    left, bottom, right, top = bounds_in(scene.grid, "EPSG:25829")
    side = 10
    shape = (int((top - bottom) / side) + 5, int((right - left) / side) + 5)
    grid = GeoBox(shape, Affine(side, 0, left - 20, 0, -side, top + 20), "EPSG:25829")
    plane = np.full((1, *shape), 800, np.float32)
    other = write_bands(tmp_path / "dem29.tif", plane, grid, names=("z",))
    bands = written(tmp_path, scene, elevation(other))
    assert (bands["altitude"] == 800).all()
    west = write(tmp_path / "west.tif", np.full((40, 20), 700, np.float32))
    bands = written(tmp_path, scene, replace(elevation(west), paths=(west, other)))
    assert (bands["altitude"][:, :19] == 700).all(), "the first file counts where both have data"
    assert (bands["altitude"][:, 21:] == 800).all()


def test_the_size_of_the_windows_changes_no_band_by_more_than_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    dem = write(tmp_path / "dem.tif", rng.normal(500, 30, (80, 80)).astype(np.float32), side=7)
    scene = scene_of(tmp_path, pixels=50, side=9.8)
    whole = written(tmp_path, scene, elevation(dem, neighbourhood_m=100))
    monkeypatch.setattr(scene_layers, "_WINDOW_PX", 13)
    for name, band in written(tmp_path, scene, elevation(dem, neighbourhood_m=100)).items():
        step = 1 / scene_layers._STEPS[name]
        assert np.abs(band - whole[name]).max() <= 2 * step, name


def test_a_layer_that_does_not_cover_a_scene_is_refused_and_both_are_named(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    half = write(tmp_path / "half.tif", np.zeros((40, 20), np.float32))
    with pytest.raises(GridError, match=r"'dem' \(half\.tif\) covers 50 % of scene 'scene'"):
        written(tmp_path, scene, elevation(half))
    away = write(tmp_path / "away.tif", np.zeros((40, 40), np.float32), left=50_000)
    with pytest.raises(GridError, match=r"'dem' \(away\.tif\) covers no part of scene 'scene'"):
        written(tmp_path, scene, elevation(away))
    empty = write(tmp_path / "empty.tif", np.zeros((40, 40), np.float32), nodata=0)
    with pytest.raises(GridError, match="Layer dem has no data on scene 'scene'"):
        written(tmp_path, scene, elevation(empty))
    assert not (tmp_path / "layers.tif").exists()


def test_a_neighbourhood_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    dem = write(tmp_path / "dem.tif", np.zeros((40, 40), np.float32))
    with pytest.raises(InputError, match=r"20000 m has 2001 elevation pixels by the side, at most 1025"):
        written(tmp_path, scene_of(tmp_path), elevation(dem, neighbourhood_m=20_000))


# --- heights and other rasters


def test_heights_are_at_least_zero_and_averaged(tmp_path: Path) -> None:
    values = np.tile(np.array([[4.0, 6.0], [8.0, -2.0]], np.float32), (40, 40))
    path = write(tmp_path / "ndsm.tif", values, side=5)
    bands = written(tmp_path, scene_of(tmp_path), SceneLayer("trees", (path,), "height"))
    assert list(bands) == ["trees"]
    assert (bands["trees"] == 4.5).all()


def test_bands_of_a_raster_get_their_names_scale_and_offset(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    path = write(tmp_path / "soil.tif", np.stack([ROWS, COLS]).astype(np.int16), scale=0.5)
    bands = written(tmp_path, scene, SceneLayer("soil", (path,), "raster", bands=("clay", "sand")))
    assert np.array_equal(bands["clay"], ROWS / 2)
    assert np.array_equal(bands["sand"], COLS / 2)
    with pytest.raises(InputError, match=re.escape("has 2 bands, layer 'soil' takes 1. Name them")):
        written(tmp_path, scene, SceneLayer("soil", (path,), "raster"))


def test_classes_are_never_mixed(tmp_path: Path) -> None:
    classes = np.random.default_rng(2).choice([3, 50], (160, 160)).astype(np.uint8)
    path = write(tmp_path / "soil.tif", classes, side=2.5)
    scene = scene_of(tmp_path)
    layer = SceneLayer("soil", (path,), "raster", nearest=True)
    assert set(np.unique(written(tmp_path, scene, layer)["soil"])) == {3, 50}
    mixed = written(tmp_path, scene, replace(layer, nearest=False))["soil"]
    assert len(np.unique(mixed)) > 10


def test_a_band_of_the_scene_keeps_its_name_for_itself(tmp_path: Path) -> None:
    dem = write(tmp_path / "dem.tif", np.zeros((40, 40), np.float32))
    with pytest.raises(InputError, match="Scene 'scene' has a band b0, and so has layer 'b0'"):
        written(tmp_path, scene_of(tmp_path), SceneLayer("b0", (dem,), "raster"))
