"""Map figures: lengths of scale bars, directions of arrows, legends and files."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from odc.geo.geobox import GeoBox
from PIL import Image

from pdf_text import pdf_words
from tesela.core.grid import pixel_size_m
from tesela.core.legend import LandClass, Legend
from tesela.io.map_views import present_classes
from tesela.pages.map_figure import (
    Entry,
    LegendPart,
    MapPanel,
    class_entries,
    length_text,
    map_figure,
    north_note,
    round_length_m,
)
from tesela.pages.plots import MM, pdf_of, png_of

UTM = "EPSG:25830"


def picture(grid: GeoBox, *, hole: tuple[slice, slice] | None = None) -> Image.Image:
    """A grey picture of a grid, transparent in a hole."""
    pixels = np.full((*grid.shape, 4), 128, np.uint8)
    pixels[..., 3] = 255
    if hole is not None:
        pixels[(*hole, 3)] = 0
    return Image.fromarray(pixels)


def draw(grid: GeoBox, count: int = 1, *, hole: tuple[slice, slice] | None = None) -> Figure:
    """A figure of grey maps."""
    parts = [LegendPart("", [Entry("Forest", "#00aa00")])]
    return map_figure(
        [MapPanel(f"map {k}", picture(grid, hole=hole)) for k in range(count)], grid, legend=parts
    )


def parts_of(figure: Figure, gid: str) -> list[Any]:
    """What was drawn under a name."""
    return figure.findobj(lambda item: item.get_gid() == gid)


@given(st.floats(1e-3, 1e7))
def test_a_round_length_is_the_largest_of_1_2_and_5_that_fits(most: float) -> None:
    length = round_length_m(most)
    assert 0.4 * most <= length <= most * (1 + 1e-9)
    first = length / 10.0 ** math.floor(math.log10(length) + 1e-9)
    assert min(abs(first - digit) for digit in (1, 2, 5)) < 1e-6
    assert re.fullmatch(r"[\d.e+-]+ (km|m)", length_text(length))


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        (GeoBox((60, 80), Affine(10, 0, 500_000, 0, -10, 4_100_000), UTM), "200 m"),
        (GeoBox((600, 800), Affine(0.25, 0, 500_000, 0, -0.25, 4_100_000), UTM), "50 m"),
        (GeoBox((60, 80), Affine(463.3, 0, 500_000, 0, -463.3, 4_100_000), UTM), "10 km"),
        (GeoBox((60, 80), Affine(30, 0, 2_000_000, 0, -30, 500_000), "EPSG:2263"), "200 m"),  # feet
        (GeoBox((60, 80), Affine(0.001, 0, -3, 0, -0.001, 60), "EPSG:4326"), "1 km"),
    ],
)
@pytest.mark.parametrize("count", [1, 4])
def test_the_scale_bar_is_as_long_on_the_ground_as_it_says(grid: GeoBox, text: str, count: int) -> None:
    figure = draw(grid, count)
    bars, lengths = parts_of(figure, "scale-bar"), parts_of(figure, "scale-length")
    assert len(bars) == len(lengths) == count
    for bar, length in zip(bars, lengths, strict=True):
        assert length.get_text() == text
        start, end = bar.get_xdata()
        metres = (end - start) * pixel_size_m(grid)[0]
        number, unit = text.split()
        assert metres == pytest.approx(float(number) * {"m": 1, "km": 1000}[unit])


@pytest.mark.parametrize("turned", [0, 30, 90, 180, -45])
def test_the_arrow_points_to_the_north_of_the_grid(turned: float) -> None:
    """On a grid whose rows are turned too: the way from the arrow's middle to its tip is north in the CRS."""
    transform = Affine.translation(500_000, 4_100_000) * Affine.rotation(turned) * Affine.scale(10, -10)
    grid = GeoBox((70, 70), transform, UTM)
    (arrow,) = parts_of(draw(grid), "north-arrow")
    corners = arrow.get_xy()
    tip, notch = (np.array(transform * (corner + 0.5)) for corner in (corners[0], corners[2]))
    way = (tip - notch) / np.hypot(*(tip - notch))
    np.testing.assert_allclose(way, [0, 1], atol=1e-6)


def test_the_arrow_of_a_map_whose_rows_run_north_points_down() -> None:
    grid = GeoBox((70, 70), Affine(10, 0, 500_000, 0, 10, 4_100_000), UTM)
    (arrow,) = parts_of(draw(grid), "north-arrow")
    corners = arrow.get_xy()
    assert corners[0][1] > corners[2][1], "rows are counted downwards"


