"""Sentinel-2 level 2A: items become granules with their bands, offset and time; granules become observations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.io.remote import Rasters
from tesela.sources.providers import BAND_ASSETS

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of 10 m and 20 m."""

BAND_SETS: Mapping[str, tuple[str, ...]] = {
    "rgb": ("B04", "B03", "B02"),
    "nrg": ("B08", "B04", "B03"),
    "all": BANDS,
}
"""By name; NRG is the colour infrared of the corine chain."""

OFFSET = -0.1
"""Added to the reflectance of products from baseline 04.00 on: BOA_ADD_OFFSET of -1000."""

OFFSET_BASELINE = 4.0

_SAME_PASS = timedelta(minutes=10)
"""Granules of one satellite that lie closer in time are one observation."""

_CHECK_PX = 256
"""Side of the shrunken scene that offsets are checked on."""

_FEW = 50
"""Fewer dark pixels than this prove nothing."""

_TOO_DARK, _TOO_BRIGHT = -0.02, 0.09
"""Fifth percentile of the red reflectance of plants and water: below, the offset was applied twice; above, never."""


@dataclass(frozen=True)
class Granule:
    """One Sentinel-2 tile at one time."""

    name: str
    moment: datetime
    platform: str
    tile: str
    """MGRS tile, "30SVF"; empty if the item does not say."""
    baseline: float
    """Of the processor, 5.0 for "05.00"; NaN if the item does not say."""
    cloud_percent: float
    bbox: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    bands: Mapping[str, str]
    """Address by band, "SCL" among them."""
    offset: float
    """Reflectance = number / 10000 + offset."""
    link: str = ""
    """Address of the item."""


@dataclass(frozen=True)
class RejectedScene:
    """An item that cannot be used, and why."""

    name: str
    reason: str


def choose_bands(text: str) -> tuple[str, ...]:
    """
    Read "rgb", "nrg", "all" or a list such as "B04,B08".

    Raises
    ------
    InputError
        If a band is unknown.
    """
    if text in BAND_SETS:
        return BAND_SETS[text]
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = [name for name in BAND_ASSETS if name != "SCL"]
    for name in names:
        if name not in known:
            raise InputError(unknown_name("band", name, [*BAND_SETS, *known]))
    if not names or len(set(names)) < len(names):
        raise InputError(f"Bands '{text}': name each band once, such as B04,B03,B02.")
    return names


