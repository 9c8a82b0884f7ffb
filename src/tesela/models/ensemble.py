"""The ensemble: the weighted mean of several networks, whose spread is an uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from tesela.core.errors import ExpertError, join_words
from tesela.models.expert import Expert
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import EnsembleArchitecture, Unmixer


class Ensemble(UnmixingNetwork):
    """
    Mean shares of several networks; a network that uses fewer neighbours gets the middle of the window.

    Parameters
    ----------
    weights : sequence of float, optional
        Weight of each network; they sum to 1. Default: all alike.
    """

    def __init__(self, members: Sequence[UnmixingNetwork], weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.weights = tuple(weights)
        self.members = nn.ModuleList(members)
        self.margin_px = max(member.margin_px for member in members)

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """See `UnmixingNetwork.answer`; `heads` are the mean shares of each network."""
        outputs = []
        for member in self.members:
            assert isinstance(member, UnmixingNetwork)
            spare = self.margin_px - member.margin_px
            inner = (slice(None), slice(spare, -spare), slice(spare, -spare)) if spare else ()
            outputs.append(member.answer(values[inner], mask[inner], static[inner]))
        heads = torch.stack([one.shares for one in outputs])
        imputed = [one.imputed for one in outputs if one.imputed is not None]
        concentrations = [one.concentration for one in outputs if one.concentration is not None]
        return NetworkOutput(
            shares=self._mean(heads),
            heads=heads,
            imputed=torch.stack(imputed).mean(0) if imputed and not self.margin_px else None,
            concentration=torch.stack(concentrations).mean(0) if concentrations else None,
        )

    def _mean(self, heads: Tensor) -> Tensor:
        if not self.weights:
            return heads.mean(0)
        weights = heads.new_tensor(self.weights).view(-1, *[1] * (heads.ndim - 1))
        return (weights * heads).sum(0)  # no product of matrices, which bf16 would round


def join_experts(experts: Sequence[Expert], *, weights: Sequence[float] = ()) -> Expert:
    """
    Join experts of any models, trained on pixels of the same kind, into one that predicts their mean.

    Parameters
    ----------
    weights : sequence of float, optional
        Weight of each expert; they sum to 1. Default: all networks alike.

    Raises
    ------
    ExpertError
        If their legends, bands, months, layers or scalings differ.
    """
    first = experts[0].header
    for other in (expert.header for expert in experts[1:]):
        for name in ("legend", "bands", "mean", "std", "series", "task"):
            if getattr(first, name) != getattr(other, name):
                raise ExpertError(
                    f"Experts of different {name} cannot be joined. Train them on the same pixels."
                )
    if weights and (len(weights) != len(experts) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-3):
        raise ExpertError(
            f"{len(experts)} experts got the weights {join_words(weights)}; one each from 0, of sum 1, was needed."
        )
    shared: list[float] = []
    plans: list[Unmixer] = []
    networks: list[UnmixingNetwork] = []
    for number, expert in enumerate(experts):
        before = len(plans)
        plan, network = expert.header.architecture, expert.network
        if isinstance(plan, EnsembleArchitecture) and isinstance(network, Ensemble):
            plans += plan.members
            networks += [item for item in network.members if isinstance(item, UnmixingNetwork)]
        elif isinstance(plan, Unmixer) and isinstance(network, UnmixingNetwork):
            plans.append(plan)
            networks.append(network)
        else:
            raise ExpertError(f"An expert for {expert.header.task} ({plan.summary}) cannot join an ensemble.")
        if weights:
            inner = getattr(plan, "weights", ()) or (1 / (len(plans) - before),) * (len(plans) - before)
            shared += [round(float(weights[number]) * part, 6) for part in inner]
    whole = Ensemble(networks, shared)
    header = replace(
        first,
        architecture=EnsembleArchitecture(tuple(plans), tuple(shared)),
        patch_size_px=1 + 2 * whole.margin_px,
        variance=(),
        training={"members": [dict(expert.header.training) for expert in experts]},
        scores={"members": [dict(expert.header.scores) for expert in experts]},
    )
    return Expert(header, whole.eval().requires_grad_(False))
