"""SAFE products of Sentinel-2 level 2A on disk, described as a catalogue would."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tesela.core.errors import InputError
from tesela.core.grid import bounds_in
from tesela.io.raster import grid_of, open_dataset

_NAME = re.compile(
    r"(?P<platform>S2[A-D])_MSIL2A_(?P<date>\d{8})T(?P<time>\d{6})_N(?P<baseline>\d{4})_R\d{3}_T(?P<tile>\w{5})_"
)
_BAND = re.compile(r"_(B\d[0-9A]|SCL)_(10|20|60)m\.\w+$")


def safe_items(products: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """
    One item per product folder; its bands' finest files become assets, "B04" and so on.

    Raises
    ------
    InputError
        If a product holds no images of bands.
    """
    for product in products:
        name = _NAME.search(product.name)
        if name is None:  # level 1C, other missions
            continue
        assets: dict[str, dict[str, Any]] = {}
        finest: dict[str, int] = {}
        for path in sorted(product.glob("GRANULE/*/IMG_DATA/*/*")):
            band = _BAND.search(path.name)
            if band is None or finest.get(band[1], 99) <= int(band[2]):
                continue
            finest[band[1]] = int(band[2])
            assets[band[1]] = {"href": str(path.resolve())}
        if not assets:
            raise InputError(f"{product}: holds no images of bands (GRANULE/*/IMG_DATA/*). Unpack it whole.")
        with open_dataset(next(iter(assets.values()))["href"]) as data:
            box = bounds_in(grid_of(data), "EPSG:4326")
        day, clock = name["date"], name["time"]
        yield {
            "type": "Feature",
            "id": product.name.removesuffix(".SAFE"),
            "bbox": list(box),
            "properties": {
                "datetime": f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z",
                "platform": f"sentinel-{name['platform'][1:].lower()}",
                "s2:mgrs_tile": name["tile"],
                "s2:processing_baseline": f"{name['baseline'][:2]}.{name['baseline'][2:]}",
            },
            "assets": assets,
            "links": [],
        }
