"""Distance from class borders: by hand, and by scipy's distance transform."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from tesela.assessment.assessment import Assessment, assess
from tesela.assessment.borders import border_bins, check_edges, rim_px
from tesela.assessment.confusion import Confusion
from tesela.assessment.document import border_figures
from tesela.assessment.pictures import band_name, draw_borders
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.maps import write_map

LEGEND = Legend("demo", (LandClass(1, "w", "Water", "#0000ff"), LandClass(2, "l", "Land", "#ffff00")))
GRID = GeoBox((20, 60), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


def bins(values: NDArray[np.uint8], edges: Sequence[float]) -> NDArray[np.uint8]:
    rim = rim_px(edges)
    return border_bins(np.pad(values, rim), edges, rim=rim)


def by_scipy(values: NDArray[np.uint8], edges: Sequence[float]) -> NDArray[np.int64]:
    touching = np.zeros(values.shape, bool)
    for axis in (0, 1):
        one, other = (np.delete(np.arange(values.shape[axis]), k) for k in (-1, 0))
        here, there = values.take(one, axis), values.take(other, axis)
        differ = (here != there) & (here > 0) & (there > 0)
        for side in (one, other):
            index = [slice(None), slice(None)]
            index[axis] = slice(int(side[0]), int(side[-1]) + 1) if side.size else slice(0, 0)
            touching[tuple(index)] |= differ
    if not touching.any():
        return np.full(values.shape, len(edges))
    return np.searchsorted(edges, distance_transform_edt(~touching) + 0.5)


def test_pixels_along_a_straight_border_are_binned_by_their_distance() -> None:
    row = np.array([[1] * 4 + [2] * 6], np.uint8)
    assert bins(row, [1, 3]).tolist() == [[2, 1, 1, 0, 0, 1, 1, 2, 2, 2]]


def test_nodata_and_the_edge_of_the_map_are_no_border() -> None:
    assert (bins(np.array([[1, 1, 0, 2, 2]], np.uint8), [1, 2]) == 2).all()


def test_a_corner_is_reached_across_the_diagonal() -> None:
    values = np.ones((9, 9), np.uint8)
    values[4, 4] = 2
    # row 5, column 5 lies one step beside a touching pixel: 1.5 px
    assert bins(values, [1, 1.5, 2])[5, 5] == 1
    assert bins(values, [1, 2.5])[6, 6] == 2  # 2.236 + 0.5: beyond 2.5


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 3)),
    st.integers(1, 9),
    st.sampled_from([(1.0, 2.0, 5.0, 10.0), (0.5, 3.3, 7.0), (25.0,)]),
)
def test_bins_are_those_of_an_exact_distance_transform(
    blocks: NDArray[np.uint8], size: int, edges: tuple[float, ...]
) -> None:
    values = np.kron(blocks, np.ones((size, size + 2), np.uint8)).astype(np.uint8)
    np.testing.assert_array_equal(bins(values, edges), by_scipy(values, edges))


@pytest.mark.parametrize("edges", [(2.0, 1.0), (1.0, 1.0), (0.2, 1.0), (1.0, 500.0)])
def test_edges_that_do_not_rise_or_reach_too_far_are_an_error(edges: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"they must rise from at least 0\.5 px to at most 100 px"):
        check_edges(edges)


@pytest.fixture
def assess_shifted(tmp_path: Path) -> Callable[..., Assessment]:
    def run(**options: object) -> Assessment:
        reference = np.where(np.arange(60) < 30, 1, 2)[None].repeat(20, axis=0).astype(np.uint8)
        sides = [
            write_map(tmp_path / f"{name}.tif", values, GRID, legend=LEGEND)
            for name, values in (("map", np.roll(reference, 2, axis=1)), ("reference", reference))
        ]
        return assess(*sides, **options)  # type: ignore[arg-type]

    return run


def test_a_shifted_map_is_wrong_only_near_borders(assess_shifted: Callable[..., Assessment]) -> None:
    borders = assess_shifted().borders
    assert borders is not None
    assert borders.pixel_m == 10
    evaluated = [band.confusion.evaluated_px for band in borders.bands]
    right = [int(np.trace(band.confusion.counts)) for band in borders.bands]
    assert evaluated == [40, 40, 120, 200, 800]
    # two columns right of the border are wrong; the two that the roll brought round are far from it
    figures = border_figures(borders)
    assert right == [20, 20, 120, 200, 760]
    assert [band_name(figures, k) for k in (0, 4)] == ["0–10\u202fm", "> 100\u202fm"]
    assert draw_borders([figures]).count('class="bar-0"') == 5


def test_bands_add_up_and_do_not_depend_on_windows(
    assess_shifted: Callable[..., Assessment], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = assess_shifted(tiles_px=7)
    monkeypatch.setattr("tesela.assessment.streaming._WINDOW_PX", 8)
    parts = assess_shifted(tiles_px=7)
    assert whole.borders is not None
    assert parts.borders is not None
    for one, other in zip(whole.borders.bands, parts.borders.bands, strict=True):
        assert one.confusion == other.confusion
    assert sum((band.confusion for band in whole.borders.bands), Confusion.empty(LEGEND)) == whole.confusion
    assert [tile.confusion for tile in parts.tiles] == [tile.confusion for tile in whole.tiles]


def test_without_edges_no_distances_are_counted(assess_shifted: Callable[..., Assessment]) -> None:
    plain = assess_shifted(edges_px=())
    assert plain.borders is None
    assert plain.to_dict()["borders"] is None
    assert plain.confusion == assess_shifted().confusion
