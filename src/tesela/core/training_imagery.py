r"""
The imagery that an expert was trained on: quantiles of its bands, and a mixture of its pixels.

The mixture has two parts a class, each a multivariate t distribution of 5 degrees of freedom around the mean of its
pixels, with their deviation by band and a correlation that all parts share. It describes which combinations of bands
occur, whatever the share of each class: for another scene the shares are fitted anew, so a scene with more forest is
not further away than one with less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError

LEVELS = (0.005, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.995)
"""Levels of the quantiles."""

_FREEDOM = 5.0
_PARTS = 2
_LEAST_PIXELS = 10
_LEAST_SPREAD = 0.05
_SHARED = 0.9
"""Weight of the correlation; the rest is the identity, so that no direction is without spread."""
_ROUNDS = 40
_SHIFT_COST = 0.1
"""What a shift of one deviation costs, in the log likelihood of a pixel."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class TrainingImagery:
    """What is kept of the training pixels; all but the quantiles in standardised bands, (x - mean) / std."""

    quantiles: Rows
    """(bands, levels): in the physical quantity of the scene, at `LEVELS`."""
    centres: Rows
    """(parts, bands)"""
    spreads: Rows
    """(parts, bands): standard deviations."""
    correlation: Rows
    """(bands, bands): inside the parts."""
    reach: float
    """Squared Mahalanobis distance to the nearest part below which 99 % of the training pixels lie."""
    likelihood: float
    """Mean log likelihood of a training pixel, up to the constant of `fit`."""

    @cached_property
    def _whitening(self) -> NDArray[np.float64]:
        matrix = np.array(self.correlation)
        mixed = _SHARED * matrix + (1 - _SHARED) * np.eye(len(matrix))
        factor: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(mixed))
        return factor

    def distances(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of standardised (pixels, bands) to each part, (pixels, parts)."""
        return np.stack(
            [
                np.square(((values - centre) / spread) @ self._whitening).sum(1)
                for centre, spread in zip(np.array(self.centres), np.array(self.spreads), strict=True)
            ],
            axis=1,
        )

    def fit(self, values: NDArray[np.float64], *, move: bool = False) -> tuple[NDArray[np.float64], float]:
        """
        Fit the shares of the parts to the pixels of a scene, and, with `move`, a shift of each band.

        Expectation and maximisation [PeelMcLachlan2000]_, with a quadratic cost of the shift.

        Parameters
        ----------
        values : (pixels, bands) array of float64
            Standardised with the training's means and deviations.

        Returns
        -------
        (bands,) array of float64, float
            What to add to the pixels, in deviations; mean log likelihood of a pixel, up to a constant.
        """
        spreads, centres = np.array(self.spreads), np.array(self.centres)
        bands = values.shape[1]
        size = np.log(spreads).sum(1)  # the determinant of the correlation is the same for all parts
        whitening = self._whitening
        precision = whitening @ whitening.T
        precisions = precision / spreads[:, :, None] / spreads[:, None, :]
        shares = np.full(len(centres), 1 / len(centres))
        shift, likelihood = np.zeros(bands), -np.inf
        for _ in range(_ROUNDS):
            moved = values + shift
            squares = self.distances(moved)
            logs = np.log(shares) - size - (_FREEDOM + bands) / 2 * np.log1p(squares / _FREEDOM)
            top = logs.max(1, keepdims=True)
            weights = np.exp(logs - top)
            total = weights.sum(1, keepdims=True)
            former, likelihood = likelihood, float((np.log(total) + top).mean())
            weights /= total
            shares = np.maximum(weights.mean(0), 1e-6)
            shares /= shares.sum()
            if move:
                pulled = weights * (_FREEDOM + bands) / (_FREEDOM + squares)
                amounts = pulled.sum(0)
                gaps = amounts[:, None] * centres - pulled.T @ values
                left = np.einsum("k,kij->ij", amounts, precisions)
                left += 2 * _SHIFT_COST * len(values) * np.eye(bands)
                shift = np.linalg.solve(left, np.einsum("kij,kj->i", precisions, gaps))
            if abs(likelihood - former) < 1e-4:
                break
        return shift, likelihood

    def problems(self, bands: int) -> list[str]:
        """What is wrong with the numbers, for the message of a header; empty where nothing is."""
        arrays = [_array(item) for item in (self.quantiles, self.centres, self.spreads, self.correlation)]
        parts = len(self.centres)
        shapes = [(bands, len(LEVELS)), (parts, bands), (parts, bands), (bands, bands)]
        if not parts or any(
            item is None or item.shape != shape or not np.isfinite(item).all()
            for item, shape in zip(arrays, shapes, strict=True)
        ):
            return [f"its training imagery does not describe {bands} bands by finite numbers"]
        if (
            (np.array(self.spreads) <= 0).any()
            or not 0 < self.reach < np.inf
            or not np.isfinite(self.likelihood)
        ):
            return ["the deviations and the reach of its training imagery must be above 0"]
        try:
            self._whitening  # noqa: B018 - a correlation that is none has no factor
        except np.linalg.LinAlgError:
            return ["the correlation of its training imagery is none"]
        return []

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        rows = {name: [list(row) for row in getattr(self, name)] for name in _ROWS}
        return {**rows, "reach": self.reach, "likelihood": self.likelihood}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> TrainingImagery:
        """
        Build from `to_dict`'s document.

        Raises
        ------
        ExpertError
            If a field is missing or wrong.
        """
        try:
            quantiles, centres, spreads, correlation = (
                tuple(tuple(float(item) for item in row) for row in document[name])  # type: ignore[attr-defined]
                for name in _ROWS
            )
            reach, likelihood = (float(str(document[name])) for name in ("reach", "likelihood"))
            return cls(quantiles, centres, spreads, correlation, reach, likelihood)
        except (KeyError, TypeError, ValueError) as error:
            raise ExpertError(f"its training imagery is wrong ({error}).") from None


_ROWS = ("quantiles", "centres", "spreads", "correlation")


def describe_imagery(
    values: NDArray[np.floating],
    classes: NDArray[np.integer],
    *,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> TrainingImagery:
    """
    Describe training pixels.

    Parameters
    ----------
    values : (pixels, bands) array of float
        Standardised.
    classes : (pixels,) array of int
        Positions in the legend.
    mean, std : (bands,) arrays of float64
        Of the standardisation, in the physical quantity.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> classes = np.arange(1000) % 2
    >>> pixels = rng.normal(0, 0.1, (1000, 2)) + classes[:, None]
    >>> made = describe_imagery(pixels, classes, mean=np.zeros(2), std=np.ones(2))
    >>> len(made.centres), made.fit(pixels)[1] > made.fit(pixels + [0.3, 0.0])[1]
    (4, True)
    """
    pixels = values.astype(np.float64)
    centres: list[NDArray[np.float64]] = []
    spreads: list[NDArray[np.float64]] = []
    residuals: list[NDArray[np.float64]] = []
    for position in np.unique(classes):
        for part in _halves(pixels[classes == position]):
            if len(part) >= _LEAST_PIXELS or not centres:
                centres.append(part.mean(0))
                spreads.append(np.maximum(part.std(0), _LEAST_SPREAD))
                residuals.append((part - centres[-1]) / spreads[-1])
    residual = np.concatenate(residuals)
    scatter = residual.T @ residual / len(residual)
    deviation = np.sqrt(np.maximum(np.diag(scatter), 1e-6))
    correlation = np.clip(scatter / np.outer(deviation, deviation), -1, 1)
    quantiles = np.quantile(pixels, LEVELS, axis=0).T * std[:, None] + mean[:, None]
    made = TrainingImagery(
        _rows(quantiles), _rows(centres), _rows(spreads), _rows(correlation), reach=1.0, likelihood=0.0
    )
    reach = float(np.quantile(made.distances(pixels).min(1), 0.99))
    return replace(
        made,
        reach=float(f"{max(reach, 1e-6):.6g}"),
        likelihood=float(f"{made.fit(pixels[:: max(1, len(pixels) // 4000)])[1]:.6g}"),
    )


def _halves(pixels: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Two groups of near pixels, by k-means; the first ones lie on both sides of the mean, along the widest axis."""
    if len(pixels) < _PARTS * _LEAST_PIXELS:
        return [pixels] if len(pixels) else []
    axis = np.linalg.svd(np.cov(pixels.T).reshape(pixels.shape[1], -1))[0][:, 0]
    side = (pixels - pixels.mean(0)) @ axis > 0
    for _ in range(8):
        if side.sum() < _LEAST_PIXELS or (~side).sum() < _LEAST_PIXELS:
            return [pixels]
        low, high = pixels[~side].mean(0), pixels[side].mean(0)
        side = ((pixels - high) ** 2).sum(1) < ((pixels - low) ** 2).sum(1)
    halves = [pixels[side], pixels[~side]]
    return halves if min(map(len, halves)) >= _LEAST_PIXELS else [pixels]


def _rows(values: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> Rows:
    """Numbers of six digits: more would only make the header longer."""
    return tuple(tuple(float(f"{item:.6g}") for item in row) for row in values)


def _array(rows: Rows) -> NDArray[np.float64] | None:
    try:
        return np.array(rows, np.float64)
    except ValueError:
        return None
