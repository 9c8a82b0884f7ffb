"""An ensemble: several networks of one architecture, each from its own random start, in one expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, open_expert, save_expert
from tesela.models.segmentation.fused import FusedArchitecture, Member
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.patches.table import PatchTable
from tesela.training.segmentation.finish import adjust_expert, scores_of
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.validation import validate_model
from tesela.training.shell import TrainingFolder


def train_members(
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """
    Train networks that differ in their seed, and write one expert: the geometric mean of their probabilities.

    A training that was killed continues with the network that was being trained.

    Parameters
    ----------
    settings : SegmentationSettings
        `members` networks are trained from the seeds `seed`, `seed` + 1, ..., each with its part of `budget`.
    log_dir, quiet, fingerprints
        See `tesela.training.segmentation.train.train_segmentation`; each network has a folder of logs of its own.
    """
    from tesela.training.segmentation.train import train_segmentation

    target = Path(out)
    folder = TrainingFolder.open(target, work=parts_work(table, settings, bands), part="members")
    logs = Path(log_dir) if log_dir else target.parent / "logs" / target.stem
    budget = f"{parse_duration_s(settings.budget) / settings.members:g} s" if settings.budget else ""
    experts = []
    for number in range(settings.members):
        file = folder.path / f"member-{number + 1}.safetensors"
        if not file.exists():
            train_segmentation(
                table,
                file,
                settings=replace(settings, members=1, prior=0.0, budget=budget, seed=settings.seed + number),
                bands=bands,
                log_dir=logs / file.stem,
                quiet=quiet,
                fingerprints=fingerprints,
            )
        experts.append(open_expert(file))
    expert = join_experts(experts, [1 / len(experts)] * len(experts))
    pixels = validate_model(expert.network, table, expert.header.standardisation, seed=settings.seed)
    header = replace(
        expert.header,
        training=asdict(settings),
        provenance=replace(expert.header.provenance, seed=settings.seed),
        scores=scores_of(pixels, codes=table.legend.codes),
    )
    expert = adjust_expert(Expert(header, expert.network), table=table, settings=settings, pixels=pixels)
    save_expert(target, expert)
    folder.remove(pretraining=False)
    return target


def join_experts(experts: Sequence[Expert], weights: Sequence[float]) -> Expert:
    """
    One expert that adds the logarithms of the probabilities of others, with a weight each.

    Fused experts give their members. The header is that of the last, with the new architecture.
    """
    plans: list[Member] = []
    networks: list[nn.Module] = []
    shares: list[float] = []
    bias = torch.zeros(len(experts[0].header.legend))
    for expert, weight in zip(experts, weights, strict=True):
        plan, network = expert.header.architecture, expert.network
        if isinstance(plan, FusedArchitecture):
            assert isinstance(network, FusedNetwork)
            plans += plan.members
            networks += network.members
            shares += (weight * network.weight).tolist()
            bias += weight * network.bias
        else:
            assert isinstance(plan, Member)
            plans.append(plan)
            networks.append(network)
            shares.append(weight)
    architecture = FusedArchitecture(tuple(plans))
    fused = FusedNetwork(architecture, networks)
    fused.weight.copy_(torch.tensor(shares))
    fused.bias.copy_(bias)
    fused.eval().requires_grad_(False)
    return Expert(replace(experts[-1].header, architecture=architecture), fused)


def parts_work(
    table: PatchTable, settings: SegmentationSettings, bands: Sequence[str] | None
) -> dict[str, object]:
    """What a training of several models depends on; under other settings or patches all are trained again."""
    rows = table.frame[["patch_id", "split"]].to_numpy(str).tolist()
    return {
        "settings": asdict(settings),
        "size_px": table.size_px,
        "bands": list(bands or ()),
        "patches": rows,
    }
