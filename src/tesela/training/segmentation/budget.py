"""The budget of a training: epochs and their steps fitted to a processor time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from tesela.core.units import parse_duration_s
from tesela.models.segmentation.networks import SegmentationArchitecture
from tesela.training.segmentation.data import Patches, shift_patches
from tesela.training.segmentation.heads import heads_loss
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.trainer import choose_hardware
from tesela.training.shell import MovingAverage, TrainingFolder

_TIMED_STEPS = 2
_OVERHEAD = 1.1
"""Augmentation beside the steps."""

_START_S = 1.0
"""Making the trainer and its logs."""

_EPOCH_S = 0.04
"""Sums, logs and checkpoint of an epoch, beside its steps and its validation."""

_VALIDATION_SHARE = 0.2
"""Largest share of the validation in the time of an epoch; epochs have more steps where it would be larger."""


@dataclass(frozen=True)
class Schedule:
    """Length of a training."""

    epochs: int
    """Each ends with a validation."""
    steps: int
    """Steps of an epoch, on each device."""


@dataclass(frozen=True)
class Costs:
    """Processor seconds of the parts of a training."""

    step: float
    """A training step."""
    validation: float
    """All validation patches."""
    start: float = 0.0
    """Reading all patches, and what comes before the first step."""
    epoch: float = 0.0
    """What an epoch takes besides."""


def fit_schedule(
    plan: SegmentationArchitecture,
    train: Patches,
    val: Patches | None,
    *,
    settings: SegmentationSettings,
    folder: TrainingFolder,
    classes: Sequence[int],
    size_px: int | None = None,
) -> Schedule:
    """
    Epochs and steps that take the processor time of the budget; on a GPU the time by the clock.

    A few steps of a network with random weights, and a batch of validation if there is one, are timed. The result is
    kept in the folder of the training, so a training that was killed continues with the same schedule.

    Parameters
    ----------
    classes : sequence of int
        Channels of each head of the network.
    size_px : int, optional
        Side of the windows that are cut of larger training images.
    """

    def measure() -> dict[str, int]:
        begun = time.process_time()
        costs = measure_costs(plan, train, val, settings=settings, classes=classes, size_px=size_px)
        left_s = parse_duration_s(settings.budget) - (time.process_time() - begun) - costs.start
        return asdict(plan_epochs(costs, left_s=left_s, steps=max(1, len(train) // settings.batch_size)))

    return Schedule(**folder.remember("budget.json", measure))


def plan_epochs(costs: Costs, *, left_s: float, steps: int) -> Schedule:
    """
    Epochs of at least `steps` steps that end in time, with one more validation for the choice of the prior.

    A budget for less than an epoch gives one of fewer steps, at least one.

    Examples
    --------
    >>> plan_epochs(Costs(step=1.0, validation=2.0), left_s=52.0, steps=8)
    Schedule(epochs=5, steps=8)
    >>> plan_epochs(Costs(step=1.0, validation=2.0), left_s=9.0, steps=8)
    Schedule(epochs=1, steps=5)
    """
    step, left_s = max(costs.step, 1e-6), left_s - costs.validation
    end = costs.validation + costs.epoch
    steps = max(steps, math.ceil(end * (1 - _VALIDATION_SHARE) / _VALIDATION_SHARE / step))
    epochs = int(left_s / (steps * step + end))
    if epochs >= 1:
        return Schedule(epochs, steps)
    return Schedule(1, min(steps, max(1, int((left_s - end) / step))))


def measure_costs(
    plan: SegmentationArchitecture,
    train: Patches,
    val: Patches | None,
    *,
    settings: SegmentationSettings,
    classes: Sequence[int],
    size_px: int | None = None,
) -> Costs:
    """Seconds of a step, of a validation and of reading: of a processor, or by the clock on a GPU."""
    with torch.random.fork_rng():
        network = plan.build()
    accelerator, _, precision = choose_hardware(settings, network)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    network = network.to(device).to(memory_format=torch.channels_last)
    average = MovingAverage(network, decay=settings.ema) if settings.ema else None
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.type == "cpu")
    number = min(settings.batch_size, len(train))
    begun = time.process_time()
    batch = [train[index] for index in range(number)]
    val_patches = 0 if val is None else len(val)
    reading = (time.process_time() - begun) / number * (len(train) + val_patches)
    images, labels = (torch.stack([torch.as_tensor(sample[part]) for sample in batch]) for part in (0, 1))
    if size_px is not None:
        images, labels = shift_patches(images, labels, np.random.default_rng(0), size_px=size_px)
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    labels = labels.to(device)
    compute = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def forward(model: nn.Module) -> torch.Tensor:
        with torch.autocast(device.type, compute, enabled=compute is not None):
            logits: torch.Tensor = model(images)
        return logits

    def step() -> None:
        optimizer.zero_grad()
        loss = heads_loss(forward(network), labels, classes=classes, settings=settings)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if average is not None:
            average.update(network)

    def validate() -> None:
        with torch.inference_mode():
            forward(network if average is None else average.network)

    step_s = _seconds(step, device)
    network.eval()
    validation_s = _seconds(validate, device) * val_patches / number if val_patches else 0.0
    return Costs(_OVERHEAD * step_s, validation_s, reading + _START_S, _EPOCH_S)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Mean seconds of a work, after a first time that also sets up."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = clock()
    for _ in range(_TIMED_STEPS):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - begun) / _TIMED_STEPS
