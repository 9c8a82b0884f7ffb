"""Which pixels of a scene show the ground: the scene classification of Sentinel-2, with a buffer around clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tesela.core.errors import InputError

MASKED = (0, 1, 2, 3, 8, 9, 10)
"""No data, saturated, dark area, cloud shadow, medium and high cloud, thin cirrus [Simoes2021]_."""

CLOUDY = (3, 8, 9, 10)
"""Of these, what has soft edges: it is grown by the buffer."""


def parse_classes(text: str) -> tuple[int, ...]:
    """
    Read a list of classes such as "3,8,9,10,11"; 0 (no data) is always among them.

    Raises
    ------
    InputError
        If one is no class of the scene classification.
    """
    try:
        found = sorted({0, *(int(part) for part in text.split(","))})
    except ValueError:
        found = [-1]
    if not all(0 <= value <= 11 for value in found):
        raise InputError(f"Masked classes '{text}': write classes of the scene classification, 0 to 11.")
    return tuple(found)


def cloud_distance(
    scl: NDArray[np.generic], *, masked: tuple[int, ...] = MASKED, pixel_m: float, most_m: float
) -> NDArray[np.float32]:
    """
    Distance of each pixel from the next masked cloud or shadow in metres, at most `most_m`, (rows, cols).

    Examples
    --------
    >>> cloud_distance(np.array([[4, 4, 9]]), pixel_m=10, most_m=1000)
    array([[20., 10.,  0.]], dtype=float32)
    """
    cloudy = np.isin(scl, [value for value in CLOUDY if value in masked])
    if not cloudy.any():
        return np.full(scl.shape, most_m, np.float32)
    distance = distance_transform_edt(~cloudy) * pixel_m
    return np.asarray(np.minimum(distance, most_m), np.float32)


def is_clear(
    scl: NDArray[np.generic],
    distance_m: NDArray[np.float32],
    *,
    masked: tuple[int, ...] = MASKED,
    buffer_m: float,
) -> NDArray[np.bool_]:
    """Pixels that are of no masked class and further than the buffer from clouds and shadows."""
    return np.asarray(~np.isin(scl, masked) & (distance_m > buffer_m), np.bool_)
