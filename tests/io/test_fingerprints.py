"""Fingerprints: every change of content shows, also beside the file; what is no content does not count."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy as copy_raster

from tesela.core import InputError
from tesela.io import fingerprints
from tesela.io.cube_writer import CubeWriter
from tesela.io.fingerprints import file_hash, file_state, fingerprint

GRID = GeoBox((64, 64), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder and memory of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(fingerprints, "_memory", fingerprints._HashMemory())
    return folder / "tesela" / "fingerprints.sqlite"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process would start with."""
    monkeypatch.setattr(fingerprints, "_memory", fingerprints._HashMemory())


def write_raster(path: Path, value: int = 1, *, side: int = 64) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:25830"}
    with rasterio.open(path, "w", width=side, height=side, transform=GRID.affine, **profile) as data:
        data.write(np.full((1, side, side), value, np.uint8))
    return path


def write_squares(path: Path, code: str = "311") -> Path:
    frame = gpd.GeoDataFrame({"code": [code]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:25830")
    frame.to_file(path, layer=None if path.suffix == ".shp" else "land")
    return path


def age(path: Path) -> None:
    """Let a file look old, so that its hash is remembered."""
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))


def test_a_quarter_of_a_raster_rewritten_in_place_shows(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", side=4000)
    before, size = fingerprint(path), path.stat().st_size
    with rasterio.open(path, "r+") as data:
        data.write(np.full((1, 1000, 4000), 9, np.uint8), window=((500, 1500), (0, 4000)))
    assert path.stat().st_size == size
    assert fingerprint(path) != before


def edit_attributes(folder: Path) -> Iterator[Path]:
    path = write_squares(folder / "land.shp")
    yield path
    content = bytearray((folder / "land.dbf").read_bytes())
    content[-4:-1] = b"312"
    (folder / "land.dbf").write_bytes(content)
    yield path


def edit_source_of_a_vrt(folder: Path) -> Iterator[Path]:
    (folder / "below").mkdir()
    source = write_raster(folder / "below" / "a.tif")
    copy_raster(source, folder / "inner.vrt", driver="VRT")
    path = folder / "a.vrt"
    copy_raster(folder / "inner.vrt", path, driver="VRT")
    yield path
    write_raster(source, 2)
    yield path


def edit_mask(folder: Path) -> Iterator[Path]:
    path = write_raster(folder / "a.tif")
    mask = np.full((64, 64), 255, np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as data:
        data.write_mask(mask)
    assert (folder / "a.tif.msk").exists()
    yield path
    mask[:10] = 0
    with rasterio.open(path, "r+") as data:
        data.write_mask(mask)
    yield path


def edit_write_ahead_log(folder: Path) -> Iterator[Path]:
    path = write_squares(folder / "land.gpkg")
    base = sqlite3.connect(path)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("PRAGMA wal_autocheckpoint = 0")
    yield path
    base.execute("UPDATE gpkg_contents SET description = 'changed'")
    base.commit()
    assert (folder / "land.gpkg-wal").stat().st_size
    yield path
    base.close()


def edit_description(folder: Path) -> Iterator[Path]:
    path = write_raster(folder / "a.tif")
    yield path
    text = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>1</NoDataValue></PAMRasterBand></PAMDataset>"
    (folder / "a.tif.aux.xml").write_text(text)
    yield path


def edit_world_file(folder: Path) -> Iterator[Path]:
    path = folder / "a.png"
    path.write_bytes(b"png")
    (folder / "a.pgw").write_text("1\n0\n0\n-1\n0\n0\n")
    yield path
    (folder / "a.pgw").write_text("2\n0\n0\n-1\n0\n0\n")
    yield path


def edit_chunk_of_a_cube(folder: Path) -> Iterator[Path]:
    path = folder / "a.zarr"
    with CubeWriter(path, GRID, times=("2018-01",), bands=("red",)) as cube:
        cube.write(0, 0, np.ones((1, 1, 64, 64), np.float32))
    yield path
    chunk = next(file for file in sorted(path.rglob("*")) if file.is_file() and "series/c" in file.as_posix())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    yield path


@pytest.mark.parametrize(
    "edit",
    [
        edit_attributes,
        edit_source_of_a_vrt,
        edit_mask,
        edit_write_ahead_log,
        edit_description,
        edit_world_file,
        edit_chunk_of_a_cube,
    ],
)
def test_a_change_of_what_is_read_along_with_a_file_shows(
    tmp_path: Path, edit: Callable[[Path], Iterator[Path]]
) -> None:
    steps = edit(tmp_path)
    path = next(steps)
    before = fingerprint(path), file_state(path)
    assert (fingerprint(path), file_state(path)) == before
    assert next(steps) == path
    assert fingerprint(path) != before[0]
    assert file_state(path) != before[1]
    assert next(steps, None) is None


def test_statistics_that_a_viewer_adds_are_no_content(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif")
    before = fingerprint(path)
    described = tmp_path / "a.tif.aux.xml"
    statistics = (
        "<PAMRasterBand band='1'><Histograms><HistItem/></Histograms><Metadata>"
        "<MDI key='STATISTICS_MEAN'>3</MDI></Metadata>{}</PAMRasterBand>"
    )
    described.write_text(f"<PAMDataset>{statistics.format('')}</PAMDataset>")
    assert fingerprint(path) == before
    described.write_text(f"<PAMDataset>{statistics.format('<Scale>2</Scale>')}</PAMDataset>")
    assert fingerprint(path) != before


def test_names_times_and_empty_logs_are_no_content(tmp_path: Path) -> None:
    write_squares(tmp_path / "land.shp")
    (tmp_path / "moved").mkdir()
    for file in tmp_path.glob("land.*"):
        shutil.copyfile(file, tmp_path / "moved" / f"other{file.suffix.upper()}")
    assert fingerprint(tmp_path / "land.shp") == fingerprint(tmp_path / "moved" / "other.SHP")
    assert file_state(tmp_path / "land.shp") != file_state(tmp_path / "moved" / "other.SHP")
    package = write_squares(tmp_path / "land.gpkg")
    before = fingerprint(package)
    (tmp_path / "land.gpkg-wal").touch()
    (tmp_path / "land.gpkg-shm").write_bytes(b"shared memory")
    os.utime(package)
    assert fingerprint(package) == before


def test_sources_inside_archives_and_containers_are_found(tmp_path: Path) -> None:
    for name in ("a.zip", "b.nc", "c.hdf"):
        (tmp_path / name).write_bytes(b"1")
    vrt = tmp_path / "all.vrt"
    names = (
        f"/vsizip/{tmp_path}/a.zip/x/y.tif",
        f'NETCDF:"{tmp_path}/b.nc":values',
        f"HDF4_SDS:UNKNOWN:{tmp_path}/c.hdf:0",
        "/vsicurl/https://example.org/d.tif",
        str(vrt),
    )
    sources = "".join(f"<SourceFilename>{name}</SourceFilename>" for name in names)
    vrt.write_text(f"<VRTDataset>{sources}</VRTDataset>")
    seen = {fingerprint(vrt)}
    for name in ("a.zip", "b.nc", "c.hdf"):
        (tmp_path / name).write_bytes(b"2")
        seen.add(fingerprint(vrt))
    (tmp_path / "c.hdf").unlink()
    seen.add(fingerprint(vrt))
    assert len(seen) == 5


def test_a_large_file_is_read_once_for_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(2 << 20))
    age(path)
    monkeypatch.setattr(fingerprints, "_grain_ns", lambda status: 0)
    first = file_hash(path)
    assert cache.exists()
    with sqlite3.connect(cache) as base:
        base.execute("UPDATE xxh3 SET hash = 'remembered'")
    base.close()
    assert file_hash(path) == first, "this process knows it already"
    forget(monkeypatch)
    assert file_hash(path) == "remembered"
    path.write_bytes(b"\1" + bytes((2 << 20) - 1))
    age(path)  # size and modification time are those of before
    assert file_hash(path) not in ("remembered", first)


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(2 << 20))
    file_hash(path)
    assert not cache.exists()


@pytest.mark.parametrize("state", ["damaged", "missing", "not writable"])
def test_without_a_usable_cache_folder_files_are_hashed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, state: str
) -> None:
    monkeypatch.setattr(fingerprints, "_grain_ns", lambda status: 0)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(2 << 20))
    age(path)
    expected = file_hash(path)
    if state == "damaged":
        cache.write_bytes(b"no database at all, but longer than its header is" * 20)
    elif state == "missing":
        cache.unlink()
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    forget(monkeypatch)
    assert file_hash(path) == expected
    forget(monkeypatch)
    assert file_hash(path) == expected
    if state == "damaged":
        with sqlite3.connect(cache) as base:
            assert base.execute("SELECT count(*) FROM xxh3").fetchone() == (1,)
        base.close()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for work in (fingerprint, file_state, file_hash):
        with pytest.raises(InputError, match=r"gone\.bin: cannot be read \(No such file"):
            work(tmp_path / "gone.bin")
