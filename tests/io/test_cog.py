"""The COG writer: bytes that GDAL reads, tiles in place, overviews by mode and mean."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.cog import CogWriter
from tesela.io.maps import MapWriter, ScoreWriter, write_map
from tesela.io.tiles import count_values, halve_by_mean, halve_by_mode, pack_lzw

LEGEND = Legend(
    "demo",
    tuple(LandClass(value, str(value), f"Class {value}", f"#10{value:02x}00") for value in range(1, 9)),
)


def grid_of(shape: tuple[int, int]) -> GeoBox:
    return GeoBox(shape, Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 70_000),
    symbols=st.sampled_from([1, 2, 12, 256]),
    run=st.integers(1, 50),
    seed=st.integers(0, 100),
)
def test_lzw_is_read_back_by_gdal(
    tmp_path_factory: pytest.TempPathFactory, size: int, symbols: int, run: int, seed: int
) -> None:
    """A tile of 512 px whose first pixels are given, so that codes of all widths and clears come up."""
    folder = tmp_path_factory.mktemp("lzw")
    values = np.zeros(512 * 512, np.uint8)
    values[:size] = np.repeat(np.random.default_rng(seed).integers(0, symbols, size // run + 1), run)[:size]
    assert len(pack_lzw(values.tobytes())) <= values.size * 1.5
    with CogWriter(folder / "map.tif", grid_of((512, 512))) as writer:
        writer.write(0, 0, values.reshape(512, 512))
    with rasterio.open(folder / "map.tif") as data:
        assert (data.read(1).ravel() == values).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 700), (512, 512), (513, 1025), (1500, 1100)])
def test_any_shape_is_a_valid_cog(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)
    write_map(tmp_path / "map.tif", values, grid_of(shape), legend=LEGEND)
    with rasterio.open(tmp_path / "map.tif") as data:
        assert (data.read(1) == values).all()
        assert data.crs.to_epsg() == 25830
        assert data.transform == grid_of(shape).affine
        assert data.nodata == 0
        assert data.colormap(1)[3] == (16, 3, 0, 255)
        factors = data.overviews(1)
    assert factors == [2**step for step in range(1, 4) if max(shape) > 512 * 2 ** (step - 1)]
    valid, errors, warnings = cog_validate(tmp_path / "map.tif", quiet=True)
    assert (valid, errors, warnings) == (True, [], [])


def test_windows_may_come_in_any_order_and_leave_gaps(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    shape = (1300, 1700)
    values = random.integers(0, 255, (3, *shape)).astype(np.uint8)
    corners = [(row, col) for row in range(0, 1300, 200) for col in range(0, 1700, 300)]
    random.shuffle(corners)
    with ScoreWriter(tmp_path / "scores.tif", grid_of(shape), ["a", "b", "c"], scale=0.5, unit="%") as writer:
        for row, col in corners[1:]:
            writer.write(row, col, values[:, row : row + 200, col : col + 300])
    row, col = corners[0]
    values[:, row : row + 200, col : col + 300] = 255
    with rasterio.open(tmp_path / "scores.tif") as data:
        assert (data.read() == values).all()
        assert data.descriptions == ("a", "b", "c")
        assert data.scales == (0.5, 0.5, 0.5)
        assert data.units == ("%", "%", "%")
    assert cog_validate(tmp_path / "scores.tif", quiet=True)[0]


def test_the_same_pixels_make_the_same_bytes_however_they_come(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 9, (1100, 900)).astype(np.uint8)
    write_map(tmp_path / "whole.tif", values, grid_of(values.shape), legend=LEGEND)
    with MapWriter(tmp_path / "strips.tif", grid_of(values.shape), LEGEND) as writer:
        for row in range(0, 1100, 77):
            writer.write(row, 0, values[row : row + 77, :450])
            writer.write(row, 450, values[row : row + 77, 450:])
    assert (tmp_path / "whole.tif").read_bytes() == (tmp_path / "strips.tif").read_bytes()


@pytest.mark.parametrize(
    ("four", "expected"),
    [
        ([1, 1, 2, 3], 1),
        ([1, 2, 2, 3], 2),
        ([1, 2, 3, 3], 3),
        ([1, 2, 2, 1], 1),
        ([2, 1, 1, 2], 2),
        ([4, 3, 2, 1], 4),
        ([0, 0, 0, 5], 5),
        ([0, 6, 5, 5], 5),
        ([0, 6, 5, 0], 6),
        ([0, 0, 0, 0], 0),
    ],
)
def test_overviews_take_the_most_frequent_class_and_the_first_of_equals(
    four: list[int], expected: int
) -> None:
    out = np.empty((1, 1, 1), np.uint8)
    halve_by_mode(np.array(four, np.uint8).reshape(1, 2, 2), 0, out)
    assert out[0, 0, 0] == expected


@pytest.mark.parametrize(
    ("four", "expected"),
    [([1, 2, 3, 4], 3), ([1, 2, 255, 255], 2), ([255, 255, 255, 7], 7), ([255] * 4, 255)],
)
def test_overviews_of_scores_take_the_mean_of_valid_pixels(four: list[int], expected: int) -> None:
    out = np.empty((1, 1, 1), np.uint8)
    halve_by_mean(np.array(four, np.uint8).reshape(1, 2, 2), 255, out)
    assert out[0, 0, 0] == expected


def test_overviews_of_a_file_are_halvings_of_each_other(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 4, (1500, 1201)).astype(np.uint8)
    write_map(tmp_path / "map.tif", values, grid_of(values.shape), legend=LEGEND)
    finer: NDArray[np.uint8] = values
    for level in range(2):
        padded = np.zeros((1, *(side + side % 2 for side in finer.shape)), np.uint8)
        padded[0, : finer.shape[0], : finer.shape[1]] = finer
        expected = np.empty((1, padded.shape[1] // 2, padded.shape[2] // 2), np.uint8)
        halve_by_mode(padded, 0, expected)
        with rasterio.open(tmp_path / "map.tif", overview_level=level) as data:
            finer = data.read(1)
        assert (finer == expected[0]).all()


def test_values_are_counted() -> None:
    values = np.random.default_rng(4).integers(0, 256, (301, 407)).astype(np.uint8)
    counts = np.zeros(256, np.int64)
    count_values(values[3:, 5:], counts)
    assert (counts == np.bincount(values[3:, 5:].ravel(), minlength=256)).all()


def test_a_large_file_takes_places_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Big TIFF is taken by size; the limit is set so low that a small map counts as large."""
    monkeypatch.setattr("tesela.io.tiff.LARGEST", 1000)
    values = np.random.default_rng(5).integers(0, 9, (700, 800)).astype(np.uint8)
    write_map(tmp_path / "map.tif", values, grid_of(values.shape), legend=LEGEND)
    assert (tmp_path / "map.tif").read_bytes()[:4] == b"II+\0"
    with rasterio.open(tmp_path / "map.tif") as data:
        assert (data.read(1) == values).all()
        assert data.crs.to_epsg() == 25830
    assert cog_validate(tmp_path / "map.tif", quiet=True)[0]


def test_a_full_disk_leaves_no_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tesela.io.cog.write_tiff", full)
    with pytest.raises(
        InputError, match=r"map\.tif: cannot be written \(No space left on device\)\. Make room"
    ):
        write_map(tmp_path / "map.tif", np.ones((50, 50), np.uint8), grid_of((50, 50)), legend=LEGEND)
    assert not list(tmp_path.iterdir())
