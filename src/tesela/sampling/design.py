r"""
The sampling design: how many points each stratum of a map gets.

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
"""How points are shared out: one stratum of everything; by area; the same for all; by area and doubt."""

WHOLE = "all"
"""Code of the one stratum of a simple random sample."""


@dataclass(frozen=True)
class Stratum:
    """A part of the ground in which points are drawn with equal chances."""

    code: str
    name: str
    size_px: int
    points: int


@dataclass(frozen=True)
class SamplingDesign:
    """How a sample is drawn; made by `plan_sample`, carried out by `tesela.sampling.draw.draw_sample`."""

    strata: tuple[Stratum, ...]
    rule: Rule
    seed: int
    """The same seed draws the same points; a larger design with it keeps those of the smaller one."""
    pixel_area_m2: float
    """Ground of one pixel in square metres."""

    @property
    def points(self) -> int:
        """Points of all strata."""
        return sum(item.points for item in self.strata)

    def expected_se(self, expected: float | Mapping[str, float] = 0.85) -> float:
        """Standard error of overall accuracy if strata turn out as accurate as expected, by code or for all."""
        sizes = np.array([item.size_px for item in self.strata], np.float64)
        drawn = np.array([item.points for item in self.strata], np.float64)
        doubt = _expected(expected, tuple(item.code for item in self.strata))
        parts = (sizes / sizes.sum()) ** 2 * (1 - drawn / sizes) * doubt * (1 - doubt) / drawn
        return float(np.sqrt(parts.sum()))

    def to_dict(self) -> dict[str, object]:
        """Document of the design, for JSON."""
        return {
            "rule": self.rule,
            "seed": self.seed,
            "points": self.points,
            "pixel_area_m2": self.pixel_area_m2,
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
    Design a random sample within the classes of a map; the map is counted in one streaming pass.

    Parameters
    ----------
    strata : ClassMap
        Its classes are the strata; it need not be the map that is judged. In a projected CRS, whose pixels
        have one size.
    points : int, optional
        Points of the whole sample; or give `target_se`.
    target_se : float, optional
        Standard error of overall accuracy that is wanted, such as 0.01.
    expected : float or mapping
        User's accuracy to be expected, for all strata or by code.
    rule : {"simple", "proportional", "equal", "neyman"}
        Proportional with `minimum` is what Olofsson et al. (2014) advise.
    minimum : int
        Points that the smallest strata get at least, before the rest is shared out.
    crosswalk : Crosswalk, optional
        From the map's classes to fewer strata; what it sends to nodata is not sampled.

    Raises
    ------
    InputError
        If neither or both of `points` and `target_se` are given, or the points do not suffice.
    GridError
        If the pixels of the map are not all of one size on the ground.
    """
    if (points is None) == (target_se is None):
        raise InputError(
            "A sample needs its number of points, or the standard error wanted: give one of the two."
        )
    if minimum < 0 or seed < 0:
        raise InputError(f"minimum is {minimum} and seed {seed}; neither is less than 0.")
    ground = equal_pixels_m2(strata)
    legend = strata.legend if crosswalk is None else crosswalk.target
    sizes = count_strata(strata, crosswalk=crosswalk, window_px=window_px)
    names = dict(zip(legend.codes, legend.names, strict=True))
    if rule == "simple":
        sizes, names = {WHOLE: sum(sizes.values())}, {WHOLE: "All classes"}
    if not sum(sizes.values()):
        raise InputError(
            f"{strata.path}: no pixel has a class to be sampled. Check the map and the crosswalk."
        )
    codes, pixels = tuple(sizes), np.array(list(sizes.values()), np.int64)
    doubt = _expected(expected, codes)
    if points is None:
        assert target_se is not None
        points = math.ceil(
            sample_size(pixels / pixels.sum(), doubt, target_se=target_se, population_px=pixels.sum())
        )
        points = max(points, int(np.minimum(pixels, minimum).sum()))
    shared = allocate(points, pixels, rule=rule, minimum=minimum, expected=doubt)
    return SamplingDesign(
        strata=tuple(
            Stratum(code, names[code], int(size), int(n))
            for code, size, n in zip(codes, pixels, shared, strict=True)
        ),
        rule=rule,
        seed=seed,
        pixel_area_m2=ground,
    )


