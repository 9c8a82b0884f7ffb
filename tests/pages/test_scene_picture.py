"""Pictures of scenes: bands, stretch and size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from report_page import write_scene
from tesela.core.scene import Scene
from tesela.pages.scene_picture import enlarged, scene_picture, shown_bands

GRID = GeoBox((60, 80), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Scene]:
    def make(pixels: NDArray[np.uint8], names: list[str]) -> Scene:
        return write_scene(tmp_path / "scene.tif", pixels, GRID, bands=names)

    return make


def test_imagery_is_stretched_by_band_and_its_nodata_is_transparent(make_scene: Callable[..., Scene]) -> None:
    ramp = np.linspace(50, 90, 60 * 80).reshape(60, 80).astype(np.uint8)
    pixels = np.stack([ramp, ramp[::-1], np.full_like(ramp, 10)])
    pixels[:, 0, 0] = 0
    picture = np.asarray(scene_picture(make_scene(pixels, ["red", "green", "blue"]), GRID))
    assert picture[0, 0, 3] == 0
    assert picture[1, 0].tolist()[3] == 255
    assert picture[-1, -1, 0] == picture[0, -1, 1] == 255
    assert picture[2, 0, 0] < 20
    assert (picture[..., 2] == 0).all()


def test_a_little_snow_does_not_leave_the_land_black(make_scene: Callable[..., Scene]) -> None:
    land = np.random.default_rng(0).integers(20, 30, GRID.shape, dtype=np.uint8)
    land[:6] = 250
    picture = np.asarray(scene_picture(make_scene(land[None], ["grey"]), GRID))
    assert 60 < np.median(picture[6:, :, 0]) < 200
    assert (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["B02", "B03", "B04", "B08"], ("B04", "B03", "B02")),
        (["Blue", "Green", "Red"], ("Red", "Green", "Blue")),
        (["nir", "red", "green"], ("nir", "red", "green")),
        (["a", "b", "c", "d"], ("a", "b", "c")),
        (["a", "b"], ("a",)),
    ],
)
def test_natural_colours_are_shown_where_the_names_allow(
    make_scene: Callable[..., Scene], names: list[str], shown: tuple[str, ...]
) -> None:
    scene = make_scene(np.ones((len(names), *GRID.shape), np.uint8), names)
    assert shown_bands(scene) == shown


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    assert enlarged(Image.new("P", (300, 200))).size == (600, 400)
    assert enlarged(Image.new("P", (900, 20))).size == (900, 20)
