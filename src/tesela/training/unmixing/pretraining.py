"""Pretraining: a network is trained on series without labels, before it is trained on their shares."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tesela.core.errors import InputError, join_words
from tesela.core.legend import LandClass, Legend
from tesela.core.machine import steady_memory
from tesela.models.context import SeriesNetwork
from tesela.models.output import Tensor, UnmixingNetwork
from tesela.models.unmixing_header import SeriesScaling
from tesela.patches.pixels import PixelTable
from tesela.training.shell import (
    PRETRAINING,
    ProgressLine,
    TrainingFolder,
    check_loss,
    choose_accelerator,
)
from tesela.training.unmixing.batches import PixelSource
from tesela.training.unmixing.loop import digest, random_state, restore_random_state
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings
from tesela.training.unmixing.train import fit_scaling, plan_network

HIDDEN_SHARE = 0.3
"""Share of the months that are hidden and must be predicted."""

_NO_LEGEND = Legend(
    "unlabelled", (LandClass(1, "1", "Any", "#808080"), LandClass(2, "2", "Other", "#c0c0c0"))
)


def pretrain(
    table: PixelTable,
    settings: UnmixingSettings,
    *,
    like: PixelTable | None = None,
    epochs: int = 20,
    out: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Tensor]:
    """
    Train on series without labels: predict the values of hidden months.

    Give the result to `train_unmixing` as `start`. To pretrain with labels of another legend, such as those of
    TimeSpec4LULC, train an expert on them and give its weights, ``expert.network.state_dict()``: tensors that fit are
    used.

    Parameters
    ----------
    table : PixelTable
        Pixels of the bands and months of the later training; splits and shares are not used.
    settings : UnmixingSettings
        Those of the later training: the model, its width and the optimiser.
    like : PixelTable, optional
        Table of the later training, whose scaling and layers are used, so that both trainings have the same inputs;
        layers that `table` lacks are unknown. Default: `table` itself.
    out : str or Path, optional
        Expert file of the later training. With it, an interrupted pretraining continues after its last checkpoint; its
        state is kept beside the file until `train_unmixing` ends.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    dict of str to tensor
        Weights of all but the head.

    Raises
    ------
    InputError
        If the model is one that is fitted and has no weights, or bands or months are not those of `like`; if the
        training diverges, or a file cannot be written.
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
    folder = None
    if out is not None:
        arrays = {name: getattr(source, name) for name in ("values", "mask", "static")}
        work = {"series": digest(arrays), "settings": asdict(chosen), "epochs": epochs}
        folder = TrainingFolder.open(Path(out), work=work | {"months": list(table.months)}, part=PRETRAINING)
    torch.manual_seed(chosen.seed)
    generator = np.random.default_rng(chosen.seed)
    device = torch.device("cuda" if choose_accelerator(chosen.accelerator) == "gpu" else "cpu")
    network = plan_network(bare, chosen).build().to(device)
    model = _Imputation(network, chosen, steps=len(table.times), bands=len(table.bands)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay)
    per_epoch = math.ceil(len(table) / chosen.batch_size)
    first = 1
    state = None if folder is None else folder.read()
    if state is not None:
        first = state["epoch"] + 1
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["random"], generator, device)
    line = ProgressLine(quiet=quiet, title="pretraining")
    with steady_memory():
        try:
            line.start(total=epochs * per_epoch, done=(first - 1) * per_epoch)
            for epoch in range(first, epochs + 1):
                model.train()
                losses = []
                order = generator.permutation(len(table))
                for number, start in enumerate(range(0, len(order), chosen.batch_size)):
                    pixels = torch.from_numpy(order[start : start + chosen.batch_size])
                    values, mask, static = (
                        item[pixels].to(device) for item in (source.values, source.mask, source.static)
                    )
                    drawn = generator.random((len(pixels), mask.shape[1], 1), dtype=np.float32)
                    shown = mask * torch.from_numpy((drawn >= HIDDEN_SHARE).astype(np.float32)).to(device)
                    done = (epoch - 1) * per_epoch + number
                    for group in optimizer.param_groups:
                        group["lr"] = (
                            chosen.learning_rate * 0.5 * (1 + math.cos(math.pi * done / (per_epoch * epochs)))
                        )
                    loss = model(values, mask, shown, static)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    losses.append(loss.detach())
                mean_loss = float(torch.stack(losses).mean())
                check_loss(mean_loss, epoch=epoch, remedy="Lower learning_rate.")
                line.move(epoch * per_epoch)
                line.show(epoch, {"loss": mean_loss})
                if folder is not None and (epoch == epochs or folder.is_due):
                    folder.write_state(
                        {
                            "epoch": epoch,
                            "model": dict(model.state_dict()),
                            "optimizer": optimizer.state_dict(),
                            "random": random_state(generator, device),
                        }
                    )
        finally:
            line.stop()
    weights = network.cpu().state_dict()
    return {name: item for name, item in weights.items() if not name.startswith(_HEADS)}


_HEADS = ("head.", "ahead.out.", "back.out.", "decoder.")
"""Parts that are not trained here."""


class _Imputation(nn.Module):
    """Error of the hidden values: BRITS predicts them itself, encoders get a linear layer for it."""

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
            predicted = self.rebuild(self.network.embed(values, shown, static)).view(-1, *self.shape)
        else:
            output = self.network.answer(values, shown, static)
            assert output.imputed is not None
            assert output.imputation_error is not None
            predicted = output.imputed
            extra = output.imputation_error / (6 * self.shape[0])
        error: Tensor = ((predicted - values).abs() * hidden).sum() / hidden.sum().clamp_min(1)
        return error + extra


def _with_layers_of(table: PixelTable, like: PixelTable) -> PixelTable:
    """The table with the layers of another; NaN for those that it lacks."""
    for kind, given, wanted in (
        ("bands", table.bands, like.bands),
        ("months", [*map(str, table.months)], [*map(str, like.months)]),
    ):
        if tuple(given) != tuple(wanted):
            raise InputError(
                f"The series to pretrain on have the {kind} {join_words(given)}; the pixels to train on have "
                f"{join_words(wanted)}. Both must be the same, in order."
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
