"""The state of a training under way, kept in a folder beside its output until it ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tesela.core.errors import InputError


@dataclass(frozen=True)
class TrainingFolder:
    """Folder ``.training/NAME`` beside the output, with the checkpoint from which a training goes on."""

    path: Path
    day: str
    """Day (UTC, ISO 8601) on which the training began."""

    @property
    def checkpoint(self) -> Path:
        """Lightning's checkpoint, with our state in it."""
        return self.path / "last.ckpt"

    @classmethod
    def open(cls, target: Path, *, work: Mapping[str, object]) -> TrainingFolder:
        """
        Open the folder of an output; what is left of other work is thrown away.

        Parameters
        ----------
        target : Path
            The output of the training.
        work : mapping
            Plain values that say what is to be done; the state of a training goes on under equal ones only.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        key = hashlib.sha256(json.dumps(work, sort_keys=True, default=str).encode()).hexdigest()
        folder = target.parent / ".training" / target.stem
        note = folder / "key.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(note.read_text(encoding="utf-8"))
            if found["key"] == key:
                return cls(folder, str(found["day"]))
        stamp = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
        day = time.strftime("%Y-%m-%d", time.gmtime(stamp))
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            part = note.with_suffix(".part")
            part.write_text(json.dumps({"key": key, "day": day}), encoding="utf-8")
            part.replace(note)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}).") from error
        return cls(folder, day)

    def read(self) -> dict[str, Any] | None:
        """
        Our part of the checkpoint, or None if there is none yet.

        Raises
        ------
        InputError
            If the checkpoint is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            found = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            state: dict[str, Any] = found["tesela"]
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError):
            raise InputError(
                f"{self.checkpoint}: is damaged, so the training cannot go on from it. "
                f"Remove {self.path} to start anew."
            ) from None
        return state

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # other trainings may be under way beside it
            self.path.parent.rmdir()
