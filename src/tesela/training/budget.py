"""The budget of a training: its epochs fitted to a processor time, once for all its runs."""

from __future__ import annotations

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

    def measure() -> dict[str, int]:
        return {"epochs": max(1, int(budget_s / max(epoch_seconds(), 1e-6)))}

    return int((measure() if folder is None else folder.remember("budget.json", measure))["epochs"])
