"""The budget of a training: its epochs fitted to a processor time, once for all its runs."""

from __future__ import annotations

import json
from collections.abc import Callable

from tesela.training.shell import TrainingFolder


def epochs_within(
    budget_s: float, epoch_seconds: Callable[[], float], *, folder: TrainingFolder | None = None
) -> int:
    """
    Epochs that fit into a processor time; at least one.

    The time of an epoch is measured once and the result kept in the folder of the training, so that a training that was
    killed continues with the same schedule.

    Parameters
    ----------
    budget_s : float
        Processor seconds.
    epoch_seconds : callable
        Measures the processor seconds of an epoch; not called where the folder has a result.

    Examples
    --------
    >>> epochs_within(60, lambda: 8.0)
    7
    """
    note = None if folder is None else folder.path / "budget.json"
    if note is not None and note.exists():
        return int(json.loads(note.read_text(encoding="utf-8"))["epochs"])
    epochs = max(1, int(budget_s / max(epoch_seconds(), 1e-6)))
    if note is not None:
        aside = note.with_suffix(".part")
        aside.write_text(json.dumps({"epochs": epochs}), encoding="utf-8")
        aside.replace(note)
    return epochs
