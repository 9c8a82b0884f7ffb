"""Features of trees beside the series: means and deviations over windows, and the series without gaps."""

from __future__ import annotations

import numpy as np

from tesela.models.gap_filling import fill_gaps
from tesela.models.header import read_architecture
from tesela.models.trees import stack_features
from tesela.models.unmixers import TreesArchitecture
from tesela.models.window_moments import margin_of_windows, window_moments
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import make_table


def test_moments_are_those_of_the_observed_values_in_each_window() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 3, (2, 14, 15, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0, :7, :7] = np.nan
    margin = margin_of_windows([3, 7])
    moments = window_moments(values, [3, 7], margin_px=margin).reshape(2, 8, 9, 2, 2, 3)
    for number, side in enumerate((3, 7)):
        half = side // 2
        for block, row, col in ((0, 0, 0), (0, 5, 6), (1, 7, 8), (1, 3, 0)):
            y, x = row + margin, col + margin
            window = values[block, y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 3)
            for channel in range(3):
                seen = window[np.isfinite(window[:, channel]), channel].astype(np.float64)
                mean, deviation = moments[block, row, col, number, :, channel]
                if not len(seen):
                    assert np.isnan([mean, deviation]).all()
                    continue
                assert abs(mean - seen.mean()) < 2e-5
                assert abs(deviation - seen.std()) < 2e-4
    assert np.isnan(moments).any()


def test_moments_have_the_same_bits_in_any_block() -> None:
    values = np.random.default_rng(1).normal(0, 1, (1, 40, 44, 2)).astype(np.float32)
    whole = window_moments(values, [5, 9], margin_px=4)
    part = window_moments(values[:, 11:30, 7:33], [5, 9], margin_px=4)
    assert (whole[:, 11:22, 7:25] == part).all()


def test_trees_read_the_same_windows_in_training_and_in_use() -> None:
    table = make_table()
    settings = UnmixingSettings(model="forest", context=1, windows=(3, 5), trees=5)
    expert = train_unmixing(table, settings, quiet=True)
    assert expert.header.patch_size_px == 5
    # the leaves of training pixels hold their own shares: other features in use would give others
    train = (table.splits == 0) & np.isfinite(table.values).any((1, 2))
    error = np.sqrt(((unmix_pixels(expert, table, train).shares - table.targets[train]) ** 2).mean())
    usual = table.targets[train].std()
    assert error < 0.5 * usual


def test_trees_of_older_files_have_no_windows_and_fill_no_gaps() -> None:
    plan = TreesArchitecture(3, 2, 12, 1, 1, 2, windows=(5, 9))
    document = plan.to_dict()
    assert read_architecture(document) == plan
    del document["windows"], document["filled"]
    older = read_architecture(document)
    assert isinstance(older, TreesArchitecture)
    assert older.windows == ()
    assert not older.filled


def test_gaps_are_filled_in_time_band_by_band() -> None:
    series = np.full((1, 2, 4, 2), np.nan, np.float32)
    series[0, 0, :, 0] = [1, np.nan, np.nan, 7]
    series[0, 0, 1, 1] = 5
    series[0, 1, :, 0] = [np.nan, 2, np.nan, 4]
    filled = fill_gaps(series)
    assert filled[0, 0, :, 0].tolist() == [1, 3, 5, 7]
    assert filled[0, 0, :, 1].tolist() == [5, 5, 5, 5]
    assert filled[0, 1, :, 0].tolist() == [2, 2, 3, 4]
    assert np.isnan(filled[0, 1, :, 1]).all()


def test_the_filled_series_is_that_of_the_pixel_itself() -> None:
    series = np.random.default_rng(0).random((1, 3, 3, 4, 2)).astype(np.float32)
    series[0, 1, 1, 2] = np.nan
    static = np.zeros((1, 3, 3, 0), np.float32)
    around = stack_features(series, static, neighbours=1, filled=True)
    alone = stack_features(series[:, 1:2, 1:2], static[:, 1:2, 1:2], filled=True)
    assert around.shape[-1] == 10 * 8
    assert (around[..., -8:] == alone[..., -8:]).all()
    assert (alone[0, 0, 0, -8:] == fill_gaps(series[0, 1, 1]).ravel()).all()
