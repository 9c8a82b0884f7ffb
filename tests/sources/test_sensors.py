"""A second sensor in one file: Landsat goes through the same mosaic, with its own bands, mask and scale."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from repository import ROOT
from tesela.core import InputError
from tesela.simulate.server.catalogue import write_item, write_static_catalogue
from tesela.sources.areas import Area
from tesela.sources.mosaic.mosaic import write_mosaics
from tesela.sources.periods import parse_periods
from tesela.sources.providers import PROVIDERS, Catalogue, open_catalogue
from tesela.sources.sensor import Granule, RejectedScene, Sensor, SensorSpec, choose_bands, parse_masked
from tesela.sources.sensor_registry import SENSORS, find_sensor

CLEAR, SHADOW, CLOUD, FILL = 1 << 6, 1 << 4, 1 << 3, 1
"""Bits of QA_PIXEL."""


class Landsat(Sensor):
    """Landsat collection 2 level 2; the class of a pixel is the number of its most important bit of QA_PIXEL."""

    spec = SensorSpec(
        title="Landsat",
        first_year=1982,
        credit="Landsat imagery courtesy of the U.S. Geological Survey.",
        collections={"planetary-computer": "landsat-c2-l2", "earth-search": "landsat-c2-l2"},
        bands=("blue", "green", "red", "nir08", "swir16", "swir22"),
        band_sets={"rgb": ("red", "green", "blue"), "nrg": ("nir08", "red", "green")},
        scale=2.75e-5,
        mask_band="qa_pixel",
        mask_name="quality band QA_PIXEL",
        mask_classes=range(8),
        masked=(0, 1, 2, 3, 4),
        cloudy=(3, 4),
    )

    def read_item(self, item: Mapping[str, Any], bands: Sequence[str]) -> Granule | RejectedScene:
        assets, properties = item["assets"], item["properties"]
        missing = [band for band in (*bands, "qa_pixel") if band not in assets]
        if missing:
            return RejectedScene(item["id"], f"lacks {missing[0]}")
        return Granule(
            name=item["id"],
            moment=datetime.fromisoformat(properties["datetime"].replace("Z", "+00:00")),
            platform=str(properties.get("platform", "landsat")),
            tile=f"{properties.get('landsat:wrs_path', '')}{properties.get('landsat:wrs_row', '')}",
            version=float("nan"),
            cloud_percent=float(properties.get("eo:cloud_cover", 0)),
            bbox=tuple(item["bbox"]),
            bands={band: assets[band]["href"] for band in (*bands, "qa_pixel")},
            offset=-0.2,
        )

    def classify(self, numbers: np.ndarray) -> np.ndarray:
        classes = np.full(numbers.shape, 6, np.uint8)
        for bit in (7, 5, 1, 2, 4, 3, 0):  # the later ones win
            classes[(numbers.astype(np.uint16) >> bit) & 1 == 1] = bit
        return classes


GRID = GeoBox((96, 96), Affine(30, 0, 440_010, 0, -30, 4_090_020), "EPSG:32630")


def write_scene(
    folder: Path, day: int, level: int, quality: np.ndarray, *, assets: Sequence[str] = ()
) -> None:
    layers: dict[str, np.ndarray] = {
        band: np.full(GRID.shape, level + 400 * number, np.uint16)
        for number, band in enumerate(("red", "green", "blue"))
    }
    layers["qa_pixel"] = quality
    write_item(
        folder,
        f"LC08_L2SP_200034_201804{day:02d}_02_T1",
        {name: values for name, values in layers.items() if not assets or name in assets},
        GRID,
        collection="landsat-c2-l2",
        first=datetime(2018, 4, day, 10, 50, tzinfo=UTC),
        nodata=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three dates of 0.075, 0.130 and 0.350 in red; the first has clouds, the second shadow and fill."""
    quality = [np.full(GRID.shape, CLEAR, np.uint16) for _ in range(3)]
    quality[0][:8, :8] = CLOUD | CLEAR
    quality[1][40:48, 40:48] = SHADOW
    quality[1][80:, 80:] = FILL
    for day, level, bits in zip((3, 12, 20), (10_000, 12_000, 20_000), quality, strict=True):
        write_scene(tmp_path / "landsat", day, level, bits)
    write_static_catalogue(tmp_path / "landsat")
    return tmp_path / "landsat"


def landsat_mosaic(folder: Path, out: Path, **options: Any) -> Any:
    settings: dict[str, Any] = {"periods": parse_periods("4", 2018), "bands": "rgb", "buffer": 60}
    catalogue = open_catalogue(str(folder))
    return write_mosaics(catalogue, Area(GRID), out, sensor=Landsat(), **{**settings, **options})[0]


