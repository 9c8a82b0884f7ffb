"""Unmixing trainings that are killed continue, and end with the bytes of an undisturbed one."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tesela.core.errors import InputError
from tesela.models.expert import open_expert
from tesela.training.shell import TrainingFolder
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.pretraining import pretrain
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import LEGEND, make_table

SETTINGS = UnmixingSettings(
    model="tempcnn",
    context=1,
    ensemble_size=2,
    head="dirichlet",
    endmember_decoder=True,
    mixup=0.3,
    epochs=4,
    batch_size=64,
    validate_every=2,
    accelerator="cpu",
)

JOB = """
import os, signal, sys, traceback
from pathlib import Path
sys.path[:0] = [{tests!r}]
import torch
import torch._dynamo  # which an optimizer loads at its first step
from tesela.training.shell import TrainingFolder
from tesela.training.unmixing.loop import NetworkTraining
from test_resuming import run

torch.set_num_threads(1)
TrainingFolder.is_due = property(lambda self: True)
writes = 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def after(method, wanted):
    def replaced(self, *args, **kwargs):
        result = method(self, *args, **kwargs)
        if wanted(self, *args):
            die()
        return result

    return replaced


def before(method, wanted):
    def replaced(self, *args, **kwargs):
        if wanted(self, *args):
            die()
        return method(self, *args, **kwargs)

    return replaced


def die_at(moment):
    if moment == "pretraining":
        TrainingFolder.write_state = after(
            TrainingFolder.write_state, lambda folder, state: state["epoch"] == 2
        )
    elif moment == "while a checkpoint is renamed":
        Path.replace = before(
            Path.replace, lambda path, target: path.name == "last.part" and path.parent.name == "a"
        )
    elif moment == "inside an epoch":
        NetworkTraining._run_step = before(NetworkTraining._run_step, lambda one, batch: one.step == 5)
    elif moment == "second network":
        NetworkTraining.run_epoch = before(
            NetworkTraining.run_epoch, lambda one: one.settings.seed == 1000 and one.epoch == 2
        )
    elif moment == "expert written":
        TrainingFolder.remove = before(TrainingFolder.remove, lambda folder: True)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            die_at(line.strip())
            run(Path(sys.argv[1]))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(out: Path) -> None:
    """Pretrain and train."""
    table = make_table()
    start = pretrain(table, SETTINGS, epochs=3, out=out, quiet=True)
    train_unmixing(table, SETTINGS, out=out, start=start, quiet=True)


