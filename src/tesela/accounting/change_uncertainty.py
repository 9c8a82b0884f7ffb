r"""
Change areas with 95 % intervals, from a sample, or from an error model without a sample.

*Design-based*: a sample whose strata are changes, interpreted at both dates, gives each change area without
the bias of the map (`tesela.sampling.estimators`).

*Model-based*: with a confusion matrix only, the true class is simulated. A pixel mapped as :math:`m` has the true
class :math:`r` with the probability :math:`P_{rm}`, whose column is drawn from a Dirichlet distribution of
the matrix's counts. Errors of the two dates are independent where the map shows change; where it shows none, they
are the same with the probability `persistence`. Results depend on these assumptions and are marked as model-based.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError
from tesela.core.legend import Legend
from tesela.sampling.change_codes import change_legend
from tesela.sampling.error_matrix import Sample
from tesela.sampling.estimates import Estimate, estimates_of
from tesela.sampling.estimators import Floats, share

DESIGN, MODEL = "design-based", "model-based"


@dataclass(frozen=True, eq=False)
class ChangeEstimates:
    """Change areas between two dates in hectares, with their intervals."""

    years: tuple[int, int]
    legend: Legend
    basis: str
    """"design-based" from a sample, "model-based" from simulation."""
    detail: str
    """Basis of the numbers, one sentence."""
    mapped_ha: NDArray[np.float64]
    """(K, K): pixel-counted, row before, column after."""
    changes: tuple[tuple[Estimate, ...], ...]
    """K rows of K estimates."""
    before: tuple[Estimate, ...]
    """Areas of the categories at the first date."""
    after: tuple[Estimate, ...]

    def rows(self) -> Iterator[tuple[str, str, float, Estimate]]:
        """Category before, category after, mapped hectares, estimate."""
        for i, before in enumerate(self.legend.codes):
            for j, after in enumerate(self.legend.codes):
                yield before, after, float(self.mapped_ha[i, j]), self.changes[i][j]

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON."""
        length = self.years[1] - self.years[0]
        return {
            "years": list(self.years),
            "basis": self.basis,
            "detail": self.detail,
            "changes": [
                {
                    "from": before,
                    "to": after,
                    "mapped_ha": mapped,
                    "estimate_ha": estimate.to_dict(),
                    "estimate_ha_per_year": estimate.scaled(1 / length).to_dict()
                    if before != after
                    else None,
                }
                for before, after, mapped, estimate in self.rows()
                if mapped or estimate.value
            ],
            "areas": [
                {"category": code, str(self.years[0]): first.to_dict(), str(self.years[1]): last.to_dict()}
                for code, first, last in zip(self.legend.codes, self.before, self.after, strict=True)
            ],
        }


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Model of a map's errors from its confusion matrix."""

    confusion: NDArray[np.float64]
    """(K, K): counts; row is the class of the reference, column that of the map."""
    independent: float
    """Effective number of independent observations in the matrix. Errors of neighbouring pixels are correlated: a
    million pixels in 40 test tiles are worth a few hundred observations at most."""
    persistence: float = 1.0
    """Probability, 0 to 1, that two maps with the same class have the same error. At 1 the maps miss no change
    between them; at 0 their errors are independent, and much change is hidden."""
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.independent > 0 and 0 <= self.persistence <= 1 and self.draws >= 2):
            raise InputError(
                f"An error model needs independent > 0, persistence from 0 to 1 and draws >= 2; they are "
                f"{self.independent}, {self.persistence} and {self.draws}."
            )
        if (np.asarray(self.confusion) < 0).any() or not np.sum(self.confusion):
            raise InputError(
                "The confusion matrix of an error model needs counts of 0 and more, at least one above 0."
            )

    @classmethod
    def from_confusion(
        cls,
        counts: NDArray[np.int64],
        legend: Legend,
        *,
        independent: float,
        crosswalk: Crosswalk | None = None,
        persistence: float = 1.0,
        draws: int = 2000,
        seed: int = 0,
    ) -> ErrorModel:
        """
        Error model from the confusion matrix of an assessment, with its classes converted to categories.

        Each class goes as a whole to the category of its largest share, as in the account: a split would show
        agreement as confusion.
        """
        matrix = counts.astype(np.float64)
        if crosswalk is not None:
            values = crosswalk.table(legend)[list(legend.values)]
            into = (values[:, None] == np.array(crosswalk.target.values)).astype(np.float64)
            matrix = into.T @ matrix @ into
        return cls(matrix, independent, persistence, draws, seed)


