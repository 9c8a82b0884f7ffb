"""Test-time augmentation: a network sees each window flipped and rotated."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.mapping.blending import Blend, BlendedEngine
from tesela.mapping.engines import Engine

AUGMENTATIONS = ("none", "d4")
"""Names of what may be asked for."""


class FlippedEngine:
    r"""
    Shows the network each window in its eight positions (four turns, each also mirrored) and joins the answers.

    The scores are :math:`\ln \frac{1}{8} \sum_t \mathrm{softmax}(s_t)`, so that their softmax is the mean of the
    eight, each turned back.
    """

    picks = False

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.batch = engine.batch
        self._engine = engine

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`; windows must be square."""
        total = np.zeros(())
        for turn in range(4):
            for mirrored in (False, True):
                shown = np.rot90(images, turn, axes=(1, 2))
                shown = shown[:, :, ::-1] if mirrored else shown
                answer = np.array(self._engine.scores(np.ascontiguousarray(shown)), order="C")
                answer -= answer.max(-1, keepdims=True)
                np.exp(answer, out=answer)
                answer /= answer.sum(-1, keepdims=True)
                answer = answer[:, :, ::-1] if mirrored else answer
                total = total + np.rot90(answer, -turn, axes=(1, 2))
        found: NDArray[np.float32] = np.log(np.maximum(total / np.float32(8), np.float32(1e-30)))
        return np.ascontiguousarray(found, np.float32)

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Engine.classes`."""
        found: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return found


@dataclass(frozen=True)
class TestTimeAugmentation:
    """How many answers of the network each pixel is made of; by default one."""

    turned: bool = False
    """Eight positions of each window."""
    blend: Blend | None = None
    """Overlapping windows, weighed."""

    def of(self, engine: Engine) -> Engine:
        """The engine that joins the answers of these views."""
        if self.turned:
            engine = FlippedEngine(engine)
        return engine if self.blend is None else BlendedEngine(engine, self.blend)

    def to_dict(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)
