"""An unmixing expert at work: from series with gaps to shares, whatever comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import ExpertError
from tesela.models.header import ExpertHeader
from tesela.models.output import NetworkOutput, UnmixingNetwork, level_matrix
from tesela.models.series import SeriesScaling, scale_series
from tesela.models.variance import Variance, own_variance

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Unmixed:
    """NetworkOutput of an expert for some pixels."""

    shares: Floats
    """(..., classes): not negative, sum 1."""
    deviation: Floats | None
    """(..., classes): standard deviation of each share; None where neither the network nor a calibration tells it."""
    unseen: NDArray[np.bool_]
    """(...): pixels without a single observation, whose answer is the prior."""
    imputed: Floats | None = None
    """(..., steps, bands): the series in its own unit, gaps filled; None where the network does not fill."""


class Runner(Protocol):
    """Runs a network on scaled series; see `tesela.mapping.abundance.unmix` for others than torch."""

    def __call__(self, values: Floats, mask: Floats, static: Floats) -> NetworkOutput:
        """NetworkOutput of the network for (..., steps, bands) series."""
        ...


class TorchRunner:
    """Runs a network with torch, without gradients."""

    def __init__(self, network: UnmixingNetwork) -> None:
        self.network = network.eval()

    def __call__(self, values: Floats, mask: Floats, static: Floats) -> NetworkOutput:
        """See `Runner`."""
        device = next((item.device for item in self.network.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            tensors = (
                torch.from_numpy(np.ascontiguousarray(item)).to(device) for item in (values, mask, static)
            )
            answer = self.network.answer(*tensors)
        return NetworkOutput(*(None if item is None else item.cpu() for item in answer))  # type: ignore[arg-type]


def series_of(header: ExpertHeader) -> SeriesScaling:
    """
    Months, layers and prior of an unmixing expert.

    Raises
    ------
    ExpertError
        If the expert is of another task.
    """
    if header.series is None:
        raise ExpertError(
            f"The expert is one for {header.task}; one for unmixing was needed. Train it on a cube and abundances."
        )
    return header.series


def margin_of(network: object) -> int:
    """Pixels of neighbours that a network sees on each side."""
    return int(getattr(network, "margin_px", 0))


def unmix(
    header: ExpertHeader,
    run: Runner,
    values: NDArray[np.floating],
    layers: NDArray[np.floating],
    *,
    level: int | None = None,
) -> Unmixed:
    """
    Apply an expert to series.

    Values that are not finite are gaps. Where nothing at all was observed the answer is the prior of the training
    pixels.

    Parameters
    ----------
    values : (..., steps, bands) array of float
        In the unit of the training; (windows, rows, cols, steps, bands) for networks that see neighbours.
    layers : (..., layers) array of float
        Ancillary layers in the order of the expert; NaN where there is no data.
    level : int, optional
        Coarser level of the expert's legend to answer in: shares are the sums of their children's, and deviations
        those of the sums.

    Returns
    -------
    Unmixed
        Of the inner pixels, where the network sees neighbours.

    Raises
    ------
    ExpertError
        If the number of steps, bands or layers differs.
    """
    series = series_of(header)
    wanted = (len(series.months), len(header.bands))
    if values.shape[-2:] != wanted or layers.shape != (*values.shape[:-2], len(series.layers)):
        raise ExpertError(
            f"Series of shape {values.shape} with layers of shape {layers.shape} were given; the expert needs "
            f"(..., {wanted[0]} steps, {wanted[1]} bands) and (..., {len(series.layers)} layers)."
        )
    mean, std = np.array(header.mean, np.float32), np.array(header.std, np.float32)
    scaled, mask = scale_series(values, mean, std)
    answer = run(scaled, mask, series.scaled_layers(layers))
    depth = header.legend.depth if level is None else level
    prior = np.array(series.prior, np.float32)
    if depth < header.legend.depth:
        fold = level_matrix(header.legend, depth)
        answer = answer._replace(shares=answer.shares @ fold, heads=answer.heads @ fold)
        prior = prior @ fold.numpy()
    shares = _normal(answer.shares.numpy())
    trim = (mask.shape[1] - shares.shape[1]) // 2 if shares.ndim == 4 else 0
    inner = (slice(None), slice(trim, -trim), slice(trim, -trim)) if trim else ()
    unseen: NDArray[np.bool_] = np.logical_not(mask[inner].any((-2, -1)))
    shares[unseen] = prior
    doubt = header.doubt[depth - 1] if header.doubt else Variance()
    deviation = doubt.deviation(shares, own_variance(answer))
    if deviation is not None:
        deviation[unseen] = np.sqrt(prior * (1 - prior))
    imputed = None
    if answer.imputed is not None:
        imputed = np.where(mask[inner] > 0, values[inner], answer.imputed.numpy() * std + mean).astype(
            np.float32
        )
        imputed[unseen] = np.nan
    return Unmixed(shares, deviation, unseen, imputed)


def _normal(shares: NDArray[np.floating]) -> Floats:
    """Shares whose sum is 1 as nearly as float32 can say."""
    whole = np.maximum(shares.astype(np.float64), 0)
    normal: Floats = (whole / whole.sum(-1, keepdims=True)).astype(np.float32)
    return normal
