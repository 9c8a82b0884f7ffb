"""Experts of several models: each is trained by itself, and their shares are joined by weights from validation."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend, sum_to_level
from tesela.core.units import parse_duration_s
from tesela.models.ensemble import join_experts
from tesela.models.expert import Expert, open_expert
from tesela.models.mixing import unmix_linear
from tesela.models.output import Tensor
from tesela.patches.pixels import PixelTable
from tesela.training.shell import PRETRAINING, TrainingFolder
from tesela.training.unmixing.batches import VAL
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings

MEMBERS_PART = "members"
"""Part of the training's folder that holds the finished members."""

_TREE_CONTEXT_PX = 1
"""Pixels on each side whose series trees get: with more, a forest takes longer and is no better."""


def member_settings(settings: UnmixingSettings) -> tuple[UnmixingSettings, ...]:
    """Settings of each member: its model, and a seed of its own where a model is named twice."""
    plans = []
    networks = max(1, sum(model not in CLASSIC for model in settings.models))
    share = f"{parse_duration_s(settings.budget) / networks:g} s" if settings.budget else ""
    for number, model in enumerate(settings.models):
        trees = model in CLASSIC
        plans.append(
            replace(
                settings,
                members=(),
                model=model,  # type: ignore[arg-type]
                budget="" if trees else share,
                ensemble_size=1 if trees else settings.ensemble_size,
                context=min(settings.context, _TREE_CONTEXT_PX) if trees else settings.context,
                seed=settings.seed + 100_000 * settings.models[:number].count(model),
            )
        )
    return tuple(plans)


def train_each(
    plans: Sequence[UnmixingSettings],
    train: Callable[[UnmixingSettings, Path | None], Expert],
    *,
    out: Path | None,
    work: Mapping[str, object],
) -> Iterator[tuple[UnmixingSettings, Expert, float]]:
    """
    Train members one after the other; finished ones are kept in a folder beside the output.

    Parameters
    ----------
    plans : sequence of UnmixingSettings
        Settings of each member.
    train : callable
        Trains one member, and writes it to the path if that is given.
    work : mapping
        Plain values that describe the training; members of other work are trained again.

    Yields
    ------
    UnmixingSettings, Expert, float
        A member, and the processor time in seconds that it took now.
    """
    folder = None if out is None else TrainingFolder.open(out, work=work, part=MEMBERS_PART).path
    for number, own in enumerate(plans):
        file = None if folder is None else folder / f"{number}-{own.model}.safetensors"
        begun = time.process_time()
        expert = open_expert(file) if file is not None and file.exists() else train(own, file)
        yield own, expert, time.process_time() - begun


def train_members(
    table: PixelTable,
    settings: UnmixingSettings,
    train: Callable[[UnmixingSettings, Path | None], Expert],
    *,
    out: Path | None,
    work: Mapping[str, object],
) -> Expert:
    """Train the members of settings and join them; parameters as in `train_each`."""
    members = train_each(member_settings(settings), train, out=out, work=work)
    return join_weighted([expert for _, expert, _ in members], table)


def member_weights(model: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights to start the members of one model with, under names of their own; see `weights_of_member`."""
    return {f"{model}:{name}": item for name, item in weights.items()}


def weights_of_member(model: str, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Weights of `member_weights` for one model; None if there are none."""
    start = f"{model}:"
    own = {name[len(start) :]: item for name, item in (weights or {}).items() if name.startswith(start)}
    return own or None


def remove_members(out: Path) -> None:
    """Remove the folder of finished members."""
    folder = out.parent / ".training" / f"{out.stem}.{MEMBERS_PART}"
    shutil.rmtree(folder, ignore_errors=True)
    for pretraining in folder.parent.glob(f"{out.stem}.*.{PRETRAINING}"):
        shutil.rmtree(pretraining, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def join_weighted(experts: list[Expert], table: PixelTable) -> Expert:
    """
    Join experts with the weights that give the smallest squared error on the validation pixels, over all levels.

    Parameters
    ----------
    table : PixelTable
        With shares of the experts' legend and a split.
    """
    val = table.splits == VAL
    legend = experts[0].header.legend
    predicted = [unmix_pixels(expert, table, val) for expert in experts]
    seen = ~predicted[0].unseen
    columns = [_all_levels(one.shares[seen], legend) for one in predicted]
    weights = fit_weights(np.stack(columns), _all_levels(table.targets[val][seen], legend))
    joined = join_experts(experts, weights=weights)
    mixed = np.tensordot(np.asarray(weights), np.stack([one.shares[seen] for one in predicted]), axes=1)
    rmse = float(np.sqrt(((mixed - table.targets[val][seen]) ** 2).mean(0)).mean())
    scores = {**joined.header.scores, "weights": list(weights), "val_rmse": round(rmse, 6)}
    return Expert(replace(joined.header, scores=scores), joined.network)


def fit_weights(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> tuple[float, ...]:
    """
    Weights from 0 that sum to 1 and give the smallest squared error.

    Parameters
    ----------
    predicted : (members, ...) array of float
    truth : (...) array of float

    Examples
    --------
    >>> fit_weights(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.25, 0.75]))
    (0.75, 0.25)
    """
    spectra = predicted.reshape(len(predicted), -1).astype(np.float64)
    wanted = truth.reshape(1, -1).astype(np.float64)
    found = unmix_linear(wanted, np.ones(wanted.shape, np.bool_), spectra)[0]
    return tuple(round(float(weight), 4) for weight in found)


def _all_levels(shares: NDArray[np.floating], legend: Legend) -> NDArray[np.floating]:
    """(pixels, classes of all levels) shares."""
    levels = [sum_to_level(shares.T, legend, depth).T for depth in range(1, legend.depth + 1)]
    return np.concatenate(levels, axis=1)
