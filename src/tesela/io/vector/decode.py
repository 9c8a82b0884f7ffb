"""Geometries from well-known binary: those that GEOS reads at once, all others one by one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.wkb import decode_polygons

_PLAIN = np.array([1, 2, 3, 4, 5, 6])
"""Kinds that GEOS reads; a collection can hold curves."""


@dataclass(frozen=True)
class DecodedShapes:
    """Geometries, and the positions of those that were not read as they stand."""

    shapes: NDArray[np.object_]
    curved: NDArray[np.int64]
    broken: NDArray[np.int64]


def decode_shapes(
    wkb: NDArray[np.object_], *, where: str | Path, numbers: NDArray[np.int64] | None = None
) -> DecodedShapes:
    """
    Read geometries of any kind.

    Parameters
    ----------
    wkb : (n,) array of bytes or None
    where : str or Path
        The layer, for messages.
    numbers : (n,) array of int, optional
        Numbers of the features, for messages.

    Raises
    ------
    InputError
        If the bytes of a feature are damaged.
    """
    count = len(wkb)
    shapes = np.full(count, None, object)
    given = np.array([item is not None and len(item) > 0 for item in wkb], np.bool_)
    plain = given.copy()
    plain[given] = np.isin(_kinds(wkb[given].tolist()), _PLAIN)
    shapes[plain] = shapely.from_wkb(wkb[plain], on_invalid="ignore")
    curved, broken = [], []
    for at in np.flatnonzero(given & shapely.is_missing(shapes)):
        try:
            decoded = decode_polygons(bytes(wkb[at]))
        except ValueError as error:
            feature = at if numbers is None else numbers[at]
            raise InputError(
                f"{where}: the geometry of feature {feature} is damaged ({error}); delete the feature, or take the "
                "file from its source again."
            ) from None
        shapes[at] = decoded.shape
        if decoded.curved:
            curved.append(at)
        if decoded.broken:
            broken.append(at)
    return DecodedShapes(shapes, np.array(curved, np.int64), np.array(broken, np.int64))


def _kinds(wkb: list[bytes]) -> NDArray[np.int64]:
    """Kinds of geometries without their dimensions, 0 for bytes that are too few."""
    heads = np.frombuffer(b"".join([bytes(item[:5]).ljust(5, b"\0") for item in wkb]), np.uint8).reshape(
        -1, 5
    )
    words = np.ascontiguousarray(heads[:, 1:])
    little, big = words.view("<u4")[:, 0], words.view(">u4")[:, 0]
    kinds: NDArray[np.int64] = (np.where(heads[:, 0] == 1, little, big) & 0x1FFFFFFF).astype(np.int64) % 1000
    return kinds
