"""Variance: how far the shares of an expert spread around the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tesela.models.output import NetworkOutput

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Variance:
    r"""
    What turns an answer into honest standard deviations, fitted on pixels that the network did not learn from.

    .. math:: s^2 = a \, s_\text{own}^2 + b \, m (1 - m)

    for a share *m*: networks know by themselves where they are unsure, but not how much, and what they all miss they
    do not know at all. No variance of a share exceeds :math:`m (1 - m)`.
    """

    own: float = 1.0
    """*a*: of the network's own variance."""
    mixed: float = 0.0
    """*b*: of the largest variance that the share can have."""

    @property
    def is_sound(self) -> bool:
        """Whether both are finite, not negative, and one is above 0."""
        return 0 <= self.own < np.inf and 0 <= self.mixed < np.inf and self.own + self.mixed > 0

    def deviation(self, shares: Floats, own_variance: Floats | None) -> Floats | None:
        """Standard deviation of (..., classes) shares; None where neither the network nor a fit tells it."""
        if own_variance is None and not self.mixed:
            return None
        most = shares * (1 - shares)
        variance = np.float32(self.mixed) * most
        if own_variance is not None:
            variance = variance + np.float32(self.own) * own_variance
        found: Floats = np.sqrt(np.minimum(variance, most))
        return found


def own_variance(answer: NetworkOutput) -> Floats | None:
    """Variance of each share by the network itself: what its heads disagree on, and what a Dirichlet leaves open."""
    if len(answer.heads) < 2 and answer.concentration is None:
        return None
    variance = answer.heads.var(0, correction=0)
    if answer.concentration is not None:
        shares = answer.shares
        variance = variance + shares * (1 - shares) / (answer.concentration[..., None] + 1)
    found: Floats = variance.numpy().astype(np.float32)
    return found


def read_variances(document: object) -> tuple[Variance, ...]:
    """Read the pairs of a header; raises TypeError or ValueError where they are wrong."""
    if not isinstance(document, list) or not all(
        isinstance(pair, Sequence) and len(pair) == 2 for pair in document
    ):
        raise TypeError(f"doubt is {str(document)[:60]!r}, pairs of numbers were needed")
    return tuple(Variance(*(float(str(number)) for number in pair)) for pair in document)
