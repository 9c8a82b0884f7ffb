"""Standardisation: how the numbers of a scene's bands become the input of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.band_dates import STATIC
from tesela.core.errors import InputError

Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Standardisation:
    r"""
    Mean and standard deviation of each band that a network takes.

    A file stores numbers :math:`n`; the quantity is :math:`q = s n + o`, with the scale and the offset of the
    band. The input of the network is :math:`(q - \mu) / \sigma`, and 0, the mean, where there is no data. Of
    several dates all bands of one are 0 where one of them is missing.
    Training, `Expert.scaled` and mapping all take it from here.

    Examples
    --------
    >>> red = Standardisation(("red",), (0.25,), (0.125,))
    >>> red.apply(np.array([[[0.375, np.nan]]]))
    array([[[1., 0.]]], dtype=float32)
    >>> gain, bias = red.factors(scale=np.array([0.5]), offset=np.array([-1.0]))
    >>> 2.75 * gain + bias  # 2.75 x 0.5 - 1 = 0.375
    array([1.], dtype=float32)
    """

    bands: tuple[str, ...]
    """Names, in the order in which the network takes them."""
    mean: tuple[float, ...]
    """Mean of each band, in its physical quantity."""
    std: tuple[float, ...]
    """Standard deviation of each band, likewise."""
    dates: tuple[int, ...] = ()
    """Number of the date of each band, `tesela.core.band_dates.STATIC` for none; empty: all are of one date."""

    def __post_init__(self) -> None:
        count = len(self.bands)
        if self.dates and len(self.dates) != count:
            raise InputError(
                f"Dates of {len(self.dates)} bands were given; one for each of {count} is needed."
            )
        for numbers in (self.mean, self.std):
            if len(numbers) != count or not np.isfinite(numbers).all():
                raise InputError(
                    f"Mean and deviation have {len(numbers)} numbers; one finite number for each of {count} bands is "
                    "needed."
                )

    @classmethod
    def of(
        cls,
        bands: Sequence[str],
        mean: Numbers | None = None,
        std: Numbers | None = None,
        dates: Sequence[int] = (),
    ) -> Standardisation:
        """Build from any sequences; without mean and deviation, quantities stay as they are."""
        count = len(bands)
        means = (0.0,) * count if mean is None else tuple(float(item) for item in mean)
        deviations = (1.0,) * count if std is None else tuple(float(item) for item in std)
        return cls(tuple(bands), means, deviations, tuple(dates))

    @property
    def groups(self) -> NDArray[np.int64]:
        """
        Number of the date of each band, `STATIC` for none.

        A pixel has data where all static bands and all bands of one date at least have data.
        """
        return np.array(self.dates or (0,) * len(self.bands), np.int64)

    def complete(self, quantities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """
        Which values are of a pixel with data, and of a date without a missing band.

        Parameters
        ----------
        quantities : (..., bands, rows, cols) array of float
            NaN is nodata.

        Returns
        -------
        (..., bands, rows, cols) array of bool
        """
        finite, groups = np.isfinite(quantities), self.groups
        dates = [finite[..., groups == number, :, :].all(-3) for number in range(int(groups.max()) + 1)]
        seen = np.logical_or.reduce(dates) & finite[..., groups == STATIC, :, :].all(-3)
        planes = [date & seen for date in dates]
        return np.stack([seen if number == STATIC else planes[number] for number in groups], axis=-3)

    def apply(self, quantities: NDArray[np.floating]) -> NDArray[np.float32]:
        """
        Standardise quantities.

        Parameters
        ----------
        quantities : (..., bands, rows, cols) array of float
            NaN is nodata.

        Returns
        -------
        (..., bands, rows, cols) array of float32
        """
        mean = np.array(self.mean, np.float32)[:, None, None]
        std = np.array(self.std, np.float32)[:, None, None]
        result = (quantities.astype(np.float32, copy=False) - mean) / std
        result[~(self.complete(result) if self.dates else np.isfinite(result))] = 0
        return result

    def factors(
        self, scale: NDArray[np.float64], offset: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        r"""
        Gain and bias by which stored numbers are standardised in one step: input = number x gain + bias.

        Parameters
        ----------
        scale, offset : (bands,) arrays of float64
            Quantity = number x scale + offset.

        Returns
        -------
        (bands,) array of float32, (bands,) array of float32
            :math:`s / \sigma` and :math:`(o - \mu) / \sigma`.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        return (scale / std).astype(np.float32), ((offset - mean) / std).astype(np.float32)
