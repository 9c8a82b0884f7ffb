"""The training for class maps: patches in, one expert out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.models.expert import Expert, ExpertHeader, Provenance, save_expert
from tesela.models.segmentation.networks import (
    SEGMENTATION_NETWORKS,
    TREE_FORMS,
    SegmentationArchitecture,
    plan_network,
)
from tesela.patches.dataset import PatchDataset, band_statistics
from tesela.patches.table import QUALITIES, PatchTable
from tesela.patches.wide import WidePatches
from tesela.training.segmentation.budget import fit_schedule
from tesela.training.segmentation.data import (
    Patches,
    TrainSampler,
    ValidationSampler,
    make_loader,
    take_to_memory,
)
from tesela.training.segmentation.finish import adjust_expert, library_versions, score_table
from tesela.training.segmentation.imagery import training_imagery
from tesela.training.segmentation.losses import class_weights, patch_weights
from tesela.training.segmentation.members import train_members
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.sizing import sized_settings
from tesela.training.segmentation.task import SegmentationTask
from tesela.training.segmentation.trainer import (
    CheckpointCallback,
    ProgressCallback,
    choose_hardware,
    clean_output,
    freeze_idle,
    interruptible,
)
from tesela.training.segmentation.trees import train_trees
from tesela.training.shell import TrainingFolder, cpu_threads


def train_segmentation(
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings | None = None,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """
    Train a model on the patches of split "train", keep what scores best on "val", write one expert.

    Parameters
    ----------
    table : PatchTable
        Patches of a side that is a multiple of the network's stride, 32 px for a U-Net.
    out : str or Path
        The ``.safetensors`` file to write.
    settings : SegmentationSettings, optional
    bands : sequence of str, optional
        Bands that the model uses, in its order; default: all of the first scene.
    log_dir, quiet
        See `fit_expert`.
    fingerprints : mapping of str to str, optional
        Fingerprints of the inputs, kept in the expert.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If a split has no patches, a scene lacks a band, patches have the wrong size, or a band has no data.
    """
    wanted = sized_settings(settings or SegmentationSettings(), table)
    chosen = wanted.resolved
    if chosen.model == "auto":
        from tesela.training.segmentation.auto import train_auto

        return train_auto(
            table, out, settings=chosen, bands=bands, log_dir=log_dir, quiet=quiet, fingerprints=fingerprints
        )
    if chosen.model in TREE_FORMS:
        expert = train_trees(table, settings=chosen, bands=bands, fingerprints=fingerprints)
        return save_expert(out, expert)
    if chosen.members > 1:
        return train_members(
            table, out, settings=wanted, bands=bands, log_dir=log_dir, quiet=quiet, fingerprints=fingerprints
        )
    names = tuple(next(iter(table.scenes.values())).band_names if bands is None else bands)
    plan = plan_network(  # before anything long: the encoder exists, both splits have patches
        chosen.model,
        band_names=names,
        classes=len(table.legend),
        encoder=chosen.encoder,
        decoder=chosen.decoder,
    )
    stride = plan.stride
    if table.size_px % stride:
        raise InputError(
            f"The patches are {table.size_px} px wide, but model '{chosen.model}' needs a multiple of {stride} px. "
            f"Cut them again (tesela patches --size {max(1, round(table.size_px / stride)) * stride})."
        )
    table.of_split("val")
    mean, std = band_statistics(table, "train", bands=names)
    dates = getattr(plan, "band_dates", ())
    read = functools.partial(PatchDataset, table, bands=names, mean=mean, std=std, dates=dates)
    margin_px = round(chosen.shift * table.size_px)
    train, val = read("train", margin_px=margin_px), read("val")
    header = ExpertHeader(
        architecture=plan,
        legend=table.legend,
        bands=names,
        mean=tuple(float(item) for item in mean),
        std=tuple(float(item) for item in std),
        patch_size_px=table.size_px,
        pixel_size_m=next(iter(table.scenes.values())).pixel_size_m,
        imagery=training_imagery(table, bands=train.bands, mean=mean, std=std, seed=chosen.seed),
        provenance=Provenance(fingerprints=dict(fingerprints or {})),
    )
    return fit_expert(
        header,
        WidePatches(train, margin_px=margin_px) if margin_px else train,
        val,
        out=out,
        shares=table.of_split("train")[table.share_columns].to_numpy(float),
        quality=quality_chances(table, chosen.quality_weights),
        settings=wanted,
        log_dir=log_dir,
        quiet=quiet,
        finish=functools.partial(adjust_expert, table=table, settings=chosen),
    )


def fit_expert(
    header: ExpertHeader,
    train: Patches,
    val: Patches,
    *,
    out: str | Path,
    shares: NDArray[np.floating],
    settings: SegmentationSettings,
    quality: NDArray[np.float64] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    finish: Callable[[Expert], Expert] = lambda expert: expert,
) -> Path:
    """
    Train the network that a header describes, and write the expert.

    A training that was interrupted or killed continues after its last checkpoint when it is called again with
    the same header, settings and patches: on a CPU it ends with the same bytes. Until it ends, its state is kept
    in a folder ``.training`` beside the expert.

    Parameters
    ----------
    header : ExpertHeader
        Without training, scores and the rest of the provenance.
    train, val : Patches
        Samples: scaled image (bands, size, size) float32, labels (size, size) int64 with 255 for none. Of training
        patches with a margin, windows of the header's size are cut at random.
    out : str or Path
        The ``.safetensors`` file to write.
    shares : (patches, classes) array of float
        Share of each training patch's pixels in each class.
    settings : SegmentationSettings
    quality : (patches,) array of float, optional
        How often each training patch is drawn, relative to the others; default: each once an epoch.
    log_dir : str or Path, optional
        Folder of ``metrics.csv`` and TensorBoard's events; default: ``logs/NAME`` beside the expert.
    quiet : bool
        Show no progress bar.
    finish : callable
        Called with the trained expert; what it returns is written.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If the training diverges, or a file cannot be written.
    """
    chosen, target, plan = settings.resolved, Path(out), header.architecture
    network_class = SEGMENTATION_NETWORKS.get(plan.kind)
    if network_class is None or not isinstance(plan, network_class):
        raise InputError(
            f"{out}: no class maps can be trained with {plan.summary}. Take {join_words(SEGMENTATION_NETWORKS)}."
        )
    choose_hardware(chosen)  # before anything long
    work: dict[str, object] = {
        "header": header.to_dict(),
        "settings": asdict(chosen),
        "sizes": [len(train), len(val)],
    }
    work |= {"shares": np.asarray(shares).tolist(), "quality": None if quality is None else quality.tolist()}
    folder = TrainingFolder.open(target, work=work)
    steps = None
    try:
        if chosen.budget:
            with cpu_threads(chosen.threads):
                schedule = fit_schedule(
                    plan, train, val, settings=chosen, folder=folder, size_px=header.patch_size_px
                )
            chosen, steps = replace(chosen, epochs=schedule.epochs, patience=0), schedule.steps
        state = folder.read()
        if state is None or not state["finished"]:
            logs = Path(log_dir) if log_dir else target.parent / "logs" / target.stem
            with clean_output(), torch.random.fork_rng(), cpu_threads(chosen.threads):
                _fit(
                    plan,
                    train,
                    val,
                    settings=chosen,
                    shares=shares,
                    quality=quality,
                    steps=steps,
                    folder=folder,
                    header=header,
                    logs=logs,
                    quiet=quiet,
                )
            state = folder.read()
            assert state is not None
    except BaseException:
        if not folder.checkpoint.exists():  # nothing to continue from
            folder.remove()
        raise
    network = header.architecture.build()
    network.load_state_dict(state["stopping"]["weights"])
    complete = replace(
        header,
        training=asdict(settings),
        scores=score_table(state["scores"], codes=header.legend.codes, patches=len(val)),
        provenance=replace(header.provenance, seed=chosen.seed, date=folder.day, versions=library_versions()),
    )
    save_expert(target, finish(Expert(complete, network)))
    folder.remove()
    return target


def _fit(
    plan: SegmentationArchitecture,
    train: Patches,
    val: Patches,
    *,
    settings: SegmentationSettings,
    shares: NDArray[np.floating],
    quality: NDArray[np.float64] | None,
    steps: int | None,
    folder: TrainingFolder,
    header: ExpertHeader,
    logs: Path,
    quiet: bool,
) -> None:
    """Train from the start or from the checkpoint in the folder; the result is the checkpoint."""
    resumed = folder.checkpoint.exists()
    torch.manual_seed(settings.seed)
    network = plan.build(weights=None if resumed else settings.weights, band_names=header.bands)
    accelerator, devices, precision = choose_hardware(settings, network)
    if devices > 1:
        freeze_idle(network, bands=plan.bands)
    _open_logs(logs, begin=not resumed)
    train, val = (take_to_memory(patches, cache=settings.cache) for patches in (train, val))
    chances = quality
    if settings.imbalance_strategy == "sampling":
        chances = patch_weights(shares) * (1 if quality is None else quality)
    batch_size = min(settings.batch_size, -(-len(train) // devices))
    sampler = TrainSampler(
        len(train),
        batch_size=batch_size,
        seed=settings.seed,
        chances=None if chances is None else chances / chances.sum(),
        devices=devices,
        steps=steps,
    )
    batches, val_batches = (
        make_loader(patches, order, batch_size=batch_size, num_workers=settings.num_workers)
        for patches, order in ((train, sampler), (val, ValidationSampler(len(val), devices=devices)))
    )
    task = SegmentationTask(
        network,
        settings,
        weight=class_weights(shares.sum(axis=0)) if settings.imbalance_strategy == "loss" else None,
        classes=plan.classes,
        total_steps=settings.epochs * len(batches),
        size_px=header.patch_size_px,
    )
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        # processes that end with the training; "ddp" would run the caller's whole script in each
        strategy="auto" if devices == 1 else "ddp_spawn",
        precision=precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip or None,
        callbacks=[
            CheckpointCallback(folder, log=logs / "metrics.csv"),
            ProgressCallback(quiet=quiet),
        ],
        logger=TensorBoardLogger(logs, name="", version=""),
        log_every_n_steps=max(1, min(50, len(batches))),
        enable_checkpointing=False,  # the CheckpointCallback does it
        enable_progress_bar=False,  # the ProgressCallback does it
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # TrainSampler and ValidationSampler distribute the patches
        default_root_dir=folder.path,
    )
    try:
        with interruptible():
            trainer.fit(task, batches, val_batches, ckpt_path=folder.checkpoint if resumed else None)
    except torch.OutOfMemoryError:
        raise InputError(
            f"The GPU's memory does not hold a step of {settings.batch_size} patches: lower batch_size."
        ) from None


def quality_chances(table: PatchTable, weights: Sequence[float]) -> NDArray[np.float64] | None:
    """
    How often each training patch is drawn, by its quality class; None if all are drawn alike.

    Parameters
    ----------
    weights : sequence of 3 float
        Of high, medium and low quality; patches without a class count as high.

    Raises
    ------
    InputError
        If no patch would be drawn.
    """
    if len(set(weights)) == 1:
        return None
    by_quality = dict(zip(QUALITIES, weights, strict=True))
    qualities = table.of_split("train")["quality"].astype(str)
    chances = np.array([by_quality.get(item, weights[0]) for item in qualities], float)
    if not chances.any():
        raise InputError(
            f"quality_weights {list(weights)} leave no training patch: all are of quality "
            f"{join_words(sorted(set(qualities)))}. Give that quality a weight above 0."
        )
    return None if len(set(chances.tolist())) == 1 else chances


def _open_logs(logs: Path, *, begin: bool) -> None:
    """Make the folder of the logs; a training that begins removes what an older one left."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        if begin:
            for old in (*logs.glob("events.out.tfevents.*"), *logs.glob("metrics.csv")):
                old.unlink()
    except OSError as error:
        raise InputError(f"{logs}: cannot be written ({error.strerror}).") from error
