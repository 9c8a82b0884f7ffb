"""Pixel tables: reading, levels, files, and the split by blocks."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.grid import pixel_size_m, window_grid
from tesela.core.legend import Legend, sum_to_level
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.legends import open_legend
from tesela.patches.pixel_split import _drawn, split_pixels
from tesela.patches.pixels import NO_SPLIT, PixelTable, read_pixel_table, read_pixels

ROWS = [
    {"level": "1", "value": "1", "code": "1", "name": "Built", "color": "#ff0000"},
    {"level": "1", "value": "2", "code": "2", "name": "Green", "color": "#00ff00"},
    {"level": "2", "value": "1", "code": "11", "name": "Town", "color": "#ff0000", "parent": "1"},
    {"level": "2", "value": "2", "code": "21", "name": "Crops", "color": "#00ff00", "parent": "2"},
    {"level": "2", "value": "3", "code": "22", "name": "Trees", "color": "#008800", "parent": "2"},
]
LEGEND = Legend.from_rows("tiny", ROWS)
GRID = GeoBox((40, 30), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")


def table_on(grid: GeoBox, *, seed: int = 0) -> PixelTable:
    rng = np.random.default_rng(seed)
    rows, cols = (part.ravel().astype(np.int32) for part in np.indices(tuple(grid.shape)))
    count = len(rows)
    return PixelTable(
        values=rng.random((count, 2, 1), np.float32),
        static=rng.random((count, 1), np.float32),
        targets=rng.dirichlet([1, 1, 1], count).astype(np.float32),
        rows=rows,
        cols=cols,
        splits=np.full(count, NO_SPLIT, np.uint8),
        times=("01", "07"),
        bands=("ndvi",),
        layers=("altitude",),
        legend=LEGEND,
        grid=grid,
    )


@pytest.fixture
def cube(tmp_path: Path) -> Cube:
    values = np.arange(2 * 1 * 40 * 30, dtype=np.float32).reshape(2, 1, 40, 30)
    values[:, :, 3, 4] = np.nan
    values[0, :, 5, 6] = np.nan
    with CubeWriter(
        tmp_path / "a.zarr", GRID, times=("01", "07"), bands=("ndvi",), layers=("altitude",)
    ) as file:
        file.write(0, 0, values)
        file.write_layers(0, 0, values[0] * 2)
    return open_cube(tmp_path / "a.zarr")


def shares_on(grid: GeoBox, path: Path, *, missing: tuple[int, int] | None = None) -> AbundanceMap:
    shares = np.zeros((3, *grid.shape))
    shares[0], shares[2] = 0.25, 0.75
    if missing is not None:
        shares[:, missing[0], missing[1]] = np.nan
    with AbundanceWriter(path, grid, LEGEND) as file:
        file.write_shares(0, 0, shares)
    return AbundanceMap(str(path), grid, LEGEND)


def test_pixels_are_read_with_their_position_series_layers_and_shares(cube: Cube, tmp_path: Path) -> None:
    table = read_pixels(cube, shares_on(GRID, tmp_path / "s.tif", missing=(0, 1)))
    assert len(table) == 40 * 30 - 2  # one without any observation, one without shares
    at = int(table.positions()[5, 6])
    assert (table.rows[at], table.cols[at]) == (5, 6)
    assert np.isnan(table.values[at, 0, 0])
    assert table.values[at, 1, 0] == 1200 + 5 * 30 + 6
    assert table.targets[at].tolist() == [0.25, 0.0, 0.75]
    assert table.positions()[0, 1] == table.positions()[3, 4] == -1
    assert table.months == (1, 7)


def test_pixels_observed_too_rarely_are_left_out(cube: Cube) -> None:
    table = read_pixels(cube, min_observed=0.6)
    assert len(table) == 40 * 30 - 2
    assert table.targets.shape == (len(table), 0)
    assert table.legend is None


def test_shares_on_other_pixels_are_refused(cube: Cube, tmp_path: Path) -> None:
    other = GeoBox((40, 30), GRID.affine @ Affine.translation(0.5, 0), GRID.crs)
    with pytest.raises(GridError, match=r"have different pixels.*--fractions"):
        read_pixels(cube, shares_on(other, tmp_path / "s.tif"))


def test_shares_may_cover_a_part_of_the_cube(cube: Cube, tmp_path: Path) -> None:
    part = window_grid(GRID, 10, 10, 5, 5)
    assert len(read_pixels(cube, shares_on(part, tmp_path / "s.tif"))) == 25


def test_a_coarser_level_is_the_sum_of_its_children() -> None:
    table = table_on(GRID).at_level(1)
    assert table.legend is not None
    assert table.legend.codes == ("1", "2")
    fine = table_on(GRID).targets
    np.testing.assert_allclose(table.targets[:, 1], fine[:, 1] + fine[:, 2], atol=1e-6)


@given(seed=st.integers(0, 1000))
def test_sums_of_sipna_level_2_keep_the_whole(seed: int) -> None:
    legend = open_legend("sipna-2")
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(legend)), 5).T
    coarse = sum_to_level(shares, legend, 1)
    assert coarse.shape == (4, 5)
    np.testing.assert_allclose(coarse.sum(axis=0), 1, atol=1e-6)
    assert coarse[0] == pytest.approx(shares[0])  # artificial has one child


def test_write_then_read_is_identity(tmp_path: Path) -> None:
    table = split_pixels(table_on(GRID), block_m=(3000, 3000))
    read = read_pixel_table(table.write(tmp_path / "p.safetensors"))
    for name in ("values", "static", "targets", "rows", "cols", "splits"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
    assert (read.times, read.bands, read.layers, read.legend, read.grid) == (
        table.times,
        table.bands,
        table.layers,
        LEGEND,
        GRID,
    )


def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is damaged, or no file of arrays"):
        read_pixel_table(tmp_path / "p.safetensors")
    with pytest.raises(InputError, match="no such file"):
        read_pixel_table(tmp_path / "q.safetensors")


def test_a_truncated_table_is_refused(tmp_path: Path) -> None:
    path = table_on(GRID).write(tmp_path / "p.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="it ends inside 'splits'"):
        read_pixel_table(path)


def test_a_table_is_a_file_that_safetensors_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    table = table_on(GRID)
    arrays = load_file(table.write(tmp_path / "p.safetensors"))
    np.testing.assert_array_equal(arrays["values"], table.values)
    np.testing.assert_array_equal(arrays["cols"], table.cols)


def test_pixels_by_way_of_the_disk_are_the_same(cube: Cube, tmp_path: Path) -> None:
    shares = shares_on(GRID, tmp_path / "s.tif", missing=(0, 1))
    (tmp_path / "scratch").mkdir()
    there, here = read_pixels(cube, shares, scratch=tmp_path / "scratch"), read_pixels(cube, shares)
    assert isinstance(there.values, np.memmap)
    for name in ("values", "static", "targets", "rows", "cols", "splits"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_inputs_of_no_pixel_are_gaps() -> None:
    table = table_on(GRID)
    values, static = table.inputs_at(np.array([[3, -1]]))
    np.testing.assert_array_equal(values[0, 0], table.values[3])
    assert np.isnan(values[0, 1]).all()
    assert np.isnan(static[0, 1]).all()


def test_arrays_of_unequal_length_are_refused() -> None:
    table = table_on(GRID)
    with pytest.raises(InputError, match="rows have the shape"):
        PixelTable(
            **{
                **{name: getattr(table, name) for name in table.__dataclass_fields__},
                "rows": table.rows[:-1],
            }
        )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100),
    buffer_m=st.sampled_from([0.0, 700.0, 1600.0]),
    balanced=st.booleans(),
    block_m=st.sampled_from([(5000.0, 5000.0), (3000.0, 7000.0)]),
)
def test_no_block_is_in_two_splits_and_the_buffer_holds(
    seed: int, buffer_m: float, balanced: bool, block_m: tuple[float, float]
) -> None:
    table = split_pixels(table_on(GRID), seed=seed, buffer_m=buffer_m, balanced=balanced, block_m=block_m)
    block = (table.rows * 500 // block_m[1]) * 1000 + table.cols * 500 // block_m[0]
    for one in np.unique(block):
        assert len({*table.splits[block == one].tolist()} - {NO_SPLIT}) <= 1
    positions = np.stack([table.rows, table.cols], axis=1) * 500.0
    for first in range(3):
        for second in range(first):
            a, b = positions[table.splits == first], positions[table.splits == second]
            assert ((a[:, None] - b[None]) ** 2).sum(-1).min() ** 0.5 >= buffer_m
    counts = table.counts
    assert min(counts[name] for name in ("train", "val", "test")) > 0
    assert buffer_m > 0 or counts["none"] == 0


@pytest.mark.parametrize(("buffer_m", "removed"), [(1000, 1), (1001, 2)])
def test_a_buffer_removes_pixels_of_the_earlier_split_only(buffer_m: float, removed: int) -> None:
    # three blocks of ten pixels of 500 x 100 m; centres are 500, 1000, ... m from those of another block
    row = GeoBox((1, 30), Affine(500, 0, 400_000, 0, -100, 4_100_000), "EPSG:25830")
    plain = split_pixels(table_on(row), block_m=(5000, 500), balanced=False, seed=1).splits
    assert sorted(plain[[5, 15, 25]].tolist()) == [0, 1, 2]
    made = split_pixels(table_on(row), block_m=(5000, 500), balanced=False, seed=1, buffer_m=buffer_m)
    expected = plain.copy()
    for border in (10, 20):
        earlier_is_left = plain[border - 1] < plain[border]
        expected[slice(border - removed, border) if earlier_is_left else slice(border, border + removed)] = (
            NO_SPLIT
        )
    assert made.splits.tolist() == expected.tolist()


def test_blocks_drawn_at_random_meet_the_shares() -> None:
    drawn = _drawn(np.full(10, 100), (0.6, 0.2, 0.2), seed=0)
    assert np.bincount(drawn).tolist() == [6, 2, 2]


def test_the_published_shares_are_reached() -> None:
    grid = GeoBox((400, 400), GRID.affine, GRID.crs)
    for balanced in (True, False):
        counts = split_pixels(table_on(grid), balanced=balanced).counts
        assert counts["test"] == pytest.approx(0.2 * 160_000, rel=0.2)
        assert counts["train"] == pytest.approx(0.64 * 160_000, rel=0.1)


def test_pixels_in_degrees_have_a_size_in_metres() -> None:
    grid = GeoBox((10, 10), Affine(0.0041618, 0, -5.2, 0, -0.0041618, 38.72), "EPSG:4326")
    width, height = pixel_size_m(grid)
    assert height == pytest.approx(463.3, abs=0.1)
    assert width == pytest.approx(361.6, abs=0.5)


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="are in 2 blocks"):
        split_pixels(table_on(GRID), block_m=(20_000, 15_000))
    with pytest.raises(GridError, match="smaller than a pixel"):
        split_pixels(table_on(GRID), block_m=(300, 15_000))
    for wrong in ((0.5, 0.5), (float("nan"), 0.5, 0.5), (0.5, float("nan"), 0.5)):
        with pytest.raises(InputError, match="three that sum to 1"):
            split_pixels(table_on(GRID), fractions=wrong)
    with pytest.raises(InputError, match="No pixel is left for train"):
        split_pixels(table_on(GRID), block_m=(5000, 5000), buffer_m=12_000)
