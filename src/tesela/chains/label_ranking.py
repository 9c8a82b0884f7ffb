"""Label ranking: models trained on some folds of a patch table find wrong labels in the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, unknown_name
from tesela.io.manifest import write_whole
from tesela.patches.dataset import PatchDataset
from tesela.patches.label_quality import (
    ERROR_LIKELIHOOD,
    Pieces,
    automatic_quality,
    fold_patches,
    patch_error_likelihood,
)
from tesela.patches.missing_files import check_files
from tesela.patches.table import NONE, PatchTable, open_patches
from tesela.recipes.stages import Stage, run_stages
from tesela.training.forest import forest_probabilities, train_forest
from tesela.training.segmentation.settings import SegmentationSettings

SETTINGS = SegmentationSettings(
    encoder="resnet18", decoder="small", epochs=20, batch_size=8, loss="ce", ema=0.98, patience=5
)
"""A small network: it does not have to be the best, it must not learn the wrong labels by heart."""

MIN_FOLDS = 3


@dataclass(frozen=True)
class Ranking:
    """Result of `rank_patches`."""

    table: PatchTable
    """With the column error_likelihood."""
    path: Path
    trained: int
    """Models trained in this run; an interrupted or earlier run trained the others."""


def rank_patches(
    table_path: str | Path,
    out: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    model: str = "forest",
    folds: int = 4,
    block_m: float | None = None,
    settings: SegmentationSettings = SETTINGS,
    seed: int = 0,
    rate: bool = False,
    quiet: bool = False,
) -> Ranking:
    """
    Rank the patches of a table by the likelihood that their labels are wrong.

    Square blocks divide the patches into folds. For each fold, a model is trained on the other folds and predicts this
    one. `folder` keeps the results of each fold, so an interrupted run resumes there.

    Parameters
    ----------
    out : path, optional
        The patch table with the column error_likelihood, 0 to 1 (see
        `tesela.patches.label_quality.patch_error_likelihood`), missing for patches that overlap two folds; default:
        `table_path` itself.
    folder : path, optional
        Default: ``patches.label_quality`` beside ``patches.parquet``.
    model : {"forest", "network"}
        A random forest on colour and texture, which takes seconds, or a U-Net, with one of the other folds for
        validation.
    folds : int
        At least 3; with more folds, each model trains on more patches and the run takes longer.
    rate : bool
        Give patches without a review a quality class too, see `tesela.patches.label_quality.automatic_quality`.

    Raises
    ------
    InputError
        If the area is too small for the folds, or an image of the table is not there.
    """
    if model not in _MODELS:
        raise InputError(unknown_name("model", model, _MODELS))
    if folds < MIN_FOLDS:
        raise InputError(f"{folds} folds are too few; at least {MIN_FOLDS} are needed.")
    table = open_patches(table_path)
    check_files(table, table_path)
    if seed < 0:
        raise InputError(f"The seed is {seed}; it is 0 or more.")
    fold = fold_patches(table, folds, block_m=block_m, seed=seed)
    home = Path(folder) if folder is not None else Path(table_path).with_suffix(".ranking")
    task = _Task(model, replace(settings, seed=seed), quiet)
    stages = [_stage(table, fold, number, folder=home, task=task) for number in range(folds)]
    run = run_stages(stages)
    parts = [_load(stage.folder / "pieces.npz") for stage in stages]
    likelihood = patch_error_likelihood(Pieces.join(parts), count=len(table))
    ranked = replace(table, frame=table.frame.assign(**{ERROR_LIKELIHOOD: likelihood}))
    if rate:
        ranked = automatic_quality(ranked)
    return Ranking(ranked, ranked.write(table_path if out is None else out), trained=len(run.done))


@dataclass(frozen=True)
class _Task:
    model: str
    settings: SegmentationSettings
    quiet: bool


def _stage(table: PatchTable, fold: NDArray[np.int64], number: int, *, folder: Path, task: _Task) -> Stage:
    folds = int(fold.max()) + 1
    splits = np.where(fold == number, "test", "train").astype(object)
    if task.model == "network":
        splits[fold == (number + 1) % folds] = "val"
    splits[fold < 0] = NONE
    split = table.with_splits(splits)
    home = folder / f"fold-{number + 1}"
    files = {band.path for scene in table.scenes.values() for band in scene.bands} | {*table.labels.values()}

    def work() -> Sequence[Path]:
        tested = np.flatnonzero((split.frame["split"] == "test").to_numpy())
        predictions = _MODELS[task.model](split, home, task)
        parts = [Pieces.of(int(index), *patch) for index, patch in zip(tested, predictions, strict=True)]
        return [_save(home / "pieces.npz", Pieces.join(parts))]

    return Stage(
        f"fold-{number + 1}",
        home,
        {"patches": _digest(split), "model": task.model, "training": asdict(task.settings)},
        lambda: [Path(path) for path in sorted(files)],
        work,
        table.legend.address,
        task.settings.seed,
    )


def _by_forest(table: PatchTable, folder: Path, task: _Task) -> Iterator[_Predicted]:
    yield from forest_probabilities(train_forest(table, seed=task.settings.seed), table)


def _by_network(table: PatchTable, folder: Path, task: _Task) -> Iterator[_Predicted]:
    import torch

    from tesela.models.expert import open_expert
    from tesela.training.segmentation.train import train_segmentation  # loads lightning, seconds

    file = train_segmentation(
        table,
        folder / "expert.safetensors",
        settings=task.settings,
        log_dir=folder / "logs",
        quiet=task.quiet,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    expert = open_expert(file, device=device)
    header = expert.header
    patches = PatchDataset(table, "test", bands=header.bands, mean=header.mean, std=header.std)
    for index in range(len(patches)):
        image, labels = patches[index]  # (bands, s, s), (s, s)
        with torch.inference_mode():
            scores = expert.network(image[None].to(device)).float().softmax(1)[0]  # (classes, s, s)
        yield labels.numpy().astype(np.uint8), scores.cpu().numpy()


_Predicted = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Labels (rows, cols) of a patch, and class probabilities (classes, rows, cols)."""

_MODELS: dict[str, Callable[[PatchTable, Path, _Task], Iterator[_Predicted]]] = {
    "forest": _by_forest,
    "network": _by_network,
}


def _digest(table: PatchTable) -> str:
    """Digest of the patches and their splits; other columns do not change the result."""
    rows = table.frame[["patch_id", "split"]].to_numpy(str).tolist()
    return hashlib.sha256(json.dumps([table.size_px, rows]).encode()).hexdigest()[:32]


def _save(path: Path, pieces: Pieces) -> Path:
    with write_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **asdict(pieces))
    return path


def _load(path: Path) -> Pieces:
    with np.load(path, allow_pickle=False) as arrays:
        return Pieces(**{name: arrays[name] for name in arrays.files})
