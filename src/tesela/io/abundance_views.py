"""Views of an abundance map: the area of each class, and a card for notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tesela.core.grid import windows
from tesela.io.abundance import MISSING, STEPS, AbundanceMap
from tesela.io.map_views import card
from tesela.io.pixel_areas import pixel_area_m2
from tesela.io.raster import open_dataset

if TYPE_CHECKING:
    import pandas as pd

_PICTURE_PX = 400
_WINDOW_CELLS = 1024


def abundance_areas(source: AbundanceMap) -> pd.DataFrame:
    """
    Area of each class of an abundance map: the sum of its shares times the area of a cell.

    Returns
    -------
    DataFrame
        Columns code, name, area_ha and share (of the cells with shares).
    """
    import pandas as pd

    sums = np.zeros(len(source.legend))
    for _, _, window in windows(source.grid, _WINDOW_CELLS):
        sums += np.nansum(source.read(window), axis=(1, 2), dtype=np.float64)
    ha = sums * (pixel_area_m2(source.grid) / 10_000)
    share = ha / max(float(ha.sum()), 1e-300)
    return pd.DataFrame(
        {"code": source.legend.codes, "name": source.legend.names, "area_ha": ha, "share": share}
    )


def abundance_card(source: AbundanceMap) -> str:
    """An abundance map as HTML for notebooks: colours of its classes mixed by share, and their areas."""
    with open_dataset(source.path) as data:
        step = max(1, -(-max(data.shape) // _PICTURE_PX))
        shape = (data.count, -(-data.height // step), -(-data.width // step))
        raw = data.read(out_shape=shape)
    seen = raw[0] != MISSING
    colours = np.array([item.rgb for item in source.legend.classes], np.float32)
    mixed = np.tensordot(np.where(seen, raw, 0).astype(np.float32) / STEPS, colours, axes=(0, 0))
    picture = np.dstack([mixed.clip(0, 255), np.where(seen, 255, 0)]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    table = abundance_areas(source).sort_values("area_ha", ascending=False)
    columns = (table[name].tolist() for name in ("code", "name", "area_ha", "share"))
    return card(
        repr(source).strip("<>"),
        picture=file.getvalue(),
        rows=[
            (source.legend[code].color, f"{code} {name}", f"{area_ha:,.1f}", f"{share:.1%}")
            for code, name, area_ha, share in zip(*columns, strict=True)
        ],
        header=("class", "ha", "mean share"),
    )
