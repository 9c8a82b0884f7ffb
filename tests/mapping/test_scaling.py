"""Scale and offset: a map depends on the quantities of a scene, not on the numbers that its files store."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pointwise import Pointwise, expected_map, make_expert, read_map
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Member
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.predict import predict_map

SCALES, OFFSETS = (0.5, 0.25), (-10.0, 5.0)
"""Of red and nir. Sentinel-2 since 2022 has 0.0001 and -0.1."""
SHAPE = (70, 50)


def quantities() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(6, 255, (2, *SHAPE), np.uint8)


def stored() -> NDArray[np.uint16]:
    scales, offsets = (np.array(numbers)[:, None, None] for numbers in (SCALES, OFFSETS))
    return ((quantities() - offsets) / scales).astype(np.uint16)


def write(path: Path, bands: tuple[int, ...] = (0, 1), *, declared: bool = True, mask: bool = False) -> Path:
    profile = {"driver": "GTiff", "dtype": "uint16", "count": len(bands), "nodata": None if mask else 0}
    place = {"crs": "EPSG:25830", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_100_000)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", height=SHAPE[0], width=SHAPE[1], **profile, **place) as data,
    ):
        data.write(stored()[list(bands)])
        data.descriptions = [("red", "nir")[band] for band in bands]
        if declared:
            data.scales = [SCALES[band] for band in bands]
            data.offsets = [OFFSETS[band] for band in bands]
        if mask:
            data.write_mask(np.ones(SHAPE, bool))
    return path


@pytest.mark.parametrize("files", ["one", "one per band", "with a mask"])
def test_a_map_is_drawn_from_quantities_as_the_files_declare_them(tmp_path: Path, files: str) -> None:
    if files == "one per band":
        scene = open_scene([write(tmp_path / "red.tif", (0,)), write(tmp_path / "nir.tif", (1,))])
    else:
        scene = open_scene(write(tmp_path / "scene.tif", mask=files == "with a mask"))
    expert = make_expert()
    predict_map(expert, scene, tmp_path / "map.tif", precision="fp32")
    assert (read_map(tmp_path / "map.tif") == expected_map(quantities(), expert)).all()


@pytest.mark.parametrize("ignored", ["scale", "offset"])
def test_a_map_drawn_without_scale_or_offset_is_another(tmp_path: Path, ignored: str) -> None:
    scene = open_scene(
        write(tmp_path / "scene.tif"), **({"scale": 1.0} if ignored == "scale" else {"offset": 0.0})
    )
    expert = make_expert()
    predict_map(expert, scene, tmp_path / "map.tif", precision="fp32", any_scene=True)
    assert (read_map(tmp_path / "map.tif") != expected_map(quantities(), expert)).mean() > 0.02


def test_scale_and_offset_of_the_caller_take_the_place_of_those_of_the_file(tmp_path: Path) -> None:
    both = [
        open_scene(write(tmp_path / f"{name}.tif", declared=declared), scale=0.5, offset=-10.0)
        for name, declared in (("declared", True), ("plain", False))
    ]
    for scene in both:
        predict_map(make_expert(), scene, tmp_path / f"{scene.name}-map.tif", precision="fp32")
    first, second = (read_map(tmp_path / f"{scene.name}-map.tif") for scene in both)
    assert (first == second).all()
    assert (first != expected_map(quantities(), make_expert())).any(), "near infrared has others"


def test_a_cascade_reads_quantities_too(tmp_path: Path) -> None:
    expert = make_expert(Pointwise())
    cascade = Cascade("one", (Member("context", expert),))
    predict_cascade(
        cascade, open_scene(write(tmp_path / "scene.tif")), tmp_path / "map.tif", precision="fp32"
    )
    assert (read_map(tmp_path / "map.tif") == expected_map(quantities(), expert)).all()
