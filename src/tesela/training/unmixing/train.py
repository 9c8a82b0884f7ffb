"""Train an unmixing expert: pixels in, one file out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.errors import ExpertError, InputError
from tesela.core.legend import Legend
from tesela.core.machine import steady_memory
from tesela.models.context import SeriesNetwork
from tesela.models.expert import Expert, ExpertHeader, Provenance
from tesela.models.mixing import mixed_endmembers
from tesela.models.output import Tensor, UnmixingNetwork, parent_matrix
from tesela.models.series import SeriesScaling
from tesela.models.unmixers import BritsArchitecture, EncoderArchitecture, EnsembleArchitecture, Unmixer
from tesela.patches.pixels import PixelTable
from tesela.training.averaging import MovingAverage
from tesela.training.unmixing.batches import TRAIN, VAL, Batch, PixelSource, training_batches
from tesela.training.unmixing.calibration import calibrate
from tesela.training.unmixing.classic import fit_classic
from tesela.training.unmixing.loss import unmixing_loss
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings

Progress = Callable[[int, int], None]
"""Called with the epochs done and the epochs in all."""

_LEAST_STD = 1e-6


@dataclass(frozen=True)
class _Fit:
    """What training one network came to."""

    network: UnmixingNetwork
    rmse: float
    """Mean RMSE over the classes on the validation pixels, of the best weights."""
    epoch: int
    curve: tuple[float, ...]


def train_unmixing(
    table: PixelTable,
    settings: UnmixingSettings | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Expert:
    """
    Train an expert that says which share of each pixel each class covers.

    The weights with the least RMSE on the validation pixels are kept, and standard deviations are calibrated there;
    pixels of the test split are never looked at.

    Parameters
    ----------
    table : PixelTable
        With shares and splits; its legend is the expert's. Levels above are sums of its classes, and are learned too.
    start : mapping of str to tensor, optional
        Weights to begin with, from `training.unmixing.pretraining.pretrain`; tensors of other names or shapes are left.
    fingerprints : mapping, optional
        Of what the table was made from, for the expert's provenance.

    Raises
    ------
    InputError
        If there are no shares, or no pixels of train or val.
    SettingsError
        If a setting is out of range.
    """
    chosen = (settings or UnmixingSettings()).resolved
    if table.legend is None:
        raise InputError("The pixels have no class shares. Read them with an abundance map.")
    for code, name in ((TRAIN, "train"), (VAL, "val")):
        if not (table.splits == code).any():
            raise InputError(f"No pixel is in {name}. Split the table first (split_pixels).")
    begun = time.strftime("%Y-%m-%d", time.gmtime())
    mean, std, scaling = fit_scaling(table)
    source = PixelSource(table, scaling, mean, std)
    plan: Unmixer | EnsembleArchitecture
    if chosen.model in CLASSIC:
        plan, network, scores = fit_classic(source, chosen)
    else:
        plan, network, scores = _train_networks(source, chosen, table.legend, start=start, progress=progress)
    header = ExpertHeader(
        architecture=plan,
        legend=table.legend,
        bands=table.bands,
        mean=mean,
        std=std,
        patch_size_px=1 + 2 * network.margin_px,
        pixel_size_m=0.0 if table.grid is None or table.grid.crs is None else _pixel_m(table),
        task="unmixing",
        series=scaling,
        training=asdict(chosen),
        scores=scores,
        provenance=Provenance(
            seed=chosen.seed,
            date=begun,
            versions={"torch": torch.__version__, "numpy": np.__version__},
            fingerprints=fingerprints or {},
        ),
    )
    return calibrate(Expert(header, network.eval().requires_grad_(False)), table)


def fit_scaling(table: PixelTable) -> tuple[tuple[float, ...], tuple[float, ...], SeriesScaling]:
    """Mean and standard deviation of bands and layers over the training pixels, and their mean shares."""
    train = table.take(table.splits == TRAIN) if (table.splits == TRAIN).any() else table
    values = np.where(np.isfinite(train.values), train.values, np.nan).astype(np.float64)
    mean, std = _moments(values.reshape(-1, values.shape[-1]))
    layer_mean, layer_std = _moments(
        np.where(np.isfinite(train.static), train.static, np.nan).astype(np.float64)
    )
    shares = train.targets.astype(np.float64).mean(0)
    prior = shares / shares.sum() if shares.size else shares
    scaling = SeriesScaling(
        months=table.months,
        layers=table.layers,
        layer_mean=layer_mean,
        layer_std=layer_std,
        prior=tuple(float(share) for share in prior),
    )
    return mean, std, scaling


def _moments(columns: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column; 0 and 1 where there is nothing."""
    empty = ~np.isfinite(columns).any(0)
    columns = np.where(empty, 0.0, columns)
    spread = np.nanstd(columns, axis=0)
    mean = tuple(float(number) for number in np.nanmean(columns, axis=0))
    return mean, tuple(float(number) if number > _LEAST_STD else 1.0 for number in spread)


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
        dirichlet=settings.dirichlet,
        mixture=settings.mixture,
    )


