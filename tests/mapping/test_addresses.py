"""Scenes behind addresses: a server, a zip."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from tesela.cli import main
from tesela.core.errors import InputError
from tesela.io.fingerprints import file_state
from tesela.io.scene_fills import declare_fills
from tesela.io.scenes import SceneReader, open_scene


class Handler(SimpleHTTPRequestHandler):
    """Answers with ranges, in silence."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        content = file.read_bytes()
        asked = self.headers.get("Range")
        first, last = 0, len(content) - 1
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(content[first : last + 1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server in another process: GDAL holds the lock of this one while it opens a file."""
    with subprocess.Popen(
        [sys.executable, __file__, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        yield f"http://127.0.0.1:{int(running.stdout.readline())}"
        running.terminate()


@pytest.mark.parametrize(
    "address",
    ["{server}/s%20a.tif", "/vsicurl/{server}/s%20a.tif", "/vsizip/z.zip/s a.tif", "zip://z.zip!s a.tif"],
)
def test_a_scene_behind_an_address_is_read_like_a_file(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.arange(1, 2049, dtype=np.uint16).reshape(2, 32, 32)
    at = Affine(10, 0, 500_000, 0, -10, 4_100_000)
    settings = {"driver": "GTiff", "count": 2, "height": 32, "width": 32, "dtype": "uint16"}
    with rasterio.open("s a.tif", "w", crs="EPSG:25830", transform=at, **settings) as data:
        data.write(values)
    with zipfile.ZipFile("z.zip", "w") as archive:
        archive.write("s a.tif")
    source = address.format(server=server)
    scene = declare_fills(open_scene(source))
    assert scene.bands[0].path == source
    with SceneReader(scene) as reader:
        np.testing.assert_array_equal(reader.read_stored(0, 0, (32, 32)), values)
    state = file_state(source)
    assert state == file_state(source)
    if "z.zip" in source:
        os.utime("z.zip", (1, 1))
        assert state != file_state(source)


RECIPE = """
chain = "corine"
name = "t"
out = "run"
legend = "corine-1"
[[scenes]]
name = "near"
paths = ["zip://z.zip!s a.tif"]
[[scenes]]
name = "far"
paths = ["{server}/s%20a.tif"]
[reference]
path = "zip://labels.zip!truth.tif"
source = "corine-1"
[patches]
size_px = 32
split = "random"
fractions = [1, 0, 0]
"""


def test_recipes_read_addresses_and_run_again_when_what_is_behind_them_changes(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> str:
        assert main(["run", str(tmp_path / "t.toml"), "--until", "label"]) == 0, capsys.readouterr()
        return capsys.readouterr().err

    def write(path: Path, values: NDArray[np.generic]) -> None:
        settings = {"driver": "GTiff", "count": len(values), "height": 32, "width": 32, "dtype": values.dtype}
        with rasterio.open(
            path, "w", crs="EPSG:25830", transform=Affine(10, 0, 500_000, 0, -10, 4_100_000), **settings
        ) as data:
            data.write(values)

    def pack(archive: Path, file: Path) -> None:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(file, file.name)

    write(tmp_path / "s a.tif", np.arange(1, 2049, dtype=np.uint16).reshape(2, 32, 32))
    write(tmp_path / "truth.tif", np.full((1, 32, 32), 3, np.uint8))
    pack(tmp_path / "z.zip", tmp_path / "s a.tif")
    pack(tmp_path / "labels.zip", tmp_path / "truth.tif")
    (tmp_path / "t.toml").write_text(RECIPE.format(server=server))
    monkeypatch.chdir(tmp_path.parent)
    assert "up to date" not in run()
    assert "up to date" in run()
    write(tmp_path / "truth.tif", np.full((1, 32, 32), 2, np.uint8))
    pack(tmp_path / "labels.zip", tmp_path / "truth.tif")
    assert "up to date" not in run()
    with rasterio.open(tmp_path / "run/labels/far.tif") as data:
        assert (data.read(1) == 2).all()
    assert "up to date" in run()
    write(tmp_path / "s a.tif", np.arange(1, 1025, dtype=np.uint16).reshape(1, 32, 32))
    assert "up to date" not in run()
    with pytest.MonkeyPatch.context() as moved:
        moved.chdir("/")
        assert "up to date" in run()


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    for address in ("https://me:1234@host/a.tif", "/vsicurl/https://me:1234@host/a.tif"):
        with pytest.raises(InputError, match=r"of host holds a password.*GDAL_HTTP_USERPWD") as caught:
            open_scene(address)
        assert "1234" not in str(caught.value)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1])) as served:
        sys.stdout.write(f"{served.server_port}\n")
        sys.stdout.flush()
        served.serve_forever()
