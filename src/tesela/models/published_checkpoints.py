"""
The checkpoints of the published system, as experts.

Tesela ships none of them: it reads a file of yours, and runs no code in it. Applied correctly, their predictions differ
from the published ones, because the published script gives the reversed series to both directions. ``legacy="order"``
repeats that.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from tesela.core.errors import ExpertError
from tesela.core.legend import Legend
from tesela.models.brits.network import Brits, Rits
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.unmixers import BritsArchitecture
from tesela.models.unmixing_header import SeriesScaling

BANDS = tuple(f"sur_refl_b{number:02d}" for number in range(1, 8))
"""MODIS bands 1 to 7, as cubes name them."""

MEAN = (
    0.17780370114,
    0.28850556559,
    0.12562631572,
    0.15867335999,
    0.28176737163,
    0.24208652326,
    0.17637376744,
)
STD = (
    0.20679758198,
    0.18111213005,
    0.21464020578,
    0.20592302586,
    0.14547780910,
    0.15954735401,
    0.14877149352,
)
"""Published scaling of the bands, as reflectance: the published numbers are 10,000 times these."""

LAYERS = {
    "longitude": (-4.5726, 1.42003659),
    "latitude": (37.4675, 0.54427359),
    "altitude": (526.94163006, 434.20557148),
    "slope": (9.09891861, 6.63598573),
    "precipitation": (3398.95918083, 1157.03508638),
    "evapotranspiration": (5147.74489182, 466.2150146),
    "temperature_ave": (15.59367648, 1.97891365),
    "temperature_max": (21.606108, 2.076332),
    "temperature_min": (10.047357, 2.012799),
}
"""Published ancillary layers, in their order, with mean and standard deviation."""


def open_published_checkpoint(path: str | Path, *, legend: Legend, legacy: str = "") -> Expert:
    """
    Open a published checkpoint as an expert.

    Parameters
    ----------
    path : str or Path
        A ``model.ckpt`` of the published system, trained with all nine ancillary layers or none.
    legend : Legend
        The classes of the checkpoint, in its order.
    legacy : {"", "deltas", "order"}
        Mistakes to repeat; see `tesela.models.brits.network.Brits`.

    Raises
    ------
    ExpertError
        If the file is no such checkpoint, or the legend has another number of classes.
    """
    ahead, back = _directions(path)
    classes, hidden = ahead["out.weight"].shape
    if classes != len(legend):
        raise ExpertError(
            f"{path}: predicts {classes} classes, but legend '{legend.address}' has {len(legend)}."
        )
    layers = LAYERS if "ancillary.weight" in ahead else {}
    plan = BritsArchitecture(
        len(BANDS),
        classes,
        len(layers),
        hidden=hidden,
        embedding=len(ahead["ancillary.bias"]) if layers else 50,
        sigmoid=False,
        legacy=legacy,
    )
    network = plan.build()
    assert isinstance(network, Brits)
    for direction, tensors in ((network.ahead, ahead), (network.back, back)):
        _fill(direction, tensors, path)
    header = ExpertHeader(
        plan,
        legend,
        BANDS,
        MEAN,
        STD,
        patch_size_px=1,
        pixel_size_m=0.0,
        task="unmixing",
        series=SeriesScaling(
            months=tuple(range(1, 13)),
            layers=tuple(layers),
            layer_mean=tuple(mean for mean, _ in layers.values()),
            layer_std=tuple(std for _, std in layers.values()),
            prior=(1 / classes,) * classes,
        ),
    )
    return Expert(header, network.eval().requires_grad_(False))


def checkpoint_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """
    Weights of a published checkpoint under our names, to start a training with.

    Raises
    ------
    ExpertError
        If the file is no such checkpoint.
    """
    return {
        f"{name}.{key}": item
        for name, tensors in zip(("ahead", "back"), _directions(path), strict=True)
        for key, item in tensors.items()
    }


def _directions(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors of both directions of a file; no code in it is run."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        state: Mapping[str, torch.Tensor] = document["state_dict"]
        return _direction(state, "rits_f"), _direction(state, "rits_b")
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExpertError(f"{path}: is no published checkpoint of BRITS ({reason}).") from None


def _direction(state: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Tensors of one direction under our names."""
    theirs = {key.split(f"{name}.", 1)[1]: item for key, item in state.items() if f"{name}." in key}
    tensors = {
        "gates.weight": torch.cat([theirs["rnn_cell.weight_ih"], theirs["rnn_cell.weight_hh"]], 1),
        "gates.bias": theirs["rnn_cell.bias_ih"] + theirs["rnn_cell.bias_hh"],
        "hidden_decay.weight": theirs["temp_decay_h.W"],
        "hidden_decay.bias": theirs["temp_decay_h.b"],
        "value_decay_weight": theirs["temp_decay_x.W"].diagonal(),
        "value_decay_bias": theirs["temp_decay_x.b"],
        "features.weight": theirs["feat_reg.W"],
        "features.bias": theirs["feat_reg.b"],
    }
    # one of the two published programs spells it "ancillery"
    names = {"hist_reg": "history", "weight_combine": "combine", "out": "out", "concat": "join"}
    names |= {"ancillary_embed": "ancillary", "ancillery_embed": "ancillary"}
    for name_of_theirs, name_of_ours in names.items():
        for part in ("weight", "bias"):
            if f"{name_of_theirs}.{part}" in theirs:
                tensors[f"{name_of_ours}.{part}"] = theirs[f"{name_of_theirs}.{part}"]
    return tensors


def _fill(direction: Rits, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    try:
        direction.load_state_dict(tensors)
    except RuntimeError as error:
        raise ExpertError(f"{path}: its tensors do not fit ({str(error).splitlines()[0]}).") from None
