"""Balance: groups of ground shared out so that every split gets its part of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

LACKING = 0.25
"""What a class that a split lacks costs, beside squares of shares."""

HELD = 0.01
"""Part of a class that a group must have to bring it to a split."""

_STARTS = 24
_MOST_STEPS = 2000
_LEAST_GAIN = 1e-12
_MOST_SWAPPED = 400
"""Groups up to which swaps are tried: all pairs are compared."""


def share_out(
    content: NDArray[np.float64], fractions: Sequence[float], *, seed: int
) -> list[NDArray[np.intp]]:
    r"""
    Share groups out to splits so that the splits' parts of each class come close to the fractions.

    With :math:`s_{ik}` the part of class *k* that split *i* holds and :math:`f_i` its fraction, it looks for
    a low :math:`\sum_k \sum_i (s_{ik} - f_i)^2`, where the whole content counts as one class more, weighing
    as much as all others, plus 0.25 for every class that a split lacks (no group there holds 1 % of it):
    three places of a rare class should teach, choose and judge. From seeded random starts, single groups are
    moved and pairs swapped while that helps. This is stratification by continuous amounts; Sechidis,
    Tsoumakas and Vlahavas (2011) do it for counts.

    Parameters
    ----------
    content : (groups, classes) array of float
        What each group holds, at least one group per fraction above 0.
    fractions : sequence of float
        Wanted parts; they sum to 1.

    Returns
    -------
    list of (groups,) arrays of int
        Number of the split of each group, one solution per start, best first. Every split with a fraction
        above 0 has at least one group that holds something, if there are enough.
    """
    task = _Task.of(content, fractions)
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(int(np.clip(20_000 // len(content), 2, _STARTS))):
        chosen = task.start(generator)
        task.improve(chosen)
        found.append(chosen)
    return sorted(found, key=task.cost)


def quotas(count: int, fractions: Sequence[float]) -> NDArray[np.intp]:
    """Whole numbers that sum to `count`, close to the fractions, at least 1 for each fraction above 0."""
    wanted = np.asarray(fractions) * count
    found = np.floor(wanted).astype(np.intp)
    for index in np.argsort(found - wanted, kind="stable")[: count - found.sum()]:
        found[index] += 1
    for index in np.flatnonzero((found == 0) & (wanted > 0)):
        found[found.argmax()] -= 1
        found[index] = 1
    return np.asarray(found)


@dataclass(frozen=True, eq=False)
class _Task:
    """Parts to be shared out, and how much a miss costs."""

    parts: NDArray[np.float64]
    """(groups, columns): part of each class that a group holds; the last column is the whole."""
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
        return np.asarray(self.parts[:, :-1] >= HELD, np.float64)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Which groups hold something."""
        found: NDArray[np.bool_] = self.parts[:, -1] > 0
        return found

    def misses(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """How far each split is from its part of each class, (splits, columns)."""
        held = np.zeros((len(self.wanted), self.parts.shape[1]))
        np.add.at(held, chosen, self.parts)
        return np.asarray(held - self.wanted[:, None])

    def counts(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Groups of each split that hold each class, (splits, classes)."""
        found = np.zeros((len(self.wanted), self.parts.shape[1] - 1))
        np.add.at(found, chosen, self.holds)
        return found

    def cost(self, chosen: NDArray[np.intp]) -> float:
        """Weighted sum of the squared misses, and what is lacking."""
        lacking = (self.counts(chosen)[self.wanted > 0] == 0).sum()
        return float((self.weights * self.misses(chosen) ** 2).sum() + LACKING * lacking)

    def start(self, generator: np.random.Generator) -> NDArray[np.intp]:
        """Take groups in random order, each to the split where it helps most; leave no split without."""
        chosen = np.zeros(len(self.parts), np.intp)
        misses = np.repeat(-self.wanted[:, None], self.parts.shape[1], axis=1)
        splits = np.flatnonzero(self.wanted > 0)
        for group in generator.permutation(len(self.parts)):
            split = splits[np.argmin(misses[splits] @ (self.weights * self.parts[group]))]
            chosen[group] = split
            misses[split] += self.parts[group]
        full = np.flatnonzero(self.full)
        for split in splits:
            counts = np.bincount(chosen[full], minlength=len(self.wanted))
            if counts[split] == 0 and counts.max(initial=0) > 1:
                chosen[generator.choice(full[chosen[full] == counts.argmax()])] = split
        return chosen

    def improve(self, chosen: NDArray[np.intp]) -> None:
        """Move and swap groups in place while the cost falls."""
        groups = np.arange(len(self.parts))
        weighed = self.parts * self.weights
        own = (weighed * self.parts).sum(axis=1)
        for _ in range(min(_MOST_STEPS, 20 * len(self.parts))):
            pull = weighed @ self.misses(chosen).T
            gain = 2 * (pull - pull[groups, chosen][:, None] + own[:, None])
            holds, held = self.holds, self.counts(chosen)
            left = (holds * (held[chosen] == 1)).sum(axis=1)
            gain += LACKING * (left[:, None] - holds @ (held == 0).T)
            gain[groups, chosen] = 0
            gain[:, self.wanted <= 0] = np.inf
            counts = np.bincount(chosen[self.full], minlength=len(self.wanted))
            gain[self.full & (counts[chosen] == 1)] = np.inf  # the last group of a split stays
            group, split = np.unravel_index(np.argmin(gain), gain.shape)
            if gain[group, split] < -_LEAST_GAIN:
                chosen[group] = split
            elif len(self.parts) > _MOST_SWAPPED or not self._swap(chosen, pull, own):
                return

    def _swap(self, chosen: NDArray[np.intp], pull: NDArray[np.float64], own: NDArray[np.float64]) -> bool:
        """Exchange the two groups of different splits where this lowers the cost most, if it does."""
        here = pull[np.arange(len(chosen)), chosen]
        there = pull[:, chosen]  # [g, h]: group g seen from the split of group h
        apart = own[:, None] + own[None, :] - 2 * ((self.parts * self.weights) @ self.parts.T)
        gain = 2 * (there + there.T - here[:, None] - here[None, :] + apart)
        holds, held = self.holds, self.counts(chosen)
        lost = (holds * (held[chosen] == 1)) @ (1 - holds).T  # [g, h]: g was the last of a class that h lacks
        won = (held[chosen] == 0) @ holds.T  # [g, h]: h brings the split of g a class
        gain += LACKING * (lost + lost.T - won - won.T)
        both = self.full[:, None] & self.full[None, :]
        gain[(chosen[:, None] == chosen[None, :]) | ~both] = 0
        first, second = np.unravel_index(np.argmin(gain), gain.shape)
        if gain[first, second] >= -_LEAST_GAIN:
            return False
        chosen[first], chosen[second] = chosen[second], chosen[first]
        return True