def sample_size(
    weights: NDArray[np.float64],
    expected: NDArray[np.float64],
    *,
    target_se: float,
    population_px: float = math.inf,
) -> float:
    """
    Points for a standard error of overall accuracy, not rounded.

    Parameters
    ----------
    weights : (H,) array
        Shares of the strata in the ground; they sum to 1.
    expected : (H,) array
        User's accuracies to be expected, 0 to 1.
    population_px : float
        Pixels of the whole ground; endless in Olofsson et al. (2014).

    Examples
    --------
    >>> share, users = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    >>> round(sample_size(share, users, target_se=0.01), 1)
    640.5
    """
    if not 0 < target_se < 1:
        raise InputError(f"The standard error wanted is {target_se}; it lies between 0 and 1, such as 0.01.")
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
    Share points out to strata: by a rule, but none gets less than `minimum` nor more than its pixels.

    Parameters
    ----------
    sizes_px : (H,) array
        Pixels of the strata.
    expected : (H,) array, optional
        User's accuracies to be expected; only Neyman's rule asks for them.

    Returns
    -------
    (H,) array of int64
        Sums to `points`, or to all pixels where there are fewer.

    Examples
    --------
    >>> allocate(641, np.array([200_000, 150_000, 3_200_000, 6_450_000]), minimum=75).tolist()
    [75, 75, 163, 328]
    """
    sizes = np.asarray(sizes_px, np.int64)
    if rule not in ("simple", "proportional", "equal", "neyman"):
        raise InputError(unknown_name("rule", rule, ("simple", "proportional", "equal", "neyman")))
    wish = np.ones(len(sizes)) if rule == "equal" else sizes.astype(np.float64)
    if rule == "neyman":
        if expected is None:
            raise InputError("Neyman's rule needs the accuracies to be expected (expected).")
        wish = wish * np.sqrt(expected * (1 - expected))
    least = np.minimum(sizes, max(minimum, 2))  # a variance needs two
    points = min(points, int(sizes.sum()))
    if least.sum() > points:
        raise InputError(
            f"{points} points do not suffice for {len(sizes)} strata of at least {max(minimum, 2)}: give "
            f"{int(least.sum())} or more, or a smaller minimum, or join strata by a crosswalk."
        )
    wish = np.maximum(wish, 1e-9 * max(wish.max(), 1.0))
    low, high = 0.0, 1.0
    while np.clip(high * wish, least, sizes).sum() < points:
        high *= 2
    for _ in range(200):  # the level at which all points are given out
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(middle * wish, least, sizes).sum() < points else (low, middle)
    quota = np.clip(high * wish, least, sizes)
    given = np.floor(quota + 1e-9).astype(np.int64)
    order = np.argsort(given - quota, kind="stable")  # the largest remainders first
    order = order[given[order] < sizes[order]]
    given[order[: points - int(given.sum())]] += 1
    return np.asarray(given)


def count_strata(
    strata: ClassMap, *, crosswalk: Crosswalk | None = None, window_px: int = 2048
) -> dict[str, int]:
    """Pixels of each stratum that a map has, by code, in one pass; strata without a pixel are left out."""
    table, legend = stratum_table(strata.legend, crosswalk)
    counts = np.zeros(256, np.int64)
    with MapReader(strata) as reader:
        for _, _, window in windows(strata.grid, window_px):
            counts += np.bincount(reader.read(window).ravel(), minlength=256)
    found = np.bincount(table, weights=counts, minlength=256).astype(np.int64)
    return {item.code: int(found[item.value]) for item in legend.classes if found[item.value]}


def _expected(expected: float | Mapping[str, float], codes: tuple[str, ...]) -> NDArray[np.float64]:
    if isinstance(expected, Mapping):
        missing = [code for code in codes if code not in expected]
        if missing and WHOLE not in codes:
            raise InputError(f"No accuracy is expected for {join_words(missing)}; give one for each stratum.")
        values = [float(expected.get(code, np.mean(list(expected.values())))) for code in codes]
    else:
        values = [float(expected)] * len(codes)
    if not all(0 <= value <= 1 for value in values):
        raise InputError(f"Expected accuracies are {join_words(values)}; each lies between 0 and 1.")
    return np.array(values)
