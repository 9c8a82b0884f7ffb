"""Whole trainings: they learn, and they resume when they were killed or interrupted."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segmentation_scene import LEGEND, QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.models.expert import open_expert, read_header
from tesela.models.segmentation.unet import make_unet
from tesela.patches.table import PatchTable
from tesela.training.segmentation import fit as segmentation
from tesela.training.segmentation.task import count_pairs, validation_scores
from tesela.training.segmentation.train import train_segmentation


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run beside each other: one thread each is fastest, and sums in one order give equal bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    return make_patch_table(tmp_path_factory.mktemp("scene"))


def test_a_training_learns_and_leaves_one_expert_and_its_logs(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=12, patience=0)
    out = train_segmentation(
        table,
        tmp_path / "a.safetensors",
        settings=settings,
        bands=["nir", "red"],
        quiet=True,
        fingerprints={"x": "y"},
    )
    header = read_header(out)
    assert header.bands == ("nir", "red")
    assert header.scores["macro_f1"] > 0.8
    assert header.scores["absent"] == ["s"]
    assert set(header.scores["iou"]) == {"w", "f", "b"}
    assert header.scores["patches"] == 6
    assert header.training["encoder"] == settings.encoder
    assert (header.patch_size_px, header.pixel_size_m, header.legend) == (32, 10.0, LEGEND)
    assert header.provenance.fingerprints == {"x": "y"}
    assert header.provenance.versions["torch"] == torch.__version__.split("+")[0]
    assert np.allclose(header.mean, [0.47, 0.4], atol=0.1)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.safetensors", "logs"]
    rows = read_log(tmp_path / "logs" / "a" / "metrics.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    best = max(rows, key=lambda row: float(row["macro_f1"]))
    assert float(best["macro_f1"]) == pytest.approx(header.scores["macro_f1"], abs=1e-5)
    assert int(best["epoch"]) == header.scores["epoch"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert list((tmp_path / "logs" / "a").glob("events.out.tfevents.*"))
    assert predicted_f1(table, out) == pytest.approx(header.scores["macro_f1"], abs=0.02)


def read_log(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def predicted_f1(table: PatchTable, path: Path) -> float:
    """Macro F1 on the validation patches by the saved expert alone, in fp32, from raw imagery."""
    from tesela.patches.dataset import PatchDataset

    expert = open_expert(path)
    raw = PatchDataset(table, "val", bands=expert.header.bands)
    counts: NDArray[np.int64] = np.zeros((4, 4), np.int64)
    with torch.inference_mode():
        for index in range(len(raw)):
            scaled = PatchDataset(
                table, "val", bands=expert.header.bands, mean=expert.header.mean, std=expert.header.std
            )[index]
            quantity = raw[index].image.numpy().copy()
            quantity[:, ~np.isfinite(scaled.image.numpy()).all(0)] = np.nan
            logits = expert.network(scaled.image[None])
            counts += count_pairs(scaled.labels[None], logits.argmax(1), classes=4).numpy()
    return validation_scores(counts).macro_f1


@pytest.mark.parametrize(
    "change",
    [
        {"imbalance_strategy": "sampling", "optimizer": "adam"},
        {
            "imbalance_strategy": "none",
            "loss": "ce",
            "schedule": "constant",
            "ema": 0.0,
            "clip": 0.0,
            "warmup": 0.0,
        },
        {
            "loss": "dice",
            "monitor": "miou",
            "precision": "fp32",
            "cache": "never",
            "flips_and_rotations": False,
        },
        {"shift": 0.5, "border_weight": 0.5, "border_relaxation": True, "precision": "bf16"},
    ],
)
def test_every_choice_trains(table: PatchTable, tmp_path: Path, change: dict[str, object]) -> None:
    settings = replace(QUICK, epochs=2, **change)  # type: ignore[arg-type]
    header = read_header(train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True))
    assert header.training | change == header.training
    assert 0 < header.scores["macro_f1"] <= 1


def test_a_training_ends_when_it_stops_getting_better(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=50, patience=2, learning_rate=1e-9, ema=0.0)
    train_segmentation(
        table, tmp_path / "a.safetensors", settings=settings, quiet=True, log_dir=tmp_path / "log"
    )
    rows = read_log(tmp_path / "log" / "metrics.csv")
    best = max(range(len(rows)), key=lambda index: float(rows[index]["macro_f1"]))
    assert len(rows) == best + 3 < 50


KILLED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to it
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from dataclasses import replace
from segmentation_scene import QUICK
from tesela.patches.table import open_patches
from tesela.training.segmentation.train import train_segmentation
settings = replace(QUICK, epochs={epochs}, patience=0, shift=0.25)
train_segmentation(open_patches({table!r}), {out!r}, settings=settings, quiet=True)
"""


