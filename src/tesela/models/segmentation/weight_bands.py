"""The bands that pretrained weights were made for, and how they are brought to the bands of a scene."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RGB = ("red", "green", "blue")
"""Channels of weights that were trained on photographs, as those of ImageNet."""

BAND_ALIASES: Mapping[str, tuple[str, ...]] = {
    "coastal": ("b01", "b1", "aerosol", "coastal_aerosol"),
    "blue": ("b02", "b2", "b"),
    "green": ("b03", "b3", "g"),
    "red": ("b04", "b4", "r"),
    "rededge1": ("b05", "b5", "rededge071", "red_edge_1", "rededge"),
    "rededge2": ("b06", "b6", "rededge075", "red_edge_2"),
    "rededge3": ("b07", "b7", "rededge078", "red_edge_3"),
    "nir": ("b08", "b8"),
    "nir08": ("b8a",),
    "nir09": ("b09", "b9"),
    "cirrus": ("b10",),
    "swir1": ("b11", "swir16"),
    "swir2": ("b12", "swir22"),
    "thermal1": ("lwir11", "lwir", "thermal"),
    "thermal2": ("lwir12",),
    "pan": ("panchromatic",),
}
"""Other spellings of a band, in lower case; a plain number such as B05 is Sentinel-2's."""

_SIMILAR = {
    "nir": "nir08",
    "nir08": "nir",
}  # the broad and the narrow near infrared: one is taken for the other

_SENTINEL_2 = (
    *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09"),
    *("cirrus", "swir1", "swir2"),
)
_SATLAS = ("red", "green", "blue", "rededge1", "rededge2", "rededge3", "nir", "swir1", "swir2")
_LANDSAT = ("blue", "green", "red", "nir", "swir1")
_LANDSAT_8 = ("coastal", *_LANDSAT, "swir2")

_SENTINEL_2_SURFACE = tuple(band for band in _SENTINEL_2 if band != "cirrus")
_SECO_ECO_NDVI = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "ndvi")

KNOWN_FILES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"sentinel2_all_ndvi_seco_eco", _SECO_ECO_NDVI),
    (r"sentinel2_all_seco_eco|^b12_(rn|resnet)", _SENTINEL_2_SURFACE),
    (r"sentinel2_all_|ssl4eo-s12_ms_|closp-rn_s2_|^b13_(rn|resnet)", _SENTINEL_2),
    (r"sentinel2_rgb_|fmow_rgb_|sentinel2_.*_rgb-|^b3_(rn|resnet)", RGB),
    (r"sentinel2_resnet\d+_[ms]i_ms", _SATLAS),
    (r"sentinel1_all_|ssl4eo-s12_sar_|closp-rn_s1_|^b2_(rn|resnet)", ("vv", "vh")),
    (r"landsat_tm_toa_", (*_LANDSAT, "thermal1", "swir2")),
    (r"landsat_etm_toa_", (*_LANDSAT, "thermal1", "thermal2", "swir2", "pan")),
    (r"landsat_etm_sr_", (*_LANDSAT, "swir2")),
    (r"landsat_oli_tirs_toa_", (*_LANDSAT_8, "pan", "cirrus", "thermal1", "thermal2")),
    (r"landsat_oli_sr_", _LANDSAT_8),
)
"""
Bands of residual networks for satellite imagery, by the names of their files: those that torchgeo offers
[Stewart2022]_, and those of SSL4EO-S12 (``B13_rn50_moco_...``) [Wang2023]_. The first pattern that fits counts.
"""


def common_name(band: str) -> str:
    """
    Name of a band that does not depend on its sensor or date; an unknown one in lower case.

    Examples
    --------
    >>> common_name("B04"), common_name("swir16"), common_name("B8A_april"), common_name("Slope")
    ('red', 'swir1', 'nir08', 'slope')
    """
    plain = re.sub(r"[\s-]+", "_", band.strip().lower())
    parts = plain.split("_")
    for depth in range(len(parts), 0, -1):
        part = "_".join(parts[:depth])
        for name, aliases in BAND_ALIASES.items():
            # a single letter is a colour only when it stands alone: "b_2" may be any second band
            if part == name or (part in aliases and (len(part) > 1 or part == plain)):
                return name
    return plain


def bands_of_known_file(name: str) -> tuple[str, ...]:
    """
    Bands of a file of weights that is known by its name; empty for others.

    Examples
    --------
    >>> bands_of_known_file("resnet18_landsat_etm_sr_moco-4f078acd.pth")
    ('blue', 'green', 'red', 'nir', 'swir1', 'swir2')
    """
    return next((bands for pattern, bands in KNOWN_FILES if re.search(pattern, name.lower())), ())


def bands_in_metadata(metadata: Mapping[str, object]) -> tuple[str, ...]:
    """
    Band names that a file of weights states; empty if it states none.

    Read are ``bands``: a list, or text with commas or as JSON; ``meta``: a table with ``bands``; and the header of
    an expert.
    """
    for key in ("tesela", "meta"):
        inner = _from_json(metadata.get(key))
        if isinstance(inner, Mapping) and (bands := _names(inner.get("bands"))):
            return bands
    return _names(metadata.get("bands"))


def match_bands(bands: Sequence[str], weight_bands: Sequence[str]) -> tuple[int | None, ...]:
    """
    For each band the number of its channel among those of the weights, or None.

    Examples
    --------
    >>> match_bands(("B02", "B04", "B08"), ("red", "green", "blue"))
    (2, 0, None)
    """
    plain = [band.strip().lower() for band in weight_bands]
    common = [common_name(band) for band in weight_bands]

    def channel(band: str) -> int | None:
        name = common_name(band)
        for wanted, offered in (
            (band.strip().lower(), plain),
            (name, common),
            (_SIMILAR.get(name, name), common),
        ):
            if wanted in offered:
                return offered.index(wanted)
        return None

    return tuple(channel(band) for band in bands)


def spread_by_name(weight: torch.Tensor, channels: Sequence[int | None]) -> torch.Tensor:
    r"""
    Give each band the kernel of its own channel, or the mean of all kernels.

    Band ``i`` of ``n`` gets :math:`w_{c(i)}\,k / n` with its channel :math:`c(i)` of ``k``, or
    :math:`\overline{w}\,k / n` where it has none: the response to bands that are all equal stays of the same size.

    Parameters
    ----------
    weight : (out, k, rows, cols) tensor
    channels : sequence of int or None
        Channel of each band, see `match_bands`.

    Returns
    -------
    (out, n, rows, cols) tensor
    """
    import torch

    mean = weight.mean(1)
    kernels = [mean if channel is None else weight[:, channel] for channel in channels]
    return torch.stack(kernels, 1) * (weight.shape[1] / len(channels))


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        document: object = json.loads(value)
    except ValueError:
        return value
    return document


def _names(value: object) -> tuple[str, ...]:
    value = _from_json(value)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        return ()
    return tuple(value)
