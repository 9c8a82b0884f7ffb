r"""
Estimators of means and ratios over the whole area from a stratified random sample, with standard errors.

Pure functions of counts. The variables :math:`y` and :math:`x` depend only on a point's map class and reference class
[Stehman2014]_; with :math:`N_h` pixels and :math:`n_h` points in stratum :math:`h`:

.. math::

    \hat Y = \sum_h \frac{N_h}{N}\,\bar y_h, \qquad
    V(\hat Y) = \sum_h \frac{N_h^2}{N^2}\Bigl(1-\frac{n_h}{N_h}\Bigr)\frac{s_{yh}^2}{n_h}

    \hat R = \hat Y / \hat X, \qquad
    V(\hat R) = \frac{1}{\hat X^2}\sum_h \frac{N_h^2}{N^2}\Bigl(1-\frac{n_h}{N_h}\Bigr)
    \frac{s_{yh}^2 + \hat R^2 s_{xh}^2 - 2\hat R\,s_{xyh}}{n_h}

Where strata are the map's classes and :math:`n_h/N_h` is left out (``finite=False``), these are the formulas
of Olofsson et al. (2014). Leading axes of `counts` are samples of one design: thousands of simulated samples are
estimated at once.

.. [Stehman2014] doi:10.1080/01431161.2014.930207
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError

Z_95 = 1.96
"""Half-width of a 95 % interval in standard errors, rounded as in the published examples."""

Floats: TypeAlias = NDArray[np.float64]

Interval: TypeAlias = Literal["logit", "wald"]
"""Method for the interval of a share, see `share_interval`."""


def share(counts: Floats, sizes_px: Floats, *, of: Floats, finite: bool = True) -> tuple[Floats, Floats]:
    """
    Means over the whole area of a value that depends on the cell of the error matrix.

    Parameters
    ----------
    counts : (..., H, K, K) array
        Points by stratum, map class, reference class.
    sizes_px : (H,) array
        Pixels of the strata.
    of : (M, K, K) array
        Value of each cell: 1 where map and reference agree for overall accuracy, 1 in a column for the
        share of a reference class, 1 in one cell for the share of that cell.

    Returns
    -------
    value, standard error : (..., M) arrays
    """
    cells, drawn = _cell_shares(counts)
    y = of.reshape(len(of), -1).T
    mean = cells @ y
    variance = (cells @ y**2 - mean**2) * _unbiased(drawn)
    return _total(mean, sizes_px), _error(variance, drawn, sizes_px=sizes_px, finite=finite)


def cell_errors(counts: Floats, sizes_px: Floats, *, finite: bool = True) -> Floats:
    """Standard errors of `expand`, (..., K, K): those of `share` for each cell."""
    cells, drawn = _cell_shares(counts)
    variance = cells * (1 - cells) * _unbiased(drawn)
    errors = _error(variance, drawn, sizes_px=sizes_px, finite=finite)
    return errors.reshape(*errors.shape[:-1], *counts.shape[-2:])


def ratio(
    counts: Floats, sizes_px: Floats, *, over: Floats, under: Floats, finite: bool = True
) -> tuple[Floats, Floats]:
    """
    Ratios of two means, such as user's and producer's accuracy; NaN where the denominator is 0.

    Parameters
    ----------
    counts, sizes_px
        As in `share`.
    over, under : (M, K, K) arrays
        Values of each cell in the numerator and in the denominator.

    Returns
    -------
    value, standard error : (..., M) arrays
    """
    cells, drawn = _cell_shares(counts)
    y, x = over.reshape(len(over), -1).T, under.reshape(len(under), -1).T
    mean_y, mean_x = cells @ y, cells @ x
    below = _total(mean_x, sizes_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(below > 0, _total(mean_y, sizes_px) / below, np.nan)
        r = value[..., np.newaxis, :]
        squares = cells @ y**2 + r**2 * (cells @ x**2) - 2 * r * (cells @ (x * y))
        variance = (squares - (mean_y - r * mean_x) ** 2) * _unbiased(drawn)
        return value, _error(variance, drawn, sizes_px=sizes_px, finite=finite) / below


def expand(counts: Floats, sizes_px: Floats) -> Floats:
    """Share of the area in each cell of the error matrix, (..., K, K), from counts (..., H, K, K)."""
    drawn = np.maximum(counts.sum(axis=(-2, -1), keepdims=True), 1)
    weight = (sizes_px / sizes_px.sum())[:, np.newaxis, np.newaxis]
    return np.asarray((weight * counts / drawn).sum(axis=-3))


def f1_scores(cells: Floats) -> Floats:
    """F1 of each class from shares (..., K, K) of an error matrix, (..., K); NaN for absent classes."""
    total = cells.sum(axis=-1) + cells.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(total > 0, 2 * np.diagonal(cells, axis1=-2, axis2=-1) / total, np.nan))


def bootstrap_f1(
    counts: Floats, sizes_px: Floats, *, draws: int, seed: int | np.random.Generator, finite: bool = True
) -> Floats:
    r"""
    F1 of each class in resamples of a stratified sample.

    In each stratum :math:`n_h - 1` points are drawn with replacement, and their difference from the sample is
    scaled by :math:`\sqrt{1 - n_h/N_h}`: the rescaled bootstrap of Rao and Wu (1988), whose variance is
    unbiased for means.

    Parameters
    ----------
    counts, sizes_px
        As in `share`.

    Returns
    -------
    (..., draws, K) array of float64
    """
    rng = np.random.default_rng(seed)
    cells, drawn = _cell_shares(counts)
    kept = np.sqrt(_unsampled(drawn, sizes_px, finite=finite))
    weight = sizes_px / sizes_px.sum()
    k = counts.shape[-1]
    size = (*cells.shape[:-2], draws)
    total = np.zeros((*size, k * k))
    for h in range(
        len(sizes_px)
    ):  # one stratum at a time and only its cells, so that 44 classes need little memory
        present = np.flatnonzero(cells[..., h, :].reshape(-1, k * k).any(axis=0))
        chances = cells[..., np.newaxis, h, present]
        trials = np.maximum(drawn[..., np.newaxis, h] - 1, 1).astype(np.int64)
        resampled = rng.multinomial(trials, chances, size=size) / trials[..., np.newaxis]
        moved = chances + kept[..., np.newaxis, h, np.newaxis] * (resampled - chances)
        total[..., present] += weight[h] * moved
    return f1_scores(total.reshape(*size, k, k))


def share_interval(values: Floats, errors: Floats, *, interval: Interval = "logit") -> tuple[Floats, Floats]:
    r"""
    Ends of 95 % intervals of shares.

    "wald" is :math:`v \pm 1.96\,s`, clipped to 0 and 1, as published. "logit" is the interval on the logit scale,
    :math:`\operatorname{logit} v \pm 1.96\,s / (v(1-v))`. With few points in a cell its coverage is still close
    to 95 %, unlike that of "wald" (docs/accuracy.md has the figures). Both are a single point where the sample
    shows no error at all.

    Raises
    ------
    InputError
        If `interval` is neither.
    """
    if interval == "wald":
        return np.clip(values - Z_95 * errors, 0, 1), np.clip(values + Z_95 * errors, 0, 1)
    if interval != "logit":
        raise InputError(f"interval is '{interval}'; it is 'logit' or 'wald'.")
    inside = (values > 0) & (values < 1)
    v = np.where(inside, values, 0.5)
    step = Z_95 * np.where(inside, errors, 0) / (v * (1 - v))
    odds = (1 - v) / v
    low, high = 1 / (1 + odds * np.exp(np.minimum(step, 700))), 1 / (1 + odds * np.exp(-step))
    return np.where(inside, low, values), np.where(inside, high, values)


def unseen_share(sizes_px: Floats, drawn: Floats) -> float:
    r"""
    Largest share that a class of which no point was drawn may have, at 95 % confidence.

    The maximum of :math:`\sum_h W_h p_h` under :math:`\prod_h (1-p_h)^{n_h} \ge 0.05`; with one stratum it is
    :math:`1 - 0.05^{1/n}`, near the "rule of three" :math:`3/n`.

    Parameters
    ----------
    sizes_px, drawn : (H,) arrays
        Pixels and points of the strata.

    Examples
    --------
    >>> round(unseen_share(np.array([1e6]), np.array([100.0])), 4)
    0.0295
    """
    weights = np.asarray(sizes_px, np.float64) / np.sum(sizes_px)
    bare, points = weights[drawn <= 0].sum(), drawn[drawn > 0].astype(np.float64)
    weights = weights[drawn > 0]
    if not points.size:
        return 1.0
    low, high = 0.0, float((weights / points).max())  # 1 - p_h = factor * n_h / W_h, at most 1
    for _ in range(200):
        middle = (low + high) / 2
        likely = points @ np.log(np.minimum(np.maximum(middle, 1e-300) * points / weights, 1.0))
        low, high = (middle, high) if likely < np.log(0.05) else (low, middle)
    return float(bare + weights @ (1 - np.minimum(high * points / weights, 1.0)))


def _cell_shares(counts: Floats) -> tuple[Floats, Floats]:
    """Share of each stratum's points by cell, (..., H, K * K), and points of each stratum, (..., H)."""
    flat = counts.reshape(*counts.shape[:-2], -1).astype(np.float64)
    drawn = flat.sum(axis=-1)
    return flat / np.maximum(drawn, 1)[..., np.newaxis], drawn


def _unbiased(drawn: Floats) -> Floats:
    """Factor from the mean square to the sample variance, n / (n - 1), (..., H, 1)."""
    return np.asarray((drawn / np.maximum(drawn - 1, 1))[..., np.newaxis])


def _unsampled(drawn: Floats, sizes_px: Floats, *, finite: bool) -> Floats:
    """Share of each stratum outside the sample, 1 - n / N; 1 for an infinite population."""
    if not finite:
        return np.ones_like(drawn)
    return np.asarray(np.clip(1 - drawn / np.maximum(sizes_px, 1), 0, 1))


def _total(mean: Floats, sizes_px: Floats) -> Floats:
    return np.asarray(((sizes_px / sizes_px.sum())[:, np.newaxis] * mean).sum(axis=-2))


def _error(variance: Floats, drawn: Floats, *, sizes_px: Floats, finite: bool) -> Floats:
    weight = sizes_px / sizes_px.sum()
    factor = weight**2 * _unsampled(drawn, sizes_px, finite=finite) / np.maximum(drawn, 1)
    # rounding may make the difference of equal sums slightly negative
    return np.asarray(np.sqrt((factor[..., np.newaxis] * np.maximum(variance, 0)).sum(axis=-2)))
