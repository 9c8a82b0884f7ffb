"""Scenes that lack dates of an expert: what is mapped, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pointwise import LEGEND, make_expert, read_map
from tesela.core.band_dates import group_by_date
from tesela.core.errors import InputError, RecipeError
from tesela.core.standardisation import Standardisation
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.missing_dates import select_bands
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert
from tesela.models.segmentation.networks import plan_network

BANDS = ("red_april", "nir_april", "red_july", "nir_july", "slope")


def write(path: Path, bands: tuple[str, ...], *, gap: slice | None = None, seed: int = 0) -> Path:
    """Random pixels by band; `gap` are columns without data in july."""
    rows, cols = 96, 160
    options = {"driver": "GTiff", "dtype": "float32", "height": rows, "width": cols, "nodata": -1}
    options |= {"crs": "EPSG:25830", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 4100000)}
    with rasterio.open(path, "w", count=len(bands), **options) as data:
        for number, band in enumerate(bands, start=1):
            image = np.random.default_rng([seed, BANDS.index(band)]).normal(size=(rows, cols))
            if gap is not None and band.endswith("july"):
                image[:, gap] = -1
            data.write(image.astype(np.float32), number)
        data.descriptions = bands
    return path


def make_dates_expert() -> Expert:
    import torch

    torch.manual_seed(0)
    plan = plan_network("unet_dates", band_names=BANDS, classes=3, encoder="tu-resnet10t", decoder="small")
    header = replace(make_expert().header, architecture=plan, bands=BANDS, mean=(0.0,) * 5, std=(1.0,) * 5)
    network = plan.build()
    for module in network.modules():  # statistics as of a trained network: outputs differ between pixels
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network(torch.randn(4, 5, 64, 64))
    return Expert(header, network.eval().requires_grad_(False))


def test_dates_are_whole_or_missing(tmp_path: Path) -> None:
    rule = Standardisation.of(BANDS, dates=group_by_date(BANDS).of_bands)
    april = open_scene(write(tmp_path / "april.tif", ("red_april", "nir_april", "slope")))
    with pytest.raises(
        InputError, match=r"lacks date july of the expert \(red_july, nir_july\).*--missing-dates"
    ):
        select_bands(april, [rule])
    chosen = select_bands(april, [rule], missing_dates="gap")
    assert chosen.band_names == ("red_april", "nir_april", "slope")
    part = open_scene(write(tmp_path / "part.tif", ("red_april", "nir_april", "red_july", "slope")))
    with pytest.raises(InputError, match="lacks nir_july of date 'july', but has its other bands"):
        select_bands(part, [rule], missing_dates="gap")
    with pytest.raises(InputError, match="Unknown band 'slope'"):
        select_bands(april.select(["red_april", "nir_april"]), [rule], missing_dates="gap")
    with pytest.raises(InputError, match="Unknown band 'red_april'"):
        select_bands(april.select(["slope"]), [rule], missing_dates="gap")
    with pytest.raises(RecipeError, match="Unknown rule for missing dates 'gaps': did you mean 'gap'"):
        select_bands(april, [rule], missing_dates="gaps")


def test_a_missing_date_is_mapped_as_a_gap_everywhere(tmp_path: Path) -> None:
    expert = make_dates_expert()
    without = open_scene(write(tmp_path / "without.tif", ("red_april", "nir_april", "slope")))
    cloudy = open_scene(write(tmp_path / "cloudy.tif", BANDS, gap=slice(None)))
    for name, scene in (("without", without), ("cloudy", cloudy)):
        made = predict_map(expert, scene, tmp_path / f"{name}-map.tif", missing_dates="gap")
        assert made.pixels == 96 * 160
    first, second = (read_map(tmp_path / f"{name}-map.tif") for name in ("without", "cloudy"))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) > 1


def test_pixels_with_a_gap_are_mapped_and_others_do_not_depend_on_far_gaps(tmp_path: Path) -> None:
    expert = make_dates_expert()
    confidence = []
    for name, gap in (("clear", None), ("cloudy", slice(0, 8))):
        scene = open_scene(write(tmp_path / f"{name}.tif", BANDS, gap=gap))
        file = tmp_path / f"{name}-confidence.tif"
        made = predict_map(expert, scene, tmp_path / f"{name}-map.tif", confidence=file)
        assert made.pixels == 96 * 160
        confidence.append(read_map(file).astype(int))
    change = np.abs(confidence[0] - confidence[1])
    assert change[:, :8].mean() > 10 * change[:, 96:].mean()


def test_a_cascade_maps_scenes_that_lack_a_date(tmp_path: Path) -> None:
    expert = make_dates_expert()
    codes = tuple(item.code for item in LEGEND.classes)
    second = Member("second", make_dates_expert(), Gate("first", codes[:2]))
    cascade = Cascade("two", (Member("first", expert), second))
    scene = open_scene(write(tmp_path / "april.tif", ("red_april", "nir_april", "slope")))
    with pytest.raises(InputError, match="lacks date july"):
        predict_cascade(cascade, scene, tmp_path / "map.tif")
    made = predict_cascade(cascade, scene, tmp_path / "map.tif", missing_dates="gap")
    assert made.pixels == 96 * 160


def test_files_of_dates_name_their_bands(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.tif", ("red_april", "nir_april")) for name in ("x", "y", "z")]
    dates = ["2018-04-11", "2018-07-02", "2019-01-20"]
    scene = open_scene(files, bands=["red", "nir"], dates=dates)
    assert scene.band_names == tuple(f"{band}_{date}" for date in dates for band in ("red", "nir"))
    assert open_scene(files[:1], dates=["may"]).band_names == ("red_april_may", "nir_april_may")
    with pytest.raises(InputError, match="2 dates were given for 3 files"):
        open_scene(files, bands=["red", "nir"], dates=dates[:2])
    with pytest.raises(InputError, match=r"x\.tif has 2 bands, but 1 names were given"):
        open_scene(files, bands=["red"], dates=dates)
