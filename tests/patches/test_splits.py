"""No area is in two splits, for any scenes, stride and kind of split."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core import Band, GridError, InputError, LandClass, Legend, Scene
from tesela.patches.areas import one_split_each, separate_splits, touched_blocks
from tesela.patches.balance import MISSING_CLASS_COST, allocate_groups, largest_remainder
from tesela.patches.split import _cost, split_patches
from tesela.patches.strips import footprints
from tesela.patches.summary import summarise
from tesela.patches.table import QUALITIES, PatchTable

LEGEND = Legend("demo", tuple(LandClass(n, code, code, f"#0000{n:02x}") for n, code in enumerate("abcd", 1)))
CENTRES = {
    "EPSG:25830": (500_000, 4_100_000),
    "EPSG:25829": (1_033_802, 4_116_874),
    "EPSG:4326": (-3.0, 37.04622),
}
"""One position, in three CRSs."""


def scene_of(
    name: str,
    *,
    crs: str = "EPSG:25830",
    shift: tuple[float, float] = (0, 0),
    shape: tuple[int, int] = (96, 96),
) -> Scene:
    """Scene of 10 m pixels (or about as much in degrees), shifted from the centre by pixels."""
    x, y = CENTRES[crs]
    side = 1e-4 if crs == "EPSG:4326" else 10
    affine = Affine(side, 0, x + side * shift[0], 0, -side, y - side * shift[1])
    return Scene(name, (Band("b", "nowhere.tif", 1, "uint8"),), GeoBox(shape, affine, crs))


def table_of(
    scenes: Sequence[Scene], *, size_px: int = 16, stride_px: int | None = None, seed: int = 0
) -> PatchTable:
    """Patches of scenes without files, with random class shares."""
    stride = stride_px or size_px
    generator = np.random.default_rng(seed)
    parts, rows = [], []
    for scene in scenes:
        height, width = scene.grid.shape
        origins = [
            (row, col)
            for row in range(0, height - size_px + 1, stride)
            for col in range(0, width - size_px + 1, stride)
        ]
        parts.append(footprints(scene, origins, size_px=size_px).to_crs(scenes[0].grid.crs.to_wkt()))
        shares = generator.dirichlet([0.3] * len(LEGEND), len(origins))
        for (row, col), class_shares in zip(origins, shares, strict=True):
            window = {"patch_id": f"{scene.name}-{row}-{col}", "scene": scene.name, "row": row, "col": col}
            columns = {"size_px": size_px, "split": "none", "quality": "", "labelled": 1.0, "valid": 1.0}
            rows.append(
                window | columns | {f"share_{c}": s for c, s in zip(LEGEND.codes, class_shares, strict=True)}
            )
    frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=pd.concat(parts, ignore_index=True))
    labels = {scene.name: "nowhere.tif" for scene in scenes}
    return PatchTable(frame, {scene.name: scene for scene in scenes}, labels, LEGEND, size_px, stride)


def with_quality(table: PatchTable, qualities: Sequence[str]) -> PatchTable:
    return replace(table, frame=table.frame.assign(quality=list(qualities)))


def split_areas(table: PatchTable) -> dict[str, shapely.Geometry]:
    """Area of each split in UTM 30, from the grids of the scenes and not from the footprints of the table."""
    squares: dict[str, list[shapely.Polygon]] = {}
    for name, rows in table.frame.groupby("scene"):
        crs = table.scenes[name].grid.crs.to_wkt()
        change = pyproj.Transformer.from_crs(crs, "EPSG:25830", always_xy=True)
        own = [table.grid_of(name, row.row, row.col).extent.geom for row in rows.itertuples()]
        sides = shapely.segmentize(np.array(own), own[0].length / 32)
        for split, square in zip(
            rows["split"],
            shapely.transform(sides, lambda xy, change=change: np.column_stack(change.transform(*xy.T))),
            strict=True,
        ):
            squares.setdefault(split, []).append(square)
    return {split: shapely.union_all(parts) for split, parts in squares.items() if split != "none"}


def assert_no_overlap(table: PatchTable, *, buffer_m: float = 0.0) -> None:
    patch_m2 = (table.size_px * 10) ** 2
    for first, second in itertools.combinations(split_areas(table).values(), 2):
        assert first.intersection(second).area < 1e-5 * patch_m2
        if buffer_m:
            assert first.distance(second) > buffer_m * 0.995  # UTM 29 is 0.35 % too long in zone 30


scenes = st.lists(
    st.builds(
        lambda crs, right, down, rows, cols: (crs, (right, down), (rows, cols)),
        st.sampled_from(sorted(CENTRES)),
        st.sampled_from([0, 0, 16, 37, 200]),
        st.sampled_from([0, 0, 8, 51]),
        st.integers(32, 96),
        st.integers(32, 96),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    described=scenes,
    size=st.sampled_from([8, 16]),
    step=st.sampled_from([1.0, 0.5, 0.75]),
    how=st.sampled_from(["random", "block", "region", "quality"]),
    anchor=st.sampled_from(["scene", "multiples"]),
    block=st.sampled_from([1.5, 2.0, 3.0]),
    buffer_m=st.sampled_from([0.0, 0.0, 25.0, 100.0]),
    seed=st.integers(0, 100),
    unbiased=st.sampled_from([0.0, 0.3]),
)
def test_no_area_is_in_two_splits(
    described: list[tuple[str, tuple[int, int], tuple[int, int]]],
    size: int,
    step: float,
    how: str,
    anchor: str,
    block: float,
    buffer_m: float,
    seed: int,
    unbiased: float,
) -> None:
    made_scenes = [
        scene_of(f"s{number}", crs=crs, shift=shift, shape=shape)
        for number, (crs, shift, shape) in enumerate(described)
    ]
    table = table_of(made_scenes, size_px=size, stride_px=int(size * step), seed=seed)
    qualities = np.random.default_rng(seed).choice(["high", "medium", "low", ""], len(table))
    table = with_quality(table, qualities)
    split = partial(
        split_patches,
        block_m=10 * size * block,
        buffer_m=buffer_m,
        anchor=anchor,
        seed=seed,
        unbiased=unbiased if how == "quality" else 0,
    )
    try:
        made = split(table, how)
    except InputError as error:
        expected = ("No patch is left", "need at least", "has the quality")
        if not any(text in str(error) for text in expected):
            raise
        return
    assert len(made) == len(table)
    assert set(made.frame["split"]) <= {"train", "val", "test", "unbiased", "none"}
    assert_no_overlap(made, buffer_m=buffer_m)
    again = split(table, how)
    assert made.frame["split"].tolist() == again.frame["split"].tolist()


def test_the_check_itself_sees_an_overlap() -> None:
    table = table_of([scene_of("a"), scene_of("b")]).with_splits(["train"] * 36 + ["test"] * 36)
    with pytest.raises(AssertionError, match="area"):
        assert_no_overlap(table)


def test_random_loses_no_patch_and_meets_the_fractions() -> None:
    made = split_patches(table_of([scene_of("a", shape=(160, 160))]), "random", fractions=(0.7, 0.2, 0.1))
    assert made.counts == {"train": 70, "val": 20, "test": 10}


def test_random_loses_no_patch_of_scenes_in_other_areas_and_crs() -> None:
    apart = [
        scene_of("a"),
        scene_of("b", crs="EPSG:25829", shift=(500, 0)),
        scene_of("c", crs="EPSG:4326", shift=(0, 500)),
    ]
    assert split_patches(table_of(apart), "random").counts == {"train": 65, "val": 22, "test": 21}


@pytest.mark.parametrize("how", ["random", "block"])
def test_dates_of_one_area_go_to_one_split(how: str) -> None:
    table = table_of([scene_of("april"), scene_of("july"), scene_of("september")])
    made = split_patches(table, how, block_m=320)
    assert "none" not in made.counts
    by_window = made.frame.groupby(["row", "col"])["split"]
    assert (by_window.nunique() == 1).all()
    assert (by_window.size() == 3).all()


def test_another_seed_draws_another_split() -> None:
    table = table_of([scene_of("a")])
    drawn = {tuple(split_patches(table, "random", seed=seed).frame["split"]) for seed in range(5)}
    assert len(drawn) == 5


def test_blocks_of_whole_patches_cut_no_patch_when_they_start_at_the_scene() -> None:
    table = table_of([scene_of("a", shift=(3.3, 7.7))])
    assert "none" not in split_patches(table, "block", block_m=320).counts
    assert split_patches(table, "block", block_m=320, anchor="multiples").counts["none"] > 0


@pytest.mark.parametrize("anchor", ["scene", "multiples"])
def test_a_block_is_in_one_split(anchor: str) -> None:
    table = table_of([scene_of("a", shift=(5, 5))], size_px=8, stride_px=4)
    made = split_patches(table, "block", block_m=240, anchor=anchor)  # three patches a side
    left, top = (500_050, 4_099_950) if anchor == "scene" else (0, 0)
    bounds = made.frame.bounds
    used = made.frame["split"] != "none"
    col = ((bounds["minx"] - left) // 240).astype(int)
    row = ((bounds["miny"] - top) // 240).astype(int)
    whole = (col == (bounds["maxx"] - left - 1) // 240) & (row == (bounds["maxy"] - top - 1) // 240)
    assert used[whole].all()
    assert (made.frame[whole].groupby([row[whole], col[whole]])["split"].nunique() == 1).all()


def test_blocks_allocate_every_class_by_the_fractions() -> None:
    table = table_of([scene_of("a", shape=(320, 320))])
    made = split_patches(table, "block", block_m=320, fractions=(0.5, 0.25, 0.25))
    parts = np.stack([made.class_pixels(split) for split in ("train", "val", "test")]) / made.class_pixels()
    np.testing.assert_allclose(parts, np.repeat([[0.5], [0.25], [0.25]], 4, axis=1), atol=0.02)


def test_a_class_of_three_blocks_reaches_every_split() -> None:
    table = table_of([scene_of("a", shape=(160, 160))])
    frame = table.frame.copy()
    frame[table.share_columns] = [1.0, 0, 0, 0]
    rare = (frame["row"].isin([0, 64, 128])) & (frame["col"] == 32)
    frame.loc[rare, table.share_columns] = [0, 0, 0, 1.0]
    made = split_patches(replace(table, frame=frame), "block", block_m=160)
    assert set(made.frame.loc[rare, "split"]) == {"train", "val", "test"}


def test_three_blocks_are_enough_and_two_are_not() -> None:
    made = split_patches(table_of([scene_of("a", shape=(16, 48))]), "block", block_m=160)
    assert made.counts == {"train": 1, "val": 1, "test": 1}
    with pytest.raises(
        InputError, match=r"Blocks of 160 m with a whole patch: 2, but 3 splits need at least 3"
    ):
        split_patches(table_of([scene_of("a", shape=(16, 32))]), "block", block_m=160)
    two = split_patches(
        table_of([scene_of("a", shape=(16, 32))]), "block", block_m=160, fractions=(0.5, 0.5, 0)
    )
    assert two.counts == {"train": 1, "val": 1}


def test_a_buffer_keeps_splits_apart() -> None:
    table = table_of([scene_of("a", shape=(128, 128))], size_px=8, stride_px=4)
    near = split_patches(table, "block", block_m=320)
    far = split_patches(table, "block", block_m=320, buffer_m=100)
    assert min(a.distance(b) for a, b in itertools.combinations(split_areas(near).values(), 2)) < 1
    assert_no_overlap(far, buffer_m=100)
    assert far.counts["none"] > near.counts.get("none", 0)


@pytest.mark.parametrize("how", ["block", "random", "region", "quality"])
def test_every_kind_of_split_keeps_the_buffer(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of([scene_of("a")], size_px=8)
    options: dict[str, object] = {"block_m": 320, "seed": 2}
    if how == "quality":
        table = with_quality(table, [*["high"] * 4, *["medium"] * 4, *["low"] * 4] * 12)
    if how == "region":
        options |= {"regions": regions_file(tmp_path, ["train", "val", "test"]), "region_field": "name"}
    if how == "random":  # pairs of patches, 20 m apart
        pairs = [scene_of("a", shape=(384, 384)), scene_of("b", shape=(384, 384), shift=(10, 0))]
        table = table_of(pairs, size_px=8, stride_px=64)

    def least_gap(buffer_m: float) -> float:
        areas = split_areas(split_patches(table, how, buffer_m=buffer_m, **options))
        assert set(areas) == {"train", "val", "test"}
        return min(first.distance(second) for first, second in itertools.combinations(areas.values(), 2))

    assert least_gap(0) < 99
    assert least_gap(100) >= 100
    monkeypatch.setattr(import_module("tesela.patches.split"), "_MAX_BUFFERED", 0)  # as for a large table
    assert least_gap(100) >= 100


def test_a_buffer_is_the_least_distance_of_patches_and_removes_no_more(tmp_path: Path) -> None:
    table = table_of([scene_of("a")], size_px=8)
    path = regions_file(tmp_path, ["train", "val", "test"])
    unused = {}
    for buffer_m in (0, 80, 81):
        made = split_patches(table, "region", regions=path, region_field="name", buffer_m=buffer_m).frame
        unused[buffer_m] = {int(col) // 8 for col in made["col"][made["split"] == "none"]}
    # columns 3 and 4, 7 and 8 are neighbours of different splits
    assert unused[0] == set()
    assert len(unused[80]) == 2
    assert unused[80] <= {3, 4, 7, 8}
    assert len(unused[81]) == 4


def test_separate_splits_moves_the_patch_with_most_conflicts() -> None:
    squares = np.array([shapely.box(x, 0, x + 10, 10) for x in (0, 5, 12, 30)], object)
    splits = np.array(["train", "test", "train", "val"], object)
    assert separate_splits(squares, splits).tolist() == ["train", "none", "train", "val"]
    assert separate_splits(squares, splits, buffer_m=8).tolist() == ["train", "none", "train", "val"]
    # 9 m: of the two patches with two conflicts the one of the larger split is moved, then of the other pair, too
    assert separate_splits(squares, splits, buffer_m=9).tolist() == ["none", "test", "none", "val"]


def test_a_patch_gets_the_one_split_that_it_overlaps() -> None:
    patch = np.array([0, 0, 1, 1, 2, 3, 3])
    split = np.array(["train", "none", "train", "test", "none", "val", "val"], object)
    assert one_split_each(patch, split, count=5).tolist() == ["train", "none", "none", "val", "none"]


def test_a_patch_on_a_border_touches_both_blocks() -> None:
    squares = np.array([shapely.box(7, 0, 17, 10), shapely.box(20, 0, 30, 10)], object)
    patch, block, part = touched_blocks(squares, side_m=10, anchor=(0, 0))
    assert patch.tolist() == [0, 0, 1]
    assert block.tolist() == [0, 1, 2]
    assert part.tolist() == pytest.approx([0.3, 0.7, 1])


def test_the_cost_of_a_split_counts_unused_patches_missing_classes_and_empty_splits() -> None:
    classes = np.array([[1.0, 0], [1, 0], [1, 0], [1, 1]])
    fractions = (0.5, 0.25, 0.25)

    def cost(*splits: str) -> float:
        return _cost(classes, np.array(splits, object), fractions)

    # shares of class 1 and of the patches are met; class 2 is in one split only
    second = (0.5**2 + 0.25**2 + 0.75**2) + 2 * MISSING_CLASS_COST
    assert cost("train", "train", "val", "test") == pytest.approx(second)
    # a patch less in train: 0.25 of class 1 and of the patches, which weigh as much as both classes
    assert cost("train", "none", "val", "test") == pytest.approx(second + 0.25**2 + 2 * 0.25**2)
    assert cost("train", "train", "test", "test") > 100


def test_fractions_become_whole_numbers_by_largest_remainder() -> None:
    assert largest_remainder(10, (0.55, 0.28, 0.17)).tolist() == [5, 3, 2]
    assert largest_remainder(11, (0.6, 0.2, 0.2)).tolist() == [7, 2, 2]
    assert largest_remainder(9, (0.5, 0.25, 0.25)).tolist() == [5, 2, 2], "equal remainders: the first"
    assert largest_remainder(5, (0.9, 0.05, 0.05)).tolist() == [3, 1, 1], "none is empty"
    assert largest_remainder(5, (0.9, 0.1, 0.0)).tolist() == [4, 1, 0], "but of fraction 0"
    assert largest_remainder(3, (0.6, 0.2, 0.2)).tolist() == [1, 1, 1]


def test_blocks_in_degrees_are_whole_patches_about_as_long_as_wanted() -> None:
    table = table_of([scene_of("a", crs="EPSG:4326", shape=(200, 200))], size_px=8)
    made = split_patches(table, "block", block_m=500)
    assert table.frame.crs == made.frame.crs == "EPSG:4326"
    assert set(made.counts) == {"train", "val", "test"}, "no patch is cut"
    blocks = made.frame.groupby([made.frame["row"] // 48, made.frame["col"] // 48])["split"]
    assert (blocks.nunique() == 1).all(), "six patches of 79.5 m a side are nearest to 500 m"


def test_blocks_snap_to_whole_patches(caplog: pytest.LogCaptureFixture) -> None:
    table = table_of([scene_of("a")])
    wide = split_patches(table, "block", block_m=320)
    for wanted in (100, 200, 250, 360):
        snapped = split_patches(table, "block", block_m=wanted)
        assert snapped.counts.get("none", 0) == 0, "no patch is cut"
    assert snapped.frame["split"].tolist() == wide.frame["split"].tolist()
    assert caplog.messages[0] == "Blocks of 100 m become 160 m, 1 x 1 whole patches."
    caplog.clear()
    assert "none" not in split_patches(table, "block", block_m=2000).counts, "six patches a side"
    assert caplog.messages == ["Blocks of 2,000 m become 480 m, 3 x 3 whole patches."]
    with pytest.raises(
        GridError, match=r"Blocks of 100 m are smaller than a patch \(16 px, 160 m\)\. Use blocks of 160 m"
    ):
        split_patches(table, "block", block_m=100, anchor="multiples")


def test_sheets_of_two_zones_lose_no_patch_to_the_borders_of_blocks() -> None:
    apart = [scene_of("a"), scene_of("b", crs="EPSG:25829", shift=(500, 0))]
    table = table_of(apart)
    assert "none" not in split_patches(table, "block", block_m=320).counts
    cut = split_patches(table, "block", block_m=320, anchor="multiples")
    assert cut.counts["none"] > 10, "one grid of blocks for both does"


def regions_file(folder: Path, names: Sequence[str | None]) -> Path:
    """Upright stripes of 32 pixels over the centre scene, in another CRS."""
    x, y = CENTRES["EPSG:25830"]
    stripes = [shapely.box(x + 320 * n, y - 960, x + 320 * (n + 1), y) for n in range(len(names))]
    frame = gpd.GeoDataFrame({"name": list(names)}, geometry=stripes, crs=25830).to_crs(3035)
    frame.to_file(folder / "regions.gpkg", engine="pyogrio")
    return folder / "regions.gpkg"


def test_regions_named_as_splits_become_these_splits(tmp_path: Path) -> None:
    table = table_of([scene_of("a")], size_px=8)
    path = regions_file(tmp_path, ["train", "test", "val"])
    made = split_patches(table, "region", regions=path, region_field="NAME")
    stripe = made.frame["col"] // 32
    assert made.frame["split"].tolist() == [("train", "test", "val")[number] for number in stripe]


def test_regions_are_assigned_by_name_or_allocated(tmp_path: Path) -> None:
    table = table_of([scene_of("a")], size_px=8)
    path = regions_file(tmp_path, ["north", "middle", "south"])
    chosen = {"north": "train", "south": "test"}
    made = split_patches(table, "region", regions=path, region_field="name", assign=chosen)
    assert made.counts == {"train": 36, "val": 12, "test": 48, "none": 48}  # blocks of the north validate
    without = {"fractions": (0.8, 0.0, 0.2)}
    made = split_patches(table, "region", regions=path, region_field="name", assign=chosen, **without)
    assert made.counts == {"train": 48, "test": 48, "none": 48}
    shared = split_patches(table, "region", regions=path, region_field="name")
    assert shared.counts == {"train": 48, "val": 48, "test": 48}
    with pytest.raises(InputError, match="The seed is -1; it is 0 or more"):
        split_patches(table, "block", seed=-1)
    with pytest.raises(InputError, match="Unknown region 'nord': did you mean 'north'"):
        split_patches(table, "region", regions=path, region_field="name", assign={"nord": "train"})
    with pytest.raises(InputError, match="Unknown split 'trial': did you mean 'train'"):
        split_patches(table, "region", regions=path, region_field="name", assign={"north": "trial"})
    with pytest.raises(InputError, match="needs the field that names them"):
        split_patches(table, "region", regions=path)


def test_two_scenes_train_and_test_and_blocks_of_the_first_validate() -> None:
    table = table_of([scene_of("a"), scene_of("b", shift=(1000, 0))], size_px=8)
    made = split_patches(table, "region", fractions=(0.6, 0.2, 0.2))
    splits = {name: set(rows) for name, rows in made.frame.groupby("scene")["split"]}
    assert sorted(map(sorted, splits.values())) == [["test"], ["train", "val"]]
    named = split_patches(table, "region", assign={"b": "train", "a": "test"})
    splits = {name: set(rows) for name, rows in named.frame.groupby("scene")["split"]}
    assert splits == {"a": {"test"}, "b": {"train", "val"}}
    assert named.counts["val"] == pytest.approx(named.counts["train"] / 3, abs=4)


def test_another_date_of_an_area_goes_with_it() -> None:
    table = table_of([scene_of("april"), scene_of("july"), scene_of("b", shift=(1000, 0))], size_px=8)
    made = split_patches(table, "region", assign={"july": "train", "b": "test"})
    splits = {name: set(rows) for name, rows in made.frame.groupby("scene")["split"]}
    assert splits["april"] | splits["july"] == {"train", "val"}
    assert splits["b"] == {"test"}
    with pytest.raises(InputError, match="one area goes to one split"):
        split_patches(table, "region", assign={"july": "train", "april": "test"})


def test_patches_on_the_border_of_two_regions_or_without_region_are_left_out(tmp_path: Path) -> None:
    table = table_of(
        [scene_of("a", shape=(96, 128))], size_px=24
    )  # stripes are 32 px wide, and there are three
    path = regions_file(tmp_path, ["train", "val", "test"])
    made = split_patches(table, "region", regions=path, region_field="name")
    by_col = {col: set(rows) for col, rows in made.frame.groupby("col")["split"]}
    assert by_col == {0: {"train"}, 24: {"none"}, 48: {"none"}, 72: {"test"}, 96: {"none"}}


def test_scenes_are_regions_and_dates_of_one_area_are_one() -> None:
    four = [
        scene_of("a-april"),
        scene_of("b", shift=(200, 0)),
        scene_of("a-july", crs="EPSG:25829"),
        scene_of("c", shift=(0, 200)),
    ]
    made = split_patches(table_of(four), "region")
    splits = made.frame[made.frame["split"] != "none"].groupby("scene")["split"].agg(set)
    assert all(len(names) == 1 for names in splits)
    assert splits["a-april"] == splits["a-july"]
    assert splits["a-april"] | splits["b"] | splits["c"] == {"train", "val", "test"}
    with pytest.raises(InputError, match="Regions: 1, but 3 splits need at least 3"):
        split_patches(table_of(four[::2]), "region")


def test_quality_decides_what_trains_and_what_tests() -> None:
    table = table_of([scene_of("a")])
    qualities = ["high", "medium", "low", ""] * 9
    made = split_patches(with_quality(table, qualities), "quality")
    assert made.frame["split"].tolist() == ["train", "val", "test", "none"] * 9
    with pytest.raises(InputError, match=r"No patch of 36 has the quality 'high'.*tesela review serve"):
        split_patches(table, "quality")
    with pytest.raises(InputError, match="Unknown quality 'hihg': did you mean 'high'"):
        split_patches(with_quality(table, ["hihg"] * 36), "quality")


def test_an_unbiased_test_is_held_out_in_random_blocks_of_all_qualities() -> None:
    table = table_of([scene_of("a", shape=(192, 192))])
    qualities = ["high", "medium", "low", ""] * 36
    table = with_quality(table, qualities)
    made = split_patches(table, "quality", unbiased=0.25, block_m=320, seed=3)
    held = (made.frame["split"] == "unbiased").to_numpy()
    assert held.sum() == 36
    assert {quality for quality, chosen in zip(qualities, held, strict=True) if chosen} == {*QUALITIES, ""}
    blocks = {(row // 32, col // 32) for row, col in made.frame.loc[held, ["row", "col"]].to_numpy()}
    assert len(blocks) == 9
    plain = split_patches(table, "quality").frame["split"].to_numpy()
    assert (made.frame["split"].to_numpy()[~held] == plain[~held]).all()
    assert_no_overlap(made)
    assert made.counts["unbiased"] == 36
    assert summarise(made).patches["unbiased"] == 36
    drawn = [split_patches(table, "quality", unbiased=0.25, block_m=320, seed=seed) for seed in range(40)]
    times = sum((item.frame["split"] == "unbiased").to_numpy().astype(int) for item in drawn)
    assert times.min() > 0
    assert times.max() < 25


def test_an_unbiased_test_belongs_to_the_split_by_quality() -> None:
    table = with_quality(table_of([scene_of("a")]), ["high", "low"] * 18)
    with pytest.raises(InputError, match="cannot be held out of a split by 'block'"):
        split_patches(table, "block", unbiased=0.2)
    with pytest.raises(InputError, match="test of 1 of the patches"):
        split_patches(table, "quality", unbiased=1)
    alone = with_quality(table_of([scene_of("a", shape=(16, 16))]), ["high"])
    with pytest.raises(InputError, match="Blocks of 160 m with a whole patch: 1, but 2 splits need"):
        split_patches(alone, "quality", unbiased=0.2)


def test_two_dates_of_different_quality_do_not_both_count() -> None:
    table = with_quality(
        table_of([scene_of("april"), scene_of("july")]), ["high"] * 36 + ["high"] * 35 + ["low"]
    )
    made = split_patches(table, "quality")
    assert made.counts == {"train": 70, "test": 1, "none": 1}
    assert_no_overlap(made)


def test_unknown_splits_and_wrong_fractions_are_refused() -> None:
    table = table_of([scene_of("a")])
    with pytest.raises(InputError, match="Unknown split 'blocks': did you mean 'block'"):
        split_patches(table, "blocks")
    with pytest.raises(InputError, match="Unknown anchor 'scenes': did you mean 'scene'"):
        split_patches(table, "block", anchor="scenes")
    for wrong in ((0.5, 0.5), (0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (float("nan"), 1, 1)):
        with pytest.raises(InputError, match="give three that sum to 1"):
            split_patches(table, "random", fractions=wrong)


def test_a_buffer_that_leaves_no_patch_is_refused() -> None:
    with pytest.raises(InputError, match=r"No patch is left for .*or no buffer"):
        split_patches(table_of([scene_of("a")]), "block", block_m=320, buffer_m=5000)


def test_the_summary_counts_and_warns() -> None:
    table = table_of([scene_of("a", shape=(32, 64))])
    frame = table.frame.copy()
    frame[table.share_columns] = [[1, 0, 0, 0], [0.5, 0.25, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]] * 2
    made = replace(table, frame=frame).with_splits(["train", "train", "val", "none"] * 2)
    summary = summarise(made)
    assert summary.patches == {"train": 4, "val": 2, "none": 2}
    assert summary.area_ha == {"train": pytest.approx(1.75 * 2 * 2.56), "val": pytest.approx(2 * 2.56)}
    assert summary.shares["a"] == {"train": pytest.approx(1.5 / 1.75), "val": 0}
    assert summary.shares["c"] == {"train": 0, "val": 1}
    assert "d" not in summary.shares
    assert summary.warnings == (
        "train has no pixel of c c: the model cannot learn them.",
        "val has no pixel of a a, b b: the validation scores leave them out.",
        "2 of 8 patches (25%) are in no split: they overlap two splits, or none.",
    )
    assert summary.rows()[0] == ("patches", "4", "2")
    assert summary.to_dict()["shares"] == summary.shares


def cost(content: np.ndarray, chosen: Sequence[int], fractions: Sequence[float]) -> float:
    """The formula of `allocate_groups`."""
    total = 0.0
    columns = [content[:, k] for k in range(content.shape[1]) if content[:, k].sum()]
    for weight, column in [*((1, c) for c in columns), (len(columns), content.sum(axis=1))]:
        for split, wanted in enumerate(fractions):
            held = sum(column[g] for g in range(len(column)) if chosen[g] == split) / column.sum()
            total += weight * (held - wanted) ** 2
    for column in columns:
        holders = {chosen[g] for g in range(len(column)) if column[g] >= 0.01 * column.sum()}
        total += 0.25 * (len(fractions) - len(holders))
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_best_allocation_results_where_all_can_be_checked(seed: int) -> None:
    content = np.random.default_rng(seed).dirichlet([0.5] * 5, 7) * np.random.default_rng(seed).uniform(
        1, 5, (7, 1)
    )
    fractions = (0.6, 0.2, 0.2)
    every = (way for way in itertools.product(range(3), repeat=7) if set(way) == {0, 1, 2})
    least = min(cost(content, way, fractions) for way in every)
    assert cost(content, allocate_groups(content, fractions, seed=0)[0].tolist(), fractions) == pytest.approx(
        least
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 1000))
def test_every_split_gets_a_group_that_is_not_empty(groups: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    content = generator.integers(0, 3, (groups, classes)) * 10.0 ** generator.integers(0, 4, (groups, 1))
    content[generator.permutation(groups)[:3], 0] += 1
    held = content.sum(axis=1) > 0
    for chosen in allocate_groups(content, (0.6, 0.2, 0.2), seed=seed):
        assert set(chosen[held].tolist()) == {0, 1, 2}
