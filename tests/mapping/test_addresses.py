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


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1])) as served:
        sys.stdout.write(f"{served.server_port}\n")
        sys.stdout.flush()
        served.serve_forever()
