"""The sensor's geometry: shares through its response, and the shift of images found from the series."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from tesela.cli import main
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.abundance import open_abundance
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.maps import write_map
from tesela.labels.fractions import read_fractions, shift_of
from tesela.labels.sensor_shares import scan_weights

LEGEND = Legend("pair", (LandClass(1, "a", "A", "#ff0000"), LandClass(2, "b", "B", "#00ff00")))
CELLS = GeoBox((48, 48), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")
FINE = GeoBox((56 * 20, 56 * 20), Affine(25, 0, 398_000, 0, -25, 4_102_000), "EPSG:25830")
"""Pixels of 25 m that reach four cells beyond the cells."""


def write_reference(folder: Path) -> tuple[Path, NDArray[np.uint8]]:
    """Two classes in patches a few cells wide."""
    field = gaussian_filter(np.random.default_rng(3).standard_normal(FINE.shape), 25)
    values = np.where(field > 0, 1, 2).astype(np.uint8)
    write_map(folder / "reference.tif", values, FINE, legend=LEGEND)
    return folder / "reference.tif", values


def write_series(folder: Path, values: NDArray[np.uint8], shift: tuple[float, float]) -> Cube:
    """Four months of two bands, of the ground that lies beside the cells by a shift, with noise and gaps."""
    rng = np.random.default_rng(1)
    spectra = rng.random((4, 2, 2))
    row, col = (round((4 + part) * 20) for part in shift)
    inside = (values[row : row + 960, col : col + 960] == 1).reshape(48, 20, 48, 20).mean(axis=(1, 3))
    series = spectra[..., :1] * inside.ravel() + spectra[..., 1:] * (1 - inside.ravel())
    series = series.reshape(4, 2, 48, 48) + 0.15 * rng.standard_normal((4, 2, 48, 48))
    series[rng.random(series.shape) < 0.2] = np.nan
    times = tuple(f"2018-{month:02d}" for month in range(1, 5))
    with CubeWriter(folder / "cube.zarr", CELLS, times=times, bands=("red", "nir")) as writer:
        writer.write(0, 0, series)
    return open_cube(folder / "cube.zarr")


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.2), (-0.6, 0.45)])
def test_a_known_shift_is_found_within_its_uncertainty(tmp_path: Path, shift: tuple[float, float]) -> None:
    reference, values = write_reference(tmp_path)
    found = shift_of(write_series(tmp_path, values, shift), reference, legend=LEGEND)
    assert (found.rows, found.cols) == pytest.approx(shift, abs=0.06)
    assert max(found.rows_sd, found.cols_sd) < 0.03
    assert abs(found.rows - shift[0]) < 4 * found.rows_sd + 0.02
    assert found.explained >= found.explained_unshifted
    assert found.is_clear is any(shift)


def test_the_command_takes_the_shift_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, values = write_reference(tmp_path)
    write_series(tmp_path, values, (0.5, -0.25))
    words = ["label", str(reference), "--like", str(tmp_path / "cube.zarr"), "--legend", "pair"]
    (tmp_path / "pair.csv").write_text("level,value,code,name,color\n1,1,a,A,#ff0000\n1,2,b,B,#00ff00\n")
    words[-1] = str(tmp_path / "pair.csv")
    assert main([*words, "--fractions", "--shift", "auto", "-o", str(tmp_path / "shares.tif")]) == 0
    assert "shift +0.5" in capsys.readouterr().out
    truth = (values[90:1050, 75:1035] == 1).reshape(48, 20, 48, 20).mean(axis=(1, 3))
    shares = open_abundance(tmp_path / "shares.tif").read()[0]
    left = (values[80:1040, 80:1040] == 1).reshape(48, 20, 48, 20).mean(axis=(1, 3))
    assert np.abs(shares - truth).mean() < 0.2 * np.abs(left - truth).mean()
    assert main([*words, "--shift", "0.1,0.1", "-o", str(tmp_path / "x.tif")]) == 1
    assert "--psf and --shift are options of class shares" in capsys.readouterr().err


def test_a_reference_that_the_series_do_not_show_gives_no_shift(tmp_path: Path) -> None:
    reference, values = write_reference(tmp_path)
    cube = write_series(tmp_path, values[::-1, ::-1], (0.0, 0.0))
    with pytest.raises(InputError, match="the series do not show the classes"):
        shift_of(cube, reference, legend=LEGEND)


def test_the_response_of_modis_is_a_triangle_of_two_cells_along_the_rows(tmp_path: Path) -> None:
    values = np.full(FINE.shape, 2, np.uint8)
    values[:, 560:580] = 1  # one column of cells: the 24th
    write_map(tmp_path / "a.tif", values, FINE, legend=LEGEND)
    plain = read_fractions(tmp_path / "a.tif", like=CELLS, legend=LEGEND)
    seen = read_fractions(tmp_path / "a.tif", like=CELLS, legend=LEGEND, psf="modis")
    np.testing.assert_allclose(plain.shares[0, 10, 22:27], [0, 0, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(seen.shares[0, 10, 22:27], [0, 0.125, 0.75, 0.125, 0], atol=1e-6)
    np.testing.assert_allclose(seen.shares.sum(axis=0), 1)
    np.testing.assert_allclose(seen.shares[0].sum(), plain.shares[0].sum())  # no area is lost
    turned = read_fractions(tmp_path / "a.tif", like=CELLS, legend=LEGEND, psf="modis", shift=(0.0, 0.5))
    np.testing.assert_allclose(turned.shares[0, 10, 22:27], [0, 0.5, 0.5, 0, 0], atol=0.01)
    with pytest.raises(InputError, match="Unknown point-spread function 'mod': did you mean 'modis'"):
        read_fractions(tmp_path / "a.tif", like=CELLS, legend=LEGEND, psf="mod")


@pytest.mark.parametrize("parts", [1, 2, 5, 8])
def test_the_weights_of_the_response_sum_to_one_and_are_even(parts: int) -> None:
    weights = scan_weights(parts).ravel()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-12)
    assert (weights >= 0).all()
