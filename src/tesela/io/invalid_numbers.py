"""Invalid numbers: what no sensor gives, such as the fill values of other programs, where no file declares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 1e10
"""No image holds larger numbers; fill values do: 3.4e38 (ESRI), 9.97e36 (netCDF), 1e20 (climate models)."""

FILLS = (-9999.0, -99999.0, -32767.0, -32768.0)
"""Numbers that are fill values wherever a file of floats holds them exactly."""

_SHARE = 0.002
_LEAST_DISTINCT = 10
_GAP = 2.0


def invalid_numbers(raw: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """
    Where an array of stored floats holds numbers that no sensor gives: NaN, infinity, +-1e10 and more, and `FILLS`.

    Whole numbers have fill values that are measurements elsewhere; `undeclared_fill` looks for them.

    Returns
    -------
    array of bool of the same shape, or None where there is none

    Examples
    --------
    >>> invalid_numbers(np.array([0.2, -9999.0, 3.4e38])).tolist()
    [False, True, True]
    """
    if raw.dtype.kind != "f":
        return None
    least, most = float(raw.min(initial=0)), float(raw.max(initial=0))  # NaN where one is
    if least > max(FILLS) and most <= MOST:
        return None
    strange = ~(np.abs(raw) <= raw.dtype.type(MOST) if raw.dtype != np.float16 else np.isfinite(raw))
    if not least > max(FILLS):
        for fill in FILLS:
            strange |= raw == fill
    return strange if strange.any() else None


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