def read_granule(item: Mapping[str, Any], bands: Sequence[str]) -> Granule | RejectedScene:
    """
    Find what a mosaic needs in a STAC item of any provider; `RejectedScene` where an asset or the time is missing.

    The offset is, in this order: none, where ``earthsearch:boa_offset_applied`` is true; that of the metadata of the
    red band (``raster:bands`` or, since STAC 1.1, ``raster:offset``); by baseline, -0.1 from 04.00 on; by date, -0.1
    from 25 January 2022 on. `check_offset` then looks at the pixels, as the metadata are known to err.
    """
    properties, assets = item["properties"], item["assets"]
    found: dict[str, str] = {}
    # red is wanted for the check of the offset, though not missed where only other bands are asked for
    for band in (*bands, "SCL", "B04"):
        asset = next((assets[name] for name in BAND_ASSETS[band] if name in assets), None)
        if asset is not None:
            found[band] = str(asset["href"])
    missing = [band for band in (*bands, "SCL") if band not in found]
    name = str(item["id"])
    if missing:
        return RejectedScene(
            name, f"lacks {join_words(missing)} (it has {join_words(sorted(assets)) or 'none'})"
        )
    try:
        moment = datetime.fromisoformat(str(properties["datetime"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return RejectedScene(name, "has no date that can be read")
    baseline = _baseline(properties, name)
    return Granule(
        name=name,
        moment=moment,
        platform=str(properties.get("platform", "")).lower(),
        tile=_tile(properties, name),
        baseline=baseline,
        cloud_percent=float(properties.get("eo:cloud_cover") or 0.0),
        bbox=_flat_box(item.get("bbox") or (-180, -90, 180, 90)),
        bands=found,
        offset=_stated_offset(properties, assets, baseline, moment),
        link=next((str(link["href"]) for link in item.get("links", ()) if link.get("rel") == "self"), ""),
    )


def newest_processing(granules: Sequence[Granule]) -> list[Granule]:
    """Of one tile at one time processed several times, the one of the highest baseline; by time."""
    best: dict[tuple[str, str, str], Granule] = {}
    for granule in granules:
        key = (granule.platform, granule.tile or granule.name, granule.moment.strftime("%Y%m%dT%H%M"))
        held = best.get(key)
        if held is None or _rank(granule) > _rank(held):
            best[key] = granule
    return sorted(best.values(), key=lambda one: (one.moment, one.name))


def group_observations(granules: Sequence[Granule]) -> list[tuple[Granule, ...]]:
    """
    Granules of one satellite in one pass: neighbouring tiles repeat the same pixels, which must count once.

    Examples
    --------
    >>> group_observations([])
    []
    """
    groups: list[list[Granule]] = []
    for granule in sorted(granules, key=lambda one: (one.platform, one.moment, one.name)):
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and last.platform == granule.platform
            and granule.moment - last.moment < _SAME_PASS
        ):
            groups[-1].append(granule)
        else:
            groups.append([granule])
    return sorted((tuple(group) for group in groups), key=lambda group: (group[0].moment, group[0].name))


def check_offset(granule: Granule, rasters: Rasters) -> tuple[Granule, str]:
    """
    Hold the stated offset against the darkest pixels, and correct it where it cannot be right.

    Plants and water reflect 1 to 6 % of red light. If the fifth percentile of such pixels lies below -2 % with the
    offset, the provider has applied it already; if above 9 % without one, though the baseline asks for it, nobody has.

    Returns
    -------
    Granule, str
        With the right offset; and what was wrong, empty where nothing was.
    """
    if "B04" not in granule.bands:
        return granule, ""
    scl = rasters.read_small(granule.bands["SCL"], _CHECK_PX)
    red = rasters.read_small(granule.bands["B04"], max(scl.shape))
    rows, cols = min(scl.shape[0], red.shape[0]), min(scl.shape[1], red.shape[1])
    return infer_offset(granule, red[:rows, :cols], scl[:rows, :cols])


def infer_offset(granule: Granule, red: NDArray[np.number], scl: NDArray[np.number]) -> tuple[Granule, str]:
    """Judge numbers of the red band and the scene classification of the same pixels; see `check_offset`."""
    dark = np.isin(scl, (2, 4, 6)) & (red > 0)
    if int(dark.sum()) < _FEW:
        return granule, ""
    low = float(np.percentile(red[dark].astype(np.float64), 5)) / 10_000 + granule.offset
    if granule.offset < 0 and low < _TOO_DARK:
        words = f"the stated offset {granule.offset:g} is in the pixels already (darkest plants {low:.3f}); dropped"
        return replace(granule, offset=0.0), words
    due = not granule.baseline < OFFSET_BASELINE
    if granule.offset == 0 and due and low > _TOO_BRIGHT:
        words = f"the offset {OFFSET:g} was never applied (darkest plants {low:.3f}); applied"
        return replace(granule, offset=OFFSET), words
    return granule, ""


def harmonise(numbers: NDArray[np.generic], valid: NDArray[np.bool_], offset: float) -> NDArray[np.uint16]:
    """
    Reflectance x 10000 as uint16, at least 1; 0 where there is no data.

    Examples
    --------
    >>> harmonise(np.array([1500, 900, 0]), np.array([True, True, False]), -0.1)
    array([500,   1,   0], dtype=uint16)
    """
    raw = numbers.astype(np.float64)
    values = np.rint(raw + offset * 10_000)
    return np.where(valid & (raw > 0), np.clip(values, 1, 65_535), 0).astype(np.uint16)


def _flat_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east, north of a box of four or six numbers."""
    half = len(box) // 2
    return float(box[0]), float(box[1]), float(box[half]), float(box[half + 1])


def _rank(granule: Granule) -> tuple[float, str]:
    return (granule.baseline if granule.baseline == granule.baseline else -1.0, granule.name)


def _baseline(properties: Mapping[str, Any], name: str) -> float:
    text = properties.get("s2:processing_baseline") or properties.get("processing:version")
    if text is None:
        inside = re.search(r"_N(\d{2})(\d{2})_", name)
        text = f"{inside[1]}.{inside[2]}" if inside else "nan"
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _tile(properties: Mapping[str, Any], name: str) -> str:
    text = str(properties.get("s2:mgrs_tile") or properties.get("grid:code") or "")
    if not text:
        inside = re.search(r"_T?(\d{1,2}[C-X][A-Z]{2})(?=_|$)", name)
        text = inside[1] if inside else ""
    return text.removeprefix("MGRS-").removeprefix("T").lstrip("0")


def _stated_offset(
    properties: Mapping[str, Any], assets: Mapping[str, Any], baseline: float, moment: datetime
) -> float:
    if properties.get("earthsearch:boa_offset_applied") is True:
        return 0.0
    red: Mapping[str, Any] = next((assets[name] for name in BAND_ASSETS["B04"] if name in assets), {})
    for described in (red, *red.get("raster:bands", ()), *red.get("bands", ())):
        stated = described.get("raster:offset", described.get("offset"))
        if stated is not None:
            return float(stated)
    if baseline == baseline:
        return OFFSET if baseline >= OFFSET_BASELINE else 0.0
    return OFFSET if moment.strftime("%Y%m%d") >= "20220125" else 0.0
