"""Hashes of numbers in compiled loops."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def mix_bits(bits: np.uint64) -> np.uint64:  # pragma: no cover - compiled
    """
    The mixer of SplitMix64 (Steele et al. 2014), doi:10.1145/2714064.2660195.

    Numbers that differ in one bit differ in half of them afterwards; different numbers stay different.
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
