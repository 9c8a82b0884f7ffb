"""Patches: columns of the table, reading from the file alone, and the input of a network."""

import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from torch.utils.data import DataLoader

from tesela.core import GridError, InputError, LandClass, Legend, Scene
from tesela.core.legend import IGNORE
from tesela.io import ClassMap, open_legend, open_scene, write_map
from tesela.patches.dataset import PatchDataset, band_statistics
from tesela.patches.overlap import covered_px, first_shown
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches, open_patches

LEGEND = Legend("demo", (LandClass(7, "wood", "Wood", "#006400"), LandClass(3, "field", "Field", "#ffff00")))
"""Values in another order than positions: wood is 7 and comes first."""
LEFT, TOP = 500_000.0, 4_100_000.0


def grid_of(rows: int, cols: int, *, shift: tuple[float, float] = (0, 0)) -> GeoBox:
    affine = Affine(10, 0, LEFT + 10 * shift[0], 0, -10, TOP - 10 * shift[1])
    return GeoBox((rows, cols), affine, "EPSG:25830")


def image(
    path: Path,
    bands: object,
    *,
    nodata: float | None = None,
    dtype: str = "float32",
    names: Sequence[str] = (),
) -> Scene:
    values = np.asarray(bands, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), dtype=dtype, crs="EPSG:25830", nodata=nodata,
        transform=grid_of(1, 1).affine, height=values.shape[1], width=values.shape[2],
    ) as data:  # fmt: skip
        data.write(values)
    return open_scene(path, bands=names or None)


def class_map(path: Path, values: object, *, grid: GeoBox | None = None) -> ClassMap:
    numbers = np.asarray(values, np.uint8)
    return write_map(path, numbers, grid or grid_of(*numbers.shape), legend=LEGEND)


def pair(folder: Path, values: object, *, bands: object = None) -> tuple[Scene, ClassMap]:
    numbers = np.asarray(values, np.uint8)
    pixels = np.ones((1, *numbers.shape)) if bands is None else bands
    return image(folder / "scene.tif", pixels), class_map(folder / "labels.tif", numbers)


def test_shares_are_those_counted_by_hand(tmp_path: Path) -> None:
    scene, labels = pair(tmp_path, [[7, 7, 3, 0], [7, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3]])
    frame = make_patches([scene], [labels], size_px=2, min_labelled=0.25).frame
    assert frame[["row", "col", "labelled", "share_wood", "share_field", "valid"]].to_numpy().tolist() == [
        [0, 0, 1.0, 0.75, 0.25, 1.0],
        [0, 2, 0.25, 0.0, 0.25, 1.0],
        [2, 2, 0.25, 0.0, 0.25, 1.0],
    ]
    assert frame["patch_id"].tolist() == ["scene-000000-000000", "scene-000000-000002", "scene-000002-000002"]
    assert set(frame["split"]) == {"none"}
    assert frame.geometry[1].equals(shapely.box(LEFT + 20, TOP - 20, LEFT + 40, TOP))
    assert frame.crs == "EPSG:25830"


def test_pixels_without_imagery_in_a_band_are_neither_valid_nor_labelled(tmp_path: Path) -> None:
    bands = np.ones((2, 2, 6))
    bands[0, 0, 0] = bands[1, 1, 1] = -1  # a patch with half of its imagery
    bands[:, :, 4:] = -1  # a patch without any
    scene = image(tmp_path / "scene.tif", bands, nodata=-1)
    labels = class_map(tmp_path / "labels.tif", np.full((2, 6), 7))
    table = make_patches([scene], [labels], size_px=2, min_labelled=0)
    assert table.frame[["col", "valid", "labelled"]].to_numpy().tolist() == [[0, 0.5, 0.5], [2, 1, 1]]
    assert table.class_pixels().tolist() == [6, 0]