def test_a_second_sensor_is_one_class(folder: Path, tmp_path: Path) -> None:
    made = landsat_mosaic(folder, tmp_path / "out")
    with rasterio.open(made.image) as data:
        red = data.read(1)
        assert data.descriptions == ("red", "green", "blue")
    with rasterio.open(made.count) as data:
        count = data.read(1)
    assert red[20, 20] == 1300  # 12000 x 2.75e-5 - 0.2
    assert red[0, 0] == (1300 + 3500) // 2  # under the cloud
    assert red[9, 4] == (1300 + 3500) // 2  # within 60 m of it
    assert red[10, 4] == 1300
    assert red[44, 44] == red[90, 90] == (750 + 3500) // 2  # shadow; fill, which has no buffer
    assert red[79, 90] == 1300
    assert (count[20, 20], count[0, 0], count[44, 44], count[90, 90]) == (3, 2, 2, 2)


def test_the_item_names_the_sensor_and_its_licence(folder: Path, tmp_path: Path) -> None:
    document = json.loads(landsat_mosaic(folder, tmp_path / "out").item.read_text())
    properties = document["properties"]
    assert properties["title"] == "Landsat mosaic 2018-04"
    assert "U.S. Geological Survey" in properties["description"]
    assert "Sentinel" not in json.dumps(document)
    assert [one["offset"] for one in properties["tesela:scenes"]] == [-0.2] * 3


def test_options_are_those_of_the_sensor(folder: Path, tmp_path: Path) -> None:
    unmasked = landsat_mosaic(folder, tmp_path / "out", masked="0")
    with rasterio.open(unmasked.image) as data:
        assert data.read(1)[0, 0] == 1300
    with pytest.raises(InputError, match="band 'B04'"):
        landsat_mosaic(folder, tmp_path / "no", bands="B04")
    with pytest.raises(InputError, match="write classes of the quality band QA_PIXEL, 0 to 7"):
        landsat_mosaic(folder, tmp_path / "no", masked="9")
    with pytest.raises(InputError, match="Year 1975: Landsat has images since 1982"):
        landsat_mosaic(folder, tmp_path / "no", periods=parse_periods("4", 1975))


def test_scenes_without_the_mask_are_left_out(folder: Path, tmp_path: Path) -> None:
    write_scene(folder, 28, 30_000, np.full(GRID.shape, CLEAR, np.uint16), assets=("red", "green", "blue"))
    write_static_catalogue(folder)
    made = landsat_mosaic(folder, tmp_path / "out")
    assert [one.reason for one in made.left_out] == ["lacks qa_pixel"]


def test_collections_are_facts_of_the_sensor() -> None:
    assert open_catalogue("earth-search").collection(Landsat.spec.collections) == "landsat-c2-l2"
    assert open_catalogue("cdse").collection(Landsat.spec.collections) is None
    assert Catalogue("http://127.0.0.1/stac").collection(Landsat.spec.collections) is None


@pytest.mark.parametrize("sensor", [*SENSORS.values(), Landsat()], ids=lambda sensor: sensor.spec.title)
def test_every_sensor_keeps_the_contract(sensor: Sensor, tmp_path: Path) -> None:
    spec = sensor.spec
    assert set(spec.collections) <= set(PROVIDERS)
    assert 0 in spec.masked
    assert set(spec.cloudy) <= set(spec.masked) <= set(spec.mask_classes)
    assert spec.mask_band not in spec.bands
    for name, bands in spec.band_sets.items():
        assert choose_bands(name, spec) == bands
        assert set(bands) <= set(spec.bands)
    assert parse_masked(str(spec.mask_classes[-1]), spec) == (0, spec.mask_classes[-1])
    assert sensor.classify(np.array([[1, 4]])).dtype == np.uint8
    empty: dict[str, Any] = {"id": "x", "properties": {}, "assets": {}, "bbox": [0, 0, 1, 1]}
    assert isinstance(sensor.read_item(empty, spec.bands[:1]), RejectedScene)
    assert list(sensor.product_items(tmp_path)) == []


def test_unknown_sensors_name_the_nearest() -> None:
    assert find_sensor("sentinel-2") is SENSORS["sentinel-2"]
    with pytest.raises(InputError, match="did you mean 'sentinel-2'"):
        find_sensor("sentinel2")


def test_what_any_sensor_needs_names_none() -> None:
    folder = ROOT / "src" / "tesela" / "sources"
    shared = [folder / f"{name}.py" for name in ("areas", "catalogue", "providers", "layers")]
    for path in [*shared, *(folder / "mosaic").glob("*.py")]:
        code = "\n".join(
            line for line in path.read_text().splitlines() if not re.match(r'\s*[A-Z"`].*', line)
        )
        names = re.findall(r"sentinel2|Sentinel2|SENTINEL|modis|landsat|\bSCL\b|\bscl\b|SAFE|baseline", code)
        assert not names, f"{path.name} names a sensor: {names}"
