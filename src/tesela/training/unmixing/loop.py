"""The training of one unmixing network: its loss, its epochs, and its score on the validation pixels."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tesela.core.errors import ExpertError
from tesela.models.context import SeriesNetwork
from tesela.models.mixing import mixed_endmembers
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import Unmixer
from tesela.training.shell import EarlyStopping, MovingAverage, check_loss, choose_accelerator
from tesela.training.unmixing.batches import TRAIN, VAL, Batch, PixelSource, training_batches
from tesela.training.unmixing.settings import UnmixingSettings

_LEAST_SHARE = 1e-6
_PRESENCE = 1.0
"""Weight of the cross-entropy of presence, beside that of the shares."""
_SPARSEMAX = 2.0
"""Weight of the loss of sparsemax, so that it is as large as the cross-entropy of shares."""


_ENDMEMBER_PIXELS = 100_000
"""Training pixels, evenly taken, from which first endmembers are fitted."""


class NetworkTraining:
    """
    The training of one network, epoch by epoch; between two epochs its state can be saved and loaded.

    Parameters
    ----------
    plan : Unmixer
        Architecture of the network.
    source : PixelSource
        Pixels of all splits.
    settings : UnmixingSettings
        With `published` resolved.
    parents : (classes, parents) tensor, optional
        Classes one level up; see `parent_matrix`.
    start : mapping of str to tensor, optional
        Weights to begin with, see `load_start`.
    """

    def __init__(
        self,
        plan: Unmixer,
        source: PixelSource,
        settings: UnmixingSettings,
        parents: Tensor | None,
        *,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.source, self.settings, self.parents = source, settings, parents
        self.generator = np.random.default_rng(settings.seed)
        self.device = torch.device("cuda" if choose_accelerator(settings.accelerator) == "gpu" else "cpu")
        self.network = plan.build().to(self.device)
        loaded = frozenset() if start is None else load_start(self.network, start)
        if isinstance(self.network, SeriesNetwork) and self.network.decoder is not None:
            train = source.chosen(TRAIN)
            train = train[:: -(-len(train) // _ENDMEMBER_PIXELS)]
            values, mask, _ = source.inputs(train)
            first = mixed_endmembers(values.numpy(), mask.numpy() > 0, source.targets(train).numpy())
            self.network.decoder.endmembers.data.copy_(torch.from_numpy(first))
        self.average = MovingAverage(self.network, decay=settings.ema) if settings.ema else None
        kind = torch.optim.Adam if settings.published else torch.optim.AdamW
        self.optimizer = kind(
            rate_groups(self.network, loaded, settings),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.steps_per_epoch = max(1, math.ceil(len(source.chosen(TRAIN)) / settings.batch_size))
        self.stopping = EarlyStopping(settings.patience, larger_is_better=False)
        self.curve: list[float] = []
        """Validation RMSE so far."""
        self.epoch = self.step = 0
        self.loss = math.nan
        """Mean loss of the last epoch."""

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation RMSE stopped falling."""
        return self.epoch >= self.settings.epochs or self.stopping.is_over

    @property
    def validated(self) -> UnmixingNetwork:
        """The network that is validated and saved."""
        network = self.network if self.average is None else self.average.network
        assert isinstance(network, UnmixingNetwork)
        return network

    def run_epoch(self) -> None:
        """
        Train one epoch, and validate after it if it is due.

        Raises
        ------
        InputError
            If the training diverges.
        """
        self.epoch += 1
        self.network.train()
        losses = []
        for batch in training_batches(
            self.source, self.settings, margin_px=self.network.margin_px, generator=self.generator
        ):
            losses.append(self._run_step(batch.to(self.device)))
        self.loss = float(torch.stack(losses).mean())
        check_loss(self.loss, epoch=self.epoch, remedy="Lower learning_rate.")
        if self.epoch % self.settings.validate_every and self.epoch != self.settings.epochs:
            return
        rmse = validate(self.validated, self.source, self.parents)
        check_loss(rmse, epoch=self.epoch, remedy="Lower learning_rate.")
        self.curve.append(round(rmse, 6))
        self.stopping.update(rmse, self.validated, epoch=self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """State after an epoch, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "network": dict(self.network.state_dict()),
            "average": {} if self.average is None else dict(self.average.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self.generator, self.device),
            "stopping": self.stopping.state_dict(),
            "curve": self.curve,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.epoch, self.step, self.curve = state["epoch"], state["step"], list(state["curve"])
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stopping.load_state_dict(state["stopping"])
        restore_random_state(state["random"], self.generator, self.device)

    def _run_step(self, batch: Batch) -> Tensor:
        """Train on one batch; its loss."""
        chosen = self.settings
        total = chosen.epochs * self.steps_per_epoch
        progress = (self.epoch - 1) / chosen.epochs if chosen.published else self.step / total
        for group in self.optimizer.param_groups:
            group["lr"] = group["relative"] * chosen.learning_rate * _rate(progress, chosen.warmup)
        values, mask = batch.inner
        loss = unmixing_loss(
            self.network.answer(batch.values, batch.shown, batch.static),
            batch.targets,
            values=values,
            mask=mask,
            labelled=batch.labelled,
            parents=None if self.parents is None else self.parents.to(self.device),
            settings=chosen,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if chosen.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), chosen.clip)
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.network)
        return loss.detach()


_TIMED_STEPS = 3


def epoch_seconds(
    plan: Unmixer, source: PixelSource, settings: UnmixingSettings, parents: Tensor | None
) -> float:
    """Processor seconds of an epoch with its part of the validations, by a few steps of a network of random weights."""
    training = NetworkTraining(plan, source, replace(settings, epochs=1_000), parents)
    training.epoch = 1
    training.network.train()
    margin = training.network.margin_px
    batches = training_batches(source, settings, margin_px=margin, generator=training.generator)
    begun, steps = 0.0, 0
    for number, batch in enumerate(batches):
        if number == 1 or not begun:  # the first step also sets up
            begun, steps = time.process_time(), 0
        training._run_step(batch.to(training.device))
        steps += 1
        if number == _TIMED_STEPS:
            break
    step = (time.process_time() - begun) / steps
    begun = time.process_time()
    validate(training.validated, source, parents)
    validation = time.process_time() - begun
    return step * training.steps_per_epoch + validation / settings.validate_every


def _rate(progress: float, warmup: float) -> float:
    """Learning rate at a share of the training, relative to the highest."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def rate_groups(
    network: UnmixingNetwork, loaded: frozenset[str], settings: UnmixingSettings
) -> list[dict[str, Any]]:
    """Groups of parameters by learning rate relative to the settings': pretrained ones, and new ones."""
    named = list(network.named_parameters())
    groups = [
        ([item for name, item in named if name in loaded], settings.body_rate),
        ([item for name, item in named if name not in loaded], 1.0),
    ]
    return [{"params": items, "relative": relative} for items, relative in groups if items]


