"""
The resumable training: what the trainings of class maps and of abundances share.

A training keeps its state in a folder beside its output, so that a training that was killed continues after its last
checkpoint and ends with the same bytes. `EarlyStopping` keeps the best weights, and `MovingAverage` smooths them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tesela.core.errors import InputError
from tesela.training.settings import SettingsError

Tensors = dict[str, torch.Tensor]

KEY = "tesela"
"""Key of our state in a checkpoint, beside those of Lightning."""

_FORMAT = 2
"""Format of the state; a checkpoint of another one is not continued."""

PRETRAINING = "pretraining"
"""Part of a training that precedes it; its state is kept until the training ends."""


class TrainingFolder:
    """
    Folder ``.training/NAME`` beside the output, with the checkpoint from which a training continues.

    A checkpoint is due after an epoch if writing it costs less than a twentieth of the time since the last one, so
    that trainings of short epochs do not spend their time on them.
    """

    def __init__(self, path: Path, day: str) -> None:
        self.path = path
        self.day = day
        """Day (UTC, ISO 8601) on which the training began."""
        self._due = 0.0

    @property
    def checkpoint(self) -> Path:
        """File of the last checkpoint."""
        return self.path / "last.ckpt"

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() >= self._due

    @classmethod
    def open(cls, target: Path, *, work: Mapping[str, object], part: str = "") -> TrainingFolder:
        """
        Open the folder of an output; the state of other work is removed.

        Parameters
        ----------
        target : Path
            The output of the training.
        work : mapping
            Plain values that describe the training; it continues only under equal ones.
        part : str
            Part of the training with a state of its own.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        described = {"format": _FORMAT, **work}
        key = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
        folder = target.parent / ".training" / ".".join(filter(None, (target.stem, part)))
        note = folder / "key.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(note.read_text(encoding="utf-8"))
            if document["key"] == key:
                return cls(folder, str(document["day"]))
        day = today()
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            _write_note(note, {"key": key, "day": day})
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}).") from error
        return cls(folder, day)

    def remember(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """
        Values that are measured once and kept: a training that was killed continues with the same ones.

        Parameters
        ----------
        name : str
            Name of the file, ending in ``.json``.
        measure : callable
            Makes plain values; not called where the file is there.
        """
        note = self.path / name
        if note.exists():
            kept: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
            return kept
        values = measure()
        _write_note(note, values)
        return values

    def read(self) -> dict[str, Any] | None:
        """
        Read our state from the checkpoint, or None if there is none yet.

        Raises
        ------
        InputError
            If the checkpoint is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            document = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            state: dict[str, Any] = document[KEY]
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError):
            raise InputError(
                f"{self.checkpoint}: is damaged, so the training cannot continue from it. "
                f"Remove {self.path} to start again."
            ) from None
        return state

    def write(self, save: Callable[[Path], object], *, rename: bool = True) -> None:
        """
        Write a checkpoint aside, then rename it: at any moment there is a whole one.

        Parameters
        ----------
        save : callable
            Writes the checkpoint to a path.
        rename : bool
            False on all devices but the first of a training on several.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        start = time.monotonic()
        aside = self.checkpoint.with_suffix(".part")
        try:
            save(aside)
            if rename:
                aside.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{aside}: cannot be written ({str(error).splitlines()[0]}). Free space and start again; "
                f"the training continues from its last checkpoint."
            ) from error
        self._due = time.monotonic() + 20 * (time.monotonic() - start)

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint that holds our state only."""
        self.write(lambda path: torch.save({KEY: dict(state)}, path))

    def remove(self, *, pretraining: bool = True) -> None:
        """Remove the state, by default with that of the pretraining."""
        shutil.rmtree(self.path, ignore_errors=True)
        if pretraining:
            shutil.rmtree(self.path.with_name(f"{self.path.name}.{PRETRAINING}"), ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder of another training may be beside it
            self.path.parent.rmdir()


def _write_note(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON aside, then rename it."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(document), encoding="utf-8")
    aside.replace(path)


def today() -> str:
    """Day (UTC, ISO 8601); that of SOURCE_DATE_EPOCH if it is set."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


@dataclass
class EarlyStopping:
    """Keeps the weights of the best score, and stops the training when no better one comes."""

    patience: int
    """Scores in a row without a better one after which the training ends; 0: it never ends early."""
    larger_is_better: bool
    best: float | None = None
    """Best score so far."""
    weights: Tensors = field(default_factory=dict)
    """Copy of the weights with the best score."""
    epoch: int = 0
    """Epoch of the best score, from 1."""
    waited: int = 0
    """Scores since the best one."""

    def update(self, score: float, network: nn.Module, *, epoch: int) -> bool:
        """Take the score of an epoch; True if it is the best so far."""
        if self.best is None or (score > self.best if self.larger_is_better else score < self.best):
            self.best, self.epoch, self.waited = score, epoch, 0
            self.weights = {name: item.detach().cpu().clone() for name, item in network.state_dict().items()}
            return True
        self.waited += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether the training should end."""
        return 0 < self.patience <= self.waited

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        for name in _STATE:
            setattr(self, name, state[name])


_STATE = ("best", "weights", "epoch", "waited")


class MovingAverage(nn.Module):
    r"""
    A copy of a network whose weights follow it slowly.

    :math:`\bar w_t = d_t \bar w_{t-1} + (1 - d_t) w_t` with
    :math:`d_t = \min(d, (1 + t) / (10 + t))`, so that short trainings are not held back by
    their random start. Statistics of batch norms are averaged alike.

    Parameters
    ----------
    network : torch.nn.Module
        The network to follow; it is copied, not changed.
    decay : float
        Decay :math:`d` per step, 0 to 1.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move one step towards the network."""
        step = int(self.steps) + 1
        self.steps.fill_(step)
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name in mine if mine[name].is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [theirs[name] for name in floats], share)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the averaged network."""
        result: torch.Tensor = self.network(images)
        return result

    def train(self, mode: bool = True) -> MovingAverage:
        """Stay in evaluation mode, whatever the owner does."""
        return super().train(False)


def check_loss(loss: float, *, epoch: int, remedy: str) -> None:
    """
    Stop a training that diverged.

    Raises
    ------
    InputError
        If the loss of the epoch is not finite.
    """
    if not math.isfinite(loss):
        raise InputError(f"The training diverged in epoch {epoch}: its loss is {loss}. {remedy}")


def epoch_text(epoch: int, scores: Mapping[str, float]) -> str:
    """
    Scores of an epoch, for a line of progress.

    Examples
    --------
    >>> epoch_text(4, {"loss": 0.25, "RMSE": 0.1})
    'epoch 4, loss 0.250, RMSE 0.100'
    """
    return ", ".join((f"epoch {epoch}", *(f"{name} {value:.3f}" for name, value in scores.items())))


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """
    Train with so many threads of the processor; 0: as many as torch takes.

    oneDNN sums the gradients of a convolution by thread: equal numbers of threads give equal bytes, on any number of
    cores; others differ from the first step on.
    """
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_accelerator(setting: str) -> str:
    """
    "gpu" or "cpu" for the setting; "auto" takes a GPU if there is one.

    Raises
    ------
    SettingsError
        If there is no GPU, but the setting needs one.
    """
    gpu = torch.cuda.is_available()
    if setting == "gpu" and not gpu:
        raise SettingsError(
            "accelerator is 'gpu', but torch finds no CUDA device here: take 'auto' or 'cpu'."
        )
    return "gpu" if gpu and setting != "cpu" else "cpu"
