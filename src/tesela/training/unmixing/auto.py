"""The choice between unmixing models: trees and networks are trained, joined, compared on validation blocks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend, sum_to_level
from tesela.core.units import parse_duration_s
from tesela.models.ensemble import join_experts
from tesela.models.expert import Expert
from tesela.models.tried import tried_text
from tesela.patches.pixels import PixelTable
from tesela.training.block_draws import draw_blocks, weight_grid
from tesela.training.unmixing.batches import VAL
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.members import member_settings, train_each
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings

LEAST_WEIGHT = 0.05
"""A member with a smaller weight is not worth its time in every map."""

_BLOCK_PX = 32
"""Side of the blocks that are drawn: 15 km of MODIS pixels."""

_DRAWS = 200
_STEPS = 20
"""Weights are multiples of one over this number before they are averaged over the draws."""

_TREES_SHARE = 0.2
"""Share of the budget in which trees must be grown; the networks get the rest, by `_NETWORK_SHARES`."""

_NETWORK_SHARES = {"mlp": 1.0, "tempcnn": 4.0}
"""Parts of the networks: one with neighbours needs several times the time of one without."""

_LEAST_BUDGET_S = 10.0
"""A network is trained if its share of the budget is at least this."""


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    name: str
    expert: Expert
    shares: NDArray[np.float64]
    """(pixels, classes of all levels) of the validation pixels."""
    seconds: float = 0.0
    """Processor time of the training."""
    weight: float | None = None
    """In the joined model."""


def train_auto(
    table: PixelTable,
    settings: UnmixingSettings,
    train: Callable[[UnmixingSettings, Path | None], Expert],
    *,
    out: Path | None,
    work: Mapping[str, object],
    quiet: bool,
) -> Expert:
    """
    Train trees and networks, as many as the budget allows, and return the best of them or their weighted mean.

    The joined model is kept unless a member is measurably better on the validation blocks. The header's scores hold
    what was tried, with 95 % intervals of the differences to the chosen one in per cent of a cell.

    Parameters
    ----------
    train, out, work
        As in `tesela.training.unmixing.members.train_each`.
    """
    val = table.splits == VAL
    assert table.legend is not None
    truth = all_levels(table.targets[val], table.legend)
    candidates: list[Candidate] = []
    for own, expert, seconds in train_each(budgeted(settings), train, out=out, work=work):
        shares = all_levels(unmix_pixels(expert, table, val).shares, table.legend)
        candidates.append(Candidate(own.model, expert, shares, seconds))
    seen = np.isfinite(candidates[0].shares).all(1)
    blocks = blocks_of(table, val)[seen]
    candidates = [replace(item, shares=item.shares[seen]) for item in candidates]
    candidates = join_candidates(candidates, truth[seen], blocks)
    winner, tried = choose_candidate(candidates, truth[seen], blocks, table.legend)
    scores: dict[str, object] = {
        "val_rmse": tried[candidates.index(winner)]["val_rmse"],
        "weights": [item.weight for item in candidates if item.weight is not None],
        "tried": tried,
    }
    header = replace(winner.expert.header, scores={**winner.expert.header.scores, **scores})
    if not quiet:
        sys.stderr.write(tried_text(header.scores) + "\n")
    return Expert(header, winner.expert.network)


def budgeted(settings: UnmixingSettings) -> tuple[UnmixingSettings, ...]:
    """Settings of each candidate with its share of the budget; networks whose share is too short are left out."""
    plans = member_settings(replace(settings, budget=""))
    if not settings.budget:
        return plans
    seconds = parse_duration_s(settings.budget)
    rest = (1 - _TREES_SHARE) * seconds
    shares = {plan.model: _NETWORK_SHARES[plan.model] for plan in plans if plan.model not in CLASSIC}
    while shares and rest * min(shares.values()) / sum(shares.values()) < _LEAST_BUDGET_S:
        del shares[min(shares, key=lambda name: shares[name])]
    within = {model: rest * share / sum(shares.values()) for model, share in shares.items()}
    kept = []
    for plan in plans:
        if plan.model in CLASSIC:
            kept.append(replace(plan, budget=f"{_TREES_SHARE * seconds:g} s"))
        elif plan.model in within:
            kept.append(replace(plan, budget=f"{within[plan.model]:g} s"))
    return tuple(kept)


def join_candidates(
    members: Sequence[Candidate], truth: NDArray[np.float64], blocks: NDArray[np.intp]
) -> list[Candidate]:
    """The members with their weights, and their weighted mean at the end; members without weight are not in it."""
    weights = fit_block_weights(np.stack([item.shares for item in members]), truth, blocks)
    weighed = [replace(item, weight=weight) for item, weight in zip(members, weights, strict=True)]
    used = [item for item in weighed if item.weight]
    if len(used) < 2:
        return weighed
    shares = [float(item.weight or 0) for item in used]
    joined = join_experts([item.expert for item in used], weights=shares)
    mean = np.tensordot(shares, np.stack([item.shares for item in used]), axes=1)
    seconds = sum(item.seconds for item in used)
    return [*weighed, Candidate(" + ".join(item.name for item in used), joined, mean, seconds)]


def fit_block_weights(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], blocks: NDArray[np.intp]
) -> tuple[float, ...]:
    """
    Weights from 0 of sum 1: the mean of those with the least squared error in blocks drawn with replacement.

    Parameters
    ----------
    predicted : (members, pixels, columns) array of float
    truth : (pixels, columns) array of float
    blocks : (pixels,) array of int
        Number of each pixel's block, from 0.

    Examples
    --------
    >>> fit_block_weights(np.array([[[0.0], [1.0]], [[1.0], [0.0]]]), np.array([[0.25], [0.75]]), np.zeros(2, int))
    (0.75, 0.25)
    """
    errors = predicted - truth
    count = int(blocks.max()) + 1
    products = np.empty((count, len(errors), len(errors)))
    for one in range(len(errors)):
        for other in range(len(errors)):
            products[:, one, other] = np.bincount(blocks, (errors[one] * errors[other]).sum(1), count)
    tried = weight_grid(len(errors), steps=_STEPS)
    costs = np.einsum("wi,bij,wj->wb", tried, products, tried)
    mean = tried[(costs @ draw_blocks(count, draws=_DRAWS).T).argmin(0)].mean(0)
    mean[mean < LEAST_WEIGHT] = 0
    return tuple(round(float(item), 4) for item in mean / mean.sum())


def choose_candidate(
    candidates: Sequence[Candidate], truth: NDArray[np.float64], blocks: NDArray[np.intp], legend: Legend
) -> tuple[Candidate, list[dict[str, object]]]:
    """
    The candidate to keep, and the table of what was tried.

    The last one is kept, unless the lower end of the interval of another's lead is above zero.
    """
    count = int(blocks.max()) + 1
    drawn = draw_blocks(count, draws=_DRAWS)
    pixels = drawn @ np.bincount(blocks, minlength=count)
    sizes = [len(legend.level(depth)) for depth in range(1, legend.depth + 1)]
    results, means = [], []
    for item in candidates:
        squares = (item.shares - truth) ** 2
        sums = np.stack([np.bincount(blocks, column, count) for column in squares.T], 1)
        results.append(_mean_rmse(np.sqrt(drawn @ sums / pixels[:, None]), sizes))
        means.append(np.sqrt(squares.mean(0)))
    last = len(candidates) - 1
    ahead = [float(np.quantile(results[last] - item, 0.025)) for item in results[:last]]
    chosen = int(np.argmax(ahead)) if max(ahead, default=0.0) > 0 else last
    tried: list[dict[str, object]] = []
    for k, item in enumerate(candidates):
        low, high = 100 * np.quantile(results[chosen] - results[k], [0.025, 0.975])
        parts = np.split(means[k], np.cumsum(sizes)[:-1])
        tried.append(
            {
                "model": item.name,
                "summary": item.expert.header.architecture.summary,
                "rmse": [round(100 * float(part.mean()), 2) for part in parts],
                "val_rmse": round(float(_mean_rmse(means[k][None], sizes)[0]), 6),
                "cpu_s": round(item.seconds, 1),
                "weight": item.weight,
                "lead_over_chosen": [round(float(low), 3), round(float(high), 3)],
                "chosen": k == chosen,
            }
        )
    return candidates[chosen], tried


def all_levels(shares: NDArray[np.floating], legend: Legend) -> NDArray[np.float64]:
    """(pixels, classes of all levels) shares, the coarsest level first."""
    levels = [sum_to_level(shares.T, legend, depth).T for depth in range(1, legend.depth + 1)]
    return np.concatenate(levels, axis=1).astype(np.float64)


def blocks_of(table: PixelTable, chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of each chosen pixel's block; all years of a pixel without a grid are one block."""
    rows, cols = table.rows[chosen].astype(np.int64), table.cols[chosen].astype(np.int64)
    key = rows if table.grid is None else rows // _BLOCK_PX * (1 << 32) + cols // _BLOCK_PX
    return np.asarray(np.unique(key, return_inverse=True)[1], np.intp)


def _mean_rmse(columns: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Mean over the levels of the mean over their classes, of (draws, columns) errors."""
    parts = np.split(columns, np.cumsum(sizes)[:-1], axis=1)
    return np.asarray(np.mean([part.mean(1) for part in parts], axis=0), np.float64)
