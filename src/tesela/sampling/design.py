r"""
The sampling design: how many points are drawn in each stratum of a map.

The number of points for a wanted standard error of overall accuracy follows Cochran (1977), as in Olofsson et
al. (2014), equation 13:

.. math::

    n = \frac{(\sum_h W_h S_h)^2}{S(\hat O)^2 + \frac{1}{N}\sum_h W_h S_h^2}, \qquad
    S_h = \sqrt{U_h (1-U_h)}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import windows
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import equal_pixels_m2, stratum_table

Rule: TypeAlias = Literal["simple", "proportional", "equal", "neyman"]
"""How points are allocated: in one single stratum; by area; the same for all; by area and expected variance."""

WHOLE = "all"
"""Code of the only stratum of a simple random sample."""


@dataclass(frozen=True)
class Stratum:
    """A part of the map in which all pixels have the same inclusion probability."""

    code: str
    name: str
    size_px: int
    points: int


@dataclass(frozen=True)
class SamplingDesign:
    """The design of a sample; `plan_sample` makes it, `tesela.sampling.draw.draw_sample` draws the points."""

    strata: tuple[Stratum, ...]
    rule: Rule
    seed: int
    """The same seed draws the same points; a larger sample contains those of the smaller one."""
    pixel_area_m2: float
    """Area of one pixel in square metres."""
    left_out_px: int = 0
    """Pixels of the map without a class, or with one that the crosswalk leaves out; none of them is sampled."""

    @property
    def points(self) -> int:
        """Points of all strata."""
        return sum(item.points for item in self.strata)

    def expected_se(self, expected: float | Mapping[str, float] = 0.85) -> float:
        """Standard error of overall accuracy at the expected user's accuracies, one for all strata or by code."""
        sizes = np.array([item.size_px for item in self.strata], np.float64)
        drawn = np.array([item.points for item in self.strata], np.float64)
        return expected_error(drawn, sizes, _expected(expected, tuple(item.code for item in self.strata)))

    def to_dict(self) -> dict[str, object]:
        """Document of the design, for JSON."""
        return {
            "rule": self.rule,
            "seed": self.seed,
            "points": self.points,
            "pixel_area_m2": self.pixel_area_m2,
            "left_out_px": self.left_out_px,
            "strata": [
                {"code": item.code, "name": item.name, "size_px": item.size_px, "points": item.points}
                for item in self.strata
            ],
        }

    def __str__(self) -> str:
        parts = [f"{item.code} {item.points} of {item.size_px:,} px" for item in self.strata]
        return f"{self.points} points ({self.rule}): {'; '.join(parts)}"