@contextlib.contextmanager
def killed_runs(out: Path) -> Iterator[Callable[[str], None]]:
    """Runs that are killed at a moment: forks of one process, which has loaded the libraries and run nothing."""
    tests = Path(__file__).parent
    paths = (str(tests.parents[1]), os.environ.get("PYTHONPATH"))
    with subprocess.Popen(
        [sys.executable, "-c", JOB.format(tests=str(tests)), str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout

        def kill_at(moment: str) -> None:
            to.write(f"{moment}\n")
            to.flush()
            assert back.readline().strip() == str(int(-signal.SIGKILL)), moment

        yield kill_at
        to.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    killed, whole = tmp_path / "killed" / "a.safetensors", tmp_path / "whole" / "a.safetensors"
    states = tmp_path / "killed" / ".training"

    def state(name: str) -> dict[str, object]:
        document: dict[str, object] = torch.load(states / name / "last.ckpt", weights_only=True)["tesela"]
        return document

    with killed_runs(killed) as kill_at:
        kill_at("pretraining")
        assert state("a.pretraining")["epoch"] == 2
        kill_at("while a checkpoint is renamed")
        assert state("a.pretraining")["epoch"] == 3
        assert not (states / "a" / "last.ckpt").exists()
        kill_at("inside an epoch")
        assert state("a")["running"]["epoch"] == 2  # type: ignore[index]
        kill_at("second network")
        assert len(state("a")["fits"]) == 1  # type: ignore[arg-type]
        assert not killed.exists()
        kill_at("expert written")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for out in (killed, whole):
            run(out)
    finally:
        torch.set_num_threads(threads)
    assert killed.read_bytes() == whole.read_bytes()
    assert open_expert(killed).header.provenance.date == "2023-11-14"
    assert [item.name for item in killed.parent.iterdir()] == ["a.safetensors"]


def test_other_pixels_settings_or_weights_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, plan = make_table(), replace(SETTINGS, context=0, ensemble_size=1, epochs=1)
    seen = []

    def stop(folder: TrainingFolder, **_: object) -> None:
        seen.append(folder.path.joinpath("key.json").read_text())

    monkeypatch.setattr(TrainingFolder, "remove", stop)
    start = {"head.out.bias": torch.ones(3)}
    hidden = table.values.copy()
    hidden[0, 0, 0] = np.nan if np.isfinite(hidden[0, 0, 0]) else 0.5
    for one in (table, replace(table, values=hidden), replace(table, splits=table.splits[::-1].copy())):
        train_unmixing(one, plan, out=tmp_path / "a.safetensors", quiet=True)
    train_unmixing(table, replace(plan, mse=3.0), out=tmp_path / "a.safetensors", quiet=True)
    train_unmixing(table, plan, out=tmp_path / "a.safetensors", start=start, quiet=True)
    assert len(set(seen)) == 5


def test_a_training_that_fails_before_its_first_checkpoint_keeps_the_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = make_table(), tmp_path / "a.safetensors"
    plan = replace(SETTINGS, context=0, ensemble_size=1, epochs=1)
    pretrain(table, plan, epochs=1, out=out, quiet=True)
    with pytest.raises(InputError, match=r"diverged in epoch 1: its loss is nan\. Lower learning_rate"):
        train_unmixing(table, plan, out=out, start={"head.out.bias": torch.full((3,), torch.nan)}, quiet=True)
    assert [item.name for item in (tmp_path / ".training").iterdir()] == ["a.pretraining"]
    train_unmixing(table, plan, out=out, quiet=True)
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_weights_with_the_best_validation_pixels_are_kept() -> None:
    table = make_table(missing=0.1)
    val = table.splits == 1
    targets = table.targets.copy()
    targets[val] = targets[val][:, ::-1]  # the better the network learns, the worse it predicts these
    table = replace(table, targets=targets)
    plan = UnmixingSettings(
        model="mlp", context=0, epochs=12, batch_size=64, validate_every=1, ema=0.0, accelerator="cpu"
    )
    expert = train_unmixing(table, plan, quiet=True)
    (curve,), (epoch,) = expert.header.scores["curve"], expert.header.scores["epoch"]  # type: ignore[misc]
    assert epoch == int(np.argmin(curve)) + 1 < 6
    errors = unmix_pixels(expert, table, val).shares - targets[val]
    seen = np.isfinite(table.values[val]).any((1, 2))
    assert seen.all()
    upper = np.stack([errors[:, :2].sum(1), errors[:, 2]], 1)
    assert LEGEND.depth == 2
    rmse = [np.sqrt((item**2).mean(0)).mean() for item in (errors, upper)]
    assert expert.header.scores["val_rmse"] == pytest.approx(np.mean(rmse), abs=1e-5)


def test_patience_ends_a_training_early() -> None:
    table = make_table()
    plan = UnmixingSettings(
        model="mlp", context=0, epochs=40, batch_size=512, validate_every=1, patience=2,
        learning_rate=1e-9, ema=0.0, head="softmax", month_mask=0.0, accelerator="cpu",
    )  # fmt: skip
    scores = train_unmixing(table, replace(plan, learning_rate=0.5), quiet=True).header.scores
    (curve,), (epoch,) = scores["curve"], scores["epoch"]  # type: ignore[misc]
    assert len(curve) == epoch + 2 < 40
