"""Imagery that cannot be that of the training: order, offset, range and scale of its bands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from tests.segmentation_scene import LEGEND

from tesela.core.errors import InputError
from tesela.core.training_imagery import describe_imagery
from tesela.io.scenes import open_scene
from tesela.mapping.scene_distance import check_imagery
from tesela.models.header import ExpertHeader
from tesela.models.segmentation.unet import UnetArchitecture

BANDS = ("B02", "B03", "B04", "B08", "B11")
COLOURS = np.array(
    [
        [0.06, 0.05, 0.03, 0.02, 0.01],
        [0.03, 0.05, 0.04, 0.30, 0.15],
        [0.12, 0.15, 0.19, 0.25, 0.32],
        [0.5] * 5,
    ]
)
"""Reflectance of water, forest, bare soil and snow."""


def reflectance(*, seed: int, shares: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    classes = rng.choice(4, (96, 96), p=shares)
    return COLOURS[classes] * rng.normal(1, 0.06, (96, 96, 5)) + rng.normal(0, 0.004, (96, 96, 5)), classes


@pytest.fixture(scope="module")
def header() -> ExpertHeader:
    image, classes = reflectance(seed=0, shares=(0.2, 0.4, 0.3, 0.1))
    pixels = image.reshape(-1, 5)
    mean, std = pixels.mean(0), pixels.std(0)
    return ExpertHeader(
        UnetArchitecture(5, 4),
        LEGEND,
        BANDS,
        tuple(mean.tolist()),
        tuple(std.tolist()),
        patch_size_px=32,
        pixel_size_m=10,
        imagery=describe_imagery((pixels - mean) / std, classes.ravel(), mean=mean, std=std),
    )


def write(path: Path, image: NDArray[np.generic], *, names: tuple[str, ...] | None = None) -> Path:
    settings = {"driver": "GTiff", "count": 5, "height": 96, "width": 96, "dtype": image.dtype}
    at = rasterio.Affine(10, 0, 600_000, 0, -10, 4_200_000)
    with rasterio.open(path, "w", crs="EPSG:32630", transform=at, **settings) as data:
        data.write(image.transpose(2, 0, 1))
        if names:
            data.descriptions = names
    return path


def another_date() -> NDArray[np.float64]:
    """Another share of each class, drier: less infrared of the forest, brighter soil."""
    image, classes = reflectance(seed=1, shares=(0.1, 0.3, 0.6, 0.0))
    drier = np.array([[1] * 5, [1.1, 1.05, 1.2, 0.9, 1.1], [1.1] * 5, [1] * 5])
    return image * drier[classes]


@pytest.mark.parametrize("order", [(2, 1, 0, 3, 4), (0, 1, 3, 2, 4), (4, 3, 2, 1, 0)])
def test_bands_in_another_order_are_refused_unless_the_file_names_them(
    header: ExpertHeader, tmp_path: Path, order: tuple[int, ...]
) -> None:
    image = another_date()[..., order].astype(np.float32)
    unnamed = open_scene(write(tmp_path / "a.tif", image), bands=BANDS)
    with pytest.raises(InputError, match=r"better in another order \(.* for .*\).*--bands.*--any-scene"):
        check_imagery(header, unnamed)
    distance = check_imagery(header, unnamed, any_scene=True, advise=False)
    assert distance is not None
    assert distance.is_far
    named = open_scene(write(tmp_path / "b.tif", image, names=BANDS))
    assert check_imagery(header, named, advise=False) == distance
    right = [BANDS[k] for k in order]
    assert check_imagery(header, open_scene(tmp_path / "a.tif", bands=right), advise=False) is not None


def test_another_date_is_not_refused(header: ExpertHeader, tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", another_date().astype(np.float32)), bands=BANDS)
    distance = check_imagery(header, scene, advise=False)
    assert distance is not None
    assert distance.is_far


@pytest.mark.parametrize("sign", [1, -1])
def test_the_offset_of_sentinel_2_is_found(header: ExpertHeader, tmp_path: Path, sign: int) -> None:
    numbers = np.clip(another_date() * 10_000 + sign * 1000, -2000, 20_000).astype(np.int16)
    path = write(tmp_path / "a.tif", numbers)
    with pytest.raises(
        InputError,
        match=rf"with [{'-' if sign > 0 else '+'}]0.1 added in every band.*--offset {-sign * 0.1:g}\. Go on",
    ):
        check_imagery(header, open_scene(path, bands=BANDS, scale=0.0001))
    repaired = open_scene(path, bands=BANDS, scale=0.0001, offset=-sign * 0.1)
    assert check_imagery(header, repaired, advise=False) is not None


def test_a_stretch_to_bytes_is_refused(header: ExpertHeader, tmp_path: Path) -> None:
    image = another_date()
    low, high = np.quantile(image, (0.02, 0.98), axis=(0, 1))
    stretched = np.clip((image - low) / (high - low) * 254 + 1, 1, 255).astype(np.uint8)
    path = write(tmp_path / "a.tif", stretched)
    thousands = replace(  # an expert of numbers from 0 to 10,000
        header,
        mean=tuple(10_000 * value for value in header.mean),
        std=tuple(10_000 * value for value in header.std),
        imagery=replace(
            header.imagery,
            quantiles=tuple(tuple(10_000 * q for q in row) for row in header.imagery.quantiles),
        ),
    )
    for own in (header, thousands):
        with pytest.raises(InputError, match="another scale, unit or"):
            check_imagery(own, open_scene(path, bands=BANDS))


def test_a_scene_of_one_pixel_or_one_lake_is_not_refused(header: ExpertHeader, tmp_path: Path) -> None:
    lake = np.full((96, 96, 5), COLOURS[0], np.float32)
    for own in (header, replace(header, imagery=None)):
        check_imagery(own, open_scene(write(tmp_path / "lake.tif", lake), bands=BANDS), advise=False)
        with pytest.raises(InputError, match="another scale, unit or"):
            check_imagery(own, open_scene(write(tmp_path / "small.tif", lake / 10_000), bands=BANDS))


def test_the_scale_is_compared_with_experts_that_do_not_describe_their_imagery(
    header: ExpertHeader, tmp_path: Path
) -> None:
    old = replace(header, imagery=None)
    numbers = (another_date() * 10_000).astype(np.uint16)
    path = write(tmp_path / "a.tif", numbers)
    with pytest.raises(InputError, match="another scale, unit or band"):
        check_imagery(old, open_scene(path, bands=BANDS))
    assert check_imagery(old, open_scene(path, bands=BANDS, scale=0.0001)) is None
