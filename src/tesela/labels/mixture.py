"""The mixture: how the codes of a reference become shares of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk, CrosswalkRow
from tesela.core.errors import LegendError
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import load_crosswalk


@dataclass(frozen=True)
class Mixture:
    """How the codes of a reference become classes when a crosswalk splits some of them."""

    legend: Legend
    """Classes that codes are translated to first: those of the target, or one for each way of splitting."""
    crosswalk: Crosswalk | None
    """From the codes to `legend`; None: the codes are those of the legend's own tree."""
    weights: NDArray[np.float64]
    """(classes of `legend`, classes of the target) share of the ground that goes to each target class."""

    @property
    def plane_of(self) -> NDArray[np.int64]:
        """Table of 256: plane of a value of `legend`, -1 for nodata."""
        position = self.legend.index_table.astype(np.int64)
        return np.where(position == 255, -1, position)

    def classes(self, areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """(planes, rows, cols) areas as areas of the target's classes."""
        if (
            self.weights.shape[0] == self.weights.shape[1]
            and (self.weights == np.eye(len(self.weights))).all()
        ):
            return areas
        mixed: NDArray[np.float64] = np.einsum("pc,pij->cij", self.weights, areas)
        return mixed


def make_mixture(legend: Legend, *, source: str | None = None, crosswalk: Crosswalk | None = None) -> Mixture:
    """
    Find how codes become classes, honouring the shares of a crosswalk.

    Parameters
    ----------
    legend : Legend
        Target classes.
    source, crosswalk
        As in `write_fractions`.

    Raises
    ------
    LegendError
        If there is no such crosswalk.
    """
    own = source is None or source == legend.name or source.startswith(f"{legend.name}-")
    if crosswalk is None and not own:
        crosswalk = load_crosswalk(str(source), legend)
    if crosswalk is None or not crosswalk.splits:
        return Mixture(legend, crosswalk, np.eye(len(legend)))
    mixes: dict[tuple[tuple[str, float], ...], str] = {}
    rows = []
    for code in crosswalk.codes:
        mix = tuple((row.to, row.share) for row in crosswalk.rows if row.code == code and row.to != TO_NODATA)
        to = mixes.setdefault(mix, f"mix{len(mixes) + 1}") if mix else TO_NODATA
        rows.append(CrosswalkRow(code, to))
    if len(mixes) > 254:
        raise LegendError(
            f"Crosswalk {crosswalk.source} -> {legend.address} splits codes in {len(mixes)} ways; at most "
            f"254 can be told apart. Give codes that go the same way the same shares."
        )
    weights = np.zeros((len(mixes), len(legend)))
    for number, mix in enumerate(mixes):
        for to, share in mix:
            weights[number, legend.codes.index(to)] += share
    names = [LandClass(number, name, name, "#000000") for number, name in enumerate(mixes.values(), start=1)]
    mixed = Legend(f"{legend.name}, mixed", tuple(names))
    return Mixture(mixed, Crosswalk(crosswalk.source, mixed, tuple(rows)), weights)
