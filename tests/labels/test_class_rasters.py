"""Class rasters as agencies deliver them: the meaning of a file's numbers never depends on the scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from tesela.cli import main

AT = Affine(10, 0, 500_000, 0, -10, 4_100_000)


def write(path: Path, values: NDArray[np.generic], *, at: Affine = AT, **profile: object) -> Path:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=values.shape[0],
        width=values.shape[1],
        **{"crs": "EPSG:25830", "transform": at, "dtype": values.dtype} | profile,
    ) as data:
        data.write(values, 1)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as data:
        values: NDArray[np.uint8] = data.read(1)
    return values


def label(reference: Path, like: Path, legend: str, *more: str) -> NDArray[np.uint8] | None:
    out = like.with_name(f"labels_{like.stem}.tif")
    code = main(
        ["label", str(reference), "--like", str(like), "--legend", legend, "-o", str(out), "-q", *more]
    )
    return read(out) if code == 0 else None


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    west = write(tmp_path / "west.tif", np.ones((32, 32), np.uint8))
    return west, write(tmp_path / "east.tif", np.ones((32, 32), np.uint8), at=AT * Affine.translation(32, 0))


def test_a_number_has_one_meaning_in_all_scenes(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    legend = tmp_path / "own.csv"
    legend.write_text("value,code,name,color\n1,0,land,#aaaaaa\n2,1,forest,#00aa00\n3,2,water,#0000aa\n")
    values = np.ones((32, 64), np.uint8)
    values[4:12] = 2
    values[20:24, 2:9] = 3  # in the west only; without it 1 and 2 are codes as well
    reference = write(tmp_path / "reference.tif", values, nodata=0)
    for side, place in zip(sides, (slice(0, 32), slice(32, 64)), strict=True):
        labels = label(reference, side, str(legend))
        np.testing.assert_array_equal(labels, values[:, place])


def test_numbers_that_fit_no_reading_as_a_whole_are_refused_everywhere(
    tmp_path: Path, sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.full((32, 64), 5, np.int16)  # grid code of CORINE, and a code of level 1
    values[:, 2:9] = 111
    reference = write(tmp_path / "mixed.tif", values)
    for side in sides:
        assert label(reference, side, "corine-1") is None
        assert "which legend 'corine' does not have" in capsys.readouterr().err


def test_two_meanings_of_a_whole_file_are_noted(
    tmp_path: Path, sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    legend = tmp_path / "own.csv"
    legend.write_text("value,code,name,color\n1,0,land,#aaaaaa\n2,1,forest,#00aa00\n3,2,water,#0000aa\n")
    values = np.ones((32, 64), np.uint8)
    values[:, 40:] = 2
    reference = write(tmp_path / "reference.tif", values)
    np.testing.assert_array_equal(label(reference, sides[0], str(legend)), 2)
    assert "codes and values" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
def test_official_corine_codes_become_a_map_by_the_command_that_the_message_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    codes = np.full((64, 64), 211, dtype)
    codes[:20] = 523
    codes[30:50, 20:50] = 311
    path = write(tmp_path / "clc.tif", codes)
    out = tmp_path / "out.tif"
    generalise = [
        "generalise",
        str(path),
        "--legend",
        "corine-3",
        "--mmu",
        "1 ha",
        "--min-width",
        "0 m",
        "-o",
        str(out),
    ]
    assert main(generalise) == 1
    said = capsys.readouterr().err
    if dtype == "float32":
        assert "whole numbers" in said
        return
    assert "holds codes of legend 'corine-3'" in said
    assert "tesela label FILE --like FILE --legend corine-3 -o MAP.tif" in said
    made = tmp_path / "map.tif"
    assert main(["label", str(path), "--like", str(path), "--legend", "corine-3", "-o", str(made), "-q"]) == 0
    assert main([*generalise[:1], str(made), *generalise[4:], "-q"]) == 0
    assert len(np.unique(read(out))) == 3
