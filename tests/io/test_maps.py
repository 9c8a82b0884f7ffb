"""Class maps: written whole as COGs with palette, names and table, and read by nearest pixel."""

import json
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from tesela.core import Crosswalk, GridError, InputError, LandClass, Legend, LegendError, RecipeError
from tesela.core.grid import window_grid
from tesela.io import MapReader, MapWriter, open_crosswalk, open_legend, open_map, write_map
from tesela.io.maps import convert_map

LEGEND = Legend(
    "demo", (LandClass(1, "w", "Water", "#0000ff"), LandClass(5, "f", "Forêt & <bois>", "#00ff00"))
)
EVERY = Legend("every", tuple(LandClass(n, str(n), f"Class {n}", f"#{n:02x}0000") for n in range(1, 255)))


def grid(rows: int, cols: int, *, side: float = 10) -> GeoBox:
    return GeoBox((rows, cols), Affine(side, 0, 500_000, 0, -side, 4_100_000), "EPSG:25830")


def reread(path: str | Path, where: GeoBox | None = None) -> np.ndarray:
    opened = open_map(path)
    with MapReader(opened) as reader:
        return reader.read(opened.grid if where is None else where)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(2, 1100),  # rio-cogeo takes the overview of a column 1 px wide for a mistake
    cols=st.integers(2, 1100),
    kinds=st.integers(1, 254),
    run=st.sampled_from([1, 3, 50, 5000]),
    step=st.sampled_from([64, 300, 512, 2000]),
    seed=st.integers(0, 1000),
)
def test_what_is_written_by_windows_is_what_gdal_reads(
    tmp_path: Path, rows: int, cols: int, kinds: int, run: int, step: int, seed: int
) -> None:
    # from one value to noise of 254, in runs of all lengths: compression, tiles cut by the edge, order of windows
    generator = np.random.default_rng(seed)
    values = np.repeat(generator.integers(0, kinds + 1, rows * cols // run + 1), run)[: rows * cols]
    values = values.reshape(rows, cols).astype(np.uint8)
    path = tmp_path / "map.tif"
    corners = [(row, col) for row in range(0, rows, step) for col in range(0, cols, step)]
    with MapWriter(path, grid(rows, cols), EVERY) as writer:
        for row, col in generator.permutation(corners):
            writer.write(int(row), int(col), np.ascontiguousarray(values[row : row + step, col : col + step]))
    with rasterio.open(path) as data:
        np.testing.assert_array_equal(data.read(1), values)
        assert data.nodata == 0
        assert data.crs.to_epsg() == 25830
        assert data.transform == grid(rows, cols).affine
    assert writer.counts.tolist() == np.bincount(values.ravel(), minlength=256).tolist()
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])