@contextlib.contextmanager
def started(table: PatchTable, out: Path, *, epochs: int) -> Iterator[subprocess.Popen[bytes]]:
    """A training in a process of its own, which ends with the block."""
    file = table.write(out.parent.parent / f"{out.parent.name}.parquet")
    code = KILLED.format(tests=str(Path(__file__).parents[2]), table=str(file), out=str(out), epochs=epochs)
    command = [sys.executable, "-c", code]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=one_thread) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_rows(process: subprocess.Popen[bytes], log: Path, rows: int) -> None:
    deadline = time.monotonic() + 240
    while not (log.exists() and len(log.read_text().splitlines()) > rows):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_training_resumes_and_ends_with_the_same_bytes(table: PatchTable, tmp_path: Path) -> None:
    epochs = 7
    killed, whole = tmp_path / "killed" / "a.safetensors", tmp_path / "whole" / "a.safetensors"
    with started(table, killed, epochs=epochs) as process:
        wait_for_rows(process, tmp_path / "killed" / "logs" / "a" / "metrics.csv", 3)
        os.kill(process.pid, signal.SIGKILL)
        _, noise = process.communicate()
    assert not killed.exists()
    assert (tmp_path / "killed" / ".training" / "a" / "last.ckpt").exists()
    settings = replace(QUICK, epochs=epochs, patience=0, shift=0.25)
    for out in (killed, whole):
        train_segmentation(table, out, settings=settings, quiet=True)
    assert killed.read_bytes() == whole.read_bytes()
    logs = [(out.parent / "logs" / "a" / "metrics.csv").read_text() for out in (killed, whole)]
    assert logs[0] == logs[1]
    assert not (tmp_path / "killed" / ".training").exists()
    assert noise == b""  # a quiet training prints nothing: no greetings, no warnings of libraries


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_training_says_so_and_can_go_on(table: PatchTable, tmp_path: Path) -> None:
    out = tmp_path / "run" / "a.safetensors"
    with started(table, out, epochs=500) as process:
        wait_for_rows(process, tmp_path / "run" / "logs" / "a" / "metrics.csv", 2)
        process.send_signal(signal.SIGINT)
        _, noise = process.communicate(timeout=200)
    assert noise.decode().strip().endswith("KeyboardInterrupt")
    assert not out.exists()
    assert (out.parent / ".training" / "a" / "key.json").exists()


def test_equal_numbers_of_threads_give_the_same_bytes_whatever_torch_would_take(
    table: PatchTable, tmp_path: Path
) -> None:
    before, outs = torch.get_num_threads(), []
    settings = replace(QUICK, epochs=1, threads=2)
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            out = tmp_path / str(count) / "a.safetensors"
            outs.append(train_segmentation(table, out, settings=settings, quiet=True).read_bytes())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert outs[0] == outs[1]


def test_other_settings_begin_anew_where_a_training_was_left(table: PatchTable, tmp_path: Path) -> None:
    left = tmp_path / ".training" / "a"
    left.mkdir(parents=True)
    (left / "key.json").write_text('{"key": "of other work", "day": "2020-01-01"}')
    (left / "last.ckpt").write_bytes(b"old")
    out = train_segmentation(table, tmp_path / "a.safetensors", settings=replace(QUICK, epochs=1), quiet=True)
    assert read_header(out).provenance.date > "2020-01-01"


