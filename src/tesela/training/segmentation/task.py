"""The segmentation task: what happens in a step, after a step, and after an epoch."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.training.averaging import MovingAverage
from tesela.training.segmentation.augment import augment
from tesela.training.segmentation.losses import segmentation_loss
from tesela.training.segmentation.scores import count_pairs, validation_scores
from tesela.training.segmentation.settings import SegmentationSettings


class SegmentationTask(lightning.LightningModule):
    """
    Training of one network.

    Everything random in an epoch is drawn anew from the seed and the epoch's number, so that a training that
    was killed and resumed after some epoch goes on exactly as if nothing had happened.

    Parameters
    ----------
    network : torch.nn.Module
        (batch, bands, rows, cols) in, (batch, classes, rows, cols) out.
    settings : SegmentationSettings
        With `published` resolved.
    weight : (classes,) array of float32 or None
        Weights of the classes in the cross-entropy.
    classes, total_steps : int
        Number of classes, and of steps in the whole training.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: SegmentationSettings,
        *,
        weight: NDArray[np.float32] | None,
        classes: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.classes, self.total_steps = classes, total_steps
        self.network = network.to(memory_format=torch.channels_last)
        self.average = MovingAverage(network, decay=settings.ema) if settings.ema else None
        self.weight: torch.Tensor | None
        self.register_buffer("weight", None if weight is None else torch.from_numpy(weight), persistent=False)
        self.counts: torch.Tensor
        self.register_buffer("counts", torch.zeros(classes, classes, dtype=torch.int64), persistent=False)
        self.state: dict[str, Any] = {
            "best": None,
            "scores": {},
            "waited": 0,
            "finished": False,
            "history": [],
        }
        """Best weights and scores so far, epochs since, whether all is done, one row of the log per epoch."""

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and saved."""
        return self.network if self.average is None else self.average.network

    # -- a step ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Augment, score, compare."""
        chosen = self.settings
        rng = np.random.default_rng([chosen.seed, self.current_epoch, index, self.global_rank])
        images, labels = augment(
            *batch, rng, turns=chosen.turns, brightness=chosen.brightness, contrast=chosen.contrast
        )  # (b, bands, s, s), (b, s, s)
        logits = self.network(images.contiguous(memory_format=torch.channels_last))  # (b, classes, s, s)
        loss = self._loss(logits, labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        """Let the average follow."""
        if self.average is not None:
            self.average.update(self.network)

    def on_train_epoch_start(self) -> None:
        """Fix what dropout will draw."""
        torch.manual_seed(
            int(np.random.SeedSequence([self.settings.seed, self.current_epoch]).generate_state(1)[0])
        )
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    # -- validation -----------------------------------------------------------------------------------

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Count pairs of label and prediction."""
        images, labels = batch
        logits = self.judged(images.contiguous(memory_format=torch.channels_last)).float()
        loss = self._loss(logits, labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(images))
        self.counts += count_pairs(labels, logits.argmax(1), classes=self.classes)

    def on_validation_epoch_end(self) -> None:
        """Score the epoch, keep the best weights, and decide whether to go on."""
        counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        assert isinstance(counts, torch.Tensor)
        scores = validation_scores(counts.cpu().numpy())
        self.counts.zero_()
        for name in ("accuracy", "miou", "macro_f1"):
            self.log(name, getattr(scores, name), rank_zero_only=True)
        state, found = self.state, getattr(scores, self.settings.monitor)
        if state["best"] is None or found > state["scores"][self.settings.monitor]:
            state["best"] = {
                name: item.detach().cpu().clone() for name, item in self.judged.state_dict().items()
            }
            state["scores"] = {**asdict(scores), "epoch": self.current_epoch + 1}
            state["waited"] = 0
        else:
            state["waited"] += 1
        tired = 0 < self.settings.patience <= state["waited"]
        state["finished"] = tired or self.current_epoch + 1 >= self.settings.epochs
        self.trainer.should_stop = bool(state["finished"])

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
        """Take our state along."""
        checkpoint["tesela"] = self.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from it."""
        self.state = checkpoint["tesela"]

    def _rate(self, step: int) -> float:
        """Learning rate of a step, relative to the highest: linear warm-up, then a half cosine."""
        first = round(self.settings.warmup * self.total_steps)
        if step < first:
            return (step + 1) / (first + 1)
        if self.settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - first) / max(self.total_steps - first, 1)))

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = self.settings
        return segmentation_loss(
            logits, labels, kind=chosen.loss, weight=self.weight, label_smoothing=chosen.label_smoothing
        )