def plan_sample(
    strata: ClassMap,
    *,
    points: int | None = None,
    target_se: float | None = None,
    expected: float | Mapping[str, float] = 0.85,
    rule: Rule = "proportional",
    minimum: int = 50,
    crosswalk: Crosswalk | None = None,
    seed: int = 0,
    window_px: int = 2048,
) -> SamplingDesign:
    """
    Design a stratified random sample; the pixels of the strata are counted in one streaming pass.

    Parameters
    ----------
    strata : ClassMap
        Map whose classes are the strata; it may differ from the map to assess. In a projected CRS, where all
        pixels have one size.
    points : int, optional
        Points of the whole sample; alternative to `target_se`.
    target_se : float, optional
        Target standard error of overall accuracy, such as 0.01: the smallest sample whose allocation, with its
        minimum, reaches it.
    expected : float or mapping
        Expected user's accuracy, for all strata or by code.
    rule : {"simple", "proportional", "equal", "neyman"}
        Olofsson et al. (2014) recommend proportional allocation with a `minimum`.
    minimum : int
        Smallest number of points in a stratum.
    crosswalk : Crosswalk, optional
        From the map's classes to fewer strata; classes that go to nodata are not sampled.

    Raises
    ------
    InputError
        If neither or both of `points` and `target_se` are given, or there are too few points for the strata.
    GridError
        If the pixels of the map do not all have the same area.
    """
    if (points is None) == (target_se is None):
        raise InputError(
            "A sample needs its number of points or a target standard error: give one of the two."
        )
    if minimum < 0 or seed < 0:
        raise InputError(f"minimum is {minimum} and seed {seed}; neither may be below 0.")
    pixel_area_m2 = equal_pixels_m2(strata)
    legend = strata.legend if crosswalk is None else crosswalk.target
    sizes = count_strata(strata, crosswalk=crosswalk, window_px=window_px)
    names = dict(zip(legend.codes, legend.names, strict=True))
    if rule == "simple":
        sizes, names = {WHOLE: sum(sizes.values())}, {WHOLE: "All classes"}
    if not sum(sizes.values()):
        raise InputError(f"{strata.path}: no pixel has a class to sample. Check the map and the crosswalk.")
    codes, pixels = tuple(sizes), np.array(list(sizes.values()), np.int64)
    users = _expected(expected, codes)
    if points is None:
        assert target_se is not None
        points = _points_for(target_se, pixels, users, rule=rule, minimum=minimum)
    allocated = allocate(points, pixels, rule=rule, minimum=minimum, expected=users)
    return SamplingDesign(
        strata=tuple(
            Stratum(code, names[code], int(size), int(n))
            for code, size, n in zip(codes, pixels, allocated, strict=True)
        ),
        rule=rule,
        seed=seed,
        pixel_area_m2=pixel_area_m2,
        left_out_px=math.prod(int(side) for side in strata.grid.shape) - int(pixels.sum()),
    )


def expected_error(
    drawn: NDArray[np.floating], sizes_px: NDArray[np.floating], expected: NDArray[np.float64]
) -> float:
    """
    Standard error of overall accuracy, with the finite population correction.

    Parameters
    ----------
    drawn, sizes_px : (H,) arrays
        Points and pixels of the strata.
    expected : (H,) array
        Expected user's accuracies, 0 to 1.
    """
    weights = sizes_px / sizes_px.sum()
    return float(np.sqrt((weights**2 * (1 - drawn / sizes_px) * expected * (1 - expected) / drawn).sum()))


def _points_for(
    target_se: float, pixels: NDArray[np.int64], users: NDArray[np.float64], *, rule: Rule, minimum: int
) -> int:
    """
    The smallest number of points whose allocation reaches the target error.

    The formula of Olofsson et al. (2014) gives the size under Neyman's rule without a minimum; other rules, and a
    minimum that takes points from the large strata, need more.
    """
    low = int(np.minimum(pixels, max(minimum, 2)).sum())
    formula = sample_size(
        pixels / pixels.sum(), users, target_se=target_se, population_px=float(pixels.sum())
    )
    low = max(low, math.floor(formula))
    sizes = pixels.astype(np.float64)

    def reaches(points: int) -> bool:
        drawn = allocate(points, pixels, rule=rule, minimum=minimum, expected=users).astype(np.float64)
        return expected_error(drawn, sizes, users) <= target_se

    most = int(pixels.sum())
    high = low
    while high < most and not reaches(high):
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    while high < most and not reaches(high):  # rounding may cost a point
        high += 1
    return high


def sample_size(
    weights: NDArray[np.float64],
    expected: NDArray[np.float64],
    *,
    target_se: float,
    population_px: float = math.inf,
) -> float:
    """
    Number of points for a target standard error of overall accuracy, not rounded.

    Parameters
    ----------
    weights : (H,) array
        Shares of the strata in the area of the map; they sum to 1.
    expected : (H,) array
        Expected user's accuracies, 0 to 1.
    population_px : float
        Pixels of the whole map; infinite in Olofsson et al. (2014).

    Examples
    --------
    >>> share, users = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    >>> round(sample_size(share, users, target_se=0.01), 1)
    640.5
    """
    if not 0 < target_se < 1:
        raise InputError(
            f"The target standard error is {target_se}; it must be between 0 and 1, such as 0.01."
        )
    variance = expected * (1 - expected)
    return float((weights @ np.sqrt(variance)) ** 2 / (target_se**2 + (weights @ variance) / population_px))