def estimate_changes(
    sample: Sample,
    mapped_ha: NDArray[np.float64],
    *,
    legend: Legend,
    years: tuple[int, int],
    finite: bool = True,
) -> ChangeEstimates:
    """
    Change areas from a sample of changes, without the map's bias.

    Parameters
    ----------
    sample : Sample
        Its classes are those of `tesela.sampling.change_codes.change_legend(legend)`.
    mapped_ha : (K, K) array
        Pixel-counted changes, for comparison with the estimates.

    Raises
    ------
    LegendError
        If the classes of the sample are not changes between these categories.
    """
    codes, size = change_legend(legend).codes, len(legend)
    if sample.classes != codes:
        raise LegendError(
            f"The sample of {years[0]} to {years[1]} holds classes such as '{sample.classes[0]}', not "
            f"changes of legend '{legend.address}' such as '{codes[1]}'. Read it with the maps of both dates."
        )
    counts, cells = sample.counts.astype(np.float64), np.eye(size * size).reshape(size, size, size * size)
    of = np.concatenate([cells.reshape(size * size, -1), cells.sum(axis=1), cells.sum(axis=0)])
    # only the reference matters: the map classes are summed
    by_reference = counts.sum(axis=1, keepdims=True)
    values, errors = share(by_reference, sample.sizes_px, of=of[:, np.newaxis, :], finite=finite)
    areas = [item.scaled(sample.area_ha) for item in estimates_of(values, errors)]
    return ChangeEstimates(
        years=years,
        legend=legend,
        basis=DESIGN,
        detail=(
            f"Stratified random sample of {sample.points} points in {len(sample.strata)} strata over "
            f"{sample.area_ha:,.1f} ha, estimators of Stehman (2014)."
            + _caveats(sample, float(mapped_ha.sum()))
        ),
        mapped_ha=mapped_ha,
        changes=tuple(tuple(areas[i * size : (i + 1) * size]) for i in range(size)),
        before=tuple(areas[size * size : size * size + size]),
        after=tuple(areas[size * size + size :]),
    )


def _caveats(sample: Sample, mapped_ha: float) -> str:
    """Sentences on missing responses and on a sample of a different area."""
    text = ""
    if sample.missing_responses:
        text += f" {sample.missing_responses} more points have no response and are left out."
    if abs(sample.area_ha - mapped_ha) > 0.01 * mapped_ha:
        text += f" The maps show {mapped_ha:,.1f} ha: the sample was drawn from a different area."
    return text


def simulate_changes(
    mapped_ha: NDArray[np.float64], *, legend: Legend, years: tuple[int, int], model: ErrorModel
) -> ChangeEstimates:
    """
    Change areas by a model of the map's errors; see the module docstring for its assumptions.

    Parameters
    ----------
    mapped_ha : (K, K) array
        Pixel-counted changes, row before, column after.
    """
    size = len(legend)
    if np.shape(model.confusion) != (size, size):
        raise LegendError(
            f"The confusion matrix of the error model has the shape {np.shape(model.confusion)}; legend "
            f"'{legend.address}' needs {(size, size)}. Give a crosswalk to its categories (from_confusion)."
        )
    probabilities = _draw_probabilities(model)
    shown = mapped_ha.copy()
    stable = np.diag(mapped_ha).copy()
    np.fill_diagonal(shown, (1 - model.persistence) * stable)
    truth = probabilities @ shown @ probabilities.transpose(0, 2, 1)
    truth += np.einsum("drm,m,rs->drs", probabilities, model.persistence * stable, np.eye(size))
    before, after = truth.sum(axis=2), truth.sum(axis=1)
    return ChangeEstimates(
        years=years,
        legend=legend,
        basis=MODEL,
        detail=(
            f"No sample: {model.draws} simulations of map error from a confusion matrix worth "
            f"{model.independent:g} independent observations, persistence {model.persistence:g}. Not an estimate "
            f"from reference data."
        ),
        mapped_ha=mapped_ha,
        changes=tuple(tuple(_from_draws(truth[:, i, j]) for j in range(size)) for i in range(size)),
        before=tuple(_from_draws(before[:, i]) for i in range(size)),
        after=tuple(_from_draws(after[:, i]) for i in range(size)),
    )


def _draw_probabilities(model: ErrorModel) -> Floats:
    """Probabilities by simulation, true class, mapped class; a class without counts has no errors."""
    rng = np.random.default_rng(model.seed)
    counts = np.asarray(model.confusion, np.float64)
    size = len(counts)
    alpha = counts * (model.independent / counts.sum()) + 1 / size
    drawn = rng.standard_gamma(alpha, size=(model.draws, size, size))
    probabilities = drawn / drawn.sum(axis=1, keepdims=True)
    without = counts.sum(axis=0) == 0
    probabilities[:, :, without] = np.eye(size)[:, without]
    return np.asarray(probabilities)


def _from_draws(draws: Floats) -> Estimate:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(draws.mean()), float(draws.std(ddof=1)), float(low), float(high))
