"""The resumable shell: early stopping, averaging, checkpoints."""

import json
from pathlib import Path

import pytest
import torch

from tesela.core.errors import InputError
from tesela.training.shell import (
    EarlyStopping,
    MovingAverage,
    TrainingFolder,
    check_loss,
    choose_accelerator,
    today,
)


def network_of(weight: float) -> torch.nn.Linear:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, weight)
    return network


@pytest.mark.parametrize(
    ("larger", "scores", "best", "epoch", "over"),
    [
        (True, [0.2, 0.5, 0.5, 0.4], 0.5, 2, True),  # an equal score is no better one
        (True, [0.2, 0.5, 0.4], 0.5, 2, False),
        (False, [0.5, 0.2, 0.2, 0.3], 0.2, 2, True),
        (False, [0.5, 0.6, 0.4, 0.45], 0.4, 3, False),  # a better score starts the count again
        (False, [0.0, 0.1], 0.0, 1, False),
    ],
)
def test_early_stopping_keeps_the_best_weights(
    larger: bool, scores: list[float], best: float, epoch: int, over: bool
) -> None:
    stopping = EarlyStopping(2, larger_is_better=larger)
    for number, score in enumerate(scores, start=1):
        improved = stopping.update(score, network_of(number), epoch=number)
        assert improved == (stopping.epoch == number)
    assert (stopping.best, stopping.epoch, stopping.is_over) == (best, epoch, over)
    assert stopping.weights["weight"].item() == epoch
    again = EarlyStopping(2, larger_is_better=larger)
    again.load_state_dict(stopping.state_dict())
    assert again == stopping


def test_best_weights_are_a_copy_and_patience_0_never_stops() -> None:
    stopping, network = EarlyStopping(0, larger_is_better=True), network_of(1)
    stopping.update(1.0, network, epoch=1)
    torch.nn.init.constant_(network.weight, 5)
    for epoch in range(2, 50):
        stopping.update(0.5, network, epoch=epoch)
    assert stopping.weights["weight"].item() == 1
    assert not stopping.is_over


def test_the_average_follows_as_its_formula_says() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    with torch.no_grad():
        network[0].weight.fill_(0)
        average = MovingAverage(network, decay=0.25)
        network[0].weight.fill_(1)
        network[1].num_batches_tracked.fill_(5)
    average.train()
    average.update(network)  # decay of step 1: min(0.25, 2 / 11)
    averaged = average.network.state_dict()
    assert averaged["0.weight"].item() == pytest.approx(9 / 11)
    assert averaged["1.num_batches_tracked"].item() == 5
    average.update(network)  # step 2: min(0.25, 3 / 12)
    assert average.network.state_dict()["0.weight"].item() == pytest.approx(1 - (2 / 11) * 0.25)
    assert not average.network.training


def test_a_folder_continues_equal_work_and_forgets_other_work(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    folder = TrainingFolder.open(out, work={"epochs": 1})
    assert folder.read() is None
    folder.write_state({"epoch": 3})
    assert TrainingFolder.open(out, work={"epochs": 1}).read() == {"epoch": 3}
    part = TrainingFolder.open(out, work={"epochs": 1}, part="pretraining")
    part.write_state({"epoch": 5})
    assert TrainingFolder.open(out, work={"epochs": 2}).read() is None
    assert part.read() == {"epoch": 5}
    folder.remove(pretraining=False)
    assert part.read() == {"epoch": 5}
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    folder = TrainingFolder.open(tmp_path / "a.safetensors", work={})
    folder.write_state({"epoch": 1})

    def full_disk(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with pytest.raises(InputError, match=r"No space left on device\)\. Free space and start again"):
        folder.write(full_disk)
    assert folder.read() == {"epoch": 1}


def test_checkpoints_take_a_twentieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tesela.training.shell.time.monotonic", lambda: now[0])
    folder = TrainingFolder.open(tmp_path / "a.safetensors", work={})
    assert folder.is_due

    def save(path: Path) -> None:
        path.write_bytes(b"")
        now[0] += 1

    folder.write(save)
    for seconds, due in ((19.0, False), (1.0, True)):
        now[0] += seconds
        assert folder.is_due == due


def test_the_day_of_a_training_is_that_of_its_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert today() == "1970-01-01"
    folder = TrainingFolder.open(tmp_path / "a.safetensors", work={})
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert TrainingFolder.open(tmp_path / "a.safetensors", work={}).day == "1970-01-01"
    (folder.path / "key.json").write_text(json.dumps({"key": "other"}))
    assert TrainingFolder.open(tmp_path / "a.safetensors", work={}).day == "2023-11-14"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training(loss: float) -> None:
    check_loss(1e30, epoch=1, remedy="")
    with pytest.raises(InputError, match=rf"diverged in epoch 7: its loss is {loss}\. Lower the rate\."):
        check_loss(loss, epoch=7, remedy="Lower the rate.")


def test_auto_takes_the_hardware_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, setting, chosen in ((True, "auto", "gpu"), (False, "auto", "cpu"), (True, "cpu", "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert choose_accelerator(setting) == chosen
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        choose_accelerator("gpu")


def test_what_is_measured_once_is_the_same_after_a_kill_and_new_for_other_work(tmp_path: Path) -> None:
    numbers = iter(range(9))

    def spent(work: str) -> object:
        folder = TrainingFolder.open(tmp_path / "a.safetensors", work={"settings": work}, part="auto")
        return folder.remember("trees.json", lambda: {"cpu_s": next(numbers)})["cpu_s"]

    assert [spent("one"), spent("one"), spent("other"), spent("other")] == [0, 0, 1, 1]