def allocate(
    points: int,
    sizes_px: NDArray[np.int64],
    *,
    rule: Rule = "proportional",
    minimum: int = 50,
    expected: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """
    Allocate points to strata by a rule, at least `minimum` and at most all pixels in each.

    Fractions are rounded by the largest-remainder method: each stratum gets the whole part of its quota, and
    the points left go to the largest fractions.

    Parameters
    ----------
    sizes_px : (H,) array
        Pixels of the strata.
    expected : (H,) array, optional
        Expected user's accuracies; only Neyman's rule needs them.

    Returns
    -------
    (H,) array of int64
        Sums to `points`, or to the number of pixels where that is smaller.

    Examples
    --------
    >>> allocate(641, np.array([200_000, 150_000, 3_200_000, 6_450_000]), minimum=75).tolist()
    [75, 75, 163, 328]
    """
    sizes = np.asarray(sizes_px, np.int64)
    if rule not in ("simple", "proportional", "equal", "neyman"):
        raise InputError(unknown_name("rule", rule, ("simple", "proportional", "equal", "neyman")))
    quota_weights = np.ones(len(sizes)) if rule == "equal" else sizes.astype(np.float64)
    if rule == "neyman":
        if expected is None:
            raise InputError("Neyman's rule needs the expected user's accuracies (expected).")
        quota_weights = quota_weights * np.sqrt(expected * (1 - expected))
    least = np.minimum(sizes, max(minimum, 2))  # a variance needs two
    points = min(points, int(sizes.sum()))
    if least.sum() > points:
        raise InputError(
            f"{points} points are too few for {len(sizes)} strata of at least {max(minimum, 2)} each: give "
            f"{int(least.sum())} or more, a smaller minimum (--minimum), or fewer strata."
        )
    quota_weights = np.maximum(quota_weights, 1e-9 * max(quota_weights.max(), 1.0))
    low, high = 0.0, 1.0
    while np.clip(high * quota_weights, least, sizes).sum() < points:
        high *= 2
    for _ in range(200):  # bisection: the factor at which the quotas sum to the points
        middle = (low + high) / 2
        too_few = np.clip(middle * quota_weights, least, sizes).sum() < points
        low, high = (middle, high) if too_few else (low, middle)
    quota = np.clip(high * quota_weights, least, sizes)
    allocated = np.floor(quota + 1e-9).astype(np.int64)
    order = np.argsort(allocated - quota, kind="stable")  # the largest remainders first
    order = order[allocated[order] < sizes[order]]
    allocated[order[: points - int(allocated.sum())]] += 1
    return np.asarray(allocated)


def count_strata(
    strata: ClassMap, *, crosswalk: Crosswalk | None = None, window_px: int = 2048
) -> dict[str, int]:
    """Number of pixels of each stratum, by code; strata without pixels are left out."""
    table, legend = stratum_table(strata.legend, crosswalk)
    counts = np.zeros(256, np.int64)
    with MapReader(strata) as reader:
        for _, _, window in windows(strata.grid, window_px):
            counts += np.bincount(reader.read(window).ravel(), minlength=256)
    pixels = np.bincount(table, weights=counts, minlength=256).astype(np.int64)
    return {item.code: int(pixels[item.value]) for item in legend.classes if pixels[item.value]}


def _expected(expected: float | Mapping[str, float], codes: tuple[str, ...]) -> NDArray[np.float64]:
    if isinstance(expected, Mapping):
        missing = [code for code in codes if code not in expected]
        if missing and WHOLE not in codes:
            raise InputError(
                f"The expected accuracy of {join_words(missing)} is missing; give one for each stratum."
            )
        values = [float(expected.get(code, np.mean(list(expected.values())))) for code in codes]
    else:
        values = [float(expected)] * len(codes)
    if not all(0 <= value <= 1 for value in values):
        raise InputError(f"Expected accuracies are {join_words(values)}; each must be between 0 and 1.")
    return np.array(values)
