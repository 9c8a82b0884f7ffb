"""Label ranking: areas that look like another class rank first, and no model predicts pixels that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from tesela.chains import label_ranking
from tesela.chains.label_ranking import SETTINGS, rank_patches
from tesela.cli import main
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.images import write_bands
from tesela.io.maps import open_map, write_map
from tesela.io.scenes import open_scene
from tesela.patches import label_quality
from tesela.patches.balance import allocate_groups
from tesela.patches.label_quality import (
    Pieces,
    fold_patches,
    patch_error_likelihood,
    piece_error_likelihood,
    usual_confidence,
)
from tesela.patches.table import PatchTable, make_patches, open_patches
from tesela.training.forest import texture

LEGEND = Legend("demo", tuple(LandClass(n, code, code, f"#0000{n:02x}") for n, code in enumerate("abc", 1)))
SIDE = 8
"""Patches along each side of the scene."""


def project(folder: Path, *, wrong: tuple[int, ...] = (), size_px: int = 16) -> Path:
    """64 patches of three classes in smooth areas; some have the label of the next class."""
    rng = np.random.default_rng(5)
    pixels = SIDE * size_px
    fields = np.stack([gaussian_filter(rng.standard_normal((pixels, pixels)), 8) for _ in range(3)])
    truth = (fields.argmax(axis=0) + 1).astype(np.uint8)
    image = np.array([[0, 60, 120, 180], [0, 150, 90, 30]], np.uint8)[:, truth]
    noisy = np.clip(image + rng.normal(0, 25, image.shape), 1, 255).astype(np.uint8)
    labels = truth.copy()
    for patch in wrong:
        window = np.s_[
            patch // SIDE * size_px : (patch // SIDE + 1) * size_px,
            patch % SIDE * size_px : (patch % SIDE + 1) * size_px,
        ]
        labels[window] = labels[window] % 3 + 1
    grid = GeoBox((pixels, pixels), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")
    write_bands(folder / "scene.tif", noisy, grid, names=("one", "two"))
    write_map(folder / "labels.tif", labels, grid, legend=LEGEND)
    scene = open_scene(folder / "scene.tif")
    table = make_patches([scene], [open_map(folder / "labels.tif")], size_px=size_px)
    return table.write(folder / "patches.parquet")


def test_a_scene_that_was_moved_is_named_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    table = project(tmp_path / "a")
    (tmp_path / "a" / "scene.tif").rename(tmp_path / "scene.tif")
    before = set(tmp_path.rglob("*"))
    for words in (["review", "rank"], ["review", "serve", "--reviewer", "ana"]):
        assert main([*words, str(table), "-q"]) == 1
        line = capsys.readouterr().err
        assert "its scene 'scene' is to be in" in line
        assert "move table, images and labels together" in line
        assert line.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
    (tmp_path / "scene.tif").rename(tmp_path / "a" / "scene.tif")
    (tmp_path / "a").rename(tmp_path / "b")
    assert main(["review", "rank", str(tmp_path / "b" / "patches.parquet"), "-q"]) == 0


def test_a_patch_is_divided_into_its_connected_areas() -> None:
    labels = np.array([[0, 0, 1], [255, 1, 1], [0, 1, 0]], np.uint8)
    scores = np.stack([np.arange(9.0).reshape(3, 3), np.full((3, 3), 2.0)])
    pieces = Pieces.of(4, labels, scores)
    assert pieces.patch.tolist() == [4] * 4
    assert pieces.label.tolist() == [0, 0, 0, 1]
    assert pieces.pixels.tolist() == [2, 1, 1, 4]
    assert pieces.probabilities[:, 0].tolist() == [0.5, 6, 8, (2 + 4 + 5 + 7) / 4]
    assert (pieces.probabilities[:, 1] == 2).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_pieces_keep_pixels_and_probabilities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (7, 9))
    scores = rng.random((3, 7, 9))
    pieces = Pieces.of(0, labels, scores)
    assert pieces.pixels.sum() == (labels != 255).sum()
    sums = (pieces.probabilities * pieces.pixels[:, None]).sum(axis=0)
    assert sums == pytest.approx(scores[:, labels != 255].sum(axis=1))


def pieces_of(rows: list[tuple[int, int, int, list[float]]]) -> Pieces:
    patch, label, pixels, probabilities = zip(*rows, strict=True)
    return Pieces(np.array(patch), np.array(label), np.array(pixels), np.array(probabilities, float))


def test_the_likelihood_of_error_is_relative_to_the_usual_confidence_in_a_class() -> None:
    # class 1 is difficult: its confidence is always low, which is no error; the last piece is unusual
    pieces = pieces_of(
        [
            (0, 0, 100, [0.9, 0.05, 0.05]),
            (1, 1, 100, [0.3, 0.4, 0.3]),
            (2, 1, 100, [0.3, 0.4, 0.3]),
            (3, 2, 100, [0.0, 0.05, 0.95]),
            (4, 0, 100, [0.1, 0.1, 0.8]),
        ]
    )
    # confidence in class 1: two pieces of 0.4 and two added ones of the mean, 2.75 / 5
    assert usual_confidence(pieces)[1] == pytest.approx((0.4 * 2 + 0.55 * 2) / 4)
    margin = piece_error_likelihood(pieces)
    assert margin.argmax() == 4
    assert margin[1] < 0.1 < 0.4 < margin[4]
    assert patch_error_likelihood(pieces, count=6)[:5].tolist() == pytest.approx([0, 0.5, 0.5, 0.25, 1.0])
    assert np.isnan(patch_error_likelihood(pieces, count=6)[5]), "patches without pieces are not ranked"


def test_a_large_wrong_area_counts_more_than_a_small_one() -> None:
    usual, odd = [0.9, 0.1], [0.1, 0.9]
    rows = [(patch, 0, 100, usual) for patch in range(8)]
    rows += [(8, 0, 50, usual), (8, 0, 50, odd), (9, 0, 90, usual), (9, 0, 10, odd)]
    likelihood = patch_error_likelihood(pieces_of(rows), count=10)
    assert likelihood[8] == 1
    assert likelihood[9] == pytest.approx(8 / 9)


@pytest.fixture(scope="module")
def wrong() -> tuple[int, ...]:
    return tuple(int(patch) for patch in np.random.default_rng(3).choice(SIDE * SIDE, 6, replace=False))


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory, wrong: tuple[int, ...]) -> Path:
    return project(tmp_path_factory.mktemp("ranking"), wrong=wrong)


@pytest.mark.parametrize("folds", [3, 4, 5])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_no_area_is_in_two_folds(table_path: Path, folds: int, step: float) -> None:
    table: PatchTable = open_patches(table_path)
    if step < 1:
        maps = [open_map(table.labels["scene"])]
        table = make_patches(list(table.scenes.values()), maps, size_px=16, stride_px=8)
    fold = fold_patches(table, folds)
    assert set(fold) - {-1} == set(range(folds))
    if step == 1:
        assert (fold >= 0).all()
    areas = [shapely.union_all(table.frame.geometry[fold == number].to_numpy()) for number in range(folds)]
    for number, area in enumerate(areas):
        for other in areas[:number]:
            assert area.intersection(other).area < 1
    with pytest.raises(InputError, match="too few for 200 folds"):
        fold_patches(table, 200)


def test_folds_consist_of_square_blocks_and_every_patch_counts_once(
    table_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: PatchTable = open_patches(table_path)
    fold = fold_patches(table, 4).reshape(SIDE, SIDE)
    blocks = fold.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert (blocks == blocks[:, :1]).all(), "the largest side with three blocks a fold: two patches"
    assert len(set(fold[:4, :4].ravel())) > 1
    contents: list[np.ndarray] = []

    def allocate(content: np.ndarray, fractions: Sequence[float], *, seed: int) -> list[np.ndarray]:
        contents.append(content)
        return allocate_groups(content, fractions, seed=seed)

    monkeypatch.setattr(label_quality, "allocate_groups", allocate)
    fold_patches(table, 4, block_m=250)  # blocks that divide patches
    assert contents[0].sum(axis=0) == pytest.approx(table.class_pixels() / 16**2)


@pytest.mark.parametrize("model", ["forest", "network"])
def test_no_model_trains_or_validates_on_pixels_that_it_predicts(
    table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    table: PatchTable = open_patches(table_path)
    maps = [open_map(table.labels["scene"])]
    overlapping = make_patches(list(table.scenes.values()), maps, size_px=16, stride_px=8)
    path = overlapping.write(tmp_path / "patches.parquet")
    given: list[PatchTable] = []

    def predict(split: PatchTable, folder: Path, task: object) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        given.append(split)
        for _ in range(split.counts["test"]):
            yield np.zeros((16, 16), np.uint8), np.full((3, 16, 16), 1 / 3, np.float32)

    monkeypatch.setitem(label_ranking._MODELS, model, predict)
    ranked = rank_patches(path, model=model, folds=3).table.frame
    assert len(given) == 3
    for split in given:
        assert set(split.counts) == {"train", "test", "none"} | ({"val"} if model == "network" else set())
        areas = {
            name: shapely.union_all(rows.geometry.to_numpy()) for name, rows in split.frame.groupby("split")
        }
        for name in {"train", "val"} & set(areas):
            assert areas[name].intersection(areas["test"]).area < 1
        if model == "network":
            assert areas["train"].intersection(areas["val"]).area < 1
    tested = np.array([(split.frame["split"] == "test").to_numpy() for split in given])
    assert tested.sum(axis=0).max() == 1, "one model predicts a patch"
    assert (tested.any(axis=0) == ranked["error_likelihood"].notna()).all()


def test_texture_is_colour_and_its_surroundings() -> None:
    image = np.random.default_rng(0).random((2, 30, 30)).astype(np.float32)
    layers = texture(image)
    assert layers.shape == (10, 30, 30)
    assert (layers[:2] == image).all()
    window = image[1, 8:13, 10:15]
    assert layers[3, 10, 12] == pytest.approx(window.mean(), abs=1e-5)
    assert layers[5, 10, 12] == pytest.approx(window.std(), abs=1e-4)


def test_wrong_labels_rank_first(table_path: Path, wrong: tuple[int, ...], tmp_path: Path) -> None:
    made = rank_patches(table_path, tmp_path / "ranked.parquet", folder=tmp_path / "work", seed=1)
    assert made.trained == 4
    likelihood = open_patches(made.path).frame["error_likelihood"].to_numpy()
    first = np.argsort(-likelihood)[: len(wrong) + 2]
    assert len(set(wrong) & set(first.tolist())) >= len(wrong) - 1
    assert "error_likelihood" not in open_patches(table_path).frame.columns
    again = rank_patches(table_path, tmp_path / "again.parquet", folder=tmp_path / "work", seed=1)
    assert again.trained == 0
    assert (again.table.frame["error_likelihood"].to_numpy() == likelihood).all()


def test_the_command_ranks_and_gives_quality_classes_marked_as_automatic(
    wrong: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project(tmp_path, wrong=wrong)
    assert main(["review", "rank", str(path), "--folds", "3", "--automatic-quality"]) == 0
    assert "likely errors" in capsys.readouterr().out
    table = open_patches(path)
    assert set(table.frame["quality_source"]) == {"automatic"}
    assert table.frame["quality"].value_counts().to_dict() == {"high": 38, "medium": 13, "low": 13}
    assert main(["patches", str(path), "--split", "quality", "-o", str(tmp_path / "split.parquet")]) == 0
    assert open_patches(tmp_path / "split.parquet").counts == {"train": 38, "val": 13, "test": 13}
    assert main(["patches", "scene.tif", "-o", "x.parquet"]) == 1
    assert "Scenes need their labels (--labels)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_can_rank_too(tmp_path: Path) -> None:
    path = project(tmp_path, size_px=32)
    quick = replace(SETTINGS, model="unet", encoder="tu-mobilenetv3_small_050", epochs=1, patience=0)
    made = rank_patches(path, model="network", folds=3, settings=quick, quiet=True)
    likelihood = made.table.frame["error_likelihood"].to_numpy()
    assert np.isfinite(likelihood).all()
    assert likelihood.min() == 0
    assert likelihood.max() == 1


def test_wrong_settings_are_refused(table_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unknown model 'florest': did you mean 'forest'"):
        rank_patches(table_path, tmp_path / "x.parquet", model="florest")
    with pytest.raises(InputError, match="The seed is -1; it is 0 or more"):
        rank_patches(table_path, seed=-1)
    with pytest.raises(InputError, match="2 folds are too few; at least 3"):
        rank_patches(table_path, tmp_path / "x.parquet", folds=2)
