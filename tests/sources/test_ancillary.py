"""Elevation and climate rasters are averaged onto coarse cells."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core import GridError, InputError
from tesela.io.images import write_bands
from tesela.sources import source_raster, terrain
from tesela.sources.ancillary import average_onto, terrain_layers
from tesela.sources.terrain import slope_deg

UTM = "EPSG:25830"


def grid_of(rows: int, cols: int, side: float, *, left: float = 0.0, top: float = 0.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(side, 0, 500_000 + left, 0, -side, 4_100_000 - top), UTM)


def write(path: Path, values: object, grid: GeoBox, *, nodata: float | None = None) -> Path:
    array = np.asarray(values)
    return write_bands(path, array[np.newaxis], grid, names=("layer",), nodata=nodata)


def test_a_cell_holds_the_mean_of_its_pixels(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.int16).reshape(8, 8)
    path = write(tmp_path / "rain.tif", values, grid_of(8, 8, 10))
    means = average_onto(path, grid_of(2, 2, 40))
    assert means.tolist() == [[13.5, 17.5], [45.5, 49.5]]


def test_missing_pixels_do_not_count_and_cells_without_any_are_missing(tmp_path: Path) -> None:
    values = np.array([[4, -9, -9, -9], [-9, 8, -9, -9]], np.int16)
    path = write(tmp_path / "rain.tif", values, grid_of(2, 4, 10), nodata=-9)
    means = average_onto(path, grid_of(1, 2, 20))
    assert means[0, 0] == 6
    assert np.isnan(means[0, 1])


def test_finer_cells_are_interpolated(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[np.newaxis].repeat(8, axis=0)
    path = write(tmp_path / "mean.tif", values, grid_of(8, 8, 100))
    means = average_onto(path, grid_of(4, 4, 50, left=200, top=200))
    assert means[1] == pytest.approx([1.75, 2.25, 2.75, 3.25], abs=1e-4)


def test_a_plane_has_one_slope_everywhere(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(40) * 10.0, np.arange(40) * 10.0)
    path = write(tmp_path / "dem.tif", (0.3 * x - 0.4 * y).astype(np.float32), grid_of(40, 40, 10))
    layers = terrain_layers(path, grid_of(3, 3, 100, left=50, top=50))
    assert layers["slope"] == pytest.approx(np.degrees(np.arctan(0.5)), abs=1e-3)
    assert layers["altitude"][1, 1] == pytest.approx(0.3 * 195 - 0.4 * 195, abs=1e-3)


def test_a_slope_in_degrees_of_longitude_counts_the_parallel() -> None:
    step = 1 / 3600
    grid = GeoBox((5, 5), Affine(step, 0, -4, 0, -step, 60 + 2.5 * step), "EPSG:4326")
    rise = terrain.METRES_PER_DEGREE * step * 0.5  # cos 60 degrees: as high as a pixel is wide
    east = (np.arange(5) * rise).astype(np.float32)[np.newaxis].repeat(5, axis=0)
    assert slope_deg(east, grid)[2, 2] == pytest.approx(45, abs=0.01)


def test_the_size_of_the_pieces_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    path = write(tmp_path / "dem.tif", rng.normal(500, 90, (90, 90)).astype(np.float32), grid_of(90, 90, 10))
    cells = GeoBox((6, 6), Affine(137, 0, 500_031, 0, -137, 4_099_990), UTM)
    whole = terrain_layers(path, cells)
    monkeypatch.setattr(source_raster, "_SOURCE_PX", 30)
    pieces = terrain_layers(path, cells)
    for name, layer in whole.items():
        assert pieces[name] == pytest.approx(layer, rel=1e-5, nan_ok=True)


def test_a_raster_elsewhere_or_without_the_band_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "dem.tif", np.zeros((4, 4), np.float32), grid_of(4, 4, 10))
    with pytest.raises(GridError, match="does not reach the grid"):
        average_onto(path, grid_of(2, 2, 10, left=9000))
    with pytest.raises(InputError, match="no band 2"):
        average_onto(path, grid_of(2, 2, 10), band=2)