def _train_networks(
    source: PixelSource,
    settings: UnmixingSettings,
    legend: Legend,
    *,
    start: Mapping[str, Tensor] | None,
    progress: Progress | None,
) -> tuple[Unmixer | EnsembleArchitecture, UnmixingNetwork, dict[str, object]]:
    plan = plan_network(source.table, settings)
    whole = EnsembleArchitecture((plan,) * settings.members) if settings.members > 1 else plan
    fits = []
    with steady_memory():
        for member in range(settings.members):
            own = replace(settings, seed=settings.seed + 1000 * member)

            def tell(epoch: int, past: int = member * settings.epochs) -> None:
                if progress is not None:
                    progress(past + epoch, settings.epochs * settings.members)

            fits.append(_fit_network(plan, source, own, parent_matrix(legend), start=start, tell=tell))
    network = fits[0].network
    if settings.members > 1:
        from tesela.models.ensemble import Ensemble

        network = Ensemble([fit.network for fit in fits])
    scores: dict[str, object] = {
        "val_rmse": round(float(np.mean([fit.rmse for fit in fits])), 6),
        "epoch": [fit.epoch for fit in fits],
        "curve": [list(fit.curve) for fit in fits],
    }
    return whole, network, scores


def _fit_network(
    plan: Unmixer,
    source: PixelSource,
    settings: UnmixingSettings,
    parents: Tensor | None,
    *,
    start: Mapping[str, Tensor] | None,
    tell: Callable[[int], None],
) -> _Fit:
    """Train one network; the loop itself."""
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    device = choose_device(settings.accelerator)
    network = plan.build().to(device)
    if start is not None:
        load_start(network, start)
    if isinstance(network, SeriesNetwork) and network.decoder is not None:
        train = source.chosen(TRAIN)
        seen = source.mask[train].numpy() > 0
        first = mixed_endmembers(source.values[train].numpy(), seen, source.targets[train].numpy())
        network.decoder.endmembers.data.copy_(torch.from_numpy(first))
    average = MovingAverage(network, decay=settings.ema) if settings.ema else None
    kind = torch.optim.Adam if settings.published else torch.optim.AdamW
    optimizer = kind(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    margin = network.margin_px
    steps = max(1, math.ceil(len(source.chosen(TRAIN)) / settings.batch_size))
    best, best_state, best_epoch, curve, waited = math.inf, copy.deepcopy(network.state_dict()), 0, [], 0
    done = 0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for batch in training_batches(source, settings, margin_px=margin, generator=generator):
            at = (epoch - 1) / settings.epochs if settings.published else done / (settings.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(at, settings.warmup)
            loss = _loss_of(network, batch, device, parents, settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            done += 1
            if average is not None:
                average.update(network)
        tell(epoch)
        if epoch % settings.validate_every and epoch != settings.epochs:
            continue
        judged = network if average is None else average.network
        assert isinstance(judged, UnmixingNetwork)
        score = validate(judged, source, parents)
        curve.append(round(score, 6))
        if score < best:
            best, best_epoch, waited = score, epoch, 0
            best_state = copy.deepcopy(judged.state_dict())
        else:
            waited += 1
            if settings.patience and waited >= settings.patience:
                break
    network.load_state_dict(best_state)
    return _Fit(network.cpu().eval(), best, best_epoch, tuple(curve))


def _loss_of(
    network: UnmixingNetwork,
    batch: Batch,
    device: torch.device,
    parents: Tensor | None,
    settings: UnmixingSettings,
) -> Tensor:
    moved = batch.to(device)
    answer = network.answer(moved.values, moved.shown, moved.static)
    values, mask = moved.inner
    return unmixing_loss(
        answer,
        moved.targets,
        values=values,
        mask=mask,
        known=moved.known,
        parents=None if parents is None else parents.to(device),
        settings=settings,
    )


def _rate(at: float, warmup: float) -> float:
    """Learning rate at a share of the training, relative to the highest."""
    if at < warmup:
        return max(at / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup)))


def validate(network: UnmixingNetwork, source: PixelSource, parents: Tensor | None) -> float:
    """Mean over the classes, and over the levels, of the RMSE on the validation pixels."""
    shares, wanted = predict_split(network, source, VAL)
    found = [(shares - wanted).square().mean(0).sqrt().mean()]
    if parents is not None:
        found.append(((shares - wanted) @ parents).square().mean(0).sqrt().mean())
    return float(torch.stack(found).mean())


def predict_split(network: UnmixingNetwork, source: PixelSource, split: int) -> tuple[Tensor, Tensor]:
    """Shares and targets of a split, (pixels, classes); in the order of the table, or by tiles with context."""
    device = next((item.device for item in network.parameters()), torch.device("cpu"))
    network.eval()
    shares, wanted = [], []
    with torch.inference_mode():
        for batch in _split_batches(source, split, network.margin_px):
            found = network(batch.values.to(device), batch.mask.to(device), batch.static.to(device)).cpu()
            shares.append(found[batch.known])
            wanted.append(batch.targets[batch.known])
    return torch.cat(shares), torch.cat(wanted)


def _split_batches(source: PixelSource, split: int, margin_px: int, *, tile_px: int = 64) -> Iterator[Batch]:
    """Batches that show every pixel of a split once."""
    pixels = source.chosen(split)
    if not margin_px:
        for start in range(0, len(pixels), 8192):
            yield source.batch(pixels[start : start + 8192], margin_px=0, split=split)
        return
    tiles = np.unique(np.stack([source.table.rows[pixels], source.table.cols[pixels]], 1) // tile_px, axis=0)
    for row, col in tiles * tile_px:
        side = tile_px + 2 * margin_px
        window = source.window(int(row) - margin_px, int(col) - margin_px, side, side)
        yield source.batch(window[None], margin_px=margin_px, split=split)


def choose_device(accelerator: str) -> torch.device:
    """Device by the setting: "auto" takes a GPU where there is one."""
    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise ExpertError("accelerator is 'gpu', but torch finds no CUDA device here: take 'auto' or 'cpu'.")
    return torch.device("cuda" if there and accelerator != "cpu" else "cpu")


def load_start(network: UnmixingNetwork, start: Mapping[str, Tensor]) -> int:
    """Take over the weights whose names and shapes fit; returns how many tensors did."""
    own = network.state_dict()
    fitting = {name: item for name, item in start.items() if name in own and own[name].shape == item.shape}
    if not fitting:
        raise ExpertError("No tensor of the pretrained network fits. Pretrain the model that is trained.")
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


def _pixel_m(table: PixelTable) -> float:
    from tesela.core.shares import pixel_size_m

    assert table.grid is not None
    return float(np.mean(pixel_size_m(table.grid)))
