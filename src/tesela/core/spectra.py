"""Spectra of classes over the months, and how alike two of them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words


@dataclass(frozen=True)
class Match:
    """The spectrum of a library that is nearest to one of ours."""

    name: str
    nearest: str
    angle_deg: float
    """Spectral angle, 0 to 180 degrees."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """What classes look like: one value by class, month and band."""

    names: tuple[str, ...]
    """Class codes, or names of a library's materials."""
    months: tuple[int, ...]
    """1 to 12 of each step; 0 for spectra that hold all year."""
    bands: tuple[str, ...]
    values: NDArray[np.float64]
    """(names, months, bands) in the unit of the cube, reflectance for MODIS; NaN where a value is missing."""

    def __post_init__(self) -> None:
        wanted = (len(self.names), len(self.months), len(self.bands))
        assert self.values.shape == wanted, f"values have shape {self.values.shape}, not {wanted}"

    def like(self, other: Spectra) -> Spectra:
        """
        The same spectra with the months and bands of others; NaN for missing values.

        A month takes the mean of its steps, or the spectrum for the whole year.

        Raises
        ------
        InputError
            If no band is shared.
        """
        shared = [name for name in other.bands if name in self.bands]
        if not shared:
            raise InputError(
                f"The spectra have no band in common: {join_words(self.bands)} here, {join_words(other.bands)} there. "
                f"Name the bands of the library as those of the cube."
            )
        out = np.full((len(self.names), len(other.months), len(other.bands)), np.nan)
        own = np.array(self.months)
        for step, month in enumerate(other.months):
            same = own == month
            steps = np.flatnonzero(same if same.any() else own == 0)
            if len(steps):
                means = _mean(self.values[:, steps])
                for name in shared:
                    out[:, step, other.bands.index(name)] = means[:, self.bands.index(name)]
        return Spectra(self.names, other.months, other.bands, out)

    def nearest(self, library: Spectra) -> tuple[Match, ...]:
        r"""
        The nearest spectrum of a library for each of ours that can be compared, by the spectral angle.

        .. math:: \theta = \arccos \frac{x \cdot y}{|x| \, |y|}

        over all months and bands that both have [Kruse1993]_; brightness does not count.

        Raises
        ------
        InputError
            If there is nothing to compare.
        """
        angles = spectral_angles(self.values, library.like(self).values)
        comparable = np.flatnonzero(np.isfinite(angles).any(axis=1))
        if not comparable.size:
            raise InputError(
                "No spectrum of the library has two values of the months and bands of these spectra; an angle needs "
                "two."
            )
        best = np.nanargmin(angles[comparable], axis=1)
        return tuple(
            Match(self.names[row], library.names[column], float(angles[row, column]))
            for row, column in zip(comparable, best, strict=True)
        )


def spectral_angles(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Angles between spectra in degrees, (some, others).

    Parameters
    ----------
    some, others : (n, months, bands) arrays of float
        NaN is left out of a pair; the angle is NaN where fewer than two values are left.

    Examples
    --------
    >>> spectral_angles(np.array([[[1.0, 0.0]]]), np.array([[[2.0, 0.0]], [[3.0, 3.0]]])).round(6).tolist()
    [[0.0, 45.0]]
    """
    x, y = (part.reshape(len(part), -1) for part in (some, others))
    known_x, known_y = np.isfinite(x), np.isfinite(y)
    x, y = np.where(known_x, x, 0.0), np.where(known_y, y, 0.0)
    lengths = (x**2 @ known_y.T) * (known_x @ (y**2).T)
    cosine = np.full(lengths.shape, np.nan)
    np.divide(x @ y.T, np.sqrt(lengths), out=cosine, where=lengths > 0)
    cosine[known_x.astype(np.int64) @ known_y.T.astype(np.int64) < 2] = np.nan
    angles: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angles


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the values over the months, (names, bands)."""
    valid = np.isfinite(values)
    count = valid.sum(axis=1)
    out = np.full(count.shape, np.nan)
    np.divide(np.where(valid, values, 0.0).sum(axis=1), count, out=out, where=count > 0)
    return out
