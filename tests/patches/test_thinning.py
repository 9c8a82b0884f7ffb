"""Thinning: shares of classes and of the area are kept, val is thinned with train, test is left."""

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.io.legends import open_legend
from tesela.patches.pixels import NO_SPLIT, PixelTable
from tesela.patches.thinning import BLOCK_PX, thin_pixels

GRID = GeoBox((128, 160), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")


@pytest.fixture
def table() -> PixelTable:
    rng = np.random.default_rng(0)
    rows, cols = (part.ravel().astype(np.int32) for part in np.indices(tuple(GRID.shape)))
    count, legend = len(rows), open_legend("sipna-1")
    largest = np.where(rows < 13, 1, 0) + 2 * (rng.random(count) < 0.02)  # one class in a tenth, one in 2 %
    splits = np.select([cols < 96, cols < 128], [0, 1], 2).astype(np.uint8)
    return PixelTable(
        values=rng.random((count, 2, 1), np.float32),
        static=np.zeros((count, 0), np.float32),
        targets=np.eye(len(legend), dtype=np.float32)[largest],
        rows=rows,
        cols=cols,
        splits=splits,
        times=("01", "07"),
        bands=("ndvi",),
        layers=(),
        legend=legend,
        grid=GRID,
    )


def test_single_pixels_keep_classes_and_area(table: PixelTable) -> None:
    thin = thin_pixels(table, 0.1)
    kept = thin.splits == 0
    assert thin.counts == {"train": 1229, "val": 410, "test": 4096, "none": 14745}
    before = table.targets[table.splits == 0].mean(0)
    np.testing.assert_allclose(thin.targets[kept].mean(0), before, atol=1e-3)  # to one pixel in a thousand
    by_strip = np.bincount(thin.rows[kept] // BLOCK_PX, minlength=8) / (96 * BLOCK_PX)
    assert by_strip.max() - by_strip.min() < 0.02
    assert (table.splits[thin.splits != NO_SPLIT] == thin.splits[thin.splits != NO_SPLIT]).all()


def test_a_number_is_that_of_training_pixels(table: PixelTable) -> None:
    counts = thin_pixels(table, 1000).counts
    assert (counts["train"], counts["val"]) == (1000, 333)
    assert thin_pixels(table, 1e6) is table
    assert thin_pixels(table, 1.0) is table


def test_blocks_are_kept_whole(table: PixelTable) -> None:
    thin = thin_pixels(table, 0.25, by="block")
    blocks = thin.split_map(GRID.shape.yx).reshape(8, BLOCK_PX, 10, BLOCK_PX).swapaxes(1, 2)
    assert (blocks == blocks[..., :1, :1]).all()
    assert thin.counts["train"] == 12 * BLOCK_PX**2
    assert (blocks[0, :6, 0, 0] == 0).any(), "the rare class has a block"


def test_the_draw_depends_on_the_seed_alone(table: PixelTable) -> None:
    first, again, other = (thin_pixels(table, 0.1, seed=seed).splits for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_series_without_a_grid_are_thinned_by_class(table: PixelTable) -> None:
    thin = thin_pixels(replace(table, grid=None), 0.1)
    assert thin.counts["train"] == 1229
