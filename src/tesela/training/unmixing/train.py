"""The training of unmixing experts: pixels in, one expert out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.core.machine import steady_memory
from tesela.core.progress import ProgressLine
from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, ExpertHeader, Provenance, save_expert
from tesela.models.output import Tensor, UnmixingNetwork, parent_matrix
from tesela.models.unmixers import BritsArchitecture, EncoderArchitecture, EnsembleArchitecture, Unmixer
from tesela.models.unmixing_header import SeriesScaling
from tesela.patches.pixels import PixelTable
from tesela.patches.thinning import thin_pixels
from tesela.training.budget import epochs_within
from tesela.training.shell import TrainingFolder, cpu_threads, epoch_text, today
from tesela.training.unmixing.auto import train_auto
from tesela.training.unmixing.batches import TRAIN, VAL, PixelSource
from tesela.training.unmixing.calibration import calibrate
from tesela.training.unmixing.classic import fit_classic
from tesela.training.unmixing.loop import NetworkTraining, digest, epoch_seconds
from tesela.training.unmixing.members import remove_members, train_members, weights_of_member
from tesela.training.unmixing.settings import CLASSIC, ENCODERS, UnmixingSettings

_LEAST_STD = 1e-6
_ROWS_AT_ONCE = 1 << 16


def train_unmixing(
    table: PixelTable,
    settings: UnmixingSettings | None = None,
    *,
    out: str | Path | None = None,
    start: Mapping[str, Tensor] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Expert:
    """
    Train an expert that predicts the share of each class in each pixel.

    The weights with the smallest RMSE on the validation pixels are kept, and standard deviations are calibrated there;
    pixels of the test split are not used.

    Parameters
    ----------
    table : PixelTable
        With shares and splits; its legend is the expert's. Levels above are sums of its classes, and are trained too.
    out : str or Path, optional
        The ``.safetensors`` file to write. With it, a training that was interrupted or killed continues after its last
        checkpoint when it is called again with the same pixels, settings and start: on a CPU it ends with the same
        bytes. Until it ends, its state is kept in a folder ``.training`` beside the expert.
    start : mapping of str to tensor, optional
        Weights to begin with, from `training.unmixing.pretraining.pretrain`; tensors of other names or shapes are not
        used.
    fingerprints : mapping, optional
        Of the inputs of the table, for the expert's provenance.
    quiet : bool
        Show no progress bar.

    Raises
    ------
    InputError
        If there are no shares, or no pixels of train or val; if the training diverges, or a file cannot be written.
    SettingsError
        If a setting is out of range.
    """
    chosen = (settings or UnmixingSettings()).resolved
    if table.legend is None:
        raise InputError("The pixels have no class shares. Read them with an abundance map.")
    for code, name in ((TRAIN, "train"), (VAL, "val")):
        if not (table.splits == code).any():
            raise InputError(f"No pixel is in {name}. Split the table first (split_pixels).")
    if chosen.is_joined:
        return _train_members(table, chosen, out=out, start=start, fingerprints=fingerprints, quiet=quiet)
    folder = None
    if out is not None:
        folder = TrainingFolder.open(Path(out), work=_work(table, chosen, start))
    try:
        expert = _train(table, chosen, folder, start=start, fingerprints=fingerprints, quiet=quiet)
    except BaseException:
        if folder is not None and not folder.checkpoint.exists():  # nothing to continue from
            folder.remove(pretraining=False)
        raise
    if out is not None and folder is not None:
        save_expert(out, expert)
        folder.remove()
    return expert


def _work(
    table: PixelTable, settings: UnmixingSettings, start: Mapping[str, Tensor] | None
) -> dict[str, object]:
    """Everything that decides the result of a training, as plain values."""
    return {"table": _describe(table), "settings": settings.to_dict(), "start": digest(start or {})}


def _train_members(
    table: PixelTable,
    settings: UnmixingSettings,
    *,
    out: str | Path | None,
    start: Mapping[str, Tensor] | None,
    fingerprints: Mapping[str, str] | None,
    quiet: bool,
) -> Expert:
    """Train all members and join them into one expert."""

    def train(own: UnmixingSettings, file: Path | None) -> Expert:
        begin = weights_of_member(own.model, start)
        return train_unmixing(table, own, out=file, start=begin, fingerprints=fingerprints, quiet=quiet)

    target = None if out is None else Path(out)
    work = _work(table, settings, start)
    if settings.model == "auto" and not settings.members:
        joined = train_auto(table, settings, train, out=target, work=work, quiet=quiet)
    else:
        joined = train_members(table, settings, train, out=target, work=work)
    plain = settings.to_dict()
    made = plain if settings.model == "auto" else {**joined.header.training, "settings": plain}
    header = replace(joined.header, training=made)
    expert = calibrate(Expert(header, joined.network), table)
    if target is not None:
        save_expert(target, expert)
        remove_members(target)
    return expert


def _train(
    table: PixelTable,
    settings: UnmixingSettings,
    folder: TrainingFolder | None,
    *,
    start: Mapping[str, Tensor] | None,
    fingerprints: Mapping[str, str] | None,
    quiet: bool,
) -> Expert:
    assert table.legend is not None
    begun = today() if folder is None else folder.day
    tiled = settings.context > 0 and settings.model in ENCODERS
    legend = table.legend
    mean, std, scaling = fit_scaling(
        table
    )  # of all pixels: members that are thinned in different ways can be joined
    table = thin_pixels(table, settings.thinning, by="block" if tiled else "pixel", seed=settings.seed)
    source = PixelSource(table, scaling, mean, std)
    plan: Unmixer | EnsembleArchitecture
    if settings.model in CLASSIC:
        plan, network, scores = fit_classic(source, settings)
    else:
        with cpu_threads(settings.threads):
            plan, network, scores = _train_networks(
                source, settings, legend, folder=folder, start=start, quiet=quiet
            )
    header = ExpertHeader(
        architecture=plan,
        legend=legend,
        bands=table.bands,
        mean=mean,
        std=std,
        patch_size_px=1 + 2 * network.margin_px,
        pixel_size_m=0.0 if table.grid is None or table.grid.crs is None else _pixel_m(table),
        task="unmixing",
        series=scaling,
        training=settings.to_dict(),
        scores=scores,
        provenance=Provenance(
            seed=settings.seed,
            date=begun,
            versions={"torch": torch.__version__, "numpy": np.__version__},
            fingerprints=fingerprints or {},
        ),
    )
    return calibrate(Expert(header, network.eval().requires_grad_(False)), table)


def _train_networks(
    source: PixelSource,
    settings: UnmixingSettings,
    legend: Legend,
    *,
    folder: TrainingFolder | None,
    start: Mapping[str, Tensor] | None,
    quiet: bool,
) -> tuple[Unmixer | EnsembleArchitecture, UnmixingNetwork, dict[str, object]]:
    """Train the networks of an ensemble one after the other, from the start or from the checkpoint in the folder."""
    plan, size = plan_network(source.table, settings), settings.ensemble_size
    if settings.budget:

        def seconds() -> float:
            return epoch_seconds(plan, source, settings, parent_matrix(legend))

        within = parse_duration_s(settings.budget) / size
        settings = replace(settings, epochs=epochs_within(within, seconds, folder=folder), patience=0)
    state = (None if folder is None else folder.read()) or {"fits": [], "running": None}
    fits: list[dict[str, Any]] = state["fits"]
    line = ProgressLine("training", unit="steps", quiet=quiet)
    with steady_memory():
        try:
            for number in range(len(fits), size):
                own = replace(settings, seed=settings.seed + 1000 * number)
                training = NetworkTraining(plan, source, own, parent_matrix(legend), start=start)
                if state["running"] is not None:
                    training.load_state_dict(state["running"])
                    state["running"] = None
                steps = settings.epochs * training.steps_per_epoch
                line.start(
                    total=steps * size, done=steps * number + training.epoch * training.steps_per_epoch
                )
                finished = training.finished
                while not finished:
                    training.run_epoch()
                    finished = training.finished
                    line.move(steps * number + training.epoch * training.steps_per_epoch)
                    shown = {"loss": training.loss, "RMSE": training.stopping.best or 0.0}
                    line.describe(epoch_text(training.epoch, shown))
                    if finished:
                        fits.append({**training.stopping.state_dict(), "curve": training.curve})
                    if folder is not None and (finished or folder.is_due):
                        running = None if finished else training.state_dict()
                        folder.write_state({"fits": fits, "running": running})
        finally:
            line.stop()
    networks = []
    for fit in fits:
        network = plan.build()
        network.load_state_dict(fit["weights"])
        networks.append(network.eval())
    scores: dict[str, object] = {
        "val_rmse": round(float(np.mean([fit["best"] for fit in fits])), 6),
        "epoch": [fit["epoch"] for fit in fits],
        "curve": [fit["curve"] for fit in fits],
    }
    if size == 1:
        return plan, networks[0], scores
    from tesela.models.ensemble import Ensemble

    return EnsembleArchitecture((plan,) * size), Ensemble(networks), scores


def plan_network(table: PixelTable, settings: UnmixingSettings) -> Unmixer:
    """Architecture of a network for this table."""
    assert table.legend is not None
    bands, classes, layers = len(table.bands), len(table.legend), len(table.layers)
    if settings.model == "brits":
        return BritsArchitecture(bands, classes, layers, sigmoid=not settings.published)
    return EncoderArchitecture(
        bands,
        classes,
        table.months,
        layers,
        encoder=settings.model,
        context=settings.context,
        head=settings.head,
        endmember_decoder=settings.endmember_decoder,
    )


def fit_scaling(table: PixelTable) -> tuple[tuple[float, ...], tuple[float, ...], SeriesScaling]:
    """Mean and standard deviation of bands and layers over the training pixels, and their mean shares."""
    train = np.flatnonzero(table.splits == TRAIN)
    if not len(train):
        train = np.arange(len(table))
    mean, std = _moments(table.values, train)
    layer_mean, layer_std = _moments(table.static, train)
    shares = sum(
        (part.astype(np.float64).sum(0) for part in _parts(table.targets, train)),
        start=np.zeros(table.targets.shape[1]),
    )
    prior = shares / shares.sum() if shares.size else shares
    scaling = SeriesScaling(
        months=table.months,
        layers=table.layers,
        layer_mean=layer_mean,
        layer_std=layer_std,
        prior=tuple(float(share) for share in prior),
    )
    return mean, std, scaling


def _parts(array: NDArray[np.float32], pixels: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """The rows of some pixels, a few at a time."""
    for start in range(0, len(pixels), _ROWS_AT_ONCE):
        yield array[pixels[start : start + _ROWS_AT_ONCE]]


def _moments(
    array: NDArray[np.float32], pixels: NDArray[np.intp]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column (the last axis) over some rows; 0 and 1 if it has no values."""
    width = array.shape[-1]
    if not width:
        return (), ()
    count, first, second = np.zeros(width), np.zeros(width), np.zeros(width)
    for part in _parts(array, pixels):
        columns = part.reshape(-1, width).astype(np.float64)
        seen = np.isfinite(columns)
        count += seen.sum(0)
        first += np.where(seen, columns, 0).sum(0)
    mean = first / np.maximum(count, 1)
    for part in _parts(array, pixels):  # again, because differences of large sums lose digits
        columns = part.reshape(-1, width) - mean
        second += np.where(np.isfinite(columns), columns**2, 0).sum(0)
    spread = np.sqrt(second / np.maximum(count, 1))
    return (
        tuple(float(number) for number in mean),
        tuple(float(number) if number > _LEAST_STD else 1.0 for number in spread),
    )


def _describe(table: PixelTable) -> dict[str, object]:
    """Everything of a table that a training depends on, as plain values."""
    names = ("values", "static", "targets", "rows", "cols", "splits")
    return {
        "arrays": digest({name: getattr(table, name) for name in names}),
        "legend": None if table.legend is None else table.legend.to_rows(),
        **{name: list(getattr(table, name)) for name in ("times", "bands", "layers")},
        "grid": str(table.grid),
    }


def _pixel_m(table: PixelTable) -> float:
    from tesela.core.grid import pixel_size_m

    assert table.grid is not None
    return float(np.mean(pixel_size_m(table.grid)))
