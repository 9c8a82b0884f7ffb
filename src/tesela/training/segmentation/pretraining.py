"""Pretraining of an encoder for class maps: squares of scenes without labels are hidden and predicted."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn

from tesela.core.errors import InputError, join_words
from tesela.core.progress import ProgressLine
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.core.units import parse_duration_s
from tesela.models.segmentation.networks import PRETRAINED_MODELS, SEGMENTATION_NETWORKS
from tesela.patches.unlabelled import UnlabelledWindows, read_windows
from tesela.training.segmentation.data import augment
from tesela.training.segmentation.settings import PRETRAINING_SETTINGS, SegmentationSettings
from tesela.training.segmentation.trainer import choose_hardware
from tesela.training.shell import TrainingFolder, check_loss, cpu_threads, epoch_text

if TYPE_CHECKING:
    import geopandas as gpd

_LOG = logging.getLogger(__name__)

SQUARE_PX = 8
"""Side of the hidden squares: larger than what bilinear interpolation fills in."""

HIDDEN_SHARE = 0.5
"""Share of the squares that are hidden."""

_WARMUP = 0.05
_TIMED_STEPS = 3
_OPTIMISER = 1.1
"""Time of a step with the optimiser, relative to that without."""


class Objective(Protocol):
    """A network with its loss on images without labels."""

    @property
    def encoder(self) -> nn.Module:
        """Part that is kept."""

    def loss(self, images: torch.Tensor, valid: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """
        Loss of a batch.

        Parameters
        ----------
        images : (batch, bands, size, size) tensor of float32
            Standardised; 0 without data.
        valid : (batch, size, size) tensor of bool
            Pixels with data.
        rng : numpy Generator
            Source of all randomness.
        """


class MaskedReconstruction(nn.Module):
    """
    A network predicts the values of hidden squares from what is around them, as SimMIM does [Xie2022]_.

    Encoder and decoder are those of the later training; the last layer gives bands in place of classes. Hidden pixels
    are 0, as pixels without data are in training. The loss is the mean absolute error of hidden pixels with data, in
    standard deviations of the bands.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        """Encoder of the network."""
        encoder = self.network.encoder
        assert isinstance(encoder, nn.Module)
        return encoder

    def loss(self, images: torch.Tensor, valid: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Mean absolute error of the hidden pixels."""
        squares = tuple(-(-side // SQUARE_PX) for side in images.shape[2:])
        drawn = torch.from_numpy(rng.random((len(images), 1, *squares)) < HIDDEN_SHARE)
        hidden = drawn.repeat_interleave(SQUARE_PX, 2).repeat_interleave(SQUARE_PX, 3)
        hidden = hidden[:, :, : images.shape[2], : images.shape[3]].to(images.device)  # (b, 1, s, s)
        shown = torch.where(hidden, 0, images).contiguous(memory_format=torch.channels_last)
        error = (self.network(shown).float() - images).abs().mean(1, keepdim=True)
        counted = hidden & valid[:, None]
        loss: torch.Tensor = (error * counted).sum() / counted.sum().clamp_min(1)
        return loss


def pretrain_encoder(
    scenes: Sequence[Scene],
    out: str | Path,
    *,
    settings: SegmentationSettings,
    standardisation: Standardisation,
    size_px: int,
    budget: str,
    left_out: gpd.GeoDataFrame | None = None,
    objective: Callable[[nn.Module], Objective] = MaskedReconstruction,
    quiet: bool = False,
) -> Path:
    """
    Train the encoder of a later training on scenes without labels, and write it as a start for `weights`.

    Windows are drawn from the scenes, flipped, rotated and brightened; squares of them are hidden, and the network
    predicts them [Xie2022]_. A pretraining that was interrupted continues after its last checkpoint and ends with the
    same bytes on a CPU. Its state is kept in a folder ``.training`` beside `out`.

    Parameters
    ----------
    scenes : sequence of Scene
        Scenes that hold the bands of `standardisation`.
    out : str or Path
        The ``.safetensors`` file to write: tensors of the encoder; its metadata ("meta", JSON) names encoder, bands,
        scenes, the number of windows and of areas left out.
    settings : SegmentationSettings
        Those of the later training: network, encoder, decoder, `weights` to begin with, batch size, rate and seed.
    standardisation : Standardisation
        That of the later training.
    size_px : int
        Side of the windows: that of the later patches.
    budget : str
        Processor time with reading the scenes, such as "2 min".
    left_out : GeoDataFrame, optional
        Areas whose pixels are not used: they count as pixels without data.
    objective : callable
        Makes the trained module of a network that gives as many channels as it takes.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If no window is left, a scene lacks a band, the pretraining diverges, or a file cannot be written.
    """
    target, chosen, begun = Path(out), settings.resolved, time.process_time()
    if chosen.model not in PRETRAINED_MODELS:
        raise InputError(
            f"A model '{chosen.model}' has no encoder to pretrain. Take {' or '.join(PRETRAINED_MODELS)}, or leave "
            f"pretraining out."
        )
    windows = read_windows(scenes, standardisation, size_px=size_px, seed=chosen.seed, left_out=left_out)
    _LOG.info(
        "%s: %d windows of %d px of %s, %s",
        target,
        len(windows),
        size_px,
        join_words([scene.name for scene in scenes], most=6),
        "without the areas left out" if left_out is not None else "nothing left out",
    )
    work = {
        "windows": hashlib.sha256(windows.images.data).hexdigest(),
        "settings": {name: getattr(chosen, name) for name in PRETRAINING_SETTINGS},
        "budget": budget,
        "objective": getattr(objective, "__name__", ""),
    }
    folder = TrainingFolder.open(target, work=work)
    bands = len(standardisation.bands)
    plan = SEGMENTATION_NETWORKS["unet"].plan(
        bands=bands, classes=bands, encoder=chosen.encoder, decoder=chosen.decoder
    )
    with torch.random.fork_rng(), cpu_threads(chosen.threads):
        torch.manual_seed(chosen.seed)
        model = objective(plan.build(weights=chosen.weights))
        assert isinstance(model, nn.Module)
        _train(
            model,
            windows,
            settings=chosen,
            folder=folder,
            seconds=parse_duration_s(budget) - (time.process_time() - begun),
            quiet=quiet,
        )
    facts = {
        "encoder": chosen.encoder,
        "bands": list(standardisation.bands),
        "scenes": sorted({scene.name for scene in scenes}),
        "windows": len(windows),
        "size_px": size_px,
        "areas_left_out": 0 if left_out is None else len(left_out),
        "budget": budget,
    }
    _write(model.encoder, target, facts)
    folder.remove()
    return target


def _train(
    model: nn.Module,
    windows: UnlabelledWindows,
    *,
    settings: SegmentationSettings,
    folder: TrainingFolder,
    seconds: float,
    quiet: bool,
) -> None:
    """Train on the windows until the steps that the budget allows are done, from the checkpoint if there is one."""
    accelerator, _, precision = choose_hardware(replace(settings, devices=1))
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batch = min(settings.batch_size, len(windows))

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        images, valid = windows.take(rng.choice(len(windows), batch, replace=False))
        images, kept = augment(
            images,
            valid,
            rng,
            brightness=settings.brightness,
            contrast=settings.contrast,
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
            loss: torch.Tensor = model.loss(images.to(device), kept.to(device) > 0, rng)  # type: ignore[operator]
        return loss

    state = folder.read()
    if state is None:
        steps, first = _count_steps(model, loss_of, seconds), 0
    else:
        steps, first = state["steps"], state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    line = ProgressLine("pretraining", unit="steps", quiet=quiet)
    shown, total, counted = max(1, steps // 20), 0.0, 0
    try:
        line.start(total=steps, done=first)
        for step in range(first, steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(step, steps)
            torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
            loss = loss_of(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip or 1.0)
            optimizer.step()
            total, counted = total + float(loss.detach()), counted + 1
            if counted == shown or step + 1 == steps:
                check_loss(total, epoch=step + 1, remedy="Lower learning_rate.")
                line.describe(epoch_text(step + 1, {"loss": total / counted}))
                total, counted = 0.0, 0
            line.move(step + 1)
            if folder.is_due or step + 1 == steps:
                folder.write_state(
                    {
                        "steps": steps,
                        "step": step + 1,
                        "model": dict(model.state_dict()),
                        "optimizer": optimizer.state_dict(),
                    }
                )
    finally:
        line.stop()
    model.cpu().eval()


def _count_steps(model: nn.Module, loss_of: Callable[[int], torch.Tensor], seconds: float) -> int:
    """Steps for which the processor time is enough, after a few were timed; the network stays as it is."""
    before = {name: item.clone() for name, item in model.state_dict().items()}
    started = begun = time.process_time()
    for step in range(_TIMED_STEPS + 1):
        if step == 1:  # the first step also sets up
            begun = time.process_time()
        loss_of(step).backward()  # type: ignore[no-untyped-call]
    now = time.process_time()
    step_s = _OPTIMISER * (now - begun) / _TIMED_STEPS
    model.zero_grad(set_to_none=True)
    model.load_state_dict(before)
    return max(1, int((seconds - (now - started)) / max(step_s, 1e-6)))


def _rate(step: int, steps: int) -> float:
    """Learning rate of a step, relative to the highest: linear warm-up, then a half cosine."""
    first = round(_WARMUP * steps)
    if step < first:
        return (step + 1) / (first + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(steps - first, 1)))


def _write(encoder: nn.Module, target: Path, facts: dict[str, object]) -> None:
    """Write the tensors; one text of metadata, since safetensors writes several in any order."""
    from safetensors.torch import save

    state = encoder.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
    content = save(tensors, {"meta": json.dumps(facts, sort_keys=True)})
    aside = target.with_suffix(".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