def test_only_patches_with_enough_labels_are_kept(tmp_path: Path) -> None:
    scene, labels = pair(tmp_path, [[7, 7, 7, 0], [7, 7, 0, 0]])
    assert len(make_patches([scene], [labels], size_px=2, min_labelled=0.25)) == 2
    assert len(make_patches([scene], [labels], size_px=2, min_labelled=0.26)) == 1
    assert len(make_patches([scene], [labels], size_px=2, min_labelled=0)) == 2
    scene, labels = pair(tmp_path / "b", [[7, 0], [0, 0]])
    with pytest.raises(
        InputError, match=r"No patch of 2 px has labels on 50% of its pixels .*the best has 25%"
    ):
        make_patches([scene], [labels], size_px=2)
    empty = image(tmp_path / "empty.tif", np.ones((1, 2, 2)), nodata=1)
    with pytest.raises(InputError, match="No patch of 2 px has imagery: the scenes hold no data there"):
        make_patches([empty], [labels], size_px=2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(5, 40),
    cols=st.integers(5, 40),
    size=st.integers(2, 5),
    stride=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_strips_count_what_each_window_holds(
    tmp_path: Path, rows: int, cols: int, size: int, stride: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.choice(np.array([0, 3, 7], np.uint8), (rows, cols))
    bands = generator.choice([1.0, 1.0, 1.0, -1.0], (2, rows, cols))
    scene = image(tmp_path / "scene.tif", bands, nodata=-1)
    labels = class_map(tmp_path / "labels.tif", values)
    seen = (bands > 0).all(axis=0)
    expected = {}
    for row in range(0, rows - size + 1, stride):
        for col in range(0, cols - size + 1, stride):
            window = np.s_[row : row + size, col : col + size]
            shares = [(seen[window] & (values[window] == value)).mean() for value in (7, 3)]
            if sum(shares) > 0:
                expected[row, col] = [*shares, seen[window].mean()]
    if not expected:
        with pytest.raises(InputError, match="No patch of"):
            make_patches([scene], [labels], size_px=size, stride_px=stride, min_labelled=0)
        return
    table = make_patches([scene], [labels], size_px=size, stride_px=stride, min_labelled=0)
    counted = {
        (row, col): rest
        for row, col, *rest in table.frame[["row", "col", "share_wood", "share_field", "valid"]]
        .to_numpy()
        .tolist()
    }
    assert counted.keys() == expected.keys()
    for corner, numbers in expected.items():
        assert counted[corner] == pytest.approx(numbers)


def test_labels_on_another_grid_are_read_by_nearest_pixel(tmp_path: Path) -> None:
    scene = image(tmp_path / "scene.tif", np.ones((1, 4, 4)))
    coarse = GeoBox((2, 2), Affine(20, 0, LEFT, 0, -20, TOP), "EPSG:25830")
    labels = class_map(tmp_path / "labels.tif", [[7, 3], [3, 7]], grid=coarse)
    shares = make_patches([scene], [labels], size_px=2).frame[["share_wood", "share_field"]]
    assert shares.to_numpy().tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    half = class_map(tmp_path / "half.tif", np.full((4, 4), 7), grid=grid_of(4, 4, shift=(-3, 0)))
    assert make_patches([scene], [half], size_px=2, min_labelled=0.1).frame["labelled"].tolist() == [0.5, 0.5]


def test_scenes_pair_with_labels_by_order_or_share_one_map(tmp_path: Path) -> None:
    scenes = [image(tmp_path / f"{name}.tif", np.ones((1, 2, 2))) for name in ("april", "july")]
    wood, field = (class_map(tmp_path / f"{v}.tif", np.full((2, 2), v)) for v in (7, 3))
    assert make_patches(scenes, [wood, field], size_px=2).class_pixels().tolist() == [4, 4]
    assert make_patches(scenes, [wood], size_px=2).class_pixels().tolist() == [8, 0]
    with pytest.raises(InputError, match="2 scenes and 3 label maps were given; give one map per scene"):
        make_patches(scenes, [wood, field, wood], size_px=2)


def test_footprints_are_in_the_crs_of_the_first_scene(tmp_path: Path) -> None:
    first, labels = pair(tmp_path, np.full((2, 2), 7))
    other = GeoBox((2, 2), Affine(10, 0, 1_033_802, 0, -10, 4_116_874), "EPSG:25829")
    there = class_map(tmp_path / "there.tif", np.full((2, 2), 3), grid=other)
    table = make_patches([first, open_scene(there.path)], [labels, there], size_px=2)
    one, two = table.frame.geometry
    assert one.centroid.distance(two.centroid) < 25
    assert one.area == pytest.approx(400)
    assert two.area == pytest.approx(400, rel=0.01)


def test_a_scene_smaller_than_a_patch_is_refused_with_the_size_that_works(tmp_path: Path) -> None:
    scene, labels = pair(tmp_path, np.full((40, 70), 7))
    with pytest.raises(GridError, match=r"Scene 'scene' has 40 x 70 px, a patch needs 64 x 64 px.*--size 32"):
        make_patches([scene], [labels], size_px=64)


def test_labels_of_another_area_are_refused_with_both_extents(tmp_path: Path) -> None:
    scene = image(tmp_path / "scene.tif", np.ones((1, 4, 4)))
    labels = class_map(tmp_path / "labels.tif", np.full((4, 4), 7), grid=grid_of(4, 4, shift=(4, 0)))
    with pytest.raises(
        GridError, match=r"do not overlap scene 'scene': they extend over 500040 4099960 500080 4100000"
    ):
        make_patches([scene], [labels], size_px=2)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    scene, labels = pair(tmp_path, np.full((4, 4), 7))
    with pytest.raises(InputError, match="Two scenes have the name scene"):
        make_patches([scene, scene], [labels], size_px=2)
    with pytest.raises(InputError, match="size and stride must be at least 1 px"):
        make_patches([scene], [labels], size_px=2, stride_px=0)
    with pytest.raises(InputError, match=r"minimum labelled share is 50; give a number from 0 to 1"):
        make_patches([scene], [labels], size_px=2, min_labelled=50)
    with pytest.raises(InputError, match="0 scenes and 1 label maps"):
        make_patches([], [labels], size_px=2)
    other = write_map(
        tmp_path / "o.tif", np.ones((4, 4), np.uint8), grid_of(4, 4), legend=open_legend("corine-1")
    )
    with pytest.raises(InputError, match=r"has the legend 'corine-1'.*has one legend"):
        make_patches([scene, replace(scene, name="b")], [labels, other], size_px=2)


def split_table(folder: Path, *, size: int = 8, bands: int = 2, seed: int = 0) -> PatchTable:
    """64 x 64 px of random numbers in two bands, some nodata, in 8 px patches, split at random."""
    generator = np.random.default_rng(seed)
    pixels = generator.normal([[[5]], [[100]]][:bands], [[[1]], [[20]]][:bands], (bands, 64, 64))
    pixels[0, generator.random((64, 64)) < 0.05] = -1
    scene = image(folder / "images" / "scene.tif", pixels, nodata=-1, names=["red", "nir"][:bands])
    labels = class_map(folder / "labels.tif", generator.choice([0, 3, 7], (64, 64)))
    return split_patches(make_patches([scene], [labels], size_px=size, min_labelled=0.1), "random")


def assert_same_table(first: PatchTable, second: PatchTable) -> None:
    assert first.frame.equals(second.frame)
    assert first.frame.crs == second.frame.crs
    assert (first.legend, first.size_px, first.stride_px) == (second.legend, second.size_px, second.stride_px)


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    table.write(tmp_path / "out" / "patches.parquet")
    again = open_patches(tmp_path / "out" / "patches.parquet")
    assert_same_table(table, again)
    assert again.scenes == table.scenes
    assert again.labels == table.labels
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["patches.parquet"]


def test_the_file_is_plain_geoparquet(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    table.write(tmp_path / "patches.parquet")
    frame = gpd.read_parquet(tmp_path / "patches.parquet")
    assert list(frame.columns) == [
        "patch_id", "scene", "row", "col", "size_px", "split", "quality", "labelled", "valid",
        "share_wood", "share_field", "geometry",
    ]  # fmt: skip
    assert str(tmp_path) not in (pq.read_schema(tmp_path / "patches.parquet").metadata[b"tesela"].decode())


def test_a_project_can_be_moved_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = split_table(Path("here"))  # relative paths, and a working folder that changes
    before = PatchDataset(table, "train")[0]
    table.write("here/tables/patches.parquet")
    shutil.move("here", "there")
    monkeypatch.chdir("/")
    after = PatchDataset(open_patches(tmp_path / "there" / "tables" / "patches.parquet"), "train")[0]
    assert torch.equal(before.image, after.image)
    assert torch.equal(before.labels, after.labels)


def test_remote_paths_are_stored_as_they_are(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    scene = table.scenes["scene"]
    remote = replace(scene, bands=tuple(replace(band, path="https://some.org/a.tif") for band in scene.bands))
    replace(table, scenes={"scene": remote}).write(tmp_path / "p.parquet")
    assert open_patches(tmp_path / "p.parquet").scenes["scene"] == remote


def test_a_level_of_a_tree_stays_that_level(tmp_path: Path) -> None:
    scene = image(tmp_path / "scene.tif", np.ones((1, 2, 2)))
    labels = write_map(
        tmp_path / "l.tif", np.full((2, 2), 31, np.uint8), grid_of(2, 2), legend=open_legend("corine-2")
    )
    make_patches([scene], [labels], size_px=2).write(tmp_path / "p.parquet")
    assert open_patches(tmp_path / "p.parquet").legend == open_legend("corine-2")


def test_files_that_are_not_a_patch_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.parquet: no such file"):
        open_patches(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match=r"text\.parquet: not a GeoParquet file"):
        open_patches(tmp_path / "text.parquet")
    gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 0)], crs=4326).to_parquet(
        tmp_path / "points.parquet"
    )
    with pytest.raises(InputError, match=r"points\.parquet: is not a patch table"):
        open_patches(tmp_path / "points.parquet")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    with pytest.raises(
        InputError, match=r"No patch is in split 'trial' \(there are 38 train, 13 val, 13 test\)"
    ):
        PatchDataset(table, "trial")


def test_a_patch_is_its_window_standardised_with_labels_as_positions(tmp_path: Path) -> None:
    pixels = np.arange(32, dtype=float).reshape(2, 4, 4)
    pixels[1, 0, 3] = -1
    scene = image(tmp_path / "scene.tif", pixels, nodata=-1)
    labels = class_map(tmp_path / "labels.tif", [[7, 3, 0, 7]] * 4)
    table = make_patches([scene], [labels], size_px=4).with_splits(["train"])
    patch = PatchDataset(table, "train", mean=[1, 2], std=[2, 4])[0]
    assert patch.image.dtype == torch.float32
    assert patch.labels.dtype == torch.int64
    expected = np.stack([(pixels[0] - 1) / 2, (pixels[1] - 2) / 4])
    expected[1, 0, 3] = 0
    np.testing.assert_allclose(patch.image.numpy(), expected, rtol=1e-6)
    assert patch.labels.tolist() == [[0, 1, IGNORE, IGNORE], *[[0, 1, IGNORE, 0]] * 3]


def test_bands_are_chosen_by_name_and_order(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    both = PatchDataset(table, "test")[0].image
    turned = PatchDataset(table, "test", bands=["nir", "red"])[0].image
    assert torch.equal(turned, both.flip(0))
    assert torch.equal(PatchDataset(table, "test", bands=["nir"])[0].image, both[1:])
    with pytest.raises(InputError, match="Unknown band 'nri': did you mean 'nir'"):
        PatchDataset(table, "test", bands=["nri"])
    with pytest.raises(InputError, match="have 3 numbers; one finite number for each of 2 bands"):
        PatchDataset(table, "test", mean=[1, 2, 3])


def test_statistics_are_those_of_all_valid_pixels(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    mean, std = band_statistics(table)
    with rasterio.open(tmp_path / "images" / "scene.tif") as data:
        pixels = data.read().astype(np.float64)
    train = table.of_split("train")
    parts = [pixels[:, r : r + 8, c : c + 8] for r, c in zip(train["row"], train["col"], strict=True)]
    for band, numbers in enumerate(np.concatenate([part.reshape(2, -1) for part in parts], axis=1)):
        valid = numbers[numbers != -1]
        assert mean[band] == pytest.approx(valid.mean(), rel=1e-12)
        assert std[band] == pytest.approx(valid.std(), rel=1e-12)


def test_statistics_of_large_equal_numbers_do_not_cancel(tmp_path: Path) -> None:
    scene, labels = pair(tmp_path, np.full((4, 4), 7), bands=np.full((1, 4, 4), 16_777_216.0))
    table = make_patches([scene], [labels], size_px=2).with_splits(["train"] * 4)
    mean, std = band_statistics(table)
    assert (mean.tolist(), std.tolist()) == ([16_777_216.0], [1.0])


def test_a_band_without_data_is_named(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    with rasterio.open(tmp_path / "images" / "scene.tif", "r+") as data:
        data.write(np.full((64, 64), -1, np.float32), 2)
    with pytest.raises(InputError, match="Band 'nir' has no data in any patch of split 'train'"):
        band_statistics(table)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_read_what_one_process_reads(tmp_path: Path) -> None:
    dataset = PatchDataset(split_table(tmp_path), "val")
    alone = [patch.image.double().abs().sum().item() for patch in dataset]
    batches = DataLoader(dataset, batch_size=1, num_workers=2)
    assert [batch.image.double().abs().sum().item() for batch in batches] == alone


def test_no_open_file_travels_to_another_process(tmp_path: Path) -> None:
    dataset = PatchDataset(split_table(tmp_path), "train")
    first = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0].image, first.image)


def test_class_pixels_for_balancing_are_those_of_the_split(tmp_path: Path) -> None:
    table = split_table(tmp_path)
    dataset = PatchDataset(table, "train")
    counted = np.bincount(torch.cat([patch.labels.ravel() for patch in dataset]).numpy(), minlength=256)
    assert table.class_pixels("train").tolist() == counted[:2].tolist()


@pytest.mark.real
def test_real_imagery_is_cut_and_read(lanjaron: Path, tmp_path: Path) -> None:
    from tesela.labels import write_labels

    scene = open_scene(lanjaron / "l8_b2b7_30m.tif", scale=2.75e-5, offset=-0.2)
    labels = write_labels(
        lanjaron / "clc2018_lanjaron.gpkg",
        tmp_path / "l.tif",
        like=scene.grid,
        legend=open_legend("corine-1"),
        layer="clc",
    )
    table = make_patches([scene], [labels], size_px=64)
    assert len(table) == (621 // 64) * (394 // 64)
    mean, _ = band_statistics(table, "none")
    assert mean == pytest.approx([0.11, 0.11, 0.11, 0.27, 0.16, 0.08], abs=0.006)  # as the README says
    blocks = split_patches(table, "block", block_m=1920)
    assert not torch.isnan(PatchDataset(blocks, "test")[0].image).any()


@given(
    corners=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12
    )
)
def test_a_covered_pixel_is_first_shown_by_one_patch(corners: list[tuple[str, int, int]]) -> None:
    """Over any patches, those that lie upon each other too."""
    size = 4
    rows = pd.DataFrame(corners, columns=["scene", "row", "col"])
    covered = {name: np.zeros((13, 13), bool) for name in "ab"}
    for (scene, row, col), shown in zip(corners, first_shown(rows, size), strict=True):
        window = covered[scene][row : row + size, col : col + size]
        np.testing.assert_array_equal(shown, ~window)
        window[:] = True
    assert covered_px(rows, size) == sum(mask.sum() for mask in covered.values())
