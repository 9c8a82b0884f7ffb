"""The features that trees see of a pixel, as an expert's header describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.band_dates import STATIC, group_by_date, split_date
from tesela.core.errors import ExpertError

STATISTICS = ("value", "mean", "deviation", "minimum", "maximum", "gradient")
"""What is taken of a window; "value" is the pixel itself."""

STEPS = 256
"""Whole numbers per standard deviation of a band, and per 1/32 of a normalised difference."""

MISSING = -32768
"""A feature of a date without data, below all others: trees see that it is missing."""

LARGEST = 8191
"""Largest size of these numbers: 32 deviations of a band, a whole normalised difference."""

MOST_SIDE_PX = 127
MOST_FEATURES = 1024


@dataclass(frozen=True)
class Feature:
    """One number of a pixel: a statistic of one layer in a window."""

    layer: int
    """Position among the bands, then the normalised differences, then the mean of all bands."""
    statistic: str
    side_px: int = 1
    """Side of the window, odd; 1 for the pixel itself."""


@dataclass(frozen=True)
class FeatureSpec:
    r"""
    The features of an expert of trees, in order.

    Layers are the standardised bands, normalised differences :math:`(a - b) / (|a| + |b|)` of two bands in their
    physical quantities, and the mean of the standardised bands. Each is rounded to whole numbers (`STEPS`), so sums
    over windows are exact: a pixel has the same features whatever window of the scene it is computed in. Pixels
    without data (0 in every standardised band) count in no window. Of several dates, the same holds for each by itself:
    a pixel without data at a date (0 in every band of it) counts in no window of that date, and where no pixel of a
    window has data, the feature is `MISSING`. The mean of all bands is that of the dates with data.
    """

    bands: int
    differences: tuple[tuple[int, int], ...]
    """Positions of the two bands of each normalised difference."""
    features: tuple[Feature, ...]
    band_dates: tuple[int, ...] = ()
    """Number of the date of each band, `STATIC` for none; empty: all are of one date."""

    @property
    def planes(self) -> tuple[int, ...]:
        """For each layer the plane of data that it belongs to: that of its date, or the last, of all dates together."""
        last = max(self.band_dates, default=-1) + 1
        dates = [last if date == STATIC else date for date in self.band_dates or (last,) * self.bands]
        return (*dates, *(dates[a] if dates[a] == dates[b] else last for a, b in self.differences), last)

    @property
    def layers(self) -> int:
        """Bands, normalised differences and the mean of the bands."""
        return self.bands + len(self.differences) + 1

    @property
    def margin_px(self) -> int:
        """Pixels on each side that a feature depends on."""
        return max((item.side_px for item in self.features), default=1) // 2

    def select(self, positions: Sequence[int]) -> FeatureSpec:
        """The features at some positions only."""
        return replace(self, features=tuple(self.features[item] for item in positions))

    def table(self) -> NDArray[np.int32]:
        """(features, 4): layer, position in `STATISTICS`, side, plane of data; what the compiled kernels read."""
        planes = self.planes
        rows = [
            (item.layer, STATISTICS.index(item.statistic), item.side_px, planes[item.layer])
            for item in self.features
        ]
        return np.array(rows, np.int32).reshape(-1, 4)

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        return {
            "bands": self.bands,
            "differences": [list(pair) for pair in self.differences],
            "features": [[item.layer, item.statistic, item.side_px] for item in self.features],
            **({"band_dates": list(self.band_dates)} if self.band_dates else {}),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> FeatureSpec:
        """
        Build from `to_dict`'s document, checking every field.

        Raises
        ------
        ExpertError
            If a field is missing or out of range.
        """
        try:
            bands = int(str(document["bands"]))
            pairs = tuple((int(a), int(b)) for a, b in document["differences"])  # type: ignore[attr-defined]
            features = tuple(
                Feature(int(layer), str(statistic), int(side))
                for layer, statistic, side in document["features"]  # type: ignore[attr-defined]
            )
            dates = tuple(int(item) for item in document.get("band_dates", ()))  # type: ignore[attr-defined]
        except (KeyError, TypeError, ValueError) as error:
            raise ExpertError(f"architecture: its features are wrong ({error}).") from None
        if dates and (len(dates) != bands or set(dates) - {STATIC} != set(range(max(dates) + 1))):
            raise ExpertError(f"architecture: the dates of its {bands} bands are wrong ({list(dates)[:20]}).")
        spec = cls(bands, pairs, features, dates)
        if not 1 <= bands <= MOST_FEATURES or len(features) > MOST_FEATURES or len(pairs) > MOST_FEATURES:
            raise ExpertError("architecture: bands and features must be 1 to 1024.")
        if any(not 0 <= item < bands for pair in pairs for item in pair):
            raise ExpertError("architecture: a normalised difference names a band that is not there.")
        for item in features:
            if (
                item.statistic not in STATISTICS
                or not 0 <= item.layer < spec.layers
                or not 1 <= item.side_px <= MOST_SIDE_PX
                or item.side_px % 2 == 0
            ):
                raise ExpertError(f"architecture: feature {item} is not known.")
        return spec


DIFFERENCES = (
    ("nir", "red"),
    ("green", "nir"),
    ("nir", "swir1"),
    ("swir1", "swir2"),
    ("green", "swir1"),
    ("green", "red"),
    ("blue", "green"),
)
"""Normalised differences by the common names of bands: NDVI, NDWI, NDMI, NBR2, MNDWI, and two of visible bands."""

_NAMES = {
    "blue": ("blue", "b02", "b2"),
    "green": ("green", "b03", "b3"),
    "red": ("red", "b04", "b4"),
    "nir": ("nir", "nir08", "b08", "b8", "b8a"),
    "swir1": ("swir1", "swir16", "b11"),
    "swir2": ("swir2", "swir22", "b12"),
}


def default_features(
    bands: Sequence[str], *, sides_px: Sequence[int] = (3, 7, 15, 31), texture: bool = True
) -> FeatureSpec:
    """
    Features of bands, their normalised differences and the windows around them.

    Parameters
    ----------
    bands : sequence of str
        Names; of several dates ("B04_april", "B04_july") the differences are taken within a date.
    sides_px : sequence of int
        Odd sides of the windows.
    texture : bool
        False: the pixel alone.

    Examples
    --------
    >>> spec = default_features(("red", "nir"), sides_px=(3,))
    >>> spec.differences, len(spec.features), spec.margin_px
    (((1, 0),), 18, 1)
    """
    by_name = {split_date(name): position for position, name in enumerate(bands)}
    suffixes = dict.fromkeys(suffix for _, suffix in by_name)
    dates = group_by_date(bands)

    def find(name: str, suffix: str) -> int | None:
        positions = (by_name.get((other, suffix)) for other in _NAMES[name])
        return next((position for position in positions if position is not None), None)

    pairs = []
    for suffix in suffixes:
        for first, second in DIFFERENCES:
            a, b = find(first, suffix), find(second, suffix)
            if a is not None and b is not None:
                pairs.append((a, b))
    layers = len(bands) + len(pairs) + 1
    features = [Feature(layer, "value") for layer in range(layers)]
    for side in sides_px if texture else ():
        features += [Feature(layer, kind, side) for kind in ("mean", "deviation") for layer in range(layers)]
        if side <= 7:
            features += [
                Feature(layer, kind, side) for kind in ("minimum", "maximum") for layer in range(len(bands))
            ]
        if side <= 3:
            features += [Feature(layer, "gradient", side) for layer in range(len(bands))]
    several = dates.of_bands if len(dates.names) > 1 else ()
    return FeatureSpec(len(bands), tuple(pairs), tuple(features), several)
