"""Several experts on one network: what they are shown, what they share, and that a training that was killed resumes."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segmentation_scene import LEGEND, QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.maps import MapReader, open_map, write_map
from tesela.mapping.shared_backbone import shared_stages
from tesela.models.expert import Expert, open_expert
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable, make_patches
from tesela.training.segmentation import fit
from tesela.training.segmentation.data import shift_patches
from tesela.training.segmentation.head_patches import draw_chances
from tesela.training.segmentation.heads import heads_loss
from tesela.training.segmentation.joint import JointPatches, join_draws, train_joint
from tesela.training.segmentation.losses import segmentation_loss
from tesela.training.segmentation.task import SegmentationTask, labelled_mean, validation_scores
from tesela.training.shell import TrainingFolder

BARE = Legend("bare", (LandClass(1, "y", "Bare", "#aaaaaa"), LandClass(2, "n", "Other", "#00aa00")))
SETTINGS = replace(QUICK, epochs=5, patience=0, threads=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[PatchTable]:
    """All classes everywhere, and bare or not in the left half of the scene."""
    folder = tmp_path_factory.mktemp("scene")
    first = make_patch_table(folder)
    with MapReader(open_map(folder / "labels.tif", legend=LEGEND)) as reader:
        classes = reader.read(reader.map.grid)
    bare = np.where(classes == 0, 0, np.where(classes == 30, 1, 2)).astype(np.uint8)
    bare[:, bare.shape[1] // 2 :] = 0
    scene = next(iter(first.scenes.values()))
    labels = write_map(folder / "bare.tif", bare, scene.grid, legend=BARE)
    second = make_patches([scene], [labels], size_px=first.size_px)
    splits = dict(zip(first.frame["patch_id"], first.frame["split"], strict=True))
    return [first, second.with_splits([splits[patch] for patch in second.frame["patch_id"]])]


def train(tables: list[PatchTable], folder: Path, **change: object) -> list[Expert]:
    settings = replace(SETTINGS, **change)
    outs = [folder / "all.safetensors", folder / "bare.safetensors"]
    written = train_joint(tables, outs, target=folder / "joint", settings=settings, quiet=True)
    assert written == outs
    return [open_expert(path) for path in outs]


def test_an_image_comes_with_the_labels_of_every_head_that_has_some(tables: list[PatchTable]) -> None:
    heads = [PatchDataset(table, "train") for table in tables]
    numbers, chances = join_draws([head.rows for head in heads], [None, None])
    patches = JointPatches(heads, numbers)
    assert len(patches) == len(heads[0]) == 18
    assert chances is not None
    few = len(heads[1])
    assert 0 < few < 18
    for index, (_, _, col) in enumerate(heads[0].rows):
        image, labels = patches[index]
        assert torch.equal(image, heads[0][index].image)
        assert torch.equal(labels[0], heads[0][index].labels)
        if col < 96:
            assert torch.equal(labels[1], heads[1][heads[1].rows.index(heads[0].rows[index])].labels)
        else:
            assert (labels[1] == 255).all()
        both = 0.5 / 18 + (0.5 / few if col < 96 else 0)
        assert chances[index] == pytest.approx(both), "half of the draws for each head"


def test_patches_that_a_head_never_draws_have_none_of_its_labels(tables: list[PatchTable]) -> None:
    places = [("a", 0, col) for col in range(3)]
    numbers, chances = join_draws([places, places[:2]], [np.array([1.0, 1, 0]), np.array([0.0, 3])])
    assert numbers.tolist() == [[0, -1], [1, 1]], "nobody draws the third"
    assert chances is not None
    assert chances.tolist() == [0.25, 0.75]
    assert join_draws([places, places], [None, None])[1] is None, "each once an epoch"
    quality = np.array(["low" if number % 2 else "high" for number in range(len(tables[0]))], object)
    rated = replace(tables[0], frame=tables[0].frame.assign(quality=quality))
    drawn = draw_chances(rated, replace(SETTINGS, quality_weights=(1, 1, 0), imbalance_strategy="sampling"))
    assert drawn is not None
    assert ((drawn == 0) == (rated.of_split("train")["quality"] == "low")).all()


def test_the_loss_is_the_mean_of_the_heads_where_they_have_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 8, 8, generator=generator)
    labels = torch.randint(0, 2, (2, 2, 8, 8), generator=generator)
    weight = torch.tensor([[1.0, 2.0, 1.0], [0.5, 1.5, 0.0]])

    def mean(labels: torch.Tensor) -> float:
        return float(heads_loss(logits, labels, classes=(3, 2), settings=SETTINGS, weight=weight))

    first = segmentation_loss(logits[:, :3], labels[:, 0], weight=weight[0])
    second = segmentation_loss(logits[:, 3:], labels[:, 1], weight=weight[1, :2])
    assert mean(labels) == pytest.approx(float(first + second) / 2)
    labels[:, 1] = 255
    assert mean(labels) == pytest.approx(float(first) / 2)


def test_a_pixel_with_a_label_of_any_head_counts_when_patches_are_shifted() -> None:
    labels = torch.full((50, 2, 48, 48), 255)
    labels[:, 1, 8:40, 8:40] = 3
    labels[:, 0, 24, 24] = 1
    images = labels[:, 1:].float()
    image, cut = shift_patches(images, labels, np.random.default_rng(0), size_px=32)
    assert cut.shape == (50, 2, 32, 32)
    assert torch.equal(image[:, 0].long(), cut[:, 1])
    assert (cut[:, 1] == 3).sum((1, 2)).min() >= 0.75 * 32 * 32
    assert len((cut[:, 1] == 3).sum((1, 2)).unique()) > 5


def test_a_stray_pixel_of_a_class_without_labels_does_not_choose_the_epoch() -> None:
    clean, stray = (validation_scores(np.array([[8, 0, 0], [0, 6, n], [0, 0, 0]])) for n in (0, 1))
    assert (clean.macro_f1, labelled_mean(clean, "macro_f1")) == (1, 1)
    assert stray.macro_f1 == pytest.approx((1 + 12 / 13) / 3)
    assert labelled_mean(stray, "macro_f1") == pytest.approx((1 + 12 / 13) / 2)
    assert labelled_mean(stray, "miou") == pytest.approx((1 + 6 / 7) / 2)
    assert labelled_mean(validation_scores(np.zeros((2, 2), np.int64)), "miou") == 0


def test_experts_share_encoder_and_decoder_and_learn(tables: list[PatchTable], tmp_path: Path) -> None:
    experts = train(tables, tmp_path, epochs=12)
    one, other = experts
    assert shared_stages(one.network, other.network) == 2
    assert one.header.standardisation == other.header.standardisation
    assert [item.header.legend for item in experts] == [LEGEND, BARE]
    assert [item.header.architecture.classes for item in experts] == [4, 2]
    assert [item.header.scores["patches"] for item in experts] == [6, len(tables[1].of_split("val"))]
    assert all(item.header.scores["macro_f1"] > 0.8 for item in experts)
    rows = list(csv.DictReader((tmp_path / "logs" / "joint" / "metrics.csv").read_text().splitlines()))
    best = max(rows, key=lambda row: float(row["monitored"]))
    assert {item.header.scores["epoch"] for item in experts} == {int(best["epoch"])}
    assert one.header.training["joint"] == ["all", "bare"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["all.safetensors", "bare.safetensors", "logs"]


@pytest.mark.parametrize(
    "change",
    [
        {"imbalance_strategy": "sampling", "shift": 0.25, "cache": "never"},
        {"budget": "3 s", "imbalance_strategy": "none"},
    ],
)
def test_choices_of_a_training_apply_jointly(
    tables: list[PatchTable], tmp_path: Path, change: dict[str, object]
) -> None:
    one, other = train(tables, tmp_path, epochs=1, **change)
    assert shared_stages(one.network, other.network) == 2
    assert 0 < other.header.scores["macro_f1"] <= 1


def test_a_joint_training_that_breaks_off_continues_to_the_same_bytes(
    tables: list[PatchTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    plain = SegmentationTask.on_train_epoch_start

    def follow(self: SegmentationTask) -> None:
        begun.append(self.current_epoch)
        if len(begun) == 3:
            raise InputError("power cut")
        plain(self)

    save, saved = fit.save_expert, list[Path]()  # type: ignore[attr-defined]

    def fail(path: Path, expert: Expert) -> Path:
        saved.append(path)
        if len(saved) == 2:
            raise InputError("disk full")
        return save(path, expert)  # type: ignore[no-any-return]

    train(tables, tmp_path / "whole", epochs=3, imbalance_strategy="sampling")
    monkeypatch.setattr(SegmentationTask, "on_train_epoch_start", follow)
    monkeypatch.setattr(TrainingFolder, "is_due", property(lambda self: True))  # a checkpoint each epoch
    monkeypatch.setattr(fit, "save_expert", fail)
    for reason in ("power cut", "disk full"):
        with pytest.raises(InputError, match=reason):
            train(tables, tmp_path / "broken", epochs=3, imbalance_strategy="sampling")
    assert begun == [0, 1, 2, 2]
    train(tables, tmp_path / "broken", epochs=3, imbalance_strategy="sampling")
    assert len(begun) == 4, "all epochs were done: only the experts were written"
    for name in ("all", "bare"):
        files = [tmp_path / run / f"{name}.safetensors" for run in ("whole", "broken")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert not (tmp_path / "broken" / ".training").exists()


def test_patches_of_two_sizes_are_refused(tables: list[PatchTable], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Patches of 32 and 64 px cannot be trained on jointly"):
        train([tables[0], replace(tables[1], size_px=64)], tmp_path)
