"""The use of an unmixing expert: from series with gaps to shares, and its endmember spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import ExpertError
from tesela.core.spectra import Spectra
from tesela.models.context import SeriesNetwork
from tesela.models.ensemble import Ensemble
from tesela.models.expert import Expert
from tesela.models.header import ExpertHeader
from tesela.models.mixing import LinearUnmixing
from tesela.models.output import NetworkOutput, UnmixingNetwork, level_matrix
from tesela.models.unmixing_header import Floats, SeriesScaling, Variance, scale_series


@dataclass(frozen=True, eq=False)
class Unmixed:
    """Shares that an expert predicts for some pixels."""

    shares: Floats
    """(..., classes): not negative, sum 1; NaN for pixels without a single observation."""
    deviation: Floats | None
    """(..., classes): standard deviation of each share; None if neither the network nor a calibration gives one."""
    unseen: NDArray[np.bool_]
    """(...): pixels without a single observation."""
    imputed: Floats | None = None
    """(..., steps, bands): the series in its own unit, gaps filled; None if the network does not fill them."""


class Runner(Protocol):
    """Runs a network on scaled series; see `tesela.mapping.abundance.unmix` for others than torch."""

    def __call__(self, values: Floats, mask: Floats, static: Floats) -> NetworkOutput:
        """Output of the network for (..., steps, bands) series."""
        ...


class TorchRunner:
    """
    Runs a network with torch, without gradients, on the device of its weights.

    Parameters
    ----------
    precision : dtype
        torch.bfloat16 multiplies in that format; the head is always in float32.
    """

    def __init__(self, network: UnmixingNetwork, *, precision: torch.dtype = torch.float32) -> None:
        self.network = network.eval()
        self.precision = precision

    def __call__(self, values: Floats, mask: Floats, static: Floats) -> NetworkOutput:
        """See `Runner`."""
        device = next((item.device for item in self.network.parameters()), torch.device("cpu"))
        low = self.precision != torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(device.type, self.precision if low else torch.bfloat16, enabled=low),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),  # float32 on a GPU as on a processor
        ):
            tensors = (
                torch.from_numpy(np.ascontiguousarray(item)).to(device) for item in (values, mask, static)
            )
            output = self.network.answer(*tensors)
        return NetworkOutput(*(None if item is None else item.float().cpu() for item in output))  # type: ignore[arg-type]


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
    """Pixels of neighbours that a network uses on each side."""
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

    Values that are not finite are gaps. Pixels without any observation get NaN; see `prior_of`.

    Parameters
    ----------
    values : (..., steps, bands) array of float
        In the unit of the training; (windows, rows, cols, steps, bands) for networks that use neighbours.
    layers : (..., layers) array of float
        Ancillary layers in the order of the expert; NaN where there is no data.
    level : int, optional
        Coarser level of the expert's legend: shares are the sums of their children's, and deviations are those of the
        sums.

    Returns
    -------
    Unmixed
        Of the inner pixels, if the network uses neighbours.

    Raises
    ------
    ExpertError
        If the number of steps, bands or layers differs.
    """
    series = series_of(header)
    steps, bands = len(series.months), len(header.bands)
    if values.shape[-2:] != (steps, bands) or layers.shape != (*values.shape[:-2], len(series.layers)):
        raise ExpertError(
            f"Series of shape {values.shape} with layers of shape {layers.shape} were given; the expert needs "
            f"(..., {steps} steps, {bands} bands) and (..., {len(series.layers)} layers)."
        )
    mean, std = np.array(header.mean, np.float32), np.array(header.std, np.float32)
    scaled, mask = scale_series(values, mean, std)
    output = run(scaled, mask, series.scaled_layers(layers))
    depth = header.legend.depth if level is None else level
    if depth < header.legend.depth:
        fold = level_matrix(header.legend, depth)
        output = output._replace(shares=output.shares @ fold, heads=output.heads @ fold)
    shares = _normal(output.shares.numpy())
    trim = (mask.shape[1] - shares.shape[1]) // 2 if shares.ndim == 4 else 0
    inner = (slice(None), slice(trim, -trim), slice(trim, -trim)) if trim else ()
    unseen: NDArray[np.bool_] = np.logical_not(mask[inner].any((-2, -1)))
    variance = header.variance[depth - 1] if header.variance else Variance()
    deviation = variance.deviation(shares, own_variance(output))
    shares[unseen] = np.nan
    if deviation is not None:
        deviation[unseen] = np.nan
    imputed = None
    if output.imputed is not None:
        imputed = np.where(mask[inner] > 0, values[inner], output.imputed.numpy() * std + mean).astype(
            np.float32
        )
        imputed[unseen] = np.nan
    return Unmixed(shares, deviation, unseen, imputed)


def prior_of(header: ExpertHeader, *, level: int | None = None) -> Floats:
    """(classes,) mean shares of the training pixels: what is known of a pixel that was never observed."""
    prior = np.array(series_of(header).prior, np.float32)
    if level is not None and level < header.legend.depth:
        prior = prior @ level_matrix(header.legend, level).numpy()
    return prior


def _normal(shares: NDArray[np.floating]) -> Floats:
    """Shares whose sum is 1 to the precision of float32."""
    whole = np.maximum(shares.astype(np.float64), 0)
    normal: Floats = (whole / whole.sum(-1, keepdims=True)).astype(np.float32)
    return normal


def own_variance(output: NetworkOutput) -> Floats | None:
    """Variance of each share by the network itself: the variance of its heads plus that of its Dirichlet."""
    if len(output.heads) < 2 and output.concentration is None:
        return None
    variance = output.heads.var(0, correction=0)
    if output.concentration is not None:
        shares = output.shares
        variance = variance + shares * (1 - shares) / (output.concentration[..., None] + 1)
    own: Floats = variance.numpy().astype(np.float32)
    return own


def endmembers_of(expert: Expert) -> Spectra:
    """
    Monthly endmember spectra of an expert by class code, in the unit of its cube.

    Those of an endmember decoder are learned, in an ensemble the mean over its networks; those of FCLSU and NNLS are
    the medians of the purest pixels. Classes without any training pixel have none.

    Raises
    ------
    ExpertError
        If the expert has none.
    """
    header, series = expert.header, series_of(expert.header)
    networks = list(expert.network.members) if isinstance(expert.network, Ensemble) else [expert.network]
    scaled = [spectra for spectra in map(_scaled_endmembers, networks) if spectra is not None]
    if not scaled:
        raise ExpertError(
            f"The expert ({header.architecture.summary}) has no endmembers: train with endmember_decoder = true, or "
            f"model = 'fclsu'."
        )
    values = np.mean(scaled, axis=0) * np.array(header.std) + np.array(header.mean)
    held = np.array(series.prior) > 0
    codes = tuple(code for code, there in zip(header.legend.codes, held, strict=True) if there)
    return Spectra(codes, series.months, header.bands, values[held])


def _scaled_endmembers(network: object) -> NDArray[np.float64] | None:
    """Scaled endmembers of one network, (classes, steps, bands); the mean of a class that has several."""
    if isinstance(network, SeriesNetwork) and network.decoder is not None:
        return network.decoder.endmembers.detach().cpu().double().numpy()
    if isinstance(network, LinearUnmixing):
        spectra = network.endmembers.detach().cpu().double().numpy()
        parents = np.array(network.architecture.parents)
        return np.stack([spectra[parents == k].mean(axis=0) for k in range(network.architecture.classes)])
    return None
