"""The ensemble: the mean of several networks, surer where they agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tesela.models.answer import Answer, Tensor, UnmixingNetwork


class Ensemble(UnmixingNetwork):
    """Mean shares of several networks; a network that sees fewer neighbours is shown its part of the window."""

    def __init__(self, members: Sequence[UnmixingNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.margin_px = max(member.margin_px for member in members)

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> Answer:
        """See `UnmixingNetwork.answer`; `heads` are the members' shares, each network's mean."""
        answers = []
        for member in self.members:
            assert isinstance(member, UnmixingNetwork)
            spare = self.margin_px - member.margin_px
            inner = (slice(None), slice(spare, -spare), slice(spare, -spare)) if spare else ()
            answers.append(member.answer(values[inner], mask[inner], static[inner]))
        heads = torch.stack([one.shares for one in answers])
        imputed = [one.imputed for one in answers if one.imputed is not None]
        sure = [one.concentration for one in answers if one.concentration is not None]
        return Answer(
            shares=heads.mean(0),
            heads=heads,
            imputed=torch.stack(imputed).mean(0) if imputed and not self.margin_px else None,
            concentration=torch.stack(sure).mean(0) if sure else None,
        )
