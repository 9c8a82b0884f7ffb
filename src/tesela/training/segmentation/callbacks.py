"""What watches a training: the keeper of its checkpoint and log, and the progress bar."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning

from tesela.core.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class CheckpointCallback(lightning.Callback):
    """
    Writes the log after every epoch, and the checkpoint from which a killed training goes on.

    A checkpoint is written after an epoch when writing costs less than a twentieth of the time since the last
    one, so that a training of short epochs does not spend itself on them; and always after the last epoch.
    """

    def __init__(self, checkpoint: Path, *, log: Path) -> None:
        self.checkpoint, self.log_file = checkpoint, log
        self._due = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row to the log; save all state aside, then rename."""
        state = pl_module.state
        assert isinstance(state, dict)
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(row["train_loss"]):
            raise InputError(
                f"The training diverged in epoch {row['epoch']}: its loss is {row['train_loss']}. "
                f"Lower learning_rate, or set precision to 'fp32'."
            )
        state["history"].append(row)
        if trainer.is_global_zero:
            self._write_log(state["history"])
        if not trainer.strategy.broadcast(state["finished"] or time.monotonic() >= self._due):
            return
        start = time.monotonic()
        part = self.checkpoint.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                part.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{part}: cannot be written ({str(error).splitlines()[0]}). Free space and start again; "
                f"the training goes on from its last checkpoint."
            ) from error
        self._due = time.monotonic() + 20 * (time.monotonic() - start)

    def _write_log(self, rows: list[dict[str, float]]) -> None:
        part = self.log_file.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.log_file)


class EpochBar(lightning.Callback):
    """One bar over all steps of a training, with the last epoch's scores beside it, on standard error."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        if not trainer.is_global_zero:
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        steps = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        self._task = self._bar.add_task("", total=steps, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Move on."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the scores."""
        if self._bar is not None and self._task is not None:
            found = trainer.callback_metrics
            text = f"epoch {trainer.current_epoch + 1}, loss {float(found['train_loss']):.3f}"
            text += f", macro F1 {float(found['macro_f1']):.3f}, mIoU {float(found['miou']):.3f}"
            self._bar.update(self._task, description=text)

    def on_train_end(self, *_: object) -> None:
        """Leave the bar standing."""
        self._stop()

    def on_exception(self, *_: object) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_bar": None, "_task": None}
