"""Scores: pure functions of the counts of a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.confusion import Confusion

Matrix: TypeAlias = NDArray[np.int64] | NDArray[np.float64]
"""(K, K): rows are the reference, columns the map; pixels, or shares of the area."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class of the map."""

    code: str
    name: str
    iou: float
    """Intersection over union, TP / (TP + FP + FN); NaN for an absent class, as all four scores."""
    f1: float
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
    precision: float
    """User's accuracy, TP / (TP + FP)."""
    recall: float
    """Producer's accuracy, TP / (TP + FN)."""
    reference_px: int
    """Evaluated pixels of the class in the reference (the support)."""
    predicted_px: int
    """Evaluated pixels of the class in the map."""
    correct_px: int
    """Evaluated pixels of the class in both."""


@dataclass(frozen=True)
class Scores:
    """All scores of one confusion; made by `score`."""

    evaluated_px: int
    """Pixels with a class on both sides; with `unmapped_as_errors`, also those without a class in the map."""
    coverage: float
    """Share of the reference's pixels for which the map has a class."""
    accuracy: float
    """Share of evaluated pixels whose class is right."""
    majority: float
    """Accuracy of a map that shows only the reference's commonest class: the baseline of `accuracy`."""
    mean_iou: float
    """Mean IoU over the classes that are present."""
    macro_f1: float
    """Mean F1 over the classes that are present."""
    macro_precision: float
    macro_recall: float
    kappa: float
    """Cohen's kappa; NaN where one class fills both sides."""
    classes: tuple[ClassScores, ...]
    """One per class of the legend, in its order."""
    absent: tuple[str, ...]
    """Codes of classes in neither side: left out of all means."""
    missed: tuple[str, ...]
    """Codes of classes in the reference that the map never shows: they count as 0."""
    invented: tuple[str, ...]
    """Codes of classes in the map that the reference never shows: they count as 0."""


def score(confusion: Confusion, *, unmapped_as_errors: bool = False) -> Scores:
    """
    Score a confusion.

    A class absent from both sides has no scores and is left out of the means. A class present on one side
    only has an IoU, F1, precision and recall of 0, also where a fraction would be 0 / 0, so a map gains nothing
    by leaving a class out. These are scikit-learn's macro averages with ``zero_division=0``.

    Parameters
    ----------
    unmapped_as_errors : bool
        How reference pixels without a class in the map count. False: not at all, because a map cannot show
        what clouds or the edge of a scene hide; `coverage` reports these gaps. True: as errors of omission,
        which lower accuracy, IoU, F1 and recall, but not precision.
    """
    counts = confusion.counts
    missing = confusion.unmapped if unmapped_as_errors else np.zeros_like(confusion.unmapped)
    reference, predicted = counts.sum(axis=1) + missing, counts.sum(axis=0)
    present = (reference + predicted) > 0
    per_class = {name: of(counts, missing) for name, of in _PER_CLASS.items()}
    legend = confusion.legend
    classes = tuple(
        ClassScores(
            code=item.code,
            name=item.name,
            **{name: float(values[k]) for name, values in per_class.items()},
            reference_px=int(reference[k]),
            predicted_px=int(predicted[k]),
            correct_px=int(counts[k, k]),
        )
        for k, item in enumerate(legend.classes)
    )

    def codes(chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(code for code, yes in zip(legend.codes, chosen, strict=True) if yes)

    total = int(reference.sum())
    return Scores(
        evaluated_px=total,
        coverage=confusion.coverage,
        accuracy=pixel_accuracy(counts, missing),
        majority=float(reference.max() / total) if total else float("nan"),
        mean_iou=mean_of_present(per_class["iou"]),
        macro_f1=mean_of_present(per_class["f1"]),
        macro_precision=mean_of_present(per_class["precision"]),
        macro_recall=mean_of_present(per_class["recall"]),
        kappa=kappa(counts),
        classes=classes,
        absent=codes(~present),
        missed=codes((reference > 0) & (predicted == 0)),
        invented=codes((reference == 0) & (predicted > 0)),
    )


def pixel_accuracy(counts: Matrix, missing: Matrix | None = None) -> float:
    """Share of the matrix on its diagonal; NaN for an empty matrix."""
    total = counts.sum() + (0 if missing is None else missing.sum())
    return float(np.trace(counts) / total) if total else float("nan")


def iou(counts: Matrix, missing: Matrix | None = None) -> NDArray[np.float64]:
    r"""
    Intersection over union (Jaccard index) of each class, :math:`n_{kk} / (n_{k+} + n_{+k} - n_{kk})`.

    Parameters
    ----------
    counts : (K, K) array
    missing : (K,) array, optional
        Pixels of each reference class without a class in the map, counted as errors.

    Returns
    -------
    (K,) array of float64
        NaN for classes in neither side.
    """
    reference, predicted, correct = _margins(counts, missing)
    return _ratio(correct, reference + predicted - correct, present=reference + predicted > 0)


def f1(counts: Matrix, missing: Matrix | None = None) -> NDArray[np.float64]:
    r"""F1 (Dice coefficient) of each class, :math:`2 n_{kk} / (n_{k+} + n_{+k})`; see `iou` for the rest."""
    reference, predicted, correct = _margins(counts, missing)
    return _ratio(2 * correct, reference + predicted, present=reference + predicted > 0)


def precision(counts: Matrix, missing: Matrix | None = None) -> NDArray[np.float64]:
    r"""User's accuracy of each class, :math:`n_{kk} / n_{+k}`; 0 for a class that only the reference has; see `iou`."""
    reference, predicted, correct = _margins(counts, missing)
    return _ratio(correct, predicted, present=reference + predicted > 0)


def recall(counts: Matrix, missing: Matrix | None = None) -> NDArray[np.float64]:
    r"""Producer's accuracy of each class, :math:`n_{kk} / n_{k+}`; 0 for a class that only the map has; see `iou`."""
    reference, predicted, correct = _margins(counts, missing)
    return _ratio(correct, reference, present=reference + predicted > 0)


def mean_of_present(values: NDArray[np.float64]) -> float:
    """Mean over the classes that have a score; NaN if none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def kappa(counts: Matrix) -> float:
    r"""
    Cohen's kappa, :math:`(p_o - p_e) / (1 - p_e)`: agreement beyond that of two maps with these class shares.

    Agencies still ask for it; accuracy and F1 are more informative (Pontius and Millones 2011).
    """
    total = counts.sum()
    if not total:
        return float("nan")
    shares = counts / total
    chance = float(shares.sum(axis=1) @ shares.sum(axis=0))
    return float((np.trace(shares) - chance) / (1 - chance)) if chance < 1 else float("nan")


_PER_CLASS = {"iou": iou, "f1": f1, "precision": precision, "recall": recall}


def _margins(
    counts: Matrix, missing: Matrix | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    reference = counts.sum(axis=1) + (0 if missing is None else missing)
    return (
        np.asarray(reference, np.float64),
        np.asarray(counts.sum(axis=0), np.float64),
        np.asarray(np.diagonal(counts), np.float64),
    )


def _ratio(
    part: NDArray[np.float64], whole: NDArray[np.float64], *, present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    values = np.where(present, 0.0, np.nan)
    return np.divide(part, whole, out=values, where=whole > 0)