def load_start(network: UnmixingNetwork, start: Mapping[str, Tensor]) -> frozenset[str]:
    """Load the weights whose names and shapes fit; returns their names."""
    own = network.state_dict()
    fitting = {name: item for name, item in start.items() if name in own and own[name].shape == item.shape}
    if not fitting:
        raise ExpertError("No tensor of the pretrained network fits. Pretrain the model that is trained.")
    network.load_state_dict(fitting, strict=False)
    return frozenset(fitting)


# -- the state of random numbers, and of the data -----------------------------------------------------


def random_state(generator: np.random.Generator, device: torch.device) -> dict[str, Any]:
    """State of all random numbers of a training, for a checkpoint."""
    return {
        "numpy": json.dumps(generator.bit_generator.state),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(
    state: Mapping[str, Any], generator: np.random.Generator, device: torch.device
) -> None:
    """Continue the random numbers of a checkpoint."""
    generator.bit_generator.state = json.loads(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of arrays or tensors, with their names, types and shapes."""
    total = hashlib.sha256()
    for name, item in sorted(arrays.items()):
        array = np.ascontiguousarray(item.detach().cpu() if isinstance(item, torch.Tensor) else item)
        total.update(f"{name} {array.dtype} {array.shape} ".encode())
        total.update(array.view(np.uint8).data if array.size else b"")
    return total.hexdigest()


# -- the loss -----------------------------------------------------------------------------------------


def unmixing_loss(
    output: NetworkOutput,
    targets: Tensor,
    *,
    values: Tensor,
    mask: Tensor,
    labelled: Tensor,
    parents: Tensor | None,
    settings: UnmixingSettings,
) -> Tensor:
    r"""
    Loss of the predicted shares.

    Ours: :math:`w_k \mathrm{KL} + w_m \mathrm{MSE}` of the mean share, the same one level up, and the mean error of
    imputation. Published, with its sums unchanged: :math:`0.25 \sum_{t, e} \mathrm{MAE} + 0.75 \, \mathrm{MSE}` of each
    direction, and a tenth of their disagreement.

    Parameters
    ----------
    targets : (..., classes) tensor
    values, mask : (..., steps, bands) tensors
        The series before months were hidden.
    labelled : (...) tensor of bool
        Pixels whose targets count.
    parents : (classes, parents) tensor, optional
        Classes one level up; see `parent_matrix`.
    """
    if settings.published:
        return _published(output, targets, labelled, settings)
    shares, wanted = output.shares[labelled], targets[labelled]
    loss = _divergence(output, shares, wanted, labelled) * settings.kl
    loss = loss + _squared(shares, wanted) * settings.mse
    if output.presence is not None:
        present = (wanted > 0).to(shares.dtype)
        loss = loss + _PRESENCE * functional.binary_cross_entropy_with_logits(
            output.presence[labelled], present
        )
    if parents is not None and settings.parent_weight:
        above, wanted_above = shares @ parents, wanted @ parents
        part = (
            _cross_entropy(above, wanted_above) * settings.kl + _squared(above, wanted_above) * settings.mse
        )
        loss = loss + settings.parent_weight * part
    if output.imputation_error is not None and output.disagreement is not None:
        estimates = 6 * values.shape[-2]  # three per step and direction
        loss = loss + settings.imputation * output.imputation_error / estimates
        loss = loss + settings.consistency * output.disagreement
    if output.rebuilt is not None:
        error = ((output.rebuilt - values) * mask)[labelled]
        loss = loss + 0.1 * error.square().sum() / mask[labelled].sum().clamp_min(1)
    return loss


def _published(
    output: NetworkOutput, targets: Tensor, labelled: Tensor, settings: UnmixingSettings
) -> Tensor:
    assert output.imputation_error is not None
    assert output.disagreement is not None
    wanted = targets[labelled]
    error = torch.stack([(head[labelled] - wanted).square().sum() for head in output.heads]).sum()
    squared = settings.mse * error / (len(wanted) + 1e-5)
    return (
        settings.imputation * output.imputation_error + squared + settings.consistency * output.disagreement
    )


def _divergence(output: NetworkOutput, shares: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
    """Cross-entropy of shares, the loss of sparsemax, or the negative log-likelihood of a Dirichlet."""
    if output.scores is not None:
        # its gradient is the error of the shares, also of those that are exactly 0, where a logarithm has none
        fixed = shares.detach()
        return ((fixed - wanted) * output.scores[labelled]).sum(-1).mean() * _SPARSEMAX
    if output.concentration is None:
        return _cross_entropy(shares, wanted)
    classes = wanted.shape[-1]
    inside = wanted * (1 - classes * 1e-3) + 1e-3  # a Dirichlet has no density at exact zeros
    parameters = shares * output.concentration[labelled][..., None]
    likelihood = (
        torch.lgamma(parameters.sum(-1))
        - torch.lgamma(parameters).sum(-1)
        + ((parameters - 1) * inside.log()).sum(-1)
    )
    return -likelihood.mean() / classes


def _cross_entropy(shares: Tensor, wanted: Tensor) -> Tensor:
    return -(wanted * shares.clamp_min(_LEAST_SHARE).log()).sum(-1).mean()


def _squared(shares: Tensor, wanted: Tensor) -> Tensor:
    return (shares - wanted).square().sum(-1).mean()


# -- validation ---------------------------------------------------------------------------------------


def validate(network: UnmixingNetwork, source: PixelSource, parents: Tensor | None) -> float:
    """Mean over the classes, and over the levels, of the RMSE on the validation pixels."""
    shares, wanted = predict_split(network, source, VAL)
    rmse = [(shares - wanted).square().mean(0).sqrt().mean()]
    if parents is not None:
        rmse.append(((shares - wanted) @ parents).square().mean(0).sqrt().mean())
    return float(torch.stack(rmse).mean())


def predict_split(network: UnmixingNetwork, source: PixelSource, split: int) -> tuple[Tensor, Tensor]:
    """Shares and targets of a split, (pixels, classes); in the order of the table, or by tiles with context."""
    device = next((item.device for item in network.parameters()), torch.device("cpu"))
    network.eval()
    shares, wanted = [], []
    with torch.inference_mode():
        for batch in _split_batches(source, split, network.margin_px):
            predicted = network(batch.values.to(device), batch.mask.to(device), batch.static.to(device)).cpu()
            shares.append(predicted[batch.labelled])
            wanted.append(batch.targets[batch.labelled])
    return torch.cat(shares), torch.cat(wanted)


def _split_batches(source: PixelSource, split: int, margin_px: int, *, tile_px: int = 64) -> Iterator[Batch]:
    """Batches that hold every pixel of a split once."""
    pixels = source.chosen(split)
    if not margin_px:
        for start in range(0, len(pixels), 8192):
            yield source.batch(pixels[start : start + 8192], margin_px=0, split=split)
        return
    tiles = np.unique(np.stack([source.table.rows[pixels], source.table.cols[pixels]], 1) // tile_px, axis=0)
    for row, col in tiles * tile_px:
        side = tile_px + 2 * margin_px
        window = source.window(int(row) - margin_px, int(col) - margin_px, side, side)
        yield source.batch(window[None], margin_px=margin_px, split=split)
