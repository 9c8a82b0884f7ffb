"""The segmentation task: what happens in a step, after a step, and after an epoch, with the validation scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.legend import IGNORE
from tesela.training.segmentation.data import augment, shift_patches
from tesela.training.segmentation.heads import heads_loss, split_heads
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.shell import KEY, EarlyStopping, MovingAverage


class SegmentationTask(lightning.LightningModule):
    """
    Training of one network, of one head or several.

    All random numbers of an epoch depend on the seed and the epoch's number, so a training that was killed and
    resumed gives the same network as an undisturbed one.

    Parameters
    ----------
    network : torch.nn.Module
        (batch, bands, rows, cols) in, (batch, classes of all heads, rows, cols) out.
    settings : SegmentationSettings
        With `published` resolved.
    weights : sequence of (classes,) arrays of float32, or None
        Weights of the classes of each head in the cross-entropy.
    classes : sequence of int
        Number of classes of each head.
    total_steps : int
        Steps in the whole training.
    size_px : int, optional
        Side of the windows that are cut of larger training images, see
        `tesela.training.segmentation.data.shift_patches`.
    validates : bool
        Whether there are validation patches. Without them the last weights are kept, and there are no scores.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: SegmentationSettings,
        *,
        weights: Sequence[NDArray[np.float32]] | None,
        classes: Sequence[int],
        total_steps: int,
        size_px: int | None = None,
        validates: bool = True,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.size_px, self.validates = size_px, validates
        self.classes, self.total_steps = tuple(classes), total_steps
        self.network = network.to(memory_format=torch.channels_last)
        self.average = MovingAverage(network, decay=settings.ema) if settings.ema else None
        self.weight: torch.Tensor | None
        self.register_buffer("weight", None if weights is None else _stacked(weights), persistent=False)
        self.counts: torch.Tensor  # of heads with fewer classes the last rows and columns stay empty
        size = (len(self.classes), max(self.classes), max(self.classes))
        self.register_buffer("counts", torch.zeros(size, dtype=torch.int64), persistent=False)
        self.stopping = EarlyStopping(settings.patience, larger_is_better=True)
        self.scores: list[dict[str, Any]] = []
        """Scores of the kept weights by head, with their epoch; none without validation."""
        self.history: list[dict[str, float]] = []
        """One row of the log per epoch."""
        self.finished = False

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and saved."""
        return self.network if self.average is None else self.average.network

    # -- a step ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Shift and augment the batch, and compute the loss."""
        chosen = self.settings
        rng = np.random.default_rng([chosen.seed, self.current_epoch, index, self.global_rank])
        size_px = batch[0].shape[-1] if self.size_px is None else self.size_px
        images, labels = augment(
            *shift_patches(*batch, rng, size_px=size_px),
            rng,
            flips_and_rotations=chosen.flips_and_rotations,
            brightness=chosen.brightness,
            contrast=chosen.contrast,
        )  # (b, bands, s, s), (b, s, s)
        logits = self.network(images.contiguous(memory_format=torch.channels_last))  # (b, channels, s, s)
        loss = self._loss(logits, labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        return loss

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Update the average; without validation keep the weights that an epoch ends with."""
        if self.average is not None:
            self.average.update(self.network)
        if not self.validates and batch_idx + 1 == self.trainer.num_training_batches:
            epoch = self.current_epoch + 1
            self.stopping.update(epoch, self.validated, epoch=epoch)
            self.scores = [{} for _ in self.classes]
            self.trainer.should_stop = self.finished = epoch >= self.settings.epochs

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Seed the random numbers of dropout: a step of a resumed training draws the same ones."""
        seeds = np.random.SeedSequence([self.settings.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def on_train_epoch_start(self) -> None:
        """Log the learning rate."""
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    # -- validation -----------------------------------------------------------------------------------

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Count pairs of label and prediction."""
        images, labels = batch
        logits = self.validated(images.contiguous(memory_format=torch.channels_last)).float()
        loss = self._loss(logits, labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        for counts, (own, truth) in zip(self.counts, split_heads(logits, labels, self.classes), strict=True):
            counts += count_pairs(truth, own.argmax(1), classes=len(counts))

    def on_validation_epoch_end(self) -> None:
        """Score the epoch, keep the best weights, and decide whether to continue."""
        counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        assert isinstance(counts, torch.Tensor)
        heads = [
            validation_scores(own[:size, :size])
            for own, size in zip(counts.cpu().numpy(), self.classes, strict=True)
        ]
        self.counts.zero_()
        means = {
            name: float(np.mean([getattr(scores, name) for scores in heads]))
            for name in ("accuracy", "miou", "macro_f1")
        }
        monitored = means[self.settings.monitor]
        if (
            len(heads) > 1
        ):  # a stray pixel of a class without labels costs one expert more than all others gain
            monitored = float(np.mean([labelled_mean(scores, self.settings.monitor) for scores in heads]))
            means["monitored"] = monitored
        for name, value in means.items():
            self.log(name, value, rank_zero_only=True)
        epoch = self.current_epoch + 1
        if self.stopping.update(monitored, self.validated, epoch=epoch):
            self.scores = [{**asdict(scores), "epoch": epoch} for scores in heads]
        self.finished = self.stopping.is_over or epoch >= self.settings.epochs
        self.trainer.should_stop = self.finished

    # -- optimiser and state --------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Adam or AdamW, its learning rate set before every step."""
        chosen = self.settings
        kind = torch.optim.AdamW if chosen.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(
            self.network.parameters(),
            lr=chosen.learning_rate,
            weight_decay=chosen.weight_decay,
            fused=self.device.type == "cpu",  # one pass over memory; on GPUs it would unscale fp16 by itself
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm; Lightning itself refuses to, where the optimiser is fused."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add our state."""
        checkpoint[KEY] = {
            "stopping": self.stopping.state_dict(),
            "scores": self.scores,
            "history": self.history,
            "finished": self.finished,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue from our state."""
        state: Mapping[str, Any] = checkpoint[KEY]
        self.stopping.load_state_dict(state["stopping"])
        self.scores, self.history = state["scores"], state["history"]
        self.finished = state["finished"]

    def _rate(self, step: int) -> float:
        """Learning rate of a step, relative to the highest: linear warm-up, then a half cosine."""
        first = round(self.settings.warmup * self.total_steps)
        if step < first:
            return (step + 1) / (first + 1)
        if self.settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - first) / max(self.total_steps - first, 1)))

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return heads_loss(logits, labels, classes=self.classes, settings=self.settings, weight=self.weight)


def _stacked(weights: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Weights of the classes of each head, (heads, most classes)."""
    most = max(map(len, weights))
    return torch.from_numpy(np.stack([np.pad(own, (0, most - len(own))) for own in weights]))


@dataclass(frozen=True)
class ValidationScores:
    """Accuracy, intersection over union and F1; a class absent from labels and predictions has none."""

    accuracy: float
    miou: float
    macro_f1: float
    iou: tuple[float | None, ...]
    """By class, in the order of the legend."""
    f1: tuple[float | None, ...]
    labelled: tuple[bool, ...] = ()
    """Whether the labels hold a class, likewise."""


def labelled_mean(scores: ValidationScores, monitor: str) -> float:
    """Mean IoU ("miou") or F1 ("macro_f1") of the classes that the labels hold; 0 without any."""
    values = scores.iou if monitor == "miou" else scores.f1
    held = [
        value for value, there in zip(values, scores.labelled, strict=True) if there and value is not None
    ]
    return float(np.mean(held)) if held else 0.0


def count_pairs(labels: torch.Tensor, predicted: torch.Tensor, *, classes: int) -> torch.Tensor:
    """
    Confusion counts over the labelled pixels.

    Parameters
    ----------
    labels, predicted : tensors of int64, of the same shape
        Positions of classes; 255 in `labels` is left out.

    Returns
    -------
    (classes, classes) tensor of int64
        Pixels by label (row) and prediction (column).
    """
    valid = labels != IGNORE
    pairs = labels[valid] * classes + predicted[valid]
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def validation_scores(counts: NDArray[np.int64]) -> ValidationScores:
    """
    Scores of a confusion matrix.

    Parameters
    ----------
    counts : (classes, classes) array of int64
        Pixels by label (row) and prediction (column).
    """
    hits = np.diag(counts).astype(float)
    either = counts.sum(0) + counts.sum(1)
    union, present = either - hits, either > 0
    iou = hits[present] / union[present]
    f1 = 2 * hits[present] / either[present]
    positions = np.flatnonzero(present)

    def by_class(values: NDArray[np.float64]) -> tuple[float | None, ...]:
        scores = dict(zip(positions.tolist(), values.tolist(), strict=True))
        return tuple(scores.get(position) for position in range(len(counts)))

    return ValidationScores(
        accuracy=float(hits.sum() / max(counts.sum(), 1)),
        miou=float(iou.mean()) if len(iou) else 0.0,
        macro_f1=float(f1.mean()) if len(f1) else 0.0,
        iou=by_class(iou),
        f1=by_class(f1),
        labelled=tuple((counts.sum(1) > 0).tolist()),
    )
