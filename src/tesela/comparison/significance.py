"""
Whether runs differ by more than the choice of the test area explains: the block bootstrap.

Pixels of one block are alike, so blocks are drawn, not pixels: with replacement, the same blocks for both runs (the
bootstrap of Efron for paired, clustered data). The score of a run with several seeds is the mean over its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.chains.metrics import Blocks

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Score of one setting minus that of another, on the blocks on which both were evaluated."""

    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p: float
    """Two-sided p value: twice the share of draws whose difference has the other sign, at least 2 / (draws + 1)."""
    blocks: int
    """Blocks on which both were evaluated."""


def score_interval(runs: Sequence[Blocks], *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """
    95 % interval of the mean score of the seeds of one setting; NaN with fewer than two blocks.

    Parameters
    ----------
    runs : sequence of Blocks
        One per seed.
    """
    names = _block_names(runs)
    if len(names) < 2:
        return float("nan"), float("nan")
    scores = _scores(runs, names, _weights(len(names), draws, seed))
    low, high = np.nanpercentile(scores, [2.5, 97.5])
    return float(low), float(high)


def compare_blocks(
    runs: Sequence[Blocks], others: Sequence[Blocks], *, draws: int = 2000, seed: int = 0
) -> Difference | None:
    """
    Difference of the mean scores of two settings; None where they share fewer than two blocks.

    Parameters
    ----------
    runs, others : sequences of Blocks
        One per seed, in the same order of seeds; a seed's runs are paired by the names of their blocks.
    """
    pairs = [_common(one, other) for one, other in zip(runs, others, strict=True)]
    names = _block_names([one for one, _ in pairs])
    if len(names) < 2:
        return None
    weights = np.concatenate([np.ones((1, len(names))), _weights(len(names), draws, seed)])
    scores = _scores([one for one, _ in pairs], names, weights)
    differences = scores - _scores([other for _, other in pairs], names, weights)
    value, drawn = float(differences[0]), differences[1:][np.isfinite(differences[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (len(drawn) + 1))
    return Difference(value, float(low), float(high), p, len(names))


def _common(one: Blocks, other: Blocks) -> tuple[Blocks, Blocks]:
    shared = set(one.names) & set(other.names)
    return _only(one, shared), _only(other, shared)


def _only(blocks: Blocks, names: set[str]) -> Blocks:
    kept = [index for index, name in enumerate(blocks.names) if name in names]
    return Blocks(tuple(blocks.names[index] for index in kept), blocks.counts[kept], blocks.score)


def _block_names(runs: Sequence[Blocks]) -> tuple[str, ...]:
    """Blocks of any seed: a block that is drawn counts in every seed that was evaluated on it."""
    return tuple(sorted({name for blocks in runs for name in blocks.names}))


def _weights(size: int, draws: int, seed: int) -> Floats:
    """How often each block is drawn, (draws, blocks)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def _scores(runs: Sequence[Blocks], names: Sequence[str], weights: Floats) -> Floats:
    """Mean over seeds of the score of each draw, (draws,)."""
    columns = {name: number for number, name in enumerate(names)}
    scores = []
    for blocks in runs:
        drawn = weights[:, [columns[name] for name in blocks.names]]
        summed = drawn @ blocks.counts.reshape(len(blocks.names), -1)
        scores.append(blocks.score(summed.reshape(len(weights), *blocks.counts.shape[1:])))
    return np.asarray(np.mean(scores, axis=0), np.float64)
