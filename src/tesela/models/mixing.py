r"""Linear mixing: a pixel's spectrum is the sum of its classes' spectra, weighted by their shares."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import MixingArchitecture

SUM_WEIGHT = 1e3
"""Weight of the row that makes shares sum to 1, in standard deviations of a band."""


class EndmemberDecoder(nn.Module):
    r"""
    Reconstructs series from shares, :math:`\hat x_t = \sum_c a_c e_{c,t}`, with learned endmembers.

    `endmembers` are scaled spectra by class and month, which start as those of `mixed_endmembers`. In reflectance they
    can be compared with spectral libraries, see `tesela.models.inference.endmembers_of`.
    """

    def __init__(self, classes: int, steps: int, bands: int) -> None:
        super().__init__()
        self.endmembers = nn.Parameter(torch.zeros(classes, steps, bands))

    def forward(self, shares: Tensor) -> Tensor:
        """Series of (..., classes) shares, (..., steps, bands)."""
        return torch.einsum("...c,csb->...sb", shares, self.endmembers)


class LinearUnmixing(UnmixingNetwork):
    r"""
    Fully constrained or non-negative least squares over the observed values of each pixel.

    .. math:: \min_{a \ge 0} \lVert m \odot (x - E^T a) \rVert^2, \qquad \textstyle\sum_c a_c = 1

    The sum is a heavy row of the system [Heinz2001]_ with "fclsu"; with "nnls" the shares are divided by their sum
    afterwards. The share of a class is the sum over its endmembers.
    """

    exportable = False
    """Whether other programs have operators for it, see `tesela.models.onnx_export`."""

    def __init__(self, architecture: MixingArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        shape = (architecture.endmembers, architecture.steps, architecture.bands)
        self.endmembers = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """See `UnmixingNetwork.answer`; reconstructs the series, also in its gaps."""
        plan = self.architecture
        flat = values.detach().cpu().double().numpy().reshape(-1, plan.steps * plan.bands)
        seen = mask.detach().cpu().numpy().reshape(flat.shape) > 0
        spectra = self.endmembers.detach().cpu().double().numpy().reshape(plan.endmembers, -1)
        parts = unmix_linear(flat, seen, spectra, constrained=plan.method == "fclsu")
        sums = np.zeros((len(flat), plan.classes))
        for position, parent in enumerate(plan.parents):
            sums[:, parent] += parts[:, position]
        shares = torch.from_numpy(sums).to(values).reshape(*values.shape[:-2], -1)
        rebuilt = torch.from_numpy(parts @ spectra).to(values).reshape(values.shape)
        return NetworkOutput(
            shares=shares, heads=shares[None], imputed=torch.where(mask > 0, values, rebuilt), rebuilt=rebuilt
        )


def unmix_linear(
    values: NDArray[np.float64],
    seen: NDArray[np.bool_],
    spectra: NDArray[np.float64],
    *,
    constrained: bool = True,
) -> NDArray[np.float64]:
    """
    Shares of endmembers by active-set least squares over what is observed of each pixel.

    Parameters
    ----------
    values, seen : (pixels, numbers) arrays
        Series laid out flat, and where they are observed.
    spectra : (endmembers, numbers) array of float
    constrained : bool
        Whether the shares sum to 1 in the fit.

    Returns
    -------
    (pixels, endmembers) array of float
        Not negative, sum 1; equal shares where nothing is observed or nothing fits.

    Examples
    --------
    >>> spectra = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> unmix_linear(np.array([[0.25, 0.75]]), np.ones((1, 2), bool), spectra).round(3).tolist()
    [[0.25, 0.75]]
    """
    from scipy.optimize import nnls

    count = len(spectra)
    shares = np.full((len(values), count), 1 / count)
    for pixel, (row, there) in enumerate(zip(values, seen, strict=True)):
        if not there.any():
            continue
        matrix, target = spectra[:, there].T, row[there]
        if constrained:
            matrix = np.vstack([matrix, np.full(count, SUM_WEIGHT)])
            target = np.append(target, SUM_WEIGHT)
        try:
            weights = nnls(matrix, target)[0]
        except RuntimeError:  # too many iterations: the endmembers look alike in what was observed
            continue
        total = weights.sum()
        if total > 0:
            shares[pixel] = weights / total
    return shares


def mixed_endmembers(
    values: NDArray[np.floating], seen: NDArray[np.bool_], shares: NDArray[np.floating]
) -> NDArray[np.float32]:
    r"""
    Fit the endmember series that explain the series best, given the shares.

    .. math:: \min_E \lVert m \odot (X - A E) \rVert^2 + \lVert E \rVert^2

    One pixel's weight pulls each value to 0, the mean of all, where a class is rare.

    Parameters
    ----------
    values, seen : (pixels, steps, bands) arrays
        Scaled series, and where they are observed.
    shares : (pixels, classes) array of float

    Returns
    -------
    (classes, steps, bands) array of float32
    """
    steps, bands = values.shape[1:]
    x, m = values.reshape(len(values), -1), seen.reshape(len(values), -1)
    a = shares.astype(np.float64)
    endmembers = np.empty((a.shape[1], x.shape[1]))
    for column in range(x.shape[1]):
        there = m[:, column]
        observed = a[there]
        system = observed.T @ observed + np.eye(a.shape[1])
        endmembers[:, column] = np.linalg.solve(system, observed.T @ x[there, column].astype(np.float64))
    return endmembers.reshape(-1, steps, bands).astype(np.float32)


def purest_endmembers(
    values: NDArray[np.floating], targets: NDArray[np.floating], *, pixels: int = 50
) -> NDArray[np.float32]:
    """
    One endmember series per class: the median of the pixels with its largest shares.

    Parameters
    ----------
    values : (pixels, steps, bands) array of float
        Scaled series, NaN for gaps.
    targets : (pixels, classes) array of float
    pixels : int
        Number of pixels of each class.

    Returns
    -------
    (classes, steps, bands) array of float32
        0, the mean of all, in months in which none of these pixels was observed.
    """
    endmembers = np.zeros((targets.shape[1], *values.shape[1:]), np.float32)
    for position, shares in enumerate(targets.T):
        purest = values[np.argsort(-shares, kind="stable")[:pixels]]
        observed = np.isfinite(purest).any(0)
        endmembers[position][observed] = np.nanmedian(purest[:, observed], axis=0)
    return endmembers
