"""Invalid numbers: what no sensor gives, such as the fill values of other programs, where no file declares them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 1e10
"""No image holds larger numbers; fill values do: 3.4e38 (ESRI), 9.97e36 (netCDF), 1e20 (climate models)."""

FILLS = (-9999.0, -99999.0, -32767.0, -32768.0)
"""Numbers that are fill values wherever a file of floats holds them exactly."""

_SHARE = 0.002
_LEAST_DISTINCT = 10
_GAP = 2.0
_ABOVE, _BELOW = 1.0, 0.3
"""Least distance of a known fill value from a sample, in ranges of the sample: reflectance may be -2000 to 16000."""
_ENOUGH = 1000


def invalid_numbers(raw: NDArray[np.generic], fills: Sequence[float] = ()) -> NDArray[np.bool_] | None:
    """
    Where an array of stored numbers holds what no sensor gives: in floats NaN, infinity, +-1e10 and more, and `FILLS`.

    Parameters
    ----------
    fills : sequence of float
        Of whole numbers, which are measurements in other files: what `possible_fills` names for this one.

    Returns
    -------
    array of bool of the same shape, or None where there is none

    Examples
    --------
    >>> invalid_numbers(np.array([0.2, -9999.0, 3.4e38])).tolist()
    [False, True, True]
    """
    if raw.dtype.kind != "f":
        if not fills:
            return None
        strange = np.isin(raw, np.array(fills, raw.dtype))
        return strange if strange.any() else None
    least, most = float(raw.min(initial=0)), float(raw.max(initial=0))  # NaN where one is
    if least > max(FILLS) and most <= MOST:
        return None
    strange = ~(np.abs(raw) <= raw.dtype.type(MOST) if raw.dtype != np.float16 else np.isfinite(raw))
    if not least > max(FILLS):
        for fill in FILLS:
            strange |= raw == fill
    return strange if strange.any() else None


def possible_fills(values: NDArray[np.generic]) -> tuple[float, ...]:
    """
    Numbers that would be fill values in a band of whole numbers, by a sample of it.

    They are the largest number of the type, and of signed types the smallest one, -9999, -99999 and -32768, where the
    sample is far from them: a saturated sensor gives numbers below the largest one, too.

    Parameters
    ----------
    values : array
        As in `undeclared_fill`.

    Examples
    --------
    >>> possible_fills(np.arange(100, 4000, dtype=np.uint16)), possible_fills(np.arange(0, 60000, 9, dtype=np.uint16))
    ((65535.0,), ())
    >>> possible_fills(np.arange(-500, 4000, dtype=np.int16))
    (-32768.0, -32767.0, -9999.0, 32767.0)
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        return ()
    limits = np.iinfo(values.dtype.name)
    lowest = {float(limits.min), *FILLS} if limits.min < 0 else set()
    known = sorted(fill for fill in {*lowest, float(limits.max)} if limits.min <= fill <= limits.max)
    others = values[~np.isin(values, np.array(known, values.dtype))]
    if len(np.unique(others[:_ENOUGH])) <= _LEAST_DISTINCT and len(np.unique(others)) <= _LEAST_DISTINCT:
        return ()
    least, most = float(others.min()), float(others.max())
    span = most - least
    return tuple(fill for fill in known if fill - most > _ABOVE * span or least - fill > _BELOW * span)


def undeclared_fill(values: NDArray[np.generic]) -> float | None:
    """
    Number in a sample of a band that is likely a fill value: the least or the largest, far from all the others.

    Parameters
    ----------
    values : array
        Stored numbers that are not nodata, from all over the scene.

    Returns
    -------
    float or None
        A number that 0.2 % of the sample or more have, and that lies further from the next one than twice the range of
        all others, at least ten different ones; None where there is no such number.

    Examples
    --------
    >>> undeclared_fill(np.array([*range(100, 400), 65535, 65535], np.uint16))
    65535.0
    """
    if values.dtype.itemsize < 2:
        return None  # bytes reach their limits wherever they saturate
    numbers, counts = np.unique(
        values[np.isfinite(values)] if values.dtype.kind == "f" else values, return_counts=True
    )
    if len(numbers) <= _LEAST_DISTINCT:
        return None
    for end, others in ((0, numbers[1:]), (-1, numbers[:-1])):
        inner = float(others[-1]) - float(others[0])
        gap = abs(float(numbers[end]) - float(others[0 if end == 0 else -1]))
        if gap > _GAP * inner and counts[end] >= _SHARE * counts.sum():
            return float(numbers[end])
    return None
