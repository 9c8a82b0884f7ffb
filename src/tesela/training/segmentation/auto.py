"""The choice between models: trees and a network are trained, joined, compared on the validation patches."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, log_frequencies, open_expert, save_expert
from tesela.models.tried import tried_text
from tesela.patches.table import PatchTable
from tesela.training.segmentation.finish import adjust_expert, scores_of
from tesela.training.segmentation.members import join_experts, parts_work
from tesela.training.segmentation.network_refit import refit_network
from tesela.training.segmentation.pool import FLATTERY, fit_pool, pool_scores
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.trees import budget_deadline, compile_kernels, refit_trees, train_unadjusted
from tesela.training.segmentation.validation import (
    ValidationPixels,
    choose_prior,
    class_frequencies,
    difference_interval,
    objective_of,
    validate_model,
)
from tesela.training.shell import TrainingFolder

_TREES_SHARE = 0.4
"""Largest share of the budget in which trees are grown, twice; what they leave is the network's."""

_LEAST_BUDGET_S = 20.0
"""A network is trained if at least this is left of the budget."""

_LEAST_REFIT_S = 60.0
"""A network is trained a second time, on the validation patches too, if each training has at least this."""


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    name: str
    expert: Expert
    """As it will be written: it may have been trained again on the validation patches, too."""
    pixels: ValidationPixels
    """Scores from before."""


def train_auto(
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """
    Train boosted trees and a network, join them, and write the best.

    The joined model is kept unless one of its members is measurably better on the validation patches; members without
    weight are left out. The header's scores hold what was tried, with 95 % intervals of the differences to the chosen
    one.

    Parameters
    ----------
    settings : SegmentationSettings
        With a named encoder (see `sized_settings`). With `budget` the trees get two fifths of it at most, the
        network what is left, in two halves if `refit` and these are long enough: one before the validation patches
        have chosen, one after.
    log_dir, quiet, fingerprints
        See `tesela.training.segmentation.train.train_segmentation`.
    """
    from tesela.training.segmentation.train import train_segmentation

    target = Path(out)
    if settings.budget:
        compile_kernels()
    begun_s = time.process_time()
    budget_s = parse_duration_s(settings.budget) if settings.budget else math.inf
    of_trees = replace(
        settings,
        model="boosting",
        prior=0.0,
        budget=f"{_TREES_SHARE * budget_s:.0f} s" if settings.budget else "",
    )
    deadline = budget_deadline(of_trees.budget)
    trees, pixels = train_unadjusted(
        table, settings=of_trees, bands=bands, quiet=quiet, fingerprints=fingerprints
    )
    if settings.refit:
        trees = refit_trees(trees, table, settings=of_trees, quiet=quiet, deadline=deadline)
    members = [Candidate("boosting", trees, pixels)]
    folder = TrainingFolder.open(target, work=parts_work(table, settings, bands), part="auto")
    spent = folder.remember("trees.json", lambda: {"cpu_s": time.process_time() - begun_s})
    left_s = budget_s - float(spent["cpu_s"])  # the same after a kill, so the network goes on where it was
    if left_s >= _LEAST_BUDGET_S:
        twice = settings.refit and settings.members == 1 and 2 * _LEAST_REFIT_S <= left_s < math.inf
        of_network = replace(
            settings,
            model="unet",
            prior=0.0,
            budget=f"{left_s / (1 + twice):.0f} s" if settings.budget else "",
        )
        network_file = folder.path / "network.safetensors"
        if not network_file.exists():
            train_segmentation(
                table, network_file, settings=of_network, bands=bands, log_dir=log_dir, quiet=quiet
            )
        network = open_expert(network_file)
        pixels = validate_model(network.network, table, network.header.standardisation, seed=settings.seed)
        if twice:
            network = refit_network(
                network,
                table,
                folder.path / "refit.safetensors",
                settings=of_network,
                log_dir=Path(log_dir) / "refit" if log_dir else None,
                quiet=quiet,
            )
        members.append(Candidate("unet", network, pixels))
    joined = join_candidates(members)
    candidates = [*(item for item in members if item is not joined), joined]
    winner, tried = choose_candidate(candidates, class_frequencies(table), settings=settings)
    header = replace(
        winner.expert.header,
        training={**winner.expert.header.training, "model": "auto"},
        scores={**scores_of(winner.pixels, codes=table.legend.codes), "tried": tried},
    )
    expert = adjust_expert(
        Expert(header, winner.expert.network), table=table, settings=settings, pixels=winner.pixels
    )
    save_expert(target, expert)
    if not quiet:
        sys.stderr.write(tried_text(expert.header.scores) + "\n")
    folder.remove(pretraining=False)
    return target


def join_candidates(members: Sequence[Candidate]) -> Candidate:
    """
    One model of the trees, which come first, and what else there is.

    The weights are those of `fit_pool`; where trees have one, they get a part of the others' (`FLATTERY`). Members
    without weight are left out.
    """
    first, *others = fit_pool([item.pixels for item in members])
    part = FLATTERY if first else 0.0
    weights = (first + part * sum(others), *((1 - part) * item for item in others))
    used = [(item, weight) for item, weight in zip(members, weights, strict=True) if weight > 0]
    if len(used) == 1:
        return used[0][0]
    pixels = [item.pixels for item, _ in used]
    shares = [weight for _, weight in used]
    return Candidate(
        " x ".join(item.name for item, _ in used),
        join_experts([item.expert for item, _ in used], shares),
        replace(pixels[0], scores=pool_scores(pixels, shares)),
    )


def choose_candidate(
    candidates: Sequence[Candidate], frequencies: NDArray[np.float64], *, settings: SegmentationSettings
) -> tuple[Candidate, list[dict[str, object]]]:
    """
    The candidate to keep, and the table of what was tried; each has its own best adjustment.

    The last candidate is kept, unless the lower end of the interval of another's lead is above zero; with the
    objective "both", one that is measurably less accurate is not taken.
    """
    logs = log_frequencies(frequencies)
    counts, priors = [], []
    for item in candidates:
        strength = settings.prior
        if strength == "auto":
            strength = choose_prior(item.pixels, frequencies, objective=settings.objective)
        priors.append(float(strength))
        counts.append(item.pixels.counts((item.pixels.scores - np.float32(strength) * logs).argmax(1)))

    def lead(one: int, other: int, objective: str = settings.objective) -> tuple[float, float]:
        return difference_interval(counts[one], counts[other], objective=objective, seed=settings.seed)

    last = len(candidates) - 1
    ahead = [lead(k, last)[0] for k in range(last)]
    if settings.objective == "both":
        ahead = [value if lead(k, last, "accuracy")[1] >= 0 else 0.0 for k, value in enumerate(ahead)]
    winner = int(np.argmax(ahead)) if max(ahead, default=0.0) > 0 else last
    tried: list[dict[str, object]] = []
    for k, item in enumerate(candidates):
        total = counts[k].sum(0)
        low, high = lead(k, winner)
        tried.append(
            {
                "model": item.name,
                "summary": item.expert.header.architecture.summary,
                "prior": priors[k],
                "accuracy": round(float(objective_of(total, "accuracy")), 4),
                "macro_f1": round(float(objective_of(total, "macro_f1")), 4),
                "lead_over_chosen": [round(low, 4), round(high, 4)],
                "chosen": k == winner,
            }
        )
    return candidates[winner], tried
