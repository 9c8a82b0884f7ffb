"""Ranking a patch table: networks taught with some of the patches say which labels of the others they doubt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.models.expert import load_expert
from tesela.patches.dataset import PatchDataset
from tesela.patches.folds import fold_patches
from tesela.patches.ranking import Pieces, patch_doubt
from tesela.patches.table import NONE, PatchTable, read_patches
from tesela.recipes.stages import Stage, run_stages
from tesela.training.segmentation import train_segmentation
from tesela.training.settings import SegmentationSettings

SETTINGS = SegmentationSettings(
    encoder="resnet18", decoder="small", epochs=20, batch_size=8, loss="ce", ema=0.98, patience=5
)
"""A small network: it need not be the best, it must not learn the mistakes by heart."""

LEAST_FOLDS = 3


@dataclass(frozen=True)
class Ranking:
    """What `rank_patches` did."""

    table: PatchTable
    """With the column doubt."""
    path: Path
    trained: int
    """Networks trained now; others were there from an interrupted or former run."""


def rank_patches(
    table_path: str | Path,
    out: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    folds: int = 4,
    block_m: float | None = None,
    settings: SegmentationSettings = SETTINGS,
    seed: int = 0,
    quiet: bool = False,
) -> Ranking:
    """
    Write into a patch table how much models doubt the label of each patch.

    The patches are shared out to folds by blocks of ground. For each fold, a network is taught with all others but
    the next one, which chooses its weights, and predicts it. What is done is kept in `folder`; an interrupted run
    goes on there.

    Parameters
    ----------
    out : path, optional
        The patch table with the column doubt, 0 to 1 (see `tesela.patches.ranking.patch_doubt`), missing for
        patches that touch the ground of two folds; default: `table_path` itself.
    folder : path, optional
        Default: ``patches.ranking`` beside ``patches.parquet``.
    folds : int
        At least 3; more teach each network with more patches, and take longer.

    Raises
    ------
    InputError
        If there is too little ground for the folds.
    """
    if folds < LEAST_FOLDS:
        raise InputError(f"{folds} folds were asked for; at least {LEAST_FOLDS} are needed.")
    table = read_patches(table_path)
    fold = fold_patches(table, folds, block_m=block_m, seed=seed)
    home = Path(folder) if folder is not None else Path(table_path).with_suffix(".ranking")
    chosen = replace(settings, seed=seed)
    stages = [
        _stage(table, fold, number, folder=home, settings=chosen, quiet=quiet) for number in range(folds)
    ]
    run = run_stages(stages)
    parts = [_load(stage.folder / "pieces.npz") for stage in stages]
    doubt = patch_doubt(Pieces.join(parts), count=len(table))
    ranked = replace(table, frame=table.frame.assign(doubt=doubt))
    return Ranking(ranked, ranked.write(table_path if out is None else out), trained=len(run.done))


def _stage(
    table: PatchTable,
    fold: np.ndarray[tuple[int], np.dtype[np.int64]],
    number: int,
    *,
    folder: Path,
    settings: SegmentationSettings,
    quiet: bool,
) -> Stage:
    folds = int(fold.max()) + 1
    splits = np.where(fold == (number + 1) % folds, "val", "train").astype(object)
    splits[fold == number] = "test"
    splits[fold < 0] = NONE
    shared = table.with_splits(splits)
    home = folder / f"fold-{number + 1}"
    scenes = {band.path for scene in table.scenes.values() for band in scene.bands}

    def work() -> Sequence[Path]:
        expert = train_segmentation(
            shared, home / "expert.safetensors", settings=settings, log_dir=home / "logs", quiet=quiet
        )
        return [expert, _save(home / "pieces.npz", Pieces.join(_predict(shared, expert)))]

    return Stage(
        f"fold-{number + 1}",
        home,
        {"patches": _digest(shared), "training": asdict(settings)},
        lambda: [Path(path) for path in sorted({*scenes, *table.labels.values()})],
        work,
        table.legend.address,
        settings.seed,
    )


def _predict(table: PatchTable, expert_file: Path) -> Iterator[Pieces]:
    """Pieces of the patches of split "test"; their number is the position in the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    expert = load_expert(expert_file, device=device)
    header = expert.header
    patches = PatchDataset(table, "test", bands=header.bands, mean=header.mean, std=header.std, cache_mib=0)
    places = np.flatnonzero((table.frame["split"] == "test").to_numpy())
    for index, place in enumerate(places):
        image, labels = patches[index]  # (bands, s, s), (s, s)
        with torch.inference_mode():
            scores = expert.network(image[None].to(device)).float().softmax(1)[0]  # (classes, s, s)
        yield Pieces.of(int(place), labels.numpy().astype(np.uint8), scores.cpu().numpy())


def _digest(table: PatchTable) -> str:
    """Mark of the patches and their roles; other columns do not change the work."""
    rows = table.frame[["patch_id", "split"]].to_numpy(str).tolist()
    return hashlib.sha256(json.dumps([table.size_px, rows]).encode()).hexdigest()[:32]


def _save(path: Path, pieces: Pieces) -> Path:
    with write_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **asdict(pieces))
    return path


def _load(path: Path) -> Pieces:
    with np.load(path, allow_pickle=False) as arrays:
        return Pieces(**{name: arrays[name] for name in arrays.files})
