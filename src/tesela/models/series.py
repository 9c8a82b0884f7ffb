"""The series of an unmixing expert: which months and layers it reads, how it scales them, and its prior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 10.0
"""Scaled values are cut at this many standard deviations: one broken number must not decide."""


@dataclass(frozen=True)
class SeriesScaling:
    """What an unmixing expert knows of its input beside the bands."""

    months: tuple[int, ...]
    """Month, 1 to 12, of each step of the series."""
    layers: tuple[str, ...]
    """Names of the ancillary layers, in order; may be empty."""
    layer_mean: tuple[float, ...]
    layer_std: tuple[float, ...]
    prior: tuple[float, ...]
    """Mean shares of the classes over the training pixels: the answer where nothing was ever observed."""

    def problems(self, classes: int) -> Iterator[str]:
        """Say what does not fit together."""
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

    def scaled_layers(self, layers: NDArray[np.floating]) -> NDArray[np.float32]:
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
        found = {name: document[name] for name in _FIELDS}
        for name, items in found.items():
            if not isinstance(items, list):
                raise TypeError(f"{name} is {str(items)[:60]!r}, a list was needed")
        return cls(
            months=tuple(int(str(item)) for item in _items(found["months"])),
            layers=tuple(str(item) for item in _items(found["layers"])),
            layer_mean=tuple(float(str(item)) for item in _items(found["layer_mean"])),
            layer_std=tuple(float(str(item)) for item in _items(found["layer_std"])),
            prior=tuple(float(str(item)) for item in _items(found["prior"])),
        )


_FIELDS = ("months", "layers", "layer_mean", "layer_std", "prior")


def _items(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def scale_series(
    values: NDArray[np.floating], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Scale series and say where they are observed.

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


def _scaled(
    values: NDArray[np.floating], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        scaled = (values.astype(np.float32, copy=False) - mean) / std
    scaled[~np.isfinite(values)] = 0
    return np.clip(scaled, -LIMIT, LIMIT, out=scaled)
