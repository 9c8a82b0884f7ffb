"""Estimates: accuracy and class areas of a map, as known from a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
)


@dataclass(frozen=True)
class Estimate:
    """A number known from a sample: NaN where the sample says nothing."""

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
        """False where all points of its strata were alike: the sample met no error there, which is not to say none."""
        return math.isfinite(self.low) and math.isfinite(self.high) and self.se > 0

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit."""
        return Estimate(self.value * factor, self.se * factor, self.low * factor, self.high * factor)

    def to_dict(self) -> dict[str, float | None]:
        """Value, standard error and interval; None where the number does not exist."""
        numbers = {"value": self.value, "se": self.se, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


@dataclass(frozen=True, eq=False)
class AccuracyEstimates:
    """All estimates of one sample for one map; made by `estimate_accuracy`."""

    sample: Sample
    finite: bool
    """Whether the finite population correction was applied."""
    overall: Estimate
    """Share of the ground whose class is right."""
    users: tuple[Estimate, ...]
    """Of the ground mapped as a class, the share that is that class; one per class."""
    producers: tuple[Estimate, ...]
    """Of the ground that is a class, the share mapped as it."""
    f1: tuple[Estimate, ...]
    """Harmonic mean of the two, with bootstrap intervals."""
    macro_f1: Estimate
    """Mean F1 over the classes that the sample met."""
    shares: tuple[Estimate, ...]
    """Share of each class in the whole ground by the reference: the area without the map's bias."""
    mapped_shares: tuple[Estimate, ...]
    """Share of each class by the map; free of error where strata are the map's classes."""
    cells: Floats
    """(K, K): share of the ground by map class (row) and reference class (column)."""
    cells_se: Floats
    """(K, K): their standard errors."""

    @property
    def areas_ha(self) -> tuple[Estimate, ...]:
        """Area of each class in hectares, without the map's bias."""
        return tuple(item.scaled(self.sample.area_ha) for item in self.shares)

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON."""
        sample = self.sample
        drawn = sample.counts.sum(axis=(1, 2))
        return {
            "basis": "design-based, Stehman 2014" + (" = Olofsson 2014" if sample.strata_are_classes else ""),
            "points": sample.points,
            "unanswered": sample.unanswered,
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
        """Table for a person, one line per class."""
        totals = f"overall accuracy {_percent(self.overall)}, macro F1 {_percent(self.macro_f1)}"
        yield f"{self.sample.points} points, {totals}"
        width = max(len(code) for code in self.sample.classes)
        yield f"{'':{width}}  {'users':>14}  {'producers':>14}  {'F1':>14}  {'area ha':>26}"
        for k, code in enumerate(self.sample.classes):
            scores = "  ".join(f"{_percent(item[k]):>14}" for item in (self.users, self.producers, self.f1))
            area = self.areas_ha[k]
            yield f"{code:{width}}  {scores}  {f'{area.value:,.1f} ± {area.half_width:,.1f}':>26}"


def estimate_accuracy(
    sample: Sample,
    *,
    finite: bool = True,
    interval: Interval = "logit",
    bootstrap: int = 2000,
    seed: int = 0,
) -> AccuracyEstimates:
    """
    Accuracy of a map and areas of its classes, from a sample; the formulas stand in `estimators`.

    Parameters
    ----------
    finite : bool
        Apply the finite population correction; False for sizes that are not pixels, and for the formulas of
        Olofsson et al. (2014) to the digit.
    interval : {"logit", "wald"}
        How `low` and `high` are drawn; standard errors and half-widths do not depend on it.
    bootstrap : int
        Resamples for the errors of F1; its intervals are their percentiles.
    seed : int
        Of the resamples.

    Examples
    --------
    >>> sample = Sample.from_matrix([[97, 3], [2, 98]], sizes_px=[1000, 9000], classes=["change", "stable"])
    >>> found = estimate_accuracy(sample)
    >>> round(found.overall.value, 4), round(found.areas_ha[0].value, 1)
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
    Cells of each row and of each column of an error matrix, two (K, K, K) arrays of 0 and 1.

    They are the `of`, `over` and `under` of the estimators; their product marks the cells of agreement.
    """
    rows = np.broadcast_to(np.eye(size)[:, :, np.newaxis], (size, size, size))
    columns = np.broadcast_to(np.eye(size)[:, np.newaxis, :], (size, size, size))
    return rows, columns


def estimates_of(values: Floats, errors: Floats, interval: Interval = "logit") -> tuple[Estimate, ...]:
    """Estimates of shares from their values and standard errors, (M,) each."""
    rows = zip(values, errors, *share_interval(values, errors, interval=interval), strict=True)
    return tuple(Estimate(*(float(number) for number in row)) for row in rows)


def _from_draws(value: float, draws: Floats) -> Estimate:
    known = draws[np.isfinite(draws)]
    if known.size < 2:
        return Estimate(value, math.nan, math.nan, math.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(value, float(known.std(ddof=1)), float(low), float(high))


def _with_mean(scores: Floats) -> Floats:
    """Scores with their mean over the present classes behind them, (..., K + 1)."""
    there = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, scores, 0).sum(axis=-1) / there.sum(axis=-1)
    return np.concatenate([scores, mean[..., np.newaxis]], axis=-1)


def _percent(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{100 * estimate.value:.1f} ± {100 * estimate.half_width:.1f} %"
