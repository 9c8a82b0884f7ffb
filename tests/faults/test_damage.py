"""Damage where a checksum can tell, or what is left can be kept; the loop over all kinds is in `damage.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.manifest import Manifest
from tesela.io.maps import open_map, write_map
from tesela.io.parts import PartStore
from tesela.web.log import VerdictLog
from tesela.web.verdicts import Verdict


def test_a_damaged_part_is_thrown_away_and_made_again(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(1, 6, 10)
    with PartStore(tmp_path / "map.tif") as store:
        store.start({"a": 1})
        for number in range(3):
            store.note(number, {"n": number})
            store.write(number, values)
    part = tmp_path / ".map.tif.parts" / "00000001.part"
    content = bytearray(part.read_bytes())
    content[-3] ^= 1
    part.write_bytes(content)
    (tmp_path / ".map.tif.parts" / "00000002.json").write_text("{")
    with PartStore(tmp_path / "map.tif") as store:
        with pytest.raises(InputError, match="is damaged"):
            store.read(1)
        store.start({"a": 1})
        assert [store.has(number) for number in range(3)] == [True, False, False]
        assert (store.read(0) == values).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        '{"step": 3}',
        '{"step": "x", "inputs": [1]}',
        "\\xff",
        '{"step": "x", "outputs": {"a": 1}}',
    ],
)
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert Manifest.read(tmp_path) is None


def test_what_can_be_read_of_a_damaged_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.review.sqlite"
    with VerdictLog(path) as log:
        for number in range(300):
            log.add(
                Verdict(
                    key=f"k{number}", reviewer="ana", item_id=f"p{number}", quality="high", note="n" * 200
                )
            )
        with log.reading() as base:
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    at = content.find(b"p150")
    content[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(4096)
    path.write_bytes(content)
    with VerdictLog(path) as log:
        kept = {verdict.item_id for verdict in log.standing()}
    assert 200 < len(kept) < 300
    assert "p0" in kept


def test_messages_that_cannot_be_decoded_stay_out_of_the_way(tmp_path: Path) -> None:
    """GDAL quotes the damaged bytes of a tag, and rasterio prints that it cannot decode them."""
    grid = GeoBox((8, 8), Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")
    legend = Legend("two", (LandClass(1, "a", "A", "#112233"),))
    write_map(tmp_path / "map.tif", np.ones((8, 8), np.uint8), grid, legend=legend)
    content = (tmp_path / "map.tif").read_bytes()
    at = content.index(b"TESELA_LEGEND")
    (tmp_path / "map.tif").write_bytes(content[: at + 14] + b" \xdb\xdb\xdb " + content[at + 19 :])
    call = [sys.executable, "-m", "tesela", "vectorise", "map.tif", "-o", "o.gpkg", "-q"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert "does not name its legend" in line


def test_a_geotransform_without_extent_is_refused(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint8", "crs": "EPSG:25830"}
    flat = Affine(1e-200, 0, 500000, 0, -1e-200, 4100000)
    with rasterio.open(tmp_path / "a.tif", "w", transform=flat, **profile) as file:
        file.write(np.ones((1, 4, 4), np.uint8))
    with pytest.raises(GridError, match="its pixels have no extent"):
        open_map(tmp_path / "a.tif", legend="corine-2")
