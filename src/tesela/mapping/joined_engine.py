"""The engine of a fused expert: each member by an engine of its own, their scores joined after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class JoinedEngine:
    """
    Runs the members of a fused expert.

    Networks among them are compiled as they are alone; trees run by their own kernels.
    """

    picks = False

    def __init__(self, network: Any, members: Sequence[Any], name: str) -> None:
        """Network with `join`, the engines of its members in their order, and the name of the engine."""
        self.name = name
        self.batch = max(member.batch for member in members)
        self._join = network.join
        self._members = members

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `tesela.mapping.engines.Engine.scores`."""
        parts = [torch.from_numpy(member.scores(images)).permute(0, 3, 1, 2) for member in self._members]
        with torch.inference_mode():
            scores: NDArray[np.float32] = self._join(parts).permute(0, 2, 3, 1).numpy()
        return scores

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `tesela.mapping.engines.Engine.classes`."""
        classes: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return classes


def runs_by_members(network: torch.nn.Module) -> bool:
    """Whether a network is joined from members that run one by one."""
    return hasattr(network, "members") and hasattr(network, "join")
