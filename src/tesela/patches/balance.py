"""Balance: groups of patches or pixels allocated so that every split gets its part of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

MISSING_CLASS_COST = 0.25
"""Cost of a class that is missing in a split, beside the squared differences of shares."""

MIN_CLASS_PART = 0.01
"""Least part of a class in a group for the group to count as holding it."""

_STARTS = 24
_MAX_STEPS = 2000
_MIN_GAIN = 1e-12
_MAX_SWAPPED = 400
"""Groups up to which swaps are tried: all pairs are compared."""


def allocate_groups(
    content: NDArray[np.float64], fractions: Sequence[float], *, seed: int
) -> list[NDArray[np.intp]]:
    r"""
    Allocate groups to splits so that the parts of each class in the splits are close to the fractions.

    With :math:`s_{ik}` the part of class *k* in split *i* and :math:`f_i` the fraction of this split, the cost is
    :math:`\sum_k \sum_i (s_{ik} - f_i)^2`, where the whole content counts as one additional class with the weight
    of all others, plus 0.25 for every class that is missing in a split (no group there holds 1 % of it): if a rare
    class occurs in three groups, each split should get one. From seeded random starts, single groups are moved and
    pairs swapped while this lowers the cost. This is stratification by continuous amounts; Sechidis, Tsoumakas and
    Vlahavas (2011) stratify counts.

    Parameters
    ----------
    content : (groups, classes) array of float
        Amount of each class in each group; at least one group per fraction above 0.
    fractions : sequence of float
        Target parts; they sum to 1.

    Returns
    -------
    list of (groups,) arrays of int
        Number of the split of each group, one solution per start, best first. Every split with a fraction
        above 0 has at least one group that is not empty, if there are enough.
    """
    task = _Task.of(content, fractions)
    generator = np.random.default_rng(seed)
    solutions = []
    for _ in range(int(np.clip(20_000 // len(content), 2, _STARTS))):
        chosen = task.start(generator)
        task.improve(chosen)
        solutions.append(chosen)
    return sorted(solutions, key=task.cost)


def largest_remainder(count: int, fractions: Sequence[float]) -> NDArray[np.intp]:
    """
    Whole numbers that sum to `count` by the largest-remainder rule, at least 1 for each fraction above 0.

    Examples
    --------
    >>> largest_remainder(10, (0.55, 0.28, 0.17)).tolist(), largest_remainder(4, (0.9, 0.05, 0.05)).tolist()
    ([5, 3, 2], [2, 1, 1])
    """
    wanted = np.asarray(fractions) * count
    numbers = np.floor(wanted).astype(np.intp)
    for index in np.argsort(numbers - wanted, kind="stable")[: count - numbers.sum()]:
        numbers[index] += 1
    for index in np.flatnonzero((numbers == 0) & (wanted > 0)):
        numbers[numbers.argmax()] -= 1
        numbers[index] = 1
    return np.asarray(numbers)


@dataclass(frozen=True, eq=False)
class _Task:
    """Parts to allocate, and the cost of a difference."""

    parts: NDArray[np.float64]
    """(groups, columns): part of each class in each group; the last column is the whole."""
    weights: NDArray[np.float64]
    """(columns,)"""
    wanted: NDArray[np.float64]
    """(splits,)"""

    @classmethod
    def of(cls, content: NDArray[np.float64], fractions: Sequence[float]) -> Self:
        present = content.sum(axis=0) > 0
        columns = np.column_stack([content[:, present], content.sum(axis=1)])
        totals = columns.sum(axis=0)
        weights = np.ones(columns.shape[1])
        weights[-1] = max(1, present.sum())
        return cls(columns / np.where(totals > 0, totals, 1), weights, np.asarray(fractions, np.float64))

    @property
    def holds(self) -> NDArray[np.float64]:
        """Which groups hold which class, (groups, classes) of 0 and 1."""
        return np.asarray(self.parts[:, :-1] >= MIN_CLASS_PART, np.float64)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Which groups are not empty."""
        return np.asarray(self.parts[:, -1] > 0)

    def differences(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Part of each class in each split minus the target, (splits, columns)."""
        held = np.zeros((len(self.wanted), self.parts.shape[1]))
        np.add.at(held, chosen, self.parts)
        return np.asarray(held - self.wanted[:, None])

    def counts(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Groups of each split that hold each class, (splits, classes)."""
        counts = np.zeros((len(self.wanted), self.parts.shape[1] - 1))
        np.add.at(counts, chosen, self.holds)
        return counts

    def cost(self, chosen: NDArray[np.intp]) -> float:
        """Weighted sum of the squared differences, plus the cost of missing classes."""
        missing = (self.counts(chosen)[self.wanted > 0] == 0).sum()
        return float((self.weights * self.differences(chosen) ** 2).sum() + MISSING_CLASS_COST * missing)

    def start(self, generator: np.random.Generator) -> NDArray[np.intp]:
        """Allocate groups in random order, each to the split where it lowers the cost most; leave no split empty."""
        chosen = np.zeros(len(self.parts), np.intp)
        differences = np.repeat(-self.wanted[:, None], self.parts.shape[1], axis=1)
        splits = np.flatnonzero(self.wanted > 0)
        for group in generator.permutation(len(self.parts)):
            split = splits[np.argmin(differences[splits] @ (self.weights * self.parts[group]))]
            chosen[group] = split
            differences[split] += self.parts[group]
        full = np.flatnonzero(self.full)
        for split in splits:
            counts = np.bincount(chosen[full], minlength=len(self.wanted))
            if counts[split] == 0 and counts.max(initial=0) > 1:
                chosen[generator.choice(full[chosen[full] == counts.argmax()])] = split
        return chosen

    def improve(self, chosen: NDArray[np.intp]) -> None:
        """Move and swap groups in place while this lowers the cost."""
        groups = np.arange(len(self.parts))
        weighed = self.parts * self.weights
        own = (weighed * self.parts).sum(axis=1)
        for _ in range(min(_MAX_STEPS, 20 * len(self.parts))):
            pull = weighed @ self.differences(chosen).T
            gain = 2 * (pull - pull[groups, chosen][:, None] + own[:, None])
            holds, held = self.holds, self.counts(chosen)
            left = (holds * (held[chosen] == 1)).sum(axis=1)
            gain += MISSING_CLASS_COST * (left[:, None] - holds @ (held == 0).T)
            gain[groups, chosen] = 0
            gain[:, self.wanted <= 0] = np.inf
            counts = np.bincount(chosen[self.full], minlength=len(self.wanted))
            gain[self.full & (counts[chosen] == 1)] = np.inf  # the last group of a split stays
            group, split = np.unravel_index(np.argmin(gain), gain.shape)
            if gain[group, split] < -_MIN_GAIN:
                chosen[group] = split
            elif len(self.parts) > _MAX_SWAPPED or not self._swap(chosen, pull, own):
                return

    def _swap(self, chosen: NDArray[np.intp], pull: NDArray[np.float64], own: NDArray[np.float64]) -> bool:
        """Exchange the two groups of different splits that lower the cost most, if any pair does."""
        here = pull[np.arange(len(chosen)), chosen]
        there = pull[:, chosen]  # [g, h]: group g seen from the split of group h
        apart = own[:, None] + own[None, :] - 2 * ((self.parts * self.weights) @ self.parts.T)
        gain = 2 * (there + there.T - here[:, None] - here[None, :] + apart)
        holds, held = self.holds, self.counts(chosen)
        lost = (holds * (held[chosen] == 1)) @ (1 - holds).T  # [g, h]: g was the last of a class that h lacks
        won = (held[chosen] == 0) @ holds.T  # [g, h]: h brings the split of g a class
        gain += MISSING_CLASS_COST * (lost + lost.T - won - won.T)
        both = self.full[:, None] & self.full[None, :]
        gain[(chosen[:, None] == chosen[None, :]) | ~both] = 0
        first, second = np.unravel_index(np.argmin(gain), gain.shape)
        if gain[first, second] >= -_MIN_GAIN:
            return False
        chosen[first], chosen[second] = chosen[second], chosen[first]
        return True
