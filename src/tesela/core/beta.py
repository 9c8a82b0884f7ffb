r"""
The Beta distribution of a share with a mean and a standard deviation.

A share lies between 0 and 1 and is often exactly 0: with a small mean and a large deviation nearly all of a Beta
distribution is at 0, while a normal distribution would reach below it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESOLUTION = 0.01
"""Shares closer than this count as equal: the edges of reference polygons are no more exact."""

_LEAST_SHARE = 1e-4
_MOST_PRECISION = 1e8


def beta_parameters(
    shares: NDArray[np.floating], deviation: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""
    Parameters of the Beta distributions with these means and standard deviations.

    .. math:: \nu = \frac{m (1 - m)}{s^2} - 1, \quad \alpha = m \nu, \quad \beta = (1 - m) \nu

    No share spreads more than :math:`\sqrt{m (1 - m)}`; larger deviations are cut there.

    Parameters
    ----------
    shares, deviation : arrays of float of one shape

    Returns
    -------
    alpha, beta : arrays of float64
        Above 0. ``scipy.stats.beta.interval(0.9, alpha, beta)`` are the ends of the 90 % intervals.

    Examples
    --------
    >>> alpha, beta = beta_parameters(np.array([0.5]), np.array([0.5 / 3**0.5]))
    >>> alpha.round(3).tolist(), beta.round(3).tolist()  # uniform
    ([1.0], [1.0])
    """
    mean = np.clip(shares.astype(np.float64), _LEAST_SHARE, 1 - _LEAST_SHARE)
    most = mean * (1 - mean)
    variance = np.clip(deviation.astype(np.float64) ** 2, most / _MOST_PRECISION, most * (1 - 1e-4))
    precision = most / variance - 1
    return mean * precision, (1 - mean) * precision


def probabilities_around(
    truth: NDArray[np.floating], shares: NDArray[np.floating], deviation: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Probabilities of a share below, and up to, the true one, taken as an interval of the width `RESOLUTION`.

    Parameters
    ----------
    truth, shares, deviation : arrays of float of one shape

    Returns
    -------
    low, high : arrays of float64
        0 and 1 at the ends of what a share can be; their difference is the likelihood of the true share.
    """
    from scipy.special import betainc

    alpha, beta = beta_parameters(shares, deviation)
    below, above = (truth.astype(np.float64) + side * RESOLUTION / 2 for side in (-1, 1))
    low = np.where(below <= 0, 0.0, betainc(alpha, beta, np.clip(below, 0, 1)))
    high = np.where(above >= 1, 1.0, betainc(alpha, beta, np.clip(above, 0, 1)))
    return low, high
