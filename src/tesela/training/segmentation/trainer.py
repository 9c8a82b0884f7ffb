"""Lightning's trainer, made fit for a library: hardware, checkpoints, progress, and a quiet terminal."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as lightning
import torch
from torch import nn

from tesela.core.machine import has_cpu_flag
from tesela.core.progress import ProgressLine
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.task import SegmentationTask
from tesela.training.settings import SettingsError
from tesela.training.shell import TrainingFolder, check_loss, choose_accelerator, epoch_text


def choose_hardware(settings: SegmentationSettings, network: nn.Module | None = None) -> tuple[str, int, str]:
    """
    Accelerator, number of devices and precision, in Lightning's words.

    On a CPU "auto" takes bf16 if the processor computes in it and the network has no depthwise convolutions, which are
    slower in it.

    Parameters
    ----------
    network : torch.nn.Module, optional
        The network to train; without one its convolutions are unknown.

    Raises
    ------
    SettingsError
        If the machine does not have what the settings need.
    """
    gpus = torch.cuda.device_count()
    accelerator = choose_accelerator(settings.accelerator)
    most = gpus if accelerator == "gpu" else os.cpu_count() or 1
    devices = (gpus if accelerator == "gpu" else 1) if settings.devices == "auto" else settings.devices
    if devices > most:
        raise SettingsError(f"devices is {devices}, but this machine has {most} for '{accelerator}'.")
    precision = settings.precision
    if precision == "auto":
        if accelerator == "gpu":
            precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            precision = "bf16" if _cpu_computes_bf16() and not _has_depthwise(network) else "fp32"
    if precision == "fp16" and accelerator == "cpu":
        raise SettingsError(
            "precision is 'fp16', which a CPU does not train in: take 'auto', 'bf16' or 'fp32'."
        )
    return accelerator, devices, {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision]


def freeze_idle(network: nn.Module, *, bands: int) -> None:
    """Leave out parameters that no output depends on: devices that train together would wait for their gradients."""
    network.eval()
    network(torch.zeros(1, bands, 64, 64)).sum().backward()
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
    network.zero_grad(set_to_none=True)
    network.train()


def _cpu_computes_bf16() -> bool:
    """Whether the CPU has instructions for bf16: those of AVX-512 or of AMX."""
    return has_cpu_flag("avx512_bf16") or has_cpu_flag("amx_bf16")


def _has_depthwise(network: nn.Module | None) -> bool:
    """Whether a network has convolutions of each channel by itself."""
    return network is not None and any(
        isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
        for module in network.modules()
    )


class CheckpointCallback(lightning.Callback):
    """Writes the log after every epoch, and a checkpoint when the `TrainingFolder` is due or the training ends."""

    def __init__(self, folder: TrainingFolder, *, log: Path) -> None:
        self.folder, self.log_file = folder, log

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row to the log; write the checkpoint."""
        assert isinstance(pl_module, SegmentationTask)
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        check_loss(
            row["train_loss"],
            epoch=trainer.current_epoch + 1,
            remedy="Lower learning_rate, or set precision to 'fp32'.",
        )
        pl_module.history.append(row)
        if trainer.is_global_zero:
            self._write_log(pl_module.history)
        if trainer.strategy.broadcast(pl_module.finished or self.folder.is_due):
            self.folder.write(trainer.save_checkpoint, rename=trainer.is_global_zero)

    def _write_log(self, rows: list[dict[str, float]]) -> None:
        aside = self.log_file.with_suffix(".part")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        aside.replace(self.log_file)


class ProgressCallback(lightning.Callback):
    """Shows the training in a `ProgressLine`."""

    def __init__(self, *, quiet: bool) -> None:
        self._line = ProgressLine("training", unit="steps", quiet=quiet)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar, on one device."""
        if trainer.is_global_zero:
            steps = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
            self._line.start(total=steps, done=trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Move on."""
        self._line.move(trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the scores."""
        scores = trainer.callback_metrics
        names = {"loss": "train_loss", "macro F1": "macro_f1", "mIoU": "miou"}
        shown = {text: float(scores[name]) for text, name in names.items() if name in scores}
        self._line.describe(epoch_text(trainer.current_epoch + 1, shown))

    def on_train_end(self, *_: object) -> None:
        """Leave the bar as it is."""
        self._line.stop()

    def on_exception(self, *_: object) -> None:
        """Give the terminal back."""
        self._line.stop()


@contextlib.contextmanager
def clean_output() -> Iterator[None]:
    """Keep Lightning's greetings, and warnings that no user can act on, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in (
            r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's loop under a newer torch
            r".*does not have many workers",  # the patches are in memory
            r"GPU available but not used",  # the settings choose so
            r"Found \d+ module\(s\) in eval mode",  # the averaged network stays in it
            r"Starting from v1\.9\.0, `tensorboardX`",
            r"Checkpoint directory .* exists and is not empty",
            r"You defined a `validation_step` but have no",  # a training without validation patches
        ):
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning would end the program, and restore the signal handler."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
