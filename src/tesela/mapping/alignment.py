"""Alignment: the standardisation of an expert, fitted to the imagery of a scene without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError, RecipeError, unknown_name
from tesela.models.header import ExpertHeader

ALIGNMENTS = ("none", "shift", "scene")
"""None; a shift of each band that brings the pixels to the parts of the training's mixture, whatever the share of each
class; mean and deviation of the scene in place of those of the training."""

LEAST_EXPLAINED = 0.15
"""Share of the misfit, by which pixels of the scene are less likely than those of the training, that an alignment must
explain to be chosen: where it explains less, what differs is not an offset of the bands, and shifts lose as often as
they win in ``benchmarks/transfer.py``."""

LEAST_UNLIKE = 0.2
"""Share of pixels unlike the training pixels below which none is chosen, unless it gains `LARGE_GAIN`: there is little
to win back."""

LARGE_GAIN = 3.0
"""Log likelihood of a pixel that another light or sensor on all pixels gains."""

_MOST_PIXELS = 4000


@dataclass(frozen=True)
class Alignment:
    """What was fitted to a scene."""

    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    likelihoods: dict[str, float]
    """Mean log likelihood of a pixel under the mixture of the training pixels, by method."""

    @property
    def is_clear(self) -> bool:
        """Whether it gains so much that another light or sensor is sure."""
        return self.likelihoods[self.method] - self.likelihoods["none"] >= LARGE_GAIN


def align(header: ExpertHeader, pixels: NDArray[np.floating], *, method: str = "auto") -> Alignment:
    """
    Fit the standardisation of an expert to pixels of a scene.

    Parameters
    ----------
    header : ExpertHeader
    pixels : (pixels, bands) array of float
        Physical quantities, without NaN.
    method : {"auto", "none", "shift", "scene"}
        "auto": the one of the highest likelihood; none where it explains less than `LEAST_EXPLAINED` of the misfit, or
        fewer than `LEAST_UNLIKE` of the pixels are unlike the training pixels and it gains less than `LARGE_GAIN`.

    Raises
    ------
    ExpertError
        If the expert does not describe its training imagery.
    """
    if method not in ("auto", *ALIGNMENTS):
        raise RecipeError(unknown_name("alignment", method, ("auto", *ALIGNMENTS)))
    imagery = header.imagery
    if imagery is None:
        raise ExpertError(
            "This expert does not describe its training imagery, so it cannot be adapted. Train it again, or leave out "
            "--transfer."
        )
    some = np.asarray(pixels[:: max(1, -(-len(pixels) // _MOST_PIXELS))], np.float64)
    mean, std = np.array(header.mean), np.array(header.std)
    own_mean, own_std = some.mean(0), np.maximum(some.std(0), std / 50)
    scaled = (some - mean) / std
    shift, shifted = imagery.fit(scaled, move=True)
    likelihoods = {
        "none": imagery.fit(scaled)[1],
        "shift": shifted,
        "scene": imagery.fit((some - own_mean) / own_std)[1] + float(np.log(std / own_std).sum()),
    }
    if method == "auto":
        best = max(ALIGNMENTS, key=likelihoods.__getitem__)
        gain = likelihoods[best] - likelihoods["none"]
        unlike = float((imagery.distances(scaled).min(1) > imagery.reach).mean())
        misfit = imagery.likelihood - likelihoods["none"]
        wanted = gain > max(0.0, LEAST_EXPLAINED * misfit) and (unlike >= LEAST_UNLIKE or gain >= LARGE_GAIN)
        method = best if wanted else "none"
    means = {"none": mean, "shift": mean - shift * std, "scene": own_mean}[method]
    stds = own_std if method == "scene" else std
    return Alignment(method, tuple(means.tolist()), tuple(stds.tolist()), likelihoods)


def with_alignment(header: ExpertHeader, alignment: Alignment) -> ExpertHeader:
    """The header with the standardisation of an alignment; the description of its imagery moves along."""
    imagery = header.imagery
    assert imagery is not None
    old_mean, old_std = np.array(header.mean)[:, None], np.array(header.std)[:, None]
    new_mean, new_std = np.array(alignment.mean)[:, None], np.array(alignment.std)[:, None]
    quantiles = (np.array(imagery.quantiles) - old_mean) / old_std * new_std + new_mean
    moved = replace(imagery, quantiles=tuple(tuple(row) for row in quantiles.tolist()))
    return replace(header, mean=alignment.mean, std=alignment.std, imagery=moved)
