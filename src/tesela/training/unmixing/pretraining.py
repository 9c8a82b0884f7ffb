"""Pretraining: a network learns what series look like before it learns what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tesela.core.errors import InputError, join_words
from tesela.core.legend import LandClass, Legend
from tesela.core.machine import steady_memory
from tesela.models.context import SeriesNetwork
from tesela.models.output import Tensor, UnmixingNetwork
from tesela.models.series import SeriesScaling
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.batches import PixelSource
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings
from tesela.training.unmixing.train import choose_device, fit_scaling, plan_network

HIDDEN_SHARE = 0.3
"""Share of the months that are hidden and must be found again."""

_NO_LEGEND = Legend(
    "unlabelled", (LandClass(1, "1", "Any", "#808080"), LandClass(2, "2", "Other", "#c0c0c0"))
)


def pretrain(
    table: PixelTable,
    settings: UnmixingSettings,
    *,
    like: PixelTable | None = None,
    epochs: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """
    Learn from series without labels: find the values of hidden months again.

    Give the result to `train_unmixing` as `start`. To pretrain with labels of another legend, such as those of
    TimeSpec4LULC, train an expert on them and give its weights, ``expert.network.state_dict()``: what fits is taken.

    Parameters
    ----------
    table : PixelTable
        Pixels of the bands and months of the later training; splits and shares are not looked at.
    settings : UnmixingSettings
        Those of the later training: the model, its width and the optimiser.
    like : PixelTable, optional
        Table of the later training, whose scaling and layers are taken, so that the network meets again what it has
        learned; layers that `table` lacks are unknown. Default: `table` itself.

    Returns
    -------
    dict of str to tensor
        Weights of all but the head.

    Raises
    ------
    InputError
        If the model is one that is fitted and has no weights, or bands or months are not those of `like`.
    """
    chosen = settings.resolved
    if chosen.model in CLASSIC:
        raise InputError(
            f"A model '{chosen.model}' is fitted at once and cannot be pretrained. Take brits or an encoder."
        )
    if like is not None:
        table = _with_layers_of(table, like)
    mean, std, scaling = fit_scaling(like or replace(table, splits=np.zeros(len(table), np.uint8)))
    bare = _without_shares(table)
    source = PixelSource(bare, _with_prior(scaling), mean, std)
    torch.manual_seed(chosen.seed)
    generator = np.random.default_rng(chosen.seed)
    device = choose_device(chosen.accelerator)
    network = plan_network(bare, chosen).build().to(device)
    finder = _Finder(network, chosen, steps=len(table.times), bands=len(table.bands)).to(device)
    optimizer = torch.optim.AdamW(finder.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay)
    steps = math.ceil(len(table) / chosen.batch_size) * epochs
    done = 0
    with steady_memory():
        for epoch in range(1, epochs + 1):
            finder.train()
            order = generator.permutation(len(table))
            for start in range(0, len(order), chosen.batch_size):
                pixels = torch.from_numpy(order[start : start + chosen.batch_size])
                values, mask, static = (
                    item[pixels].to(device) for item in (source.values, source.mask, source.static)
                )
                drawn = generator.random((len(pixels), mask.shape[1], 1), dtype=np.float32)
                shown = mask * torch.from_numpy((drawn >= HIDDEN_SHARE).astype(np.float32)).to(device)
                for group in optimizer.param_groups:
                    group["lr"] = chosen.learning_rate * 0.5 * (1 + math.cos(math.pi * done / steps))
                loss = finder(values, mask, shown, static)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(finder.parameters(), 1.0)
                optimizer.step()
                done += 1
            if progress is not None:
                progress(epoch, epochs)
    state = network.cpu().state_dict()
    return {name: item for name, item in state.items() if not name.startswith(_HEADS)}


_HEADS = ("head.", "ahead.out.", "back.out.", "decoder.")
"""Parts that learn nothing here."""


class _Finder(nn.Module):
    """Error of the hidden values: BRITS fills them itself, encoders get a linear layer for it."""

    def __init__(
        self, network: UnmixingNetwork, settings: UnmixingSettings, *, steps: int, bands: int
    ) -> None:
        super().__init__()
        self.network = network
        self.shape = (steps, bands)
        own = isinstance(network, SeriesNetwork)
        self.rebuild = nn.Linear(network.width, steps * bands) if own else None  # type: ignore[arg-type]
        self.settings = settings

    def forward(self, values: Tensor, mask: Tensor, shown: Tensor, static: Tensor) -> Tensor:
        hidden = mask * (1 - shown)
        extra = values.new_zeros(())
        if self.rebuild is not None and isinstance(self.network, SeriesNetwork):
            found = self.rebuild(self.network.embed(values, shown, static)).view(-1, *self.shape)
        else:
            answer = self.network.answer(values, shown, static)
            assert answer.imputed is not None
            assert answer.imputation_error is not None
            found = answer.imputed
            extra = answer.imputation_error / (6 * self.shape[0])
        error: Tensor = ((found - values).abs() * hidden).sum() / hidden.sum().clamp_min(1)
        return error + extra


def _with_layers_of(table: PixelTable, like: PixelTable) -> PixelTable:
    """The table with the layers of another; NaN where it has none of that name."""
    for kind, found, wanted in (
        ("bands", table.bands, like.bands),
        ("months", [*map(str, table.months)], [*map(str, like.months)]),
    ):
        if tuple(found) != tuple(wanted):
            raise InputError(
                f"The series to pretrain on have the {kind} {join_words(found)}; the pixels to train on have "
                f"{join_words(wanted)}. Both must be alike, in order."
            )
    columns = [
        table.static[:, table.layers.index(name)]
        if name in table.layers
        else np.full(len(table), np.nan, np.float32)
        for name in like.layers
    ]
    static = np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32)
    return replace(table, static=static, layers=like.layers)


def _without_shares(table: PixelTable) -> PixelTable:
    """The table with empty shares of two classes, so that a network can be built for it."""
    return replace(table, targets=np.zeros((len(table), len(_NO_LEGEND)), np.float32), legend=_NO_LEGEND)


def _with_prior(scaling: SeriesScaling) -> SeriesScaling:
    return replace(scaling, prior=(0.5, 0.5))
