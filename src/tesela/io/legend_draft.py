"""The draft of a legend of one's own: a commented CSV, empty or with the codes that a file holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError

from tesela.core.errors import InputError, LegendError
from tesela.core.legend import NODATA, Legend, spare_color
from tesela.core.plain_text import cell_text
from tesela.io.legends import open_legend
from tesela.io.manifest import write_text
from tesela.io.outputs import check_file_outputs
from tesela.io.pixel_values import broken_file
from tesela.io.raster import open_dataset
from tesela.io.vector import NO_CODE, code_texts, open_layer, read_layer
from tesela.io.vector.address import is_vector

Row = Mapping[str, object]

COLUMNS = ("level", "value", "code", "name", "color", "parent")
_COMMENTS = """\
# A legend for Tesela: one row for each class. Lines before the header are comments.
# level   1 for the coarsest classes, 2 for those below them, and so on; without levels leave it at 1
# value   what maps store: 1 to 254, each once in its level (0 is no data)
# code    what references call the class: 311, WAT; as text, each once in its level
# name    for people, as in keys and tables
# color   #rrggbb; may be empty, and Tesela gives one
# parent  code of the class one level up; empty at level 1
"""
_EXAMPLE: tuple[Row, ...] = (
    {"level": 1, "value": 1, "code": "veg", "name": "Vegetation", "color": "#2e8b57"},
    {"level": 1, "value": 2, "code": "wat", "name": "Water", "color": "#2c7fb8"},
    {"level": 2, "value": 1, "code": "forest", "name": "Forest", "color": "#1b7837", "parent": "veg"},
    {"level": 2, "value": 2, "code": "grass", "name": "Grassland", "color": "#a6d96a", "parent": "veg"},
    {"level": 2, "value": 3, "code": "wat", "name": "Water", "color": "#2c7fb8", "parent": "wat"},
)
_MOST = 254
_STRIP_PX = 1024


def write_legend_draft(
    out: str | Path,
    *,
    source: str | Path | None = None,
    field: str | None = None,
    names: str | None = None,
    layer: str | None = None,
) -> Legend:
    """
    Write the CSV of a legend to edit: with the classes of a file, or an example of two levels.

    Parameters
    ----------
    out : path
        Ends in ``.csv``.
    source : path, optional
        Polygons, whose codes are read from `field`; or a raster of classes, whose values and colours are read.
    field : str, optional
        Field of the codes, for polygons.
    names : str, optional
        Field of the names, for polygons; default: the codes.

    Returns
    -------
    Legend
        As it is read from the written file.

    Raises
    ------
    InputError
        If a file cannot be read or written, or `field` is missing or not needed.
    LegendError
        If the source holds no class, or more than 254.
    """
    if Path(out).suffix.lower() != ".csv":
        raise LegendError(f"{out}: a legend is a CSV; end the name in .csv.")
    check_file_outputs([out], inputs=[] if source is None else [source])
    rows: tuple[Row, ...] = _EXAMPLE
    if source is not None:
        rows = tuple(
            _polygon_rows(source, field, names, layer) if is_vector(source) else _raster_rows(source)
        )
        if (field or names or layer) and not is_vector(source):
            raise InputError(
                f"{source}: a raster has no fields or layers; leave out --field, --names and --layer."
            )
    if not 1 <= len(rows) <= _MOST:
        raise LegendError(
            f"{source}: holds {len(rows)} classes; a legend has 1 to {_MOST}. Give the field of the class codes."
        )
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({key: cell_text(cell) for key, cell in row.items()} for row in rows)
    return open_legend(write_text(out, _COMMENTS + text.getvalue()))


def _polygon_rows(
    source: str | Path, field: str | None, names: str | None, layer: str | None
) -> Iterator[Row]:
    opened = open_layer(source, layer=layer)
    if field is None:
        raise InputError(
            f"{source}: name the field of the class codes (--field); it has {', '.join(opened.fields)}."
        )
    column = opened.require_field(field)
    title = column if names is None else opened.require_field(names)
    frame = read_layer(opened, columns=list(dict.fromkeys((column, title))), report=False)
    name_of = dict(zip(code_texts(frame[column]).tolist(), code_texts(frame[title]).tolist(), strict=True))
    codes = sorted(code for code in name_of if code not in (NO_CODE, ""))
    for number, code in enumerate(codes):
        yield _row(number, number + 1, code, name_of[code])


def _raster_rows(source: str | Path) -> Iterator[Row]:
    found: set[int] = set()
    with open_dataset(source) as data:
        if data.count != 1 or np.dtype(data.dtypes[0]).kind not in "iu":
            raise InputError(f"{source}: a raster of classes has one band of whole numbers.")
        for first in range(0, data.height, _STRIP_PX):
            rows = (first, min(first + _STRIP_PX, data.height))
            try:
                strip = data.read(1, window=(rows, (0, data.width)), masked=True)
            except RasterioError as error:
                raise broken_file(str(source), error) from None
            found |= set(np.unique(strip.compressed()).tolist())
            if len(found) > _MOST + 1:
                break
        colors = data.colormap(1) if data.colorinterp[0].name == "palette" else {}
    numbers = sorted(found - {NODATA})
    stored = all(1 <= number <= _MOST for number in numbers)  # else they are codes, and get values
    for number, code in enumerate(numbers):
        color = "#{:02x}{:02x}{:02x}".format(*colors[code][:3]) if code in colors else ""
        yield _row(number, code if stored else number + 1, str(code), str(code), color)


def _row(number: int, value: int, code: str, name: str, color: str = "") -> Row:
    return {"level": 1, "value": value, "code": code, "name": name, "color": color or spare_color(number)}
