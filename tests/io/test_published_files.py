"""Andalusia-MSMTU and TimeSpec4LULC: both layouts are read, the grid is rebuilt, what is written is read again."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tesela.core.errors import GridError, InputError
from tesela.io.msmtu import (
    CLASS_CODES,
    STEP_DEG,
    PublishedPixels,
    read_msmtu,
    rebuild_grid,
    write_msmtu,
    write_msmtu_cube,
    write_msmtu_shares,
)
from tesela.io.timespec import LabelledSeries, class_name, read_timespec, write_timespec
from tesela.patches.pixels import read_pixels, table_of_msmtu, table_of_timespec

LAYERS = ("longitude", "latitude", "altitude")


@pytest.fixture
def pixels() -> PublishedPixels:
    """Twelve pixels of a 4 x 5 grid."""
    rng = np.random.default_rng(0)
    places = rng.permutation(20)[:12]
    values = np.round(rng.random((12, 12, 7)) * 5000) / 10_000
    values[rng.random(values.shape) < 0.2] = np.nan
    lon, lat = -5.15881 + STEP_DEG * (places % 5), 38.69628 - STEP_DEG * (places // 5)
    fine = rng.dirichlet(np.ones(10), 12)
    coarse = np.stack([fine[:, 0], fine[:, 1:5].sum(1), fine[:, 5:9].sum(1), fine[:, 9]], axis=1)
    splits = np.array([0, 1, 2] * 4, np.uint8)
    return PublishedPixels(
        ids=np.arange(236, 248),
        values=values.astype(np.float32),
        layers=LAYERS,
        static=np.stack([lon, lat, 500 + places], axis=1).astype(np.float32),
        shares={1: coarse.astype(np.float32), 2: fine.astype(np.float32)},
        splits={1: splits, 2: splits},
    )


def same(actual: PublishedPixels, wanted: PublishedPixels) -> None:
    np.testing.assert_array_equal(actual.ids, wanted.ids)
    np.testing.assert_allclose(actual.values, wanted.values, atol=1e-7)
    assert actual.layers == wanted.layers
    np.testing.assert_allclose(actual.static, wanted.static, atol=1e-4)
    for level in (1, 2):
        np.testing.assert_allclose(actual.shares[level], wanted.shares[level], atol=1e-6)
        np.testing.assert_array_equal(actual.splits[level], wanted.splits[level])


def test_what_is_written_is_read_again(pixels: PublishedPixels, tmp_path: Path) -> None:
    same(read_msmtu(write_msmtu(pixels, tmp_path)), pixels)
    with (tmp_path / "labels/level_2/partitions/train.csv").open() as file:
        header = next(csv.reader(file))
    assert header[1:11] == list(CLASS_CODES[2])


def test_the_layout_with_ancillary_data_in_each_file_is_read_by_name(tmp_path: Path) -> None:
    for number, names in (
        (236, ("longitude", "latitude", "slope")),
        (239, ("slope", "latitude", "longitude")),
    ):
        values = np.full((12, 7), 1500.0)
        masks = np.ones((12, 7), int)
        masks[3] = 0
        place = {"longitude": -5.1588 + (number - 236) * STEP_DEG, "latitude": 38.7, "slope": 12.5}
        document = {
            "metadata": {"square_id": number},
            "ts_data": {"values": values.tolist(), "masks": masks.tolist(), "deltas": masks.tolist()},
            "ancillary_data": {name: place[name] for name in names},
        }
        (tmp_path / f"{number:07d}.json").write_text(json.dumps(document))
    pixels = read_msmtu(tmp_path)
    assert pixels.ids.tolist() == [236, 239]
    assert pixels.layers == ("longitude", "latitude", "slope")
    assert pixels.static[:, 2].tolist() == [12.5, 12.5]
    assert np.isnan(pixels.values[:, 3]).all()
    assert pixels.values[0, 0, 0] == pytest.approx(0.15)
    grid, rows, cols = rebuild_grid(pixels)
    assert grid.shape == (1, 4)
    assert (rows.tolist(), cols.tolist()) == ([0, 0], [0, 3])


def test_columns_are_found_by_code_whatever_their_order(pixels: PublishedPixels, tmp_path: Path) -> None:
    write_msmtu(pixels, tmp_path)
    for file in tmp_path.rglob("level_2/partitions/*.csv"):
        with file.open(newline="") as content:
            rows = list(csv.DictReader(content))
        names = ["Class_max", *reversed(list(CLASS_CODES[2])), "square_id"]
        with file.open("w", newline="") as content:
            table = csv.DictWriter(content, names, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)
    same(read_msmtu(tmp_path), pixels)


def test_pixels_become_a_cube_with_shares_and_their_partitions(
    pixels: PublishedPixels, tmp_path: Path
) -> None:
    cube = write_msmtu_cube(pixels, tmp_path / "cube.zarr")
    shares = write_msmtu_shares(pixels, tmp_path / "shares.tif", level=2)
    table = read_pixels(cube, shares)
    direct = table_of_msmtu(pixels)
    assert len(table) == len(direct) == 12
    order = np.lexsort((direct.cols, direct.rows))
    again = np.lexsort((table.cols, table.rows))
    np.testing.assert_array_equal(table.values[again], direct.values[order])
    np.testing.assert_allclose(table.targets[again], direct.targets[order], atol=1e-4)
    assert direct.counts == {"train": 4, "val": 4, "test": 4, "none": 0}
    np.testing.assert_allclose(direct.at_level(1).targets, table_of_msmtu(pixels, level=1).targets, atol=1e-6)


def test_mistakes_are_told(pixels: PublishedPixels, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_msmtu(tmp_path / "none")
    with pytest.raises(InputError, match="holds no JSON series"):
        read_msmtu(tmp_path)
    (tmp_path / "0000001.json").write_text('{"ts_data": {"values": [[1]], "masks": [[1]]}}')
    with pytest.raises(InputError, match="12 months x 7 bands are needed"):
        read_msmtu(tmp_path)
    (tmp_path / "0000001.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="is no series of Andalusia-MSMTU"):
        read_msmtu(tmp_path)
    moved = pixels.static.copy()
    moved[3, 0] += 0.4 * STEP_DEG
    with pytest.raises(GridError, match="are not on one grid"):
        rebuild_grid(replace(pixels, static=moved))
    twice = pixels.static.copy()
    twice[1] = twice[0]
    with pytest.raises(GridError, match="1 share a cell"):
        rebuild_grid(replace(pixels, static=twice))
    with pytest.raises(InputError, match="no shares of level 3"):
        table_of_msmtu(pixels, level=3)
    write_msmtu(pixels, tmp_path / "more")
    file = tmp_path / "more/labels/level_1/partitions/train.csv"
    file.write_text(file.read_text().replace("square_id,1,2,4,5", "square_id,1,2,4,9"))
    with pytest.raises(InputError, match=r"no column for 5 \(Wetlands\)"):
        read_msmtu(tmp_path / "more")


SERIES, TRAIN, PLACES = (
    "ts_files/0000236.json",
    "labels/level_2/partitions/train.csv",
    "ancillary/topo_climatic.csv",
)


def series_of(value: object, mask: object = 1) -> str:
    return json.dumps({"ts_data": {"forward": {"values": [[value] * 7] * 12, "masks": [[mask] * 7] * 12}}})


def with_row(row: str) -> Callable[[str], str]:
    """A table of which only the header is kept, and this row."""
    return lambda text: text.splitlines()[0] + f"\n{row}\n"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            SERIES,
            lambda text: text[:500],
            r"0000236\.json: is no series of Andalusia-MSMTU \(JSONDecodeError",
        ),
        (SERIES, lambda text: "[" * 100_000, r"0000236\.json: is no series .*RecursionError"),
        (SERIES, lambda text: series_of("cloud"), "could not convert string to float: 'cloud'"),
        (
            SERIES,
            lambda text: text[:-1] + ', "metadata": {"square_id": 1e400}}',
            "inf is no whole number",
        ),
        (TRAIN, lambda text: text.replace("\n236,", "\nsix,"), "'six' of row 2 is no number of a pixel"),
        (TRAIN, lambda text: text[:-60], r"row 5 has \d+ cells, the header 13. Was the file cut off\?"),
        (TRAIN, lambda text: text + text.splitlines()[1] + "\n", "pixel 236 occurs twice"),
        (TRAIN, lambda text: text.replace(",1,21,", ",21,21,"), "column 21 occurs twice"),
        (
            TRAIN,
            lambda text: text.replace(",", ";"),
            "has no column square_id; its columns are square_id;1;21",
        ),
        (TRAIN, with_row("236,NaN" + ",0.1" * 9 + ",1,0"), "none may be lacking or negative"),
        (TRAIN, with_row("236,-1,2" + ",0" * 8 + ",1,0"), "none may be lacking or negative"),
        (TRAIN, with_row("236,0.2,0.2" + ",0" * 8 + ",1,0"), "must sum to 1"),
        (TRAIN, with_row("236,0,1" + ",0" * 8 + ",42,0"), "Class_max of pixel 236 is 42, .* that of '21'"),
        (
            TRAIN,
            with_row("237,0,1" + ",0" * 8 + ",21,0"),
            "pixel 237 is also in the partition train",
        ),
        (PLACES, lambda text: text.replace("\n236,", "\nx236,"), "'x236' of row 2 is no number of a pixel"),
        (PLACES, lambda text: text.rstrip()[:-12], r"has \d cells, the header 4"),
        (PLACES, lambda text: text.replace("\n237,", "\n236,"), "pixel 236 occurs twice"),
        (PLACES, with_row("236,here,38,1"), "'here' of pixel 236, column longitude, is no number"),
    ],
)
def test_broken_files_of_msmtu_are_one_clear_line(
    pixels: PublishedPixels, tmp_path: Path, file: str, change: Callable[[str], str], message: str
) -> None:
    write_msmtu(pixels, tmp_path)
    (tmp_path / file).write_text(change((tmp_path / file).read_text()))
    with pytest.raises(InputError, match=message) as raised:
        read_msmtu(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), "NaN", None, 1e300, -28672])
def test_what_is_no_number_in_the_valid_range_is_a_gap(
    pixels: PublishedPixels, tmp_path: Path, value: object
) -> None:
    write_msmtu(pixels, tmp_path)
    (tmp_path / SERIES).write_text(series_of(value))
    assert np.isnan(read_msmtu(tmp_path).values[0]).all()


def test_a_pixel_has_one_series_and_other_json_files_are_passed_over(
    pixels: PublishedPixels, tmp_path: Path
) -> None:
    write_msmtu(pixels, tmp_path)
    (tmp_path / "readme.json").write_text('{"title": "Andalusia-MSMTU"}')
    same(read_msmtu(tmp_path), pixels)
    (tmp_path / "236.json").write_text((tmp_path / SERIES).read_text())
    with pytest.raises(InputError, match=r"pixel 236 is also in .*236\.json"):
        read_msmtu(tmp_path)


def test_shares_in_per_cent_or_of_most_of_a_pixel_are_scaled(pixels: PublishedPixels, tmp_path: Path) -> None:
    write_msmtu(pixels, tmp_path)
    for row in ("236,60,20" + ",0" * 8 + ",1.0,0", "236,0.6,0.2" + ",0" * 8 + ",1,0"):
        (tmp_path / TRAIN).write_text(with_row(row)((tmp_path / TRAIN).read_text()))
        assert read_msmtu(tmp_path).shares[2][0, :2] == pytest.approx([0.75, 0.25])
    (tmp_path / TRAIN).write_text(with_row("9999" + ",0.1" * 10 + ",1,0")((tmp_path / TRAIN).read_text()))
    for name in ("validation", "test"):
        (tmp_path / TRAIN).with_name(f"{name}.csv").unlink()
    with pytest.raises(InputError, match="holds shares of none of the pixels that have a series"):
        read_msmtu(tmp_path)


def test_ancillary_columns_may_be_missing_and_lie_in_several_files(
    pixels: PublishedPixels, tmp_path: Path
) -> None:
    write_msmtu(pixels, tmp_path)
    (tmp_path / "ancillary/climatic.csv").write_text("square_id,rain\n236,600\n238,\n")
    pixels = read_msmtu(tmp_path)
    assert set(pixels.layers) == {*LAYERS, "rain"}
    rain = pixels.static[:3, pixels.layers.index("rain")]
    assert rain == pytest.approx([600, np.nan, np.nan], nan_ok=True)
    (tmp_path / PLACES).unlink()
    with pytest.raises(GridError, match="holds no longitude, latitude; without them"):
        rebuild_grid(read_msmtu(tmp_path))


def test_places_that_cannot_be_true_are_told_before_memory_is_taken(pixels: PublishedPixels) -> None:
    def moved(x: float, y: float) -> PublishedPixels:
        static = pixels.static.copy()
        static[3, :2] = x, y
        return replace(pixels, static=static)

    with pytest.raises(GridError, match="Pixels 239 have no longitude or latitude"):
        rebuild_grid(moved(np.nan, 38))
    with pytest.raises(GridError, match="180 and 90 are the most"):
        rebuild_grid(moved(-5.1, 387))
    x, y = pixels.static[:, 0].min() + 40_000 * STEP_DEG, pixels.static[:, 1].max() - 20_000 * STEP_DEG
    with pytest.raises(GridError, match=r"grid has 8e\+08 cells; is a coordinate wrong\?"):
        rebuild_grid(moved(float(x), float(y)))


def test_series_of_timespec_are_cut_into_years_from_the_end(tmp_path: Path) -> None:
    months = np.arange(262.0)
    pixel = {"Pixel_Metadata": {}, "Pixel_TS": {f"b{b}": (months + b).tolist() for b in range(1, 8)}}
    pixel["Pixel_TS"]["b3"][-1] = -28672
    (tmp_path / "1BareLands.json").write_text(json.dumps({"Pixels": [pixel, pixel]}))
    (tmp_path / "2Urban.json").write_text(json.dumps({"Pixels": [pixel]}))
    series = read_timespec(tmp_path)
    assert series.classes == ("BareLands", "Urban")
    assert np.bincount(series.labels).tolist() == [42, 21]
    assert series.values[0, 0, 0] * 10_000 == pytest.approx(11)  # ten months are dropped; band 1 is month + 1
    assert series.values[20, 11, 1] * 10_000 == pytest.approx(263)
    assert np.isnan(series.values[20, 11, 2])
    table = table_of_timespec(series)
    assert table.targets.sum(1).tolist() == [1] * 63
    assert table.months == tuple(range(1, 13))


def test_timespec_as_csv_by_band(tmp_path: Path) -> None:
    folder = tmp_path / "07_DenseForest"
    folder.mkdir()
    for band in range(1, 8):
        with (folder / f"DenseForest_sur_refl_b0{band}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["IdOfThePixel", "Purity", *(f"2001_{month:02d}" for month in range(1, 13))])
            table.writerow([5, 100, *([100 * band] * 11), ""])
            if band < 7:
                table.writerow([6, 100, *([1] * 12)])
    series = read_timespec(tmp_path)
    assert series.classes == ("DenseForest",)
    assert series.values.shape == (1, 12, 7)
    assert series.values[0, 0].tolist() == pytest.approx([0.01 * band for band in range(1, 8)])
    assert np.isnan(series.values[0, 11]).all()
    (folder / "DenseForest_sur_refl_b04.csv").unlink()
    with pytest.raises(InputError, match="lacks band 4"):
        read_timespec(tmp_path)


def test_timespec_as_csv_by_month(tmp_path: Path) -> None:
    folder = tmp_path / "12_Grasslands"
    folder.mkdir()

    def write(year: int, month: int, *, rows: int = 2) -> Path:
        file = folder / f"Grasslands_{year}_{month:02d}.csv"
        with file.open("w", newline="") as content:
            table = csv.writer(content)
            table.writerow(["Purity", "IdOfThePixel", *(f"sur_refl_b0{band}" for band in range(7, 0, -1))])
            for pixel in range(rows):
                table.writerow([100, pixel, *(1000 * band + month for band in range(7, 0, -1))])
        return file

    for month in range(1, 13):
        write(2001, month, rows=1 if month == 4 else 2)
    write(2002, 1)
    series = read_timespec(tmp_path)
    assert series.classes == ("Grasslands",)
    assert series.values.shape == (1, 12, 7)
    assert series.values[0, 3, 1] == pytest.approx(0.2004)
    write(2002, 3)
    with pytest.raises(InputError, match="14 months, from 2001-01 to 2002-03, have gaps"):
        read_timespec(tmp_path)
    (folder / "Grasslands_2002_03.csv").rename(folder / "Grasslands_b1.csv")
    with pytest.raises(InputError, match="its name holds no month"):
        read_timespec(tmp_path)


BANDS = {f"b{band}": [100.0] * 24 for band in range(1, 8)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"Pixels": [{"Pixel_TS": BANDS}]})[:100], "is no file of TimeSpec4LULC"),
        ("[" * 100_000, "RecursionError"),
        (json.dumps({"Pixels": [{"Pixel_TS": BANDS | {"b3": ["cloud"] * 24}}]}), "'cloud'"),
        (json.dumps({"Pixels": [{"Pixel_TS": BANDS | {"b3": [1] * 23}}]}), "must have the same shape"),
        (json.dumps({"Pixels": [{"Pixel_TS": BANDS | {"B03": [1] * 24}}]}), "band 3 occurs twice"),
        (
            json.dumps({"Pixels": [{"Pixel_TS": {k: v[:11] for k, v in BANDS.items()}}]}),
            "shorter than twelve",
        ),
        (json.dumps({"Pixels": []}), "holds no pixels"),
    ],
)
def test_broken_files_of_timespec_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1BareLands.json").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_timespec(tmp_path)
    assert "\n" not in str(raised.value)


def test_columns_of_timespec_are_sorted_by_month_and_cut_at_december(tmp_path: Path) -> None:
    folder = tmp_path / "3Urban"
    folder.mkdir()
    months = [(2000 + k // 12, k % 12 + 1) for k in range(2, 26)]  # March 2000 to February 2002

    def write(columns: list[tuple[int, int]], rows: list[list[object]], band: int) -> None:
        with (folder / f"b{band}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["IdOfThePixel", *(f"{year}_{month:02d}" for year, month in columns)])
            table.writerows(rows)

    for band in range(1, 8):
        shown = months[::-1] if band == 2 else months
        write(shown, [[7, *(100 * month for _, month in shown)]], band)
    series = read_timespec(tmp_path)
    assert series.values.shape == (1, 12, 7)  # 2001
    assert series.values[0, :, 1] == pytest.approx(np.arange(1, 13) / 100)
    assert series.values[0, :, 4] == pytest.approx(np.arange(1, 13) / 100)
    write(months[:5] + months[6:], [[7, *range(23)]], 3)
    with pytest.raises(InputError, match="have gaps or occur twice"):
        read_timespec(tmp_path)
    write(months[1:], [[7, *range(23)]], 3)
    with pytest.raises(InputError, match="do not have the same months"):
        read_timespec(tmp_path)
    write(months, [[7, *range(24)]] * 2, 3)
    with pytest.raises(InputError, match="pixel 7 occurs twice"):
        read_timespec(tmp_path)
    write(months, [[7, *["cloud"] * 24]], 3)
    with pytest.raises(InputError, match="pixel 7: could not convert string to float: 'cloud'"):
        read_timespec(tmp_path)


def test_timespec_written_is_read_again(tmp_path: Path) -> None:
    values = np.round(np.random.default_rng(0).random((6, 12, 7)) * 9000).astype(np.float32) / 10_000
    values[0, 3, 2] = np.nan
    series = LabelledSeries(values.astype(np.float32), ("Forest", "Water"), np.array([0, 0, 0, 1, 1, 1]))
    series = read_timespec(write_timespec(series, tmp_path))
    np.testing.assert_allclose(series.values, series.values, atol=1e-7)
    assert series.classes == series.classes
    np.testing.assert_array_equal(series.labels, series.labels)
    with pytest.raises(InputError, match="neither JSON nor CSV"):
        read_timespec(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "name"), [("12_DenseForest", "DenseForest"), ("4Urban", "Urban"), ("Urban", "Urban")]
)
def test_classes_are_named_without_their_number(text: str, name: str) -> None:
    assert class_name(text) == name