def test_a_damaged_checkpoint_says_which_folder_to_remove(
    table: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(QUICK, epochs=1)

    def full_disk(*_: object) -> None:
        raise InputError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(segmentation, "save_expert", full_disk)
        with pytest.raises(InputError, match="disk full"):
            train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    checkpoint = tmp_path / ".training" / "a" / "last.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"last\.ckpt: is damaged.* Remove .*\.training/a to start again"):
        train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    checkpoint.write_bytes(whole)
    with monkeypatch.context() as patched:  # all epochs are done: only the expert is to be written
        patched.setattr(segmentation.lightning, "Trainer", None)
        train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    assert read_header(tmp_path / "a.safetensors").scores["epoch"] == 1


def test_a_training_that_diverges_is_stopped_with_advice(
    table: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return logits.mean() * float("nan")

    monkeypatch.setattr("tesela.training.segmentation.heads.segmentation_loss", broken)
    with pytest.raises(InputError, match=r"diverged in epoch 1: its loss is nan\. Lower learning_rate"):
        train_segmentation(table, tmp_path / "a.safetensors", settings=QUICK, quiet=True)
    assert [item.name for item in tmp_path.iterdir()] == ["logs"]


def test_weights_that_cannot_be_had_leave_nothing(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="no such file of weights"):
        train_segmentation(table, tmp_path / "run" / "a.safetensors", settings=settings, quiet=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_pretrained_weights_of_a_local_file_begin_the_training(table: PatchTable, tmp_path: Path) -> None:
    donor = make_unet(encoder=QUICK.encoder, bands=3, classes=2).encoder.state_dict()
    torch.save(donor, tmp_path / "donor.pth")
    settings = replace(QUICK, epochs=1, learning_rate=1e-9, ema=0.0, weights=str(tmp_path / "donor.pth"))
    out = train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    trained = open_expert(out).network.encoder.state_dict()
    kernels = [name for name, item in donor.items() if item.ndim == 4 and item.shape[1] != 3]
    assert len(kernels) > 10
    assert all(torch.allclose(trained[name], donor[name], atol=1e-6) for name in kernels)


def test_a_bar_shows_the_scores_unless_quiet(
    table: PatchTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_segmentation(table, tmp_path / "a.safetensors", settings=replace(QUICK, epochs=1))
    shown = capsys.readouterr()
    assert "epoch 1, loss" in " ".join(shown.err.split())
    assert shown.out == ""


def test_patches_of_a_wrong_size_or_without_validation_are_refused(table: PatchTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="50 px wide, but model 'unet' needs a multiple of 32 px"):
        train_segmentation(replace(table, size_px=50), tmp_path / "a.safetensors", settings=QUICK)
    only_train = table.with_splits(["train"] * len(table))
    with pytest.raises(InputError, match="No patch is in split 'val'"):
        train_segmentation(only_train, tmp_path / "a.safetensors", settings=QUICK)
    with pytest.raises(InputError, match="did you mean 'red'"):
        train_segmentation(table, tmp_path / "a.safetensors", settings=QUICK, bands=["reed"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPU cores to stand for two devices")
def test_two_devices_train_one_expert(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, accelerator="cpu", devices=2, batch_size=2, epochs=1, patience=0)
    out = tmp_path / "run" / "a.safetensors"
    file = table.write(tmp_path / "patches.parquet")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from tesela.patches.table import open_patches\n"
        "from tesela.training.segmentation.train import train_segmentation\n"
        "from tesela.training.segmentation.settings import SegmentationSettings\n"
        "if __name__ == '__main__':\n"
        f"    settings = {settings!r}\n"
        f"    train_segmentation(open_patches({str(file)!r}), {str(out)!r}, settings=settings, quiet=True)\n"
    )
    script = tmp_path / "train.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    header = read_header(out)
    assert header.scores["patches"] == 6
    assert header.scores["macro_f1"] == pytest.approx(predicted_f1(table, out), abs=0.02)
    assert not (tmp_path / "run" / ".training").exists()
