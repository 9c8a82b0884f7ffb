"""Numbers that no sensor gives, masks and alpha bands, and bands of different kinds in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.io.invalid_numbers import possible_fills, undeclared_fill
from tesela.io.scene_fills import declare_fills
from tesela.io.scenes import SceneReader, open_scene

AT = Affine(10, 0, 500_000, 0, -10, 4_100_000)
CRS = "EPSG:25830"


def write(
    path: Path, values: NDArray[np.generic], *, names: list[str] | None = None, **profile: object
) -> Path:
    count, height, width = values.shape
    settings = {"crs": CRS, "transform": AT, "dtype": values.dtype} | profile
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, **settings
    ) as data:
        data.write(values)
        if names:
            data.descriptions = names
    return path


def stack(path: Path, files: list[Path]) -> Path:
    """A VRT with a band a file, with the type and the nodata number of each, as gdalbuildvrt -separate writes."""
    bands = []
    for number, file in enumerate(files, start=1):
        with rasterio.open(file) as data:
            kind = {"uint16": "UInt16", "int16": "Int16"}[data.dtypes[0]]
            nodata = "" if data.nodata is None else f"<NoDataValue>{data.nodata:g}</NoDataValue>"
            at, size, wkt = data.transform, (data.width, data.height), data.crs.to_wkt()
        bands.append(
            f'<VRTRasterBand dataType="{kind}" band="{number}">{nodata}<ComplexSource><SourceFilename '
            f'relativeToVRT="1">{file.name}</SourceFilename><SourceBand>1</SourceBand></ComplexSource></VRTRasterBand>'
        )
    path.write_text(
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>{wkt.replace("<", "&lt;")}</SRS>'
        f"<GeoTransform>{at.c},{at.a},{at.b},{at.f},{at.d},{at.e}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path


def read(scene: Scene, grid: GeoBox | None = None) -> NDArray[np.float32]:
    with SceneReader(scene) as reader:
        return reader.read(scene.grid if grid is None else grid)


def ramp(count: int, dtype: str = "uint16", side: int = 32) -> NDArray[np.generic]:
    return np.arange(1, count * side * side + 1).reshape(count, side, side).astype(dtype)


SHIFTED = GeoBox((16, 16), Affine(10, 0, 500_043, 0, -10, 4_099_957), CRS)


def test_alpha_without_a_name_is_a_mask_wherever_it_stands(tmp_path: Path) -> None:
    for count in (4, 5, 6):
        values = np.full((count, 32, 32), 200, np.uint8)
        values[count - 2, :5] = 254
        values[count - 2, 10:] = 0
        path = write(tmp_path / f"{count}.tif", values)
        with rasterio.open(path, "r+") as data:
            kinds = [ColorInterp.undefined] * count
            kinds[count - 2] = ColorInterp.alpha
            data.colorinterp = kinds
        scene = open_scene(path)
        assert len(scene.bands) == count - 1
        valid = np.isfinite(read(scene))
        assert valid[:, :10].all()
        assert not valid[:, 10:].any()
        assert not np.isfinite(read(scene, SHIFTED)[:, 8:]).any()


def test_a_mask_holds_beside_a_nodata_number(tmp_path: Path) -> None:
    values = np.full((4, 32, 32), 200, np.uint8)
    values[0, :3] = 7
    values[3, 10:] = 0
    path = write(tmp_path / "a.tif", values, photometric="RGB", alpha="YES")
    scene = open_scene(path, nodata=7)
    with SceneReader(scene) as reader:
        stored = reader.read_stored(0, 0, (32, 32))
        assert np.isnan(stored[:, 10:]).all()
    pixels, warped = read(scene), read(scene, SHIFTED)
    assert np.isnan(pixels[0, :3]).all()
    assert np.isfinite(pixels[1, :10]).all()
    assert np.isnan(pixels[:, 10:]).all()
    assert np.isnan(warped[:, 8:]).all()
    assert np.isfinite(warped[1, 2:5]).all()


@pytest.mark.parametrize("named", ["by the option", "in the file"])
def test_infrared_tagged_as_alpha_is_a_band_where_it_has_a_name(tmp_path: Path, named: str) -> None:
    names = ["red", "green", "blue", "nir"]
    values = ramp(4, "uint8")
    values[3, 4:8] = 0
    path = write(tmp_path / "naip.tif", values, names=names if named == "in the file" else None)
    with rasterio.open(path) as data:
        assert data.colorinterp[3] == ColorInterp.alpha
    scene = open_scene(path, bands=names if named == "by the option" else None)
    assert scene.band_names == tuple(names)
    np.testing.assert_array_equal(read(scene), values.astype(np.float32))
    np.testing.assert_array_equal(read(scene.select(["red"]))[0], values[0].astype(np.float32))
    warped = read(scene, SHIFTED)
    assert np.isfinite(warped).all()
    assert warped[3, 1, 0] == 0
    assert warped[0, 1, 0] > 0


def test_each_band_of_a_vrt_has_its_own_nodata_number_and_type(tmp_path: Path) -> None:
    hole = np.zeros((32, 32), bool)
    hole[:9, :9] = True
    bands = ramp(3)
    files = []
    for number, (kind, nodata) in enumerate((("uint16", 0), ("uint16", 65535), ("int16", -7))):
        values = bands[number].astype(kind)
        values[hole] = nodata
        files.append(write(tmp_path / f"b{number}.tif", values[None], nodata=nodata))
    scene = open_scene(stack(tmp_path / "stack.vrt", files))
    pixels = read(scene)
    np.testing.assert_array_equal(np.isnan(pixels), np.repeat(hole[None], 3, axis=0))
    np.testing.assert_array_equal(pixels[:, ~hole], bands[:, ~hole])
    with SceneReader(scene) as reader:
        np.testing.assert_array_equal(reader.read_stored(3, 0, (20, 32)), pixels[:, 3:23])
    warped = read(scene, SHIFTED)
    assert np.isnan(warped[:, 0, 0]).all()
    np.testing.assert_allclose(warped[1, 10:], warped[0, 10:] + 1024, rtol=1e-3)


@pytest.mark.parametrize("strange", [-3.4028235e38, 9.96921e36, 1e20, -9999.0, np.nan])
def test_a_pixel_that_no_sensor_gives_is_refused_or_taken_as_nodata(tmp_path: Path, strange: float) -> None:
    values = ramp(2, "float32")
    values[1, 20, 20] = strange
    path = write(tmp_path / "a.tif", values, names=["red", "nir"])
    with SceneReader(open_scene(path)) as reader:
        with pytest.raises(InputError, match=r"Band 'nir' of .*a\.tif holds .*\(1 px.*--invalid nodata"):
            reader.read(reader.scene.grid)
        with pytest.raises(InputError, match="which no sensor gives"):
            reader.read_stored(0, 0, (32, 32))
    scene = open_scene(path, invalid="nodata")
    with SceneReader(scene) as reader:
        assert np.argwhere(np.isnan(reader.read(scene.grid))).tolist() == [[1, 20, 20]]
        assert np.argwhere(np.isnan(reader.read_stored(0, 0, (32, 32)))).tolist() == [[1, 20, 20]]


def test_a_fill_value_of_whole_numbers_is_found_in_a_sample(tmp_path: Path) -> None:
    values = ramp(1)
    values[0, :6] = 65535
    path = write(tmp_path / "a.tif", values, names=["red"])
    with pytest.raises(InputError, match=r"holds 65535 in 18.8% of a sample.*-a_nodata 65535"):
        declare_fills(open_scene(path))
    scene = declare_fills(open_scene(path, invalid="nodata"))
    np.testing.assert_array_equal(np.isnan(read(scene)[0]), values[0] == 65535)
    both = declare_fills(open_scene(path, nodata=1000, invalid="nodata"))  # beside a declared number
    np.testing.assert_array_equal(np.isnan(read(both)[0]), (values[0] == 65535) | (values[0] == 1000))


@pytest.mark.parametrize(
    ("dtype", "strange"),
    [("uint16", 65535), ("int16", -9999), ("int16", -32768), ("int16", 32767), ("int32", -99999)],
)
def test_one_pixel_at_the_end_of_the_type_is_refused_or_taken_as_nodata(
    tmp_path: Path, dtype: str, strange: int
) -> None:
    values = ramp(2, dtype)
    values[1, 20, 20] = strange
    path = write(tmp_path / "a.tif", values, names=["red", "nir"], nodata=7)
    with SceneReader(declare_fills(open_scene(path))) as reader:
        with pytest.raises(
            InputError, match=rf"Band 'nir' of .*a\.tif holds {strange} \(1 px.*--invalid nodata"
        ):
            reader.read(reader.scene.grid)
        with pytest.raises(InputError, match="which no sensor gives"):
            reader.read_stored(0, 0, (32, 32))
    scene = declare_fills(open_scene(path, invalid="nodata"))
    assert Scene.from_dict(scene.to_dict()) == scene
    expected = [[0, 0, 6], [1, 20, 20]]  # the declared number, too
    with SceneReader(scene) as reader:
        assert np.argwhere(np.isnan(reader.read(scene.grid))).tolist() == expected
        assert np.argwhere(np.isnan(reader.read_stored(0, 0, (32, 32)))).tolist() == expected


def test_what_no_sensor_gives_is_not_mixed_with_its_neighbours(tmp_path: Path) -> None:
    fine = write(tmp_path / "fine.tif", np.full((1, 64, 64), 5, np.int16), names=["red"], transform=AT)
    values = np.full((1, 32, 32), 0.5, np.float32) + np.arange(32, dtype=np.float32) / 100
    values[0, 16, 16] = -9999
    twice = Affine(20, 0, 500_000, 0, -20, 4_100_000)
    coarse = write(tmp_path / "coarse.tif", values, names=["swir"], transform=twice)
    with (
        SceneReader(open_scene([fine, coarse])) as reader,
        pytest.raises(InputError, match=r"'swir' .* holds -9999 \(1 px"),
    ):
        reader.read(reader.scene.grid[20:40, 20:40])
    with SceneReader(open_scene([fine, coarse], invalid="nodata")) as reader:
        swir = reader.read(reader.scene.grid)[1]
    assert np.isnan(swir[32:34, 32:34]).all()
    assert np.isnan(swir).sum() <= 16
    assert np.nanmin(swir) >= 0.5


def test_a_collar_of_zeros_is_noted_or_taken_as_nodata(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).integers(300, 3000, (3, 400, 400)).astype(np.uint16)
    values[:, :80] = 0
    path = write(tmp_path / "a.tif", values)
    assert declare_fills(open_scene(path)).bands[0].nodata is None
    assert "0 in all bands of windows at its edge" in caplog.text
    scene = declare_fills(open_scene(path, invalid="nodata"))
    np.testing.assert_array_equal(np.isnan(read(scene)), values == 0)
    caplog.clear()
    values[0, :80] = 1  # dark water
    declare_fills(open_scene(write(tmp_path / "b.tif", values)))
    assert not caplog.text


@pytest.mark.parametrize(
    "values",
    [
        np.array([0] * 900 + list(range(30)), np.int16),  # heights: mostly 0
        np.array([0, 1] * 50, np.uint16),  # a layer of yes and no
        np.array([*range(200, 900), 12000, 65535], np.uint16),  # one bright pixel, one at the end
        np.array([255] * 50 + list(range(20)), np.uint8),
    ],
)
def test_measurements_are_no_fill_values(values: NDArray[np.generic]) -> None:
    assert undeclared_fill(values) is None


def test_saturated_pixels_of_a_wide_range_are_measurements() -> None:
    assert possible_fills(np.array([*range(0, 60000, 50), 65535, 65535], np.uint16)) == ()
    assert possible_fills(np.array([0, 1] * 50, np.uint16)) == ()
    assert possible_fills(np.arange(-2000, 16000, 10).astype(np.int16)) == (-32768, -32767, -9999)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "slc.tif", ramp(1).astype(np.complex64))
    with pytest.raises(InputError, match=r"holds complex numbers .*DERIVED_SUBDATASET"):
        open_scene(path)
