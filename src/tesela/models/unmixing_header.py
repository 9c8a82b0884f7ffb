"""What the header of an unmixing expert adds: its series, how it scales them, and the variance of its shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LIMIT = 10.0
"""Scaled values are cut at this many standard deviations: one broken number must not decide."""


@dataclass(frozen=True)
class SeriesScaling:
    """The input of an unmixing expert besides the bands."""

    months: tuple[int, ...]
    """Month, 1 to 12, of each step of the series."""
    layers: tuple[str, ...]
    """Names of the ancillary layers, in order; may be empty."""
    layer_mean: tuple[float, ...]
    layer_std: tuple[float, ...]
    prior: tuple[float, ...]
    """Mean shares of the classes over the training pixels: all that is known where nothing was ever observed."""

    def problems(self, classes: int) -> Iterator[str]:
        """List what does not fit together."""
        if not self.months or not all(1 <= month <= 12 for month in self.months):
            yield f"months are {self.months}, numbers from 1 to 12 were needed"
        if not len(self.layers) == len(self.layer_mean) == len(self.layer_std):
            yield (
                f"{len(self.layers)} layers, {len(self.layer_mean)} means and {len(self.layer_std)} standard "
                f"deviations were given, but all three must be equal"
            )
        if not np.isfinite([*self.layer_mean, *self.layer_std]).all() or min(self.layer_std, default=1) <= 0:
            yield "means and standard deviations of the layers must be finite, the latter above 0"
        prior = np.array(self.prior)
        if len(prior) != classes or not (prior >= 0).all() or abs(prior.sum() - 1) > 1e-3:
            yield f"the prior has {len(prior)} shares of sum {prior.sum():g}; {classes} of sum 1 were needed"

    def scaled_layers(self, layers: NDArray[np.floating]) -> Floats:
        """
        Scale ancillary layers; 0, the mean, where one has no data.

        Parameters
        ----------
        layers : (..., layers) array of float
        """
        mean, std = np.array(self.layer_mean, np.float32), np.array(self.layer_std, np.float32)
        return _scaled(layers, mean, std)

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        return {name: list(getattr(self, name)) for name in _FIELDS}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> SeriesScaling:
        """Build from `to_dict`'s document; raises TypeError, KeyError or ValueError where it is wrong."""
        lists = {name: document[name] for name in _FIELDS}
        for name, items in lists.items():
            if not isinstance(items, list):
                raise TypeError(f"{name} is {str(items)[:60]!r}, a list was needed")
        return cls(
            months=tuple(int(str(item)) for item in _items(lists["months"])),
            layers=tuple(str(item) for item in _items(lists["layers"])),
            layer_mean=tuple(float(str(item)) for item in _items(lists["layer_mean"])),
            layer_std=tuple(float(str(item)) for item in _items(lists["layer_std"])),
            prior=tuple(float(str(item)) for item in _items(lists["prior"])),
        )


_FIELDS = ("months", "layers", "layer_mean", "layer_std", "prior")


def _items(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def scale_series(
    values: NDArray[np.floating], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """
    Scale series, and mark where they are observed.

    Parameters
    ----------
    values : (..., steps, bands) array of float
        NaN and infinite are gaps.
    mean, std : (bands,) arrays of float32

    Returns
    -------
    scaled : (..., steps, bands) array of float32
        ``(x - mean) / std``, cut at `LIMIT`; 0 in gaps.
    mask : (..., steps, bands) array of float32
        1 where observed, else 0.
    """
    return _scaled(values, mean, std), np.isfinite(values).astype(np.float32)


def _scaled(values: NDArray[np.floating], mean: NDArray[np.float32], std: NDArray[np.float32]) -> Floats:
    with np.errstate(over="ignore"):
        scaled = (values.astype(np.float32, copy=False) - mean) / std
    scaled[~np.isfinite(values)] = 0
    return np.clip(scaled, -LIMIT, LIMIT, out=scaled)


@dataclass(frozen=True)
class Variance:
    r"""
    The variance of shares around the truth, fitted on pixels that the network was not trained on.

    .. math:: s^2 = a \, s_\text{own}^2 + b \, m (1 - m)

    for a share *m*. A network's own variance shows where its errors are large, but not how large, and misses errors
    that all its heads have in common. No variance of a share exceeds :math:`m (1 - m)`.
    """

    own: float = 1.0
    """*a*: factor of the network's own variance."""
    mixed: float = 0.0
    """*b*: factor of the largest variance that the share can have."""

    @property
    def is_sound(self) -> bool:
        """Whether both are finite, not negative, and one is above 0."""
        return 0 <= self.own < np.inf and 0 <= self.mixed < np.inf and self.own + self.mixed > 0

    def deviation(self, shares: Floats, own_variance: Floats | None) -> Floats | None:
        """Standard deviation of (..., classes) shares; None if neither the network nor a fit gives one."""
        if own_variance is None and not self.mixed:
            return None
        most = shares * (1 - shares)
        variance = np.float32(self.mixed) * most
        if own_variance is not None:
            variance = variance + np.float32(self.own) * own_variance
        deviation: Floats = np.sqrt(np.minimum(variance, most))
        return deviation


def read_variances(document: object) -> tuple[Variance, ...]:
    """Read the pairs of a header; raises TypeError or ValueError where they are wrong."""
    if not isinstance(document, list) or not all(
        isinstance(pair, Sequence) and len(pair) == 2 for pair in document
    ):
        raise TypeError(f"variance is {str(document)[:60]!r}, pairs of numbers were needed")
    return tuple(Variance(*(float(str(number)) for number in pair)) for pair in document)
