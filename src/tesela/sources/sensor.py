"""The sensor of a mosaic: its bands, its items, its mask; each sensor implements `Sensor` in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, unknown_name
from tesela.io.remote import Rasters


@dataclass(frozen=True)
class Granule:
    """One tile of a sensor at one time."""

    name: str
    moment: datetime
    platform: str
    tile: str
    """Name of the tile in the sensor's grid; empty if the item does not state it."""
    version: float
    """Of the processing, 5.0 for "05.00"; NaN if the item does not state it."""
    cloud_percent: float
    bbox: tuple[float, float, float, float]
    """West, south, east, north in degrees."""
    bands: Mapping[str, str]
    """Address by band, the mask band among them."""
    offset: float
    """Reflectance = number x scale of the sensor + offset."""
    link: str = ""
    """Address of the item."""


@dataclass(frozen=True)
class RejectedScene:
    """An item that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SensorSpec:
    """Facts about a sensor."""

    title: str
    """Name in texts and metadata: "Sentinel-2"."""
    first_year: int
    """Year of the first images."""
    credit: str
    """Sentence that the licence of the data asks for."""
    collections: Mapping[str, str]
    """Collection by name of the provider."""
    bands: tuple[str, ...]
    """All bands of reflectance, in order."""
    band_sets: Mapping[str, tuple[str, ...]]
    """Bands by a short name, such as "rgb"."""
    scale: float
    """Reflectance of one step of the stored numbers."""
    mask_band: str
    """Band that describes the state of each pixel."""
    mask_name: str
    """What its documents call this band."""
    mask_classes: range
    """Classes of the mask; 0 is no data."""
    masked: tuple[int, ...]
    """Classes that are left out by default, 0 among them."""
    cloudy: tuple[int, ...]
    """Classes with soft edges, clouds and shadows: the buffer grows them."""


class Sensor(Protocol):
    """What a mosaic asks of a sensor; `read_item` is the one method that every sensor writes itself."""

    spec: ClassVar[SensorSpec]

    def read_item(self, item: Mapping[str, Any], bands: Sequence[str]) -> Granule | RejectedScene:
        """Read a STAC item of any provider; `RejectedScene` where an asset or the time is missing."""
        ...

    def classify(self, numbers: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Classes of the mask from the numbers of the mask band, same shape; 0 is no data."""
        return numbers.astype(np.uint8)

    def check_offset(self, granule: Granule, rasters: Rasters) -> tuple[Granule, str]:
        """Granule with the right offset, and what was wrong; by default the item is trusted."""
        del rasters
        return granule, ""

    def product_items(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Items of the unpacked products in a folder; by default there are none."""
        del folder
        return iter(())


def choose_bands(text: str, spec: SensorSpec) -> tuple[str, ...]:
    """
    Read the name of a band set or a list such as "B04,B08".

    Raises
    ------
    InputError
        If a band is unknown.
    """
    if text in spec.band_sets:
        return spec.band_sets[text]
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in spec.bands:
            raise InputError(unknown_name("band", name, [*spec.band_sets, *spec.bands]))
    if not names or len(set(names)) < len(names):
        example = ",".join(next(iter(spec.band_sets.values()), spec.bands[:3]))
        raise InputError(f"Bands '{text}': name each band once, such as {example}.")
    return names


def parse_masked(text: str, spec: SensorSpec) -> tuple[int, ...]:
    """
    Read the classes to mask, such as "3,8,9,10"; 0 (no data) is always among them.

    Raises
    ------
    InputError
        If the mask has no such class.
    """
    try:
        classes = sorted({0, *(int(part) for part in text.split(","))})
    except ValueError:
        classes = [-1]
    if not all(value in spec.mask_classes for value in classes):
        raise InputError(
            f"Masked classes '{text}': write classes of the {spec.mask_name}, {spec.mask_classes[0]} to "
            f"{spec.mask_classes[-1]}."
        )
    return tuple(classes)
