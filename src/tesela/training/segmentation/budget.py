"""The budget of a training: epochs fitted to a processor time."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import torch

from tesela.core.units import parse_duration_s
from tesela.models.segmentation.networks import SegmentationArchitecture
from tesela.training.segmentation.data import Patches
from tesela.training.segmentation.losses import segmentation_loss
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.shell import TrainingFolder

_TIMED_STEPS = 2
_OVERHEAD = 1.25
"""Validation, augmentation and averaging beside the steps."""


def fit_epochs(
    plan: SegmentationArchitecture,
    train: Patches,
    *,
    settings: SegmentationSettings,
    folder: TrainingFolder,
) -> SegmentationSettings:
    """
    Settings whose epochs take the processor time of the budget, with the schedule fitted to them.

    A few steps of a network with random weights are timed. The result is kept in the folder of the training, so a
    training that was killed continues with the same schedule.
    """
    note = folder.path / "budget.json"
    if note.exists():
        return replace(
            settings, epochs=int(json.loads(note.read_text(encoding="utf-8"))["epochs"]), patience=0
        )
    steps = max(1, -(-len(train) // settings.batch_size))
    seconds = _step_seconds(plan, train, settings) * steps * _OVERHEAD
    epochs = max(1, int(parse_duration_s(settings.budget) / max(seconds, 1e-6)))
    aside = note.with_suffix(".part")
    aside.write_text(json.dumps({"epochs": epochs}), encoding="utf-8")
    aside.replace(note)
    return replace(settings, epochs=epochs, patience=0)


def _step_seconds(plan: SegmentationArchitecture, train: Patches, settings: SegmentationSettings) -> float:
    """Processor seconds of one step."""
    with torch.random.fork_rng():
        network = plan.build().to(memory_format=torch.channels_last)
    number = min(settings.batch_size, len(train))
    samples = [train[index] for index in range(number)]
    images = torch.stack([torch.as_tensor(sample[0]) for sample in samples])
    labels = torch.stack([torch.as_tensor(sample[1]) for sample in samples])
    begun = 0.0
    for step in range(_TIMED_STEPS + 1):
        if step == 1:  # the first step also sets up
            begun = time.process_time()
        logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(logits, labels, kind=settings.loss, weight=None, label_smoothing=0.0)
        loss.backward()  # type: ignore[no-untyped-call]
    return (time.process_time() - begun) / _TIMED_STEPS