def test_a_map_opens_in_gdal_with_colours_names_and_legend(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", np.array([[1, 5], [5, 0]], np.uint8), grid(2, 2), legend=LEGEND)
    assert repr(made) == "<ClassMap map.tif: demo, 2 x 2 px, EPSG:25830>"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["map.qml", "map.tif", "map.tif.aux.xml"]
    with rasterio.open(made.path) as data:
        colours = data.colormap(1)
        assert (colours[1], colours[5]) == ((0, 0, 255, 255), (0, 255, 0, 255))
        assert colours[0][3] == 0
        assert data.descriptions == ("demo",)
    assert open_map(made.path) == made


def test_the_side_file_holds_category_names_and_an_attribute_table(tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", np.array([[1, 5], [5, 0]], np.uint8), grid(2, 2), legend=LEGEND)
    root = ElementTree.parse(tmp_path / "map.tif.aux.xml").getroot()
    names = [item.text or "" for item in root.iter("Category")]
    assert names == ["", "Water", "", "", "", "Forêt & <bois>"]
    fields = [item.findtext("Name") for item in root.iter("FieldDefn")]
    rows = [[cell.text for cell in row.iter("F")] for row in root.iter("Row")]
    assert fields == ["Value", "Count", "Class_Name", "Code", "R", "G", "B"]
    assert rows == [
        ["1", "1", "Water", "w", "0", "0", "255"],
        ["5", "2", "Forêt & <bois>", "f", "0", "255", "0"],
    ]


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdalinfo_shows_names_and_table(tmp_path: Path) -> None:
    import subprocess

    write_map(tmp_path / "map.tif", np.array([[1, 5], [5, 0]], np.uint8), grid(2, 2), legend=LEGEND)
    done = subprocess.run(
        ["gdalinfo", "-json", tmp_path / "map.tif"], capture_output=True, text=True, check=True
    )
    document = json.loads(done.stdout)
    assert document["bands"][0]["colorInterpretation"] == "Palette"
    assert "Water" in done.stdout
    assert document["rat"]["tableType"] == "thematic"


def test_the_style_names_every_class(tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", np.array([[1]], np.uint8), grid(1, 1), legend=LEGEND)
    entries = [item.attrib for item in ElementTree.parse(tmp_path / "map.qml").getroot().iter("paletteEntry")]
    assert [(item["value"], item["color"], item["label"]) for item in entries] == [
        ("1", "#0000ff", "w Water"),
        ("5", "#00ff00", "f Forêt & <bois>"),
    ]


def test_overviews_hold_the_most_frequent_class_of_four(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.choice(np.array([0, 1, 5], np.uint8), (1024, 1024), p=[0.2, 0.4, 0.4])
    write_map(tmp_path / "map.tif", values, grid(1024, 1024), legend=LEGEND)
    with rasterio.open(tmp_path / "map.tif") as data:
        assert data.overviews(1)[0] == 2
    with rasterio.open(tmp_path / "map.tif", overview_level=0) as data:
        half = data.read(1)
    for row, col in generator.integers(0, 512, (500, 2)):
        counts = Counter(values[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist())
        counts.pop(0, None)  # nodata wins only where nothing else is
        most = max(counts.values(), default=0)
        assert half[row, col] in [value for value, count in counts.items() if count == most] or not counts
        assert counts or half[row, col] == 0


@pytest.mark.parametrize("name", ["corine", "corine-2", "corine-1", "sipna-1", "lulucf", "siose-ar"])
def test_a_map_says_its_legend_and_level(tmp_path: Path, name: str) -> None:
    legend = open_legend(name)
    made = write_map(
        tmp_path / "map.tif", np.full((2, 2), legend.values[-1], np.uint8), grid(2, 2), legend=legend
    )
    assert open_map(made.path).legend == legend


def test_pixels_never_written_are_nodata(tmp_path: Path) -> None:
    with MapWriter(tmp_path / "map.tif", grid(600, 600), LEGEND) as writer:
        writer.write(550, 520, np.full((50, 80), 5, np.uint8))
    values = reread(tmp_path / "map.tif")
    assert values.sum() == 50 * 80 * 5
    assert (values[550:, 520:] == 5).all()


def test_values_outside_the_legend_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(LegendError, match=r"map\.tif holds the values 7, but legend 'demo' has values 1, 5"):
        write_map(tmp_path / "map.tif", np.array([[1, 7]], np.uint8), grid(1, 2), legend=LEGEND)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_older_map(tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", np.array([[1]], np.uint8), grid(1, 1), legend=LEGEND)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}

    def fail() -> None:
        with MapWriter(tmp_path / "map.tif", grid(1, 1), LEGEND) as writer:
            writer.write(0, 0, np.array([[5]], np.uint8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_the_same_map_has_the_same_bytes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice(np.array([0, 1, 5], np.uint8), (700, 700))
    for name in ("a", "b"):
        write_map(tmp_path / name / "map.tif", values, grid(700, 700), legend=LEGEND)
    for name in ("map.tif", "map.tif.aux.xml", "map.qml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["tiles.tif", "header.tif", "map.TIFF", "map", "a b.tif", "level0"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    write_map(tmp_path / name, np.array([[1, 5]], np.uint8), grid(1, 2), legend=LEGEND)
    assert reread(tmp_path / name).tolist() == [[1, 5]]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"map\.tif: cannot be written"):
        write_map(tmp_path / "file" / "map.tif", np.array([[1]], np.uint8), grid(1, 1), legend=LEGEND)


def test_an_array_of_another_shape_is_told() -> None:
    with pytest.raises(GridError, match=r"array has \(1, 2\) pixels, the grid \(2, 1\)"):
        write_map("never.tif", np.array([[1, 5]], np.uint8), grid(2, 1), legend=LEGEND)


def test_maps_are_read_by_nearest_pixel_on_any_grid(tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", np.array([[1, 5], [5, 1]], np.uint8), grid(2, 2), legend=LEGEND)
    fine = reread(tmp_path / "map.tif", grid(4, 4, side=5))
    assert fine.tolist() == np.repeat(np.repeat([[1, 5], [5, 1]], 2, 0), 2, 1).tolist()
    shifted = GeoBox((2, 2), Affine(10, 0, 500_004, 0, -10, 4_100_004), "EPSG:25830")
    assert reread(tmp_path / "map.tif", shifted).tolist() == [[1, 5], [5, 1]]
    assert reread(tmp_path / "map.tif", window_grid(grid(2, 2), -1, 1, 3, 2)).tolist() == [
        [0, 0],
        [5, 0],
        [1, 0],
    ]
    coarse = set(reread(tmp_path / "map.tif", grid(1, 1, side=20)).ravel().tolist())
    assert coarse <= {1, 5}  # never a mean


def foreign(
    path: Path, values: object, *, dtype: str = "uint8", count: int = 1, nodata: float | None = None
) -> Path:
    numbers = np.asarray(values, dtype)
    where = {
        "crs": "EPSG:25830",
        "transform": grid(1, 1).affine,
        "height": len(numbers),
        "width": len(numbers[0]),
    }
    with rasterio.open(path, "w", driver="GTiff", count=count, dtype=dtype, nodata=nodata, **where) as data:
        data.write(np.stack([numbers] * count))
    return path


def test_a_foreign_raster_needs_its_legend_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.tif", [[1, 5, 255]], nodata=255)
    with pytest.raises(LegendError, match=r"a\.tif: does not name its legend; name it"):
        open_map(path)
    opened = open_map(path, legend=LEGEND)
    with MapReader(opened) as reader:
        assert reader.read(opened.grid).tolist() == [[1, 5, 0]]


def test_a_map_that_says_its_legend_is_not_read_in_another(tmp_path: Path) -> None:
    path = write_map(tmp_path / "a.tif", np.ones((2, 2), np.uint8), grid(2, 2), legend=LEGEND).path
    assert open_map(path, legend=LEGEND).legend == LEGEND
    with pytest.raises(LegendError, match="has legend 'demo', which the file names, and not 'corine-3'"):
        open_map(path, legend=open_legend("corine"))
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_map(tmp_path, np.ones((2, 2), np.uint8), grid(2, 2), legend=LEGEND)


@pytest.mark.parametrize(
    ("dtype", "strange"), [("uint8", 9), ("uint16", 311), ("int16", -5), ("uint16", 257)]
)
def test_values_outside_the_legend_are_told_when_read(tmp_path: Path, dtype: str, strange: int) -> None:
    opened = open_map(foreign(tmp_path / "a.tif", [[1, strange]], dtype=dtype), legend=LEGEND)
    with (
        MapReader(opened) as reader,
        pytest.raises(LegendError, match=rf"holds the values {strange}, but legend 'demo'"),
    ):
        reader.read(opened.grid)


def test_rasters_that_are_no_class_maps_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 3 bands; a class map has one"):
        open_map(foreign(tmp_path / "a.tif", [[1]], count=3), legend=LEGEND)
    with pytest.raises(InputError, match="holds float32 values; a class map holds whole numbers"):
        open_map(foreign(tmp_path / "b.tif", [[1]], dtype="float32"), legend=LEGEND)
    with pytest.raises(InputError, match=r"gone\.tif: no such file"):
        open_map(tmp_path / "gone.tif")


def test_converting_keeps_pixel_counts(tmp_path: Path) -> None:
    corine, lulucf = open_legend("corine"), open_legend("lulucf")
    values = np.random.default_rng(0).integers(0, 45, (300, 300)).astype(np.uint8)
    source = write_map(tmp_path / "clc.tif", values, grid(300, 300), legend=corine)
    crosswalk = open_crosswalk("corine", lulucf)
    made = convert_map(source, tmp_path / "lulucf.tif", crosswalk=crosswalk)
    assert made.legend == lulucf
    np.testing.assert_array_equal(reread(made.path), crosswalk.table(corine)[values])
    with pytest.raises(RecipeError, match="is read, and would be replaced"):
        convert_map(source, source.path, crosswalk=crosswalk)
    upper = convert_map(source, tmp_path / "level1.tif", crosswalk=Crosswalk.identity(corine, 1))
    np.testing.assert_array_equal(reread(upper.path), corine.level_table(1)[values])