@pytest.mark.parametrize(
    ("hole", "corner"),
    [
        (None, "lower left"),
        ((slice(0, 30), slice(0, 30)), "upper left"),
        ((slice(-30, None), slice(-30, None)), "lower right"),
    ],
)
def test_scale_and_arrow_stand_in_the_emptiest_corner(hole: tuple[slice, slice] | None, corner: str) -> None:
    grid = GeoBox((100, 100), Affine(10, 0, 500_000, 0, -10, 4_100_000), UTM)
    (bar,) = parts_of(draw(grid, hole=hole), "scale-bar")
    x, y = bar.get_xdata()[0], bar.get_ydata()[0]
    assert f"{'upper' if y < 50 else 'lower'} {'left' if x < 50 else 'right'}" == corner


def test_widths_are_those_of_a_journal_and_nothing_lies_outside() -> None:
    for shape in ((80, 60), (60, 80), (300, 60)):
        for count, width in ((1, 90), (4, 180), (3, 180)):
            figure = draw(GeoBox(shape, Affine(10, 0, 500_000, 0, -10, 4_100_000), UTM), count)
            wide, high = (side / MM for side in figure.get_size_inches())
            assert wide == pytest.approx(width)
            assert high < 225, "a page"
            figure.draw_without_rendering()
            texts = figure.findobj(lambda item: hasattr(item, "get_text") and bool(item.get_text()))
            for text in texts:
                box = text.get_window_extent()
                assert box.x0 > -1, text
                assert box.x1 < figure.bbox.x1 + 1, text
                assert box.y0 > -1, text
                assert box.y1 < figure.bbox.y1 + 1, text


def test_entries_of_a_long_legend_do_not_overlap() -> None:
    entries = [
        Entry(f"{k} A class with a name of more than one line, number {k}", "#00aa00") for k in range(40)
    ]
    grid = GeoBox((60, 80), Affine(10, 0, 500_000, 0, -10, 4_100_000), UTM)
    for count in (1, 4):
        panels = [MapPanel("map", picture(grid))] * count
        parts = [LegendPart("Classes", entries), LegendPart("Others", entries[:3])]
        figure = map_figure(panels, grid, legend=parts)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in parts_of(figure, "legend")]
        assert len(boxes) > 40
        for k, one in enumerate(boxes):
            for other in boxes[k + 1 :]:
                apart = (
                    one.x1 <= other.x0
                    or other.x1 <= one.x0
                    or one.y1 <= other.y0 + 1
                    or other.y1 <= one.y0 + 1
                )
                assert apart, (one, other)


def test_letters_of_a_pdf_are_text_and_files_are_the_same_each_time() -> None:
    grid = GeoBox((60, 80), Affine(10, 0, 500_000, 0, -10, 4_100_000), UTM)
    figure = draw(grid, 4)
    content = pdf_of(figure, dpi=100)
    words = pdf_words(content)
    for text in ("Forest", "200 m", "map 2", "(d)", "grid north of ETRS89 / UTM zone 30N (EPSG:25830)"):
        assert text in words
    assert b"/CIDFontType2" in content, "TrueType, not outlines"
    assert content == pdf_of(draw(grid, 4), dpi=100)
    assert png_of(figure, dpi=100) == png_of(draw(grid, 4), dpi=100)


def test_a_projection_without_a_name_is_called_by_its_method() -> None:
    sinusoidal = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
    grid = GeoBox((60, 80), Affine(463, 0, 0, 0, -463, 4_100_000), sinusoidal)
    assert north_note(grid) == "Arrow: grid north of the projection Sinusoidal."


def test_classes_have_their_codes_where_all_codes_have_digits() -> None:
    corine = [LandClass(1, "11", "Urban", "#ff0000"), LandClass(2, "31", "Forest", "#00ff00")]
    words = [LandClass(1, "water", "Water", "#0000ff"), LandClass(2, "24", "Pine", "#00ff00")]
    assert [entry.label for entry in class_entries(corine)] == ["11 Urban", "31 Forest"]
    assert [entry.label for entry in class_entries(words)] == ["Water", "Pine"]


def test_present_classes_are_those_that_occur_in_the_order_of_the_legend() -> None:
    legend = Legend("two", tuple(LandClass(k, str(k), f"class {k}", "#00ff00") for k in (9, 3, 5)))
    values = np.array([[0, 3], [3, 9]], np.uint8)
    assert [item.value for item in present_classes(legend, values)] == [9, 3]
