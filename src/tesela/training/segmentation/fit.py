"""The fit of a network for class maps: the trainer, its checkpoints, and the experts that are written at its end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.errors import InputError, join_words
from tesela.models.expert import Expert, save_expert
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS, SegmentationArchitecture
from tesela.training.segmentation.budget import fit_schedule
from tesela.training.segmentation.data import (
    Patches,
    TrainSampler,
    ValidationSampler,
    make_loader,
    take_to_memory,
)
from tesela.training.segmentation.finish import library_versions, score_table
from tesela.training.segmentation.heads import Head
from tesela.training.segmentation.loggers import training_loggers
from tesela.training.segmentation.losses import class_weights
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.task import SegmentationTask
from tesela.training.segmentation.trainer import (
    CheckpointCallback,
    ProgressCallback,
    choose_hardware,
    clean_output,
    freeze_idle,
    interruptible,
)
from tesela.training.shell import Tensors, TrainingFolder, cpu_threads


def fit_experts(
    heads: Sequence[Head],
    train: Patches,
    val: Patches | None,
    *,
    plan: SegmentationArchitecture,
    target: Path,
    settings: SegmentationSettings,
    chances: NDArray[np.float64] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
) -> list[Path]:
    """
    Train one network of one head or several, and write the expert of each head.

    A training that was interrupted or killed continues after its last checkpoint when it is called again with
    the same heads, settings and patches: on a CPU it ends with the same bytes. Until it ends, its state is kept
    in a folder ``.training`` beside `target`.

    Parameters
    ----------
    heads : sequence of Head
    train, val : Patches
        Samples: scaled image (bands, size, size) float32, labels int64 with 255 for none, (size, size) of one head,
        (heads, size, size) of several. Of training patches with a margin, windows of the header's size are cut at
        random. Without `val` the last weights are kept, and the header has no scores.
    plan : SegmentationArchitecture
        The network; its channels are the classes of all heads, one head after another.
    target : Path
        Names the state and the logs: that of one head is its expert.
    settings : SegmentationSettings
    chances : (patches,) array of float, optional
        How often each training patch is drawn, relative to the others; default: each once an epoch.
    log_dir : str or Path, optional
        Folder of ``metrics.csv`` and TensorBoard's events; default: ``logs/NAME`` beside `target`.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    list of Path
        The experts.

    Raises
    ------
    InputError
        If the training diverges, or a file cannot be written.
    """
    chosen = settings.resolved
    network_class = SEGMENTATION_NETWORKS.get(plan.kind)
    if network_class is None or not isinstance(plan, network_class):
        raise InputError(
            f"{target}: no class maps can be trained with {plan.summary}. Take {join_words(SEGMENTATION_NETWORKS)}."
        )
    choose_hardware(chosen)  # before anything long
    work: dict[str, object] = {
        "headers": [head.header.to_dict() for head in heads],
        "shares": [np.asarray(head.shares).tolist() for head in heads],
        "settings": asdict(chosen),
        "sizes": [len(train), 0 if val is None else len(val)],
        "chances": None if chances is None else chances.tolist(),
    }
    folder = TrainingFolder.open(target, work=work)
    steps = None
    try:
        if chosen.budget:
            with cpu_threads(chosen.threads):
                schedule = fit_schedule(
                    plan,
                    train,
                    val,
                    settings=chosen,
                    folder=folder,
                    classes=[head.classes for head in heads],
                    size_px=heads[0].header.patch_size_px,
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
                    heads=heads,
                    chances=chances,
                    steps=steps,
                    folder=folder,
                    logs=logs,
                    quiet=quiet,
                )
            state = folder.read()
            assert state is not None
    except BaseException:
        if not folder.checkpoint.exists():  # nothing to continue from
            folder.remove()
        raise
    together = {"joint": [head.out.stem for head in heads]} if len(heads) > 1 else {}
    begin = 0
    for head, scores in zip(heads, state["scores"], strict=True):
        header = head.header
        network = header.architecture.build()
        channels = slice(begin, begin := begin + head.classes)
        network.load_state_dict(head_weights(state["stopping"]["weights"], network, channels))
        complete = replace(
            header,
            training=asdict(settings) | together,
            scores=score_table(scores, codes=header.legend.codes, patches=head.val_patches) if scores else {},
            provenance=replace(
                header.provenance, seed=chosen.seed, date=folder.day, versions=library_versions()
            ),
        )
        save_expert(head.out, head.finish(Expert(complete, network)))
    folder.remove()
    return [head.out for head in heads]


def head_weights(weights: Tensors, network: nn.Module, channels: slice) -> Tensors:
    """
    Weights of the network of one head: what all heads share, and its own channels of the last layer.

    Parameters
    ----------
    weights : dict of tensors
        Those of the trained network.
    network : torch.nn.Module
        Built for the classes of the head.
    channels : slice
        Channels of the head in the trained network.
    """
    return {
        name: weights[name] if weights[name].shape == own.shape else weights[name][channels].clone()
        for name, own in network.state_dict().items()
    }


def _fit(
    plan: SegmentationArchitecture,
    train: Patches,
    val: Patches | None,
    *,
    settings: SegmentationSettings,
    heads: Sequence[Head],
    chances: NDArray[np.float64] | None,
    steps: int | None,
    folder: TrainingFolder,
    logs: Path,
    quiet: bool,
) -> None:
    """Train from the start or from the checkpoint in the folder; the result is the checkpoint."""
    resumed = folder.checkpoint.exists()
    torch.manual_seed(settings.seed)
    network = plan.build(weights=None if resumed else settings.weights, band_names=heads[0].header.bands)
    accelerator, devices, precision = choose_hardware(settings, network)
    if devices > 1:
        freeze_idle(network, bands=plan.bands)
    _open_logs(logs, begin=not resumed)
    train = take_to_memory(train, cache=settings.cache)
    batch_size = min(settings.batch_size, -(-len(train) // devices))
    sampler = TrainSampler(
        len(train),
        batch_size=batch_size,
        seed=settings.seed,
        chances=None if chances is None else chances / chances.sum(),
        devices=devices,
        steps=steps,
    )
    load = functools.partial(make_loader, batch_size=batch_size, num_workers=settings.num_workers)
    batches, val_batches = load(train, sampler), None
    if val is not None:
        val = take_to_memory(val, cache=settings.cache)
        val_batches = load(val, ValidationSampler(len(val), devices=devices))
    task = SegmentationTask(
        network,
        settings,
        weights=[class_weights(head.shares.sum(axis=0)) for head in heads]
        if settings.imbalance_strategy == "loss"
        else None,
        classes=[head.classes for head in heads],
        total_steps=settings.epochs * len(batches),
        size_px=heads[0].header.patch_size_px,
        validates=val is not None,
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
        logger=training_loggers(logs, folder=folder, settings=settings),
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


def _open_logs(logs: Path, *, begin: bool) -> None:
    """Make the folder of the logs; a training that begins removes what an older one left."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        if begin:
            for old in (*logs.glob("events.out.tfevents.*"), *logs.glob("metrics.csv")):
                old.unlink()
    except OSError as error:
        raise InputError(f"{logs}: cannot be written ({error.strerror}).") from error
