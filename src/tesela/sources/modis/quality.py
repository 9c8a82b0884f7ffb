"""Quality bits of MOD09A1 and MYD09A1: which observations of a pixel can be used, band by band."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import RecipeError, unknown_name

BAND_COUNT = 7

VALID_RANGE = (-100, 16_000)
"""Stored numbers that are reflectances x 10,000; the fill value is -28672."""

QC_FILL = 787_410_671
STATE_FILL = 65_535


@dataclass(frozen=True)
class QualityRule:
    """
    Which observations are usable, by the bits of QC_500m and StateQA [MOD09]_.

    Rodriguez-Ortega et al. (2024) and TimeSpec4LULC do not state their bits; these defaults are ours.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    modland: int = 1
    """Highest overall quality code allowed: 0 ideal, 1 less than ideal; 2 and 3 were not produced."""
    band_quality: tuple[int, ...] = (0,)
    """Qualities of a band allowed: 0 highest, 7 noisy detector, 8 dead detector interpolated, 9 and 10 low sun,
    11 to 15 unusable."""
    cloud: tuple[int, ...] = (0, 3)
    """States allowed: 0 clear, 1 cloudy, 2 mixed, 3 not set and assumed clear."""
    shadow: bool = False
    """Whether cloud shadow is allowed."""
    internal_cloud: bool = False
    """Whether the internal cloud flag is allowed."""
    cirrus: int = 1
    """Highest cirrus level allowed: 0 none, 1 small, 2 average, 3 high."""
    aerosol: int = 2
    """Highest aerosol level allowed: 0 climatology, 1 low, 2 average, 3 high."""
    snow: bool = True
    """Whether snow and ice are allowed: they are the true surface."""
    beside_cloud: bool = True
    """Whether pixels adjacent to a cloud are allowed."""


def parse_rule(texts: Iterable[str]) -> QualityRule:
    """
    Read a rule from ``KEY=VALUE`` texts; keys that are not named keep their defaults.

    Raises
    ------
    RecipeError
        If a key is unknown, or a value is of another kind.

    Examples
    --------
    >>> parse_rule(["aerosol=1", "shadow=true", "band_quality=0,7"])
    QualityRule(modland=1, band_quality=(0, 7), cloud=(0, 3), shadow=True, internal_cloud=False, cirrus=1, aerosol=1, \
snow=True, beside_cloud=True)
    """
    usual = asdict(QualityRule())
    changed: dict[str, Any] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if key not in usual:
            raise RecipeError(unknown_name("key of the quality rule", key, usual))
        kind = usual[key]
        try:
            if isinstance(kind, bool):
                changed[key] = {"true": True, "false": False}[value.lower()]
            elif isinstance(kind, tuple):
                changed[key] = tuple(int(part) for part in value.split(","))
            else:
                changed[key] = int(value)
        except (KeyError, ValueError):
            wanted = "true or false" if isinstance(kind, bool) else "a number, or several with commas"
            raise RecipeError(f"{key} is '{value}'; {wanted} was needed.") from None
    return QualityRule(**changed)


def band_quality(qc: NDArray[np.unsignedinteger], band: int) -> NDArray[np.uint8]:
    """
    Quality of a band, 0 to 15: bits 2-5 for band 1, 6-9 for band 2, ... 26-29 for band 7.

    Examples
    --------
    >>> band_quality(np.array([0b0111 << 6], np.uint32), 2).tolist()
    [7]
    """
    return np.asarray((qc.astype(np.uint32) >> np.uint32(4 * band - 2)) & np.uint32(15), np.uint8)


def field(state: NDArray[np.unsignedinteger], first: int, width: int = 1) -> NDArray[np.uint8]:
    """Whole number in `width` bits of a word, from bit `first` on."""
    word = state.astype(np.uint32) >> np.uint32(first)
    return np.asarray(word & np.uint32((1 << width) - 1), np.uint8)


def usable_state(state: NDArray[np.unsignedinteger], rule: QualityRule) -> NDArray[np.bool_]:
    """Where StateQA (uint16) allows the use of all bands, same shape."""
    good = np.isin(field(state, 0, 2), rule.cloud) & (state != STATE_FILL)
    good &= (field(state, 8, 2) <= rule.cirrus) & (field(state, 6, 2) <= rule.aerosol)
    for allowed, bits in (
        (rule.shadow, (2,)),
        (rule.internal_cloud, (10,)),
        (rule.beside_cloud, (13,)),
        (rule.snow, (12, 15)),
    ):
        for bit in () if allowed else bits:
            good &= field(state, bit) == 0
    return np.asarray(good)


def usable(
    values: NDArray[np.integer],
    qc: NDArray[np.unsignedinteger],
    state: NDArray[np.unsignedinteger],
    rule: QualityRule,
) -> NDArray[np.bool_]:
    """
    Which observations can be used.

    Parameters
    ----------
    values : (7, ...) array of int16
        Numbers of bands 1 to 7 as stored.
    qc : (...) array of uint32
        QC_500m.
    state : (...) array of uint16
        StateQA.

    Returns
    -------
    (7, ...) array of bool
    """
    whole = usable_state(state, rule) & (field(qc, 0, 2) <= rule.modland) & (qc != QC_FILL)
    good = np.empty(values.shape, np.bool_)
    low, high = VALID_RANGE
    for band in range(BAND_COUNT):
        quality = np.isin(band_quality(qc, band + 1), rule.band_quality)
        good[band] = whole & quality & (values[band] >= low) & (values[band] <= high)
    return good
