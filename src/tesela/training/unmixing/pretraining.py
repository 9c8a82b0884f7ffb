"""
Pretraining: a network is trained on other series before it is trained on shares.

"classes" learns the classes of labelled pure series, as Rodriguez-Ortega et al. [RodriguezOrtega2024]_ do on
TimeSpec4LULC; "gaps" learns to predict hidden months, without labels; "both" does both at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.legend import LandClass, Legend
from tesela.core.machine import steady_memory
from tesela.core.progress import ProgressLine
from tesela.models.context import SeriesNetwork
from tesela.models.expert import open_expert
from tesela.models.output import Tensor, UnmixingNetwork
from tesela.models.published_checkpoints import checkpoint_weights
from tesela.patches.pixels import PixelTable
from tesela.training.shell import (
    PRETRAINING,
    TrainingFolder,
    check_loss,
    choose_accelerator,
    cpu_threads,
    epoch_text,
)
from tesela.training.unmixing.batches import TEST, VAL, PixelSource, shuffled_parts
from tesela.training.unmixing.loop import digest, random_state, restore_random_state
from tesela.training.unmixing.members import member_settings, member_weights
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings
from tesela.training.unmixing.train import fit_scaling, plan_network

Kind = Literal["classes", "gaps", "both"]
"""What is learned first."""

HIDDEN_SHARE = 0.3
"""Share of the months that are hidden and must be predicted."""

PURITY = 0.9
"""Least share of a class in a pixel that counts as one of that class."""

_HEADS = ("head.", "ahead.out.", "back.out.", "decoder.")
"""Parts that belong to the classes of the pretraining."""
_UNUSED = ("neighbours.",)
"""Parts that single series do not train."""
_LAYERS = ("film.", "ahead.ancillary.", "back.ancillary.")
"""Parts that only series with layers train."""


def pretrain(
    table: PixelTable,
    settings: UnmixingSettings,
    *,
    kind: Kind = "gaps",
    like: PixelTable | None = None,
    epochs: int = 20,
    purity: float = PURITY,
    out: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Tensor]:
    """
    Train on other series, and return the weights with which the training on shares starts.

    Give the result to `train_unmixing` as `start`; `UnmixingSettings.body_rate` is their learning rate there, relative
    to that of the new head.

    Parameters
    ----------
    table : PixelTable
        Pixels with the bands and months of the later training. With "classes" and "both", pixels of which one class
        covers `purity` or more, but none of val or test; with "gaps" all pixels, whose shares are not used.
    settings : UnmixingSettings
        Those of the later training: the model, its width and the optimiser. With `members` or "auto" every network is
        pretrained.
    kind : {"classes", "gaps", "both"}
        Classes of pure series, values of hidden months, or both.
    like : PixelTable, optional
        Table of the later training, whose scaling and layers are used, so that both trainings have the same inputs;
        layers that `table` lacks are unknown. Default: `table` itself.
    purity : float
        Least share, 0.5 to 1.
    out : str or Path, optional
        Expert file of the later training. With it, an interrupted pretraining continues after its last checkpoint; its
        state is kept beside the file until `train_unmixing` ends.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    dict of str to tensor
        Weights of all that was trained, without the head.

    Raises
    ------
    InputError
        If the model is one that is fitted and has no weights, or bands or months are not those of `like`; if there are
        no pure pixels of two classes; if the training diverges, or a file cannot be written.
    """
    chosen = settings.resolved
    if kind not in ("classes", "gaps", "both"):
        raise InputError(unknown_name("kind of pretraining", kind, ("classes", "gaps", "both")))
    if chosen.is_joined:
        weights: dict[str, Tensor] = {}
        plans = {own.model: own for own in reversed(member_settings(chosen)) if own.model not in CLASSIC}
        for model, own in plans.items():
            file = None if out is None else Path(out).with_suffix(f".{model}{Path(out).suffix}")
            made = pretrain(
                table, own, kind=kind, like=like, epochs=epochs, purity=purity, out=file, quiet=quiet
            )
            weights |= member_weights(model, made)
        return weights
    if chosen.model in CLASSIC:
        raise InputError(
            f"A model '{chosen.model}' is fitted at once and cannot be pretrained. Take brits or an encoder."
        )
    untrained = _UNUSED if like is None or set(table.layers) & set(like.layers) else (*_UNUSED, *_LAYERS)
    scaled_like = like or replace(table, splits=np.zeros(len(table), np.uint8))
    if like is not None:
        table = _with_inputs_of(table, like)
    labelled = _without_shares(table) if kind == "gaps" else pure_pixels(table, purity=purity)
    mean, std, scaling = fit_scaling(scaled_like)
    source = PixelSource(labelled, scaling, mean, std)
    with cpu_threads(chosen.threads):
        network = _run(source, chosen, kind=kind, epochs=epochs, out=out, quiet=quiet)
    return {
        name: item
        for name, item in network.cpu().state_dict().items()
        if not name.startswith((*_HEADS, *untrained))
    }


def pure_pixels(table: PixelTable, *, purity: float = PURITY) -> PixelTable:
    """
    Pixels of which one class covers almost all, with that class alone, and the classes that occur.

    Pixels of val and test are left out: the later training may be assessed on them.

    Raises
    ------
    InputError
        If the pixels have no shares, or fewer than two classes are left.
    """
    if table.legend is None:
        raise InputError(
            'The series to pretrain on have no classes. Give labelled series, or set kind = "gaps".'
        )
    kept = (table.splits != VAL) & (table.splits != TEST) & (table.targets.max(1) >= purity)
    names = table.legend.names
    table = table.take(kept)
    classes = np.unique(table.targets.argmax(1))
    if len(classes) < 2:
        raise InputError(
            f"The series to pretrain on have {len(classes)} class with pixels of {purity:.0%} or more; two or more "
            f'are needed. Lower purity, or set kind = "gaps".'
        )
    labels = np.searchsorted(classes, table.targets.argmax(1))
    legend = Legend(
        "pure",
        tuple(LandClass(k + 1, str(k + 1), names[old], "#808080") for k, old in enumerate(classes)),
    )
    return replace(table, targets=np.eye(len(classes), dtype=np.float32)[labels], legend=legend)


def _run(
    source: PixelSource,
    settings: UnmixingSettings,
    *,
    kind: Kind,
    epochs: int,
    out: str | Path | None,
    quiet: bool,
) -> UnmixingNetwork:
    """Train from the start, or from the checkpoint beside the output."""
    table, folder = source.table, None
    if out is not None:
        arrays = {name: getattr(table, name) for name in ("values", "static", "targets")}
        scaling = [source.mean.tolist(), source.std.tolist(), source.scaling.to_dict()]
        work = {
            "series": digest(arrays),
            "scaling": scaling,
            "settings": settings.to_dict(),
            "kind": kind,
            "epochs": epochs,
        }
        folder = TrainingFolder.open(Path(out), work=work | {"months": list(table.months)}, part=PRETRAINING)
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    device = torch.device("cuda" if choose_accelerator(settings.accelerator) == "gpu" else "cpu")
    network = plan_network(table, replace(settings, head="softmax", endmember_decoder=False)).build()
    model = _Pretext(network, kind, table).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    per_epoch = math.ceil(len(table) / settings.batch_size)
    first = 1
    state = None if folder is None else folder.read()
    if state is not None:
        first = state["epoch"] + 1
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["random"], generator, device)
    line = ProgressLine("pretraining", unit="steps", quiet=quiet)
    with steady_memory():
        try:
            line.start(total=epochs * per_epoch, done=(first - 1) * per_epoch)
            for epoch in range(first, epochs + 1):
                model.train()
                losses = []
                parts = shuffled_parts(np.arange(len(table)), generator)
                order = np.concatenate([generator.permutation(part) for part in parts])
                for number, start in enumerate(range(0, len(order), settings.batch_size)):
                    done = (epoch - 1) * per_epoch + number
                    rate = 0.5 * (1 + math.cos(math.pi * done / (per_epoch * epochs)))
                    for group in optimizer.param_groups:
                        group["lr"] = settings.learning_rate * rate
                    pixels = order[start : start + settings.batch_size]
                    loss = model(*_batch(source, pixels, kind, settings, generator, device))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    losses.append(loss.detach())
                mean_loss = float(torch.stack(losses).mean())
                check_loss(mean_loss, epoch=epoch, remedy="Lower learning_rate.")
                line.move(epoch * per_epoch)
                line.describe(epoch_text(epoch, {"loss": mean_loss}))
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
    return network


def _batch(
    source: PixelSource,
    pixels: NDArray[np.integer],
    kind: Kind,
    settings: UnmixingSettings,
    generator: np.random.Generator,
    device: torch.device,
) -> tuple[Tensor, ...]:
    """Values, mask, mask with some months hidden, layers and classes of some pixels."""
    values, mask, static, targets = (
        item.to(device) for item in (*source.inputs(pixels), source.targets(pixels))
    )
    share = settings.month_mask if kind == "classes" else HIDDEN_SHARE
    drawn = generator.random((len(pixels), mask.shape[1], 1), dtype=np.float32)
    shown = mask * torch.from_numpy((drawn >= share).astype(np.float32)).to(device)
    return values, mask, shown, static, targets


class _Pretext(nn.Module):
    """
    Loss of the pretraining.

    Encoders get a linear layer for the classes and one for the values of hidden months; BRITS has both itself.
    """

    def __init__(self, network: UnmixingNetwork, kind: Kind, table: PixelTable) -> None:
        super().__init__()
        assert table.legend is not None
        self.network, self.kind = network, kind
        self.shape = (len(table.times), len(table.bands))
        width = network.width if isinstance(network, SeriesNetwork) else 0
        steps, bands = self.shape
        self.classify = nn.Linear(width, len(table.legend)) if width and kind != "gaps" else None
        self.rebuild = nn.Linear(width, steps * bands) if width and kind != "classes" else None

    def forward(self, values: Tensor, mask: Tensor, shown: Tensor, static: Tensor, targets: Tensor) -> Tensor:
        hidden = mask * (1 - shown)
        loss = values.new_zeros(())
        if isinstance(self.network, SeriesNetwork):
            embedded = self.network.embed(values, shown, static)
            if self.classify is not None:
                scores = self.classify(self.network.dropout(embedded))
                loss = loss + functional.cross_entropy(scores, targets)
            if self.rebuild is not None:
                loss = loss + _error_of_hidden(self.rebuild(embedded).view(-1, *self.shape), values, hidden)
            return loss
        output = self.network.answer(values, shown, static)
        assert output.imputed is not None
        assert output.imputation_error is not None
        if self.kind != "gaps":
            loss = loss - (targets * output.heads.clamp_min(1e-6).log()).sum(-1).mean()
        if self.kind != "classes":
            loss = loss + _error_of_hidden(output.imputed, values, hidden)
        weight = 0.25 if self.kind == "classes" else 1.0
        return loss + weight * output.imputation_error / (6 * self.shape[0])


def _error_of_hidden(predicted: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    error: Tensor = ((predicted - values).abs() * hidden).sum() / hidden.sum().clamp_min(1)
    return error


def _with_inputs_of(table: PixelTable, like: PixelTable) -> PixelTable:
    """The table with the bands, months and layers of another, in their order; layers that it lacks are NaN."""
    lacking = [name for name in like.bands if name not in table.bands]
    if lacking:
        raise InputError(
            f"The series to pretrain on have the bands {join_words(table.bands)}; they lack {join_words(lacking)} of "
            f"the pixels to train on. Give series with these bands."
        )
    months = list(table.months)
    if sorted(months) != sorted(like.months) or (
        months != list(like.months) and len(set(months)) < len(months)
    ):
        raise InputError(
            f"The series to pretrain on have the months {join_words(map(str, months))}; the pixels to train on have "
            f"{join_words(map(str, like.months))}. Both must have the same months."
        )
    order = (
        list(range(len(months)))
        if months == list(like.months)
        else [months.index(month) for month in like.months]
    )
    bands = [table.bands.index(name) for name in like.bands]
    same = order == list(range(len(table.times))) and bands == list(range(len(table.bands)))
    columns = [
        table.static[:, table.layers.index(name)]
        if name in table.layers
        else np.full(len(table), np.nan, np.float32)
        for name in like.layers
    ]
    return replace(
        table,
        values=table.values if same else np.ascontiguousarray(table.values[:, order][:, :, bands]),
        static=np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32),
        times=like.times,
        bands=like.bands,
        layers=like.layers,
    )


_NO_LEGEND = Legend(
    "unlabelled", (LandClass(1, "1", "Any", "#808080"), LandClass(2, "2", "Other", "#c0c0c0"))
)


def _without_shares(table: PixelTable) -> PixelTable:
    """The table with empty shares of two classes, so that a network can be built for it."""
    return replace(table, targets=np.zeros((len(table), len(_NO_LEGEND)), np.float32), legend=_NO_LEGEND)


def read_start(path: str | Path, settings: UnmixingSettings) -> dict[str, Tensor]:
    """
    Weights of another expert, or of a published checkpoint, to start a training with; its head is left out.

    Raises
    ------
    ExpertError
        If the file is neither.
    """
    if Path(path).suffix == ".ckpt":
        weights: Mapping[str, Tensor] = checkpoint_weights(path)
    else:
        network = open_expert(path).network
        assert isinstance(network, nn.Module)
        weights = network.state_dict()
    body = {name: item for name, item in weights.items() if not name.startswith(_HEADS)}
    if not settings.is_joined:
        return body
    networks = {model for model in settings.models if model not in CLASSIC}
    return {key: item for model in networks for key, item in member_weights(model, body).items()}
