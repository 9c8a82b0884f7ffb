"""The shared backbone: stages that several networks share run once, and each network's own stages on their output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.mapping.engines import CudaEngine, TorchEngine
from tesela.mapping.numerics import STAGES, run_head

Features = torch.Tensor | list[torch.Tensor]


def shared_stages(first: torch.nn.Module, second: torch.nn.Module) -> int:
    """
    Count the stages, from the encoder on, that two networks share.

    Two stages are the same when all their tensors (weights, biases and the running statistics of normalisation) have
    the same names and equal numbers. Nothing is declared, so nothing can be declared wrongly. To train an expert on
    the backbone of another one, start from its encoder and keep it frozen, statistics included.

    Returns
    -------
    int
        0: nothing is shared; 1: the encoder; 2: also the decoder, only the heads differ.
    """
    count = 0
    for name in STAGES[:-1]:
        mine, theirs = getattr(first, name, None), getattr(second, name, None)
        if mine is None or theirs is None or not _equal(mine, theirs):
            break
        count += 1
    return count


class SharedBackboneEngine:
    """Runs networks with one backbone, in plain torch, on a processor or a GPU."""

    picks = False

    def __init__(self, networks: Sequence[torch.nn.Module], engine: TorchEngine) -> None:
        """Networks whose first stages are the same, and an engine for the first of them."""
        self.name = engine.name
        self.batch = engine.batch
        self._engine = engine
        self._shared = [len(STAGES)] + [shared_stages(networks[0], other) for other in networks[1:]]
        plain = [
            network.eval().to(engine.device).to(memory_format=torch.channels_last) for network in networks
        ]
        self._plain, self._networks = plain, list[torch.nn.Module]()

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of the first network; see `tesela.mapping.engines.Engine.scores`."""
        return self.first(images)[0]

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `tesela.mapping.engines.Engine.classes`."""
        classes: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return classes

    def first(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[Features]]:
        """
        Scores of the first network, and the features of its stages.

        Returns
        -------
        (windows, rows, cols, classes) array of float32, list
            The list is an argument of `follow`.
        """
        features: list[Features] = []
        with self._engine.arithmetic():
            if not self._networks:
                self._networks = [self._engine.prepare(each, images.shape[-1]) for each in self._plain]
            passed: Features = self._engine.tensor(images)
            for name in STAGES[:-1]:
                passed = getattr(self._networks[0], name)(passed)
                features.append(passed)
            return _plain(run_head(self._networks[0], passed)), features

    def follow(self, number: int, features: Sequence[Features], chosen: Sequence[int]) -> NDArray[np.float32]:
        """
        Scores of another network on some of the windows that `first` saw.

        Parameters
        ----------
        number : int
            Position of the network.
        features : list
            From `first`.
        chosen : sequence of int
            Positions of the windows.
        """
        stages = self._shared[number]
        with self._engine.arithmetic():
            passed = _choose(features[stages - 1], list(chosen))
            for name in STAGES[stages:-1]:
                passed = getattr(self._networks[number], name)(passed)
            return _plain(run_head(self._networks[number], passed))


def can_carry(engine: object) -> bool:
    """Whether a shared backbone can run on an engine: only plain torch returns the results between stages."""
    return type(engine) in (TorchEngine, CudaEngine)


def _equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    if mine.keys() != theirs.keys():
        return False
    return all(
        tensor.shape == theirs[name].shape and torch.equal(tensor, theirs[name])
        for name, tensor in mine.items()
    )


def _choose(features: Features, chosen: list[int]) -> Features:
    if isinstance(features, torch.Tensor):
        return features if len(chosen) == len(features) else features[chosen]
    return [tensor if len(chosen) == len(tensor) else tensor[chosen] for tensor in features]


def _plain(scores: torch.Tensor) -> NDArray[np.float32]:
    planes: NDArray[np.float32] = scores.float().permute(0, 2, 3, 1).cpu().numpy()
    return planes
