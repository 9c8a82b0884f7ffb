"""The virtual sheet: what it promises about cover types, orthophoto, SIOSE AR file and mistakes."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label

from tesela.core.errors import InputError
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader, open_map
from tesela.io.scenes import SceneReader, open_scene
from tesela.labels.siose import label_siose
from tesela.simulate.sheet.covers import COVER_TYPES, NUMBER, TREES, ZONES
from tesela.simulate.sheet.crowns import ROOF, Relief, raise_relief
from tesela.simulate.sheet.files import SheetFiles, write_sheet
from tesela.simulate.sheet.orthophoto import SUN_ELEVATION, draw_orthophoto
from tesela.simulate.sheet.sheet import Sheet, make_sheet
from tesela.simulate.sheet.siose import draw_siose
from tesela.sources.pnoa import check_zone

SIZE_PX, PIXEL_M = 640, 0.5


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    return make_sheet(size_px=SIZE_PX, pixel_m=PIXEL_M, seed=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SheetFiles:
    return write_sheet(tmp_path_factory.mktemp("sheet"), size_px=SIZE_PX, pixel_m=PIXEL_M, seed=1)


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_same_seed_gives_the_same_sheet_and_another_one_another(sheet: Sheet) -> None:
    again = make_sheet(size_px=SIZE_PX, pixel_m=PIXEL_M, seed=1)
    assert digest(sheet.parcel, sheet.kind, sheet.canopy) == digest(again.parcel, again.kind, again.canopy)
    assert digest(draw_orthophoto(sheet)) == digest(draw_orthophoto(again))
    assert digest(sheet.parcel) != digest(make_sheet(size_px=SIZE_PX, pixel_m=PIXEL_M, seed=2).parcel)


def test_every_parcel_is_one_connected_piece_and_no_sliver(sheet: Sheet) -> None:
    size = np.bincount(sheet.parcel.ravel(), minlength=len(sheet.kind))
    assert size.min() * PIXEL_M**2 >= 15
    for number in range(0, len(sheet.kind), 7):
        assert label(sheet.parcel == number)[1] == 1


def test_all_six_context_classes_are_there(files: SheetFiles) -> None:
    with MapReader(open_map(files.truth)) as reader:
        counts = np.bincount(reader.read(reader.map.grid).ravel(), minlength=7)
    assert counts[0] == 0
    assert (counts[1:] > 0.005 * SIZE_PX**2).all()


def test_the_heights_show_the_crowns_of_the_image_and_its_roofs(files: SheetFiles, sheet: Sheet) -> None:
    relief = raise_relief(sheet)
    with SceneReader(open_scene(files.heights)) as reader:
        heights = reader.read(sheet.grid)[0]
    assert np.abs(heights - relief.height_m).max() <= 1 / 128
    with MapReader(open_map(files.canopy)) as canopy:
        tree = canopy.read(sheet.grid) == canopy.map.legend["tree"].value
    high = heights >= 2
    assert (tree == high)[relief.what != ROOF].mean() > 0.999
    assert high[relief.what == ROOF].all()


def test_species_differ_in_colour_beyond_the_differences_within_one(sheet: Sheet) -> None:
    relief = raise_relief(sheet)
    image = draw_orthophoto(sheet, relief).astype(float)
    means = {}
    for number, tree in enumerate(TREES, start=1):
        inside = binary_erosion(relief.what == number)
        if tree.species.isdigit() and inside.sum() > 500:
            means[tree.species] = image[:, inside].mean(axis=1)
    assert len(means) >= 4
    names = list(means)
    apart = [np.abs(means[a] - means[b]).max() for i, a in enumerate(names) for b in names[:i]]
    assert min(apart) > 6


def test_a_tower_throws_its_shadow_away_from_the_sun(sheet: Sheet) -> None:
    flat = replace(sheet, kind=np.full_like(sheet.kind, NUMBER["plot"]), tone=np.ones_like(sheet.tone))
    height, what = np.zeros(sheet.parcel.shape, np.float32), np.zeros(sheet.parcel.shape, np.uint8)
    height[300:310, 300:310], what[300:310, 300:310] = 20.0, ROOF
    image = draw_orthophoto(flat, Relief(height, what, np.zeros_like(height))).mean(axis=0)
    reach_px = round(20 / np.tan(np.deg2rad(SUN_ELEVATION)) / PIXEL_M)
    north, south = image[300 - reach_px // 2, 295], image[310 + reach_px // 2, 305]
    beyond = image[300 - 2 * reach_px, 305]
    assert north < 0.7 * south
    assert beyond > 0.8 * south


def test_without_mistakes_the_map_is_the_sheet(sheet: Sheet) -> None:
    siose = draw_siose(sheet, label_errors=0, outdated=0, shifted=0)
    assert np.array_equal(siose.polygon, sheet.parcel)
    assert np.array_equal(siose.kind, sheet.kind)
    assert siose.wrong == ()


def test_all_mistakes_are_known_and_as_many_as_asked_for(sheet: Sheet) -> None:
    siose = draw_siose(sheet, label_errors=0.1, outdated=0.08, shifted=0.2)
    wrong = {item.polygon: item for item in siose.wrong}
    assert set(np.flatnonzero(siose.kind != sheet.kind)) <= set(wrong)
    size = np.bincount(sheet.parcel.ravel(), minlength=len(sheet.kind)) / sheet.parcel.size
    area = {
        kind: sum(size[n] for n, item in wrong.items() if item.kind == kind) for kind in ("label", "outdated")
    }
    assert 0.06 < area["label"] < 0.12
    assert 0.04 < area["outdated"] < 0.10
    moved = [np.hypot(item.east_m, item.south_m) for item in wrong.values() if item.kind == "shifted"]
    assert moved
    assert min(moved) > 3.5
    assert max(moved) < 12.8
    untouched = ~np.isin(sheet.parcel, list(wrong)) & ~np.isin(siose.polygon, list(wrong))
    assert np.array_equal(siose.polygon[untouched], sheet.parcel[untouched])
    assert all(siose.year[item.polygon] < 2017 for item in wrong.values() if item.kind == "outdated")


def test_the_file_read_back_gives_the_map_but_for_its_smoothed_outlines(
    files: SheetFiles, tmp_path: Path
) -> None:
    legend = open_legend("lulucf-context")
    scene = open_scene(files.image)
    drawn, classes = label_siose(files.reference, tmp_path / "labels.tif", like=scene.grid, legend=legend)
    with MapReader(drawn) as reader, MapReader(open_map(files.truth)) as truth:
        same = reader.read(scene.grid) == truth.read(scene.grid)
    with SceneReader(open_scene(files.wrong)) as reader_of_wrong:
        wrong = reader_of_wrong.read(scene.grid)[0] == 1
    assert same[~wrong].mean() > 0.97
    assert same[wrong].mean() < 0.1
    assert not classes.unknown
    with files.mistakes.open(newline="", encoding="utf-8") as table:
        assert {row["kind"] for row in csv.DictReader(table)} == {"label", "outdated", "shifted"}


def test_the_image_is_named_and_placed_as_pnoa_has_it(tmp_path: Path) -> None:
    sheet = make_sheet(size_px=256, zone=29)
    path = tmp_path / "PNOA_MA_OF_ETRS89_HU29_h25_0050_1.tif"
    write_bands(path, draw_orthophoto(sheet), sheet.grid, names=("red", "green", "blue"))
    name = check_zone(path, open_scene(path).grid)
    assert name is not None
    assert (name.sheet, name.epsg) == ("0050", 25829)


def test_every_zone_is_made_of_known_grounds() -> None:
    assert {name for mix in ZONES.values() for name in mix} <= {cover_type.name for cover_type in COVER_TYPES}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size_px": 100}, "size_px is 100"), ({"pixel_m": 5}, "pixel_m is 5"), ({"zone": 33}, "zone is 33")],
)
def test_parameters_out_of_range_are_told(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_sheet(**change)
    with pytest.raises(InputError, match="shifted is 2"):
        draw_siose(make_sheet(size_px=256), shifted=2)
