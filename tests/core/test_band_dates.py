"""Dates of bands: grouping by name, days, and which pixels have data."""

import numpy as np
import pytest

from tesela.core.band_dates import group_by_date
from tesela.core.errors import InputError
from tesela.core.standardisation import Standardisation


@pytest.mark.parametrize(
    ("bands", "dates"),
    [
        (["SR_B4", "SR_B5"], ("",)),
        (["band_1", "band_2", "band_3"], ("",)),
        (["red", "nir", "aspect_sin", "aspect_cos"], ("",)),
        (["red_t1", "nir_t1", "red_t2", "nir_t2"], ("t1", "t2")),
        (["NDVI_2018-04-11", "NDVI_2018-07-02"], ("2018-04-11", "2018-07-02")),
        (["B04_april", "B04_july", "aspect_sin", "aspect_cos", "altitude"], ("april", "july")),
    ],
)
def test_a_date_is_a_day_in_the_names_or_a_suffix_that_bands_share(
    bands: list[str], dates: tuple[str, ...]
) -> None:
    assert group_by_date(bands).names == dates


def test_days_come_from_the_names_or_else_from_the_order() -> None:
    assert group_by_date(["a_2018-01-01", "a_2018-12-31"]).days == (1, 365)
    assert group_by_date(["a_t1", "b_t1", "a_t2", "b_t2"]).days == (91, 274)


def test_bands_of_a_date_stand_in_the_order_of_the_first_date() -> None:
    dates = group_by_date(["b_july", "slope", "a_july", "a_may", "b_may"])
    assert dates.names == ("july", "may")
    assert dates.bands == ((0, 2), (4, 3))
    assert dates.of_bands == (0, -1, 0, 1, 1)


def test_a_date_that_lacks_a_band_is_named() -> None:
    dates = group_by_date(["B04_april", "B08_april", "B04_july"])
    with pytest.raises(InputError, match="Date 'july' has no band b08"):
        dates.check_equal()


def test_a_gap_of_one_date_leaves_the_others() -> None:
    bands = ("a_may", "b_may", "a_july", "b_july", "slope")
    rule = Standardisation.of(bands, dates=group_by_date(bands).of_bands)
    pixels = np.ones((5, 1, 4), np.float32)  # complete, a gap in may, gaps at both dates, no slope
    pixels[1, 0, 1] = np.nan
    pixels[[0, 3], 0, 2] = np.nan
    pixels[4, 0, 3] = np.nan
    expected = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], np.float32)
    np.testing.assert_array_equal(rule.apply(pixels)[:, 0], expected)
    assert rule.complete(pixels).any(0).tolist() == [[True, True, False, False]]
