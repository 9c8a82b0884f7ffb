"""Endmembers: the spectra of which an expert thinks that pixels are mixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError
from tesela.core.spectra import Spectra
from tesela.models.context import SeriesNetwork
from tesela.models.ensemble import Ensemble
from tesela.models.expert import Expert
from tesela.models.inference import series_of
from tesela.models.mixing import LinearUnmixing


def endmembers_of(expert: Expert) -> Spectra:
    """
    Monthly endmember spectra of an expert by class code, in the unit of its cube.

    Those of a mixture decoder are learned, in an ensemble the mean of its members'; those of FCLSU and NNLS are the
    medians of the purest pixels. Classes that no training pixel held have none.

    Raises
    ------
    ExpertError
        If the expert has none.
    """
    header, series = expert.header, series_of(expert.header)
    members = list(expert.network.members) if isinstance(expert.network, Ensemble) else [expert.network]
    found = [one for one in map(_scaled, members) if one is not None]
    if not found:
        raise ExpertError(
            f"The expert ({header.architecture.summary}) has no endmembers: train with mixture = true, or model = "
            f"'fclsu'."
        )
    values = np.mean(found, axis=0) * np.array(header.std) + np.array(header.mean)
    held = np.array(series.prior) > 0
    codes = tuple(code for code, there in zip(header.legend.codes, held, strict=True) if there)
    return Spectra(codes, series.months, header.bands, values[held])


def _scaled(network: object) -> NDArray[np.float64] | None:
    """Scaled endmembers of one network, (classes, steps, bands); the mean of a class that has several."""
    if isinstance(network, SeriesNetwork) and network.decoder is not None:
        return network.decoder.endmembers.detach().cpu().double().numpy()
    if isinstance(network, LinearUnmixing):
        spectra = network.endmembers.detach().cpu().double().numpy()
        parents = np.array(network.architecture.parents)
        return np.stack([spectra[parents == k].mean(axis=0) for k in range(network.architecture.classes)])
    return None
