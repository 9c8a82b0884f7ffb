"""Report pages: the scene and the training log they are made of, and their tables and sentences as text."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.scene import Scene
from tesela.io.scenes import open_scene


def write_scene(path: Path, pixels: NDArray[np.uint8], grid: GeoBox, *, bands: Sequence[str]) -> Scene:
    """A scene of (bands, rows, cols) pixels; 0 is nodata."""
    count, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=count,
        height=height,
        width=width,
        crs=str(grid.crs),
        transform=grid.affine,
        nodata=0,
    ) as file:
        file.write(pixels)
    return open_scene(path, bands=bands)


def write_training_log(path: Path) -> Path:
    """A log of Lightning's CSVLogger: two epochs with gaps."""
    path.write_text(
        "epoch,step,learning_rate,train_loss,val_loss,miou\n"
        "0,0,0.001,2.0,,\n0,1,0.001,1.0,,\n0,1,,,1.8,0.2\n1,2,0.0005,0.5,,\n1,3,,,nan,0.5\n",
        encoding="utf-8",
    )
    return path


class Page(HTMLParser):
    """Rows of the tables of a page, by their heading; headline figures and sentences."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.figures: dict[str, str] = {}
        self.sentences: list[str] = []
        self._heading = ""
        self._open: list[str] | None = None
        self._figure = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "figcaption"):
            self._heading = ""
            self._open = []
        elif tag == "table":
            self.tables[self._heading] = []
        elif tag == "tr":
            self.tables[self._heading].append([])
        elif tag in ("th", "td", "li") or (tag == "p" and ("class", "figure") in attrs):
            self._open = []

    def handle_endtag(self, tag: str) -> None:
        if self._open is None or tag not in ("h2", "figcaption", "th", "td", "li", "p"):
            return
        text = " ".join("".join(self._open).split())
        if tag in ("h2", "figcaption"):
            self._heading = text
        elif tag in ("th", "td"):
            self.tables[self._heading][-1].append(text)
        elif tag == "li":
            self.sentences.append(text)
        else:
            self.figures[self._heading] = text
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open.append(data)

    def table(self, start: str) -> list[list[str]]:
        """Rows of the table whose heading starts with this."""
        return next(rows for heading, rows in self.tables.items() if heading.startswith(start))
