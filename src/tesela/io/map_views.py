"""Views of a class map: its areas as a table, a small picture, a drawing, and a card for notebooks."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tesela.core.extras import need
from tesela.core.grid import windows
from tesela.core.legend import LandClass, Legend
from tesela.io.cog import BLOCK_PX
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import pixel_area_m2
from tesela.io.pyramid import class_counts
from tesela.io.raster import open_dataset

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PICTURE_PX = 400
_DRAWN_PX = 2000
_MOST_ROWS = 24
"""Classes on a card; the others are summed."""


def area_table(counts: NDArray[np.integer], legend: Legend, *, pixel_m2: float) -> pd.DataFrame:
    """
    Areas of the classes that occur, in the order of the legend.

    Parameters
    ----------
    counts : (256,) array of int
        Pixels by value.
    pixel_m2 : float
        Area of a pixel in square metres.

    Returns
    -------
    DataFrame
        Columns value, code, name, pixels, area_ha and share (of the pixels with a class).
    """
    import pandas as pd

    present = [item for item in legend.classes if counts[item.value]]
    pixels = np.array([counts[item.value] for item in present], np.int64)
    return pd.DataFrame(
        {
            "value": [item.value for item in present],
            "code": [item.code for item in present],
            "name": [item.name for item in present],
            "pixels": pixels,
            "area_ha": pixels * (pixel_m2 / 10_000),
            "share": pixels / max(int(pixels.sum()), 1),
        }
    )


def map_areas(source: ClassMap) -> pd.DataFrame:
    """Areas of a map's classes; from its attribute table where that is complete, else by counting its pixels."""
    counts, exact = class_counts(source.path)
    if not exact:
        counts = np.zeros(256, np.int64)
        with MapReader(source) as reader:
            for _, _, window in windows(source.grid, 4 * BLOCK_PX):
                counts += np.bincount(reader.read(window).ravel(), minlength=256)
    return area_table(counts, source.legend, pixel_m2=pixel_area_m2(source.grid))


def read_overview(source: ClassMap, *, size_px: int) -> NDArray[np.uint8]:
    """Class values with at most `size_px` on the longer side, from overviews where there are any; 0 is nodata."""
    with open_dataset(source.path) as data:
        step = max(1, -(-max(data.shape) // size_px))
        shape = (-(-data.height // step), -(-data.width // step))
        values = data.read(1, out_shape=shape)
        missing = np.zeros(shape, np.bool_) if data.nodata is None else values == data.nodata
    return np.where(missing | ~np.isin(values, source.legend.values), 0, values).astype(np.uint8)


def with_palette(values: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """Values in the colours of a (256, 3) palette; 0 is transparent."""
    picture = Image.fromarray(values)
    picture.putpalette(palette.tobytes())
    picture.info["transparency"] = 0
    return picture


def class_picture(values: NDArray[np.uint8], legend: Legend) -> Image.Image:
    """Class values in the colours of their legend; nodata is transparent."""
    palette = np.zeros((256, 3), np.uint8)
    for item in legend.classes:
        palette[item.value] = item.rgb
    return with_palette(values, palette)


def present_classes(legend: Legend, *values: NDArray[np.uint8]) -> list[LandClass]:
    """Classes of a legend that occur in arrays of class values, in the order of the legend."""
    present = {int(value) for array in values for value in np.unique(array)}
    return [item for item in legend.classes if item.value in present]


def draw_classes(
    values: NDArray[np.uint8],
    legend: Legend,
    *,
    extent: tuple[float, float, float, float],
    ax: Axes | None = None,
) -> Axes:
    """
    Draw class values with matplotlib, with the classes that occur as its legend.

    Parameters
    ----------
    values : (rows, cols) array of uint8
    extent : (left, right, bottom, top)
        In the CRS of the map.
    ax : Axes, optional
        Where to draw; default: a new figure.
    """
    need("matplotlib")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    colours = np.zeros((256, 4), np.uint8)
    for item in legend.classes:
        colours[item.value] = (*item.rgb, 255)
    ax.imshow(colours[values], extent=extent, interpolation="nearest")
    handles = [
        Patch(facecolor=item.color, edgecolor="#888888", linewidth=0.5, label=_label(item.code, item.name))
        for item in present_classes(legend, values)
    ]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    ax.set_aspect("equal")
    ax.ticklabel_format(style="plain", useOffset=False)  # northings in full, not as +5.08e6
    ax.locator_params(nbins=5)
    return ax


def draw_map(source: ClassMap, *, ax: Axes | None = None) -> Axes:
    """Draw a map of any size with matplotlib; see `draw_classes`."""
    box = source.grid.boundingbox
    values = read_overview(source, size_px=_DRAWN_PX)
    return draw_classes(values, source.legend, extent=(box.left, box.right, box.bottom, box.top), ax=ax)


def map_card(source: ClassMap) -> str:
    """A map as HTML for notebooks: picture, legend and areas; it needs no network."""
    file = io.BytesIO()
    class_picture(read_overview(source, size_px=_PICTURE_PX), source.legend).save(file, "PNG")
    counts, exact = class_counts(source.path)
    table = area_table(counts, source.legend, pixel_m2=pixel_area_m2(source.grid))
    shown = table.sort_values("area_ha", ascending=False)
    return card(
        repr(source).strip("<>"),
        picture=file.getvalue(),
        rows=[
            (source.legend[code].color, _label(code, name), f"{area_ha:,.1f}", f"{share:.1%}")
            for code, name, area_ha, share in zip(
                *(shown[key].tolist() for key in ("code", "name", "area_ha", "share")), strict=True
            )
        ],
        header=("class", "ha" if exact else "ha (about)", "share"),
    )


def card(
    title: str, *, picture: bytes | None = None, rows: list[tuple[str, ...]], header: tuple[str, ...]
) -> str:
    """
    A result as HTML for notebooks.

    Parameters
    ----------
    picture : bytes, optional
        PNG.
    rows : list of tuples of str
        Colour (empty: none), name and figures of each row.
    header : tuple of str
        Titles of name and figures.
    """
    right = ' style="text-align:right"'
    head = "".join(
        f"<th{right if number else ''}>{html.escape(text)}</th>" for number, text in enumerate(header)
    )
    lines = []
    for colour, name, *figures in rows[:_MOST_ROWS]:
        mark = (
            f'<span style="display:inline-block;width:1em;height:1em;background:{colour}"></span> '
            if colour
            else ""
        )
        cells = "".join(f"<td{right}>{html.escape(text)}</td>" for text in figures)
        lines.append(f'<tr><td style="text-align:left">{mark}{html.escape(name)}</td>{cells}</tr>')
    if len(rows) > _MOST_ROWS:
        lines.append(f'<tr><td colspan="{len(header)}">and {len(rows) - _MOST_ROWS} more</td></tr>')
    shown = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        shown = f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}" style="image-rendering:pixelated">'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return (
        f'<div><p><b>{html.escape(title)}</b></p><div style="display:flex;gap:1em;align-items:flex-start;'
        f'flex-wrap:wrap">{shown}{table}</div></div>'
    )


def _label(code: str, name: str) -> str:
    return name if code == name else f"{code} {name}"
