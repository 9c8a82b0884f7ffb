"""Estimates of a map's accuracy and class areas from a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tesela.sampling.error_matrix import Sample
from tesela.sampling.estimators import (
    Z_95,
    Floats,
    Interval,
    bootstrap_f1,
    cell_errors,
    expand,
    f1_scores,
    ratio,
    share,
    share_interval,
    unseen_share,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """An estimate from a sample, with its error; NaN where the sample has no points for it."""

    value: float
    se: float
    """Standard error."""
    low: float
    """Lower end of the 95 % interval."""
    high: float

    @property
    def half_width(self) -> float:
        """Half the symmetric 95 % interval, 1.96 standard errors: the ± of the published tables."""
        return Z_95 * self.se

    @property
    def has_interval(self) -> bool:
        """False where all points have the same value: the sample shows no error, but there may be some."""
        return math.isfinite(self.low) and math.isfinite(self.high) and self.se > 0

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit."""
        return Estimate(self.value * factor, self.se * factor, self.low * factor, self.high * factor)

    def to_dict(self) -> dict[str, float | None]:
        """Value, standard error and interval; None for undefined numbers."""
        numbers = {"value": self.value, "se": self.se, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


@dataclass(frozen=True, eq=False)
class AccuracyEstimates:
    """All estimates of one sample for one map; made by `estimate_accuracy`."""

    sample: Sample
    finite: bool
    """Whether the finite population correction is applied."""
    overall: Estimate
    """Share of the area with the right class."""
    users: tuple[Estimate, ...]
    """Of the area mapped as a class, the share that is that class; one per class."""
    producers: tuple[Estimate, ...]
    """Of the area of a class by the reference, the share mapped as that class."""
    f1: tuple[Estimate, ...]
    """Harmonic mean of the two, with bootstrap intervals."""
    macro_f1: Estimate
    """Mean F1 of the classes in the sample."""
    shares: tuple[Estimate, ...]
    """Share of each class in the whole area by the reference: without the map's bias."""
    mapped_shares: tuple[Estimate, ...]
    """Share of each class by the map; exact where strata are the map's classes."""
    cells: Floats
    """(K, K): share of the area by map class (row) and reference class (column)."""
    cells_se: Floats
    """(K, K): their standard errors."""

    @property
    def areas_ha(self) -> tuple[Estimate, ...]:
        """Estimated area of each class in hectares, without the map's bias."""
        return tuple(item.scaled(self.sample.area_ha) for item in self.shares)

    @property
    def unseen_ha(self) -> float:
        """Largest area in hectares, at 95 % confidence, of a class that no point has by the reference."""
        return unseen_share(self.sample.sizes_px, self.sample.counts.sum(axis=(1, 2))) * self.sample.area_ha

    def to_frame(self) -> pd.DataFrame:
        """
        Accuracy and area by class.

        Returns
        -------
        DataFrame
            Index: the code of the class. Columns: users, producers, f1, share, mapped_share and area_ha, each with
            its standard error (``_se``) and 95 % interval (``_low``, ``_high``).
        """
        import pandas as pd

        kinds = {
            "users": self.users,
            "producers": self.producers,
            "f1": self.f1,
            "share": self.shares,
            "mapped_share": self.mapped_shares,
            "area_ha": self.areas_ha,
        }
        columns = {
            f"{name}{end}": [getattr(item, part) for item in items]
            for name, items in kinds.items()
            for end, part in (("", "value"), ("_se", "se"), ("_low", "low"), ("_high", "high"))
        }
        return pd.DataFrame(columns, index=pd.Index(self.sample.classes, name="code"))

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON."""
        sample = self.sample
        drawn = sample.counts.sum(axis=(1, 2))
        return {
            "basis": "design-based, Stehman 2014" + (" = Olofsson 2014" if sample.strata_are_classes else ""),
            "points": sample.points,
            "unseen_class_at_most_ha": self.unseen_ha,
            "missing_responses": sample.missing_responses,
            "seed": sample.seed,
            "finite_population": self.finite,
            "area_ha": sample.area_ha,
            "strata": [
                {"code": code, "size_px": float(size), "points": int(n)}
                for code, size, n in zip(sample.strata, sample.sizes_px, drawn, strict=True)
            ],
            "overall": self.overall.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "classes": [
                {
                    "code": code,
                    "users": self.users[k].to_dict(),
                    "producers": self.producers[k].to_dict(),
                    "f1": self.f1[k].to_dict(),
                    "share": self.shares[k].to_dict(),
                    "mapped_share": self.mapped_shares[k].to_dict(),
                    "area_ha": self.areas_ha[k].to_dict(),
                }
                for k, code in enumerate(sample.classes)
            ],
            "matrix": {
                "rows": "map",
                "columns": "reference",
                "codes": list(sample.classes),
                "points": sample.matrix.tolist(),
                "share": self.cells.tolist(),
                "se": self.cells_se.tolist(),
            },
        }

    def to_lines(self) -> Iterator[str]:
        """Table as text, one line per class."""
        totals = f"overall accuracy {_percent(self.overall)}, macro F1 {_percent(self.macro_f1)}"
        yield f"{self.sample.points} points, {totals}"
        width = max(len(code) for code in self.sample.classes)
        heads = ("user's", "producer's", "F1")
        yield f"{'':{width}}  {'  '.join(f'{head:>14}' for head in heads)}  {'area ha':>26}"
        for k, code in enumerate(self.sample.classes):
            scores = "  ".join(f"{_percent(item[k]):>14}" for item in (self.users, self.producers, self.f1))
            area = self.areas_ha[k]
            text = f"{area.value:,.1f} ± {area.half_width:,.1f}" if area.value > 0 else self._unseen_text()
            yield f"{code:{width}}  {scores}  {text:>26}"

    def _unseen_text(self) -> str:
        return f"no point, 0 to {self.unseen_ha:,.1f}"


def estimate_accuracy(
    sample: Sample,
    *,
    finite: bool = True,
    interval: Interval = "logit",
    bootstrap: int = 2000,
    seed: int = 0,
) -> AccuracyEstimates:
    """
    Estimate the accuracy of a map and the areas of its classes from a sample; `estimators` has the formulas.

    Parameters
    ----------
    finite : bool
        Apply the finite population correction. False for sizes that are not pixels, and for the exact formulas
        of Olofsson et al. (2014).
    interval : {"logit", "wald"}
        Method of `low` and `high`; standard errors and half-widths do not depend on it.
    bootstrap : int
        Number of resamples for the errors of F1; its intervals are their percentiles.
    seed : int
        Seed of the resamples.

    Examples
    --------
    >>> sample = Sample.from_matrix([[97, 3], [2, 98]], sizes_px=[1000, 9000], classes=["change", "stable"])
    >>> estimates = estimate_accuracy(sample)
    >>> round(estimates.overall.value, 4), round(estimates.areas_ha[0].value, 1)
    (0.979, 1150.0)
    """
    counts, sizes, size = sample.counts.astype(np.float64), sample.sizes_px, len(sample.classes)
    rows, columns = class_indicators(size)
    scores = _with_mean(f1_scores(expand(counts, sizes)))
    resampled = _with_mean(bootstrap_f1(counts, sizes, draws=bootstrap, seed=seed, finite=finite))
    f1 = [_from_draws(float(value), draws) for value, draws in zip(scores, resampled.T, strict=True)]
    return AccuracyEstimates(
        sample=sample,
        finite=finite,
        overall=estimates_of(*share(counts, sizes, of=np.eye(size)[np.newaxis], finite=finite), interval)[0],
        users=estimates_of(*ratio(counts, sizes, over=rows * columns, under=rows, finite=finite), interval),
        producers=estimates_of(
            *ratio(counts, sizes, over=rows * columns, under=columns, finite=finite), interval
        ),
        f1=tuple(f1[:-1]),
        macro_f1=f1[-1],
        shares=estimates_of(*share(counts, sizes, of=columns, finite=finite), interval),
        mapped_shares=estimates_of(*share(counts, sizes, of=rows, finite=finite), interval),
        cells=expand(counts, sizes),
        cells_se=cell_errors(counts, sizes, finite=finite),
    )


def class_indicators(size: int) -> tuple[Floats, Floats]:
    """
    Indicators of the cells of each row and each column of an error matrix, two (K, K, K) arrays of 0 and 1.

    They are arguments `of`, `over` and `under` of the estimators; their product marks the cells of agreement.
    """
    rows = np.broadcast_to(np.eye(size)[:, :, np.newaxis], (size, size, size))
    columns = np.broadcast_to(np.eye(size)[:, np.newaxis, :], (size, size, size))
    return rows, columns


def estimates_of(values: Floats, errors: Floats, interval: Interval = "logit") -> tuple[Estimate, ...]:
    """Estimates of shares from their values and standard errors, (M,) each."""
    rows = zip(values, errors, *share_interval(values, errors, interval=interval), strict=True)
    return tuple(Estimate(*(float(number) for number in row)) for row in rows)


def _from_draws(value: float, draws: Floats) -> Estimate:
    finite = draws[np.isfinite(draws)]
    if finite.size < 2:
        return Estimate(value, math.nan, math.nan, math.nan)
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(value, float(finite.std(ddof=1)), float(low), float(high))


def _with_mean(scores: Floats) -> Floats:
    """Scores followed by their mean over the classes present, (..., K + 1)."""
    present = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        mean = np.where(present, scores, 0).sum(axis=-1) / present.sum(axis=-1)
    return np.concatenate([scores, mean[..., np.newaxis]], axis=-1)


def _percent(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{100 * estimate.value:.1f} ± {100 * estimate.half_width:.1f} %"
