"""Test-time augmentation: the mean of a network's probabilities over flips, rotations or overlapping windows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import RecipeError
from tesela.mapping.engines import Engine
from tesela.mapping.windows import WindowPlan

AUGMENTATIONS = ("none", "d4")
"""Names of the augmentations: "d4" is the mean over all flips and rotations of a window."""

BLENDS = ("none", "hann")
"""Names of the ways to join overlapping windows."""

_MOST = 4
"""Windows of the network along a side of a large window."""


class FlippedEngine:
    r"""
    Runs the network on the eight flips and rotations of each window.

    The scores are :math:`\ln \frac{1}{8} \sum_t \mathrm{softmax}(s_t)`, where :math:`s_t` are the scores of one
    flip or rotation, undone. So their softmax is the mean of the eight probabilities.
    """

    picks = False

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.batch = engine.batch
        self._engine = engine

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`; windows must be square."""
        total = np.zeros(())
        for rotation in range(4):
            for flipped in (False, True):
                view = np.rot90(images, rotation, axes=(1, 2))
                view = view[:, :, ::-1] if flipped else view
                p = _exponentials(self._engine.scores(np.ascontiguousarray(view)))
                p /= p.sum(-1, keepdims=True)
                p = p[:, :, ::-1] if flipped else p
                total = total + np.rot90(p, -rotation, axes=(1, 2))
        return np.ascontiguousarray(np.log(np.maximum(total / np.float32(8), np.float32(1e-30))), np.float32)

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Engine.classes`."""
        classes: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return classes


@dataclass(frozen=True)
class Blend:
    """
    How a large window is made of the network's windows, which start at multiples of one step in the whole scene.

    The margins of a large window are so wide that each pixel it keeps lies in the same windows of the network as
    it would in a sum over the whole scene. So strips stay independent of each other, and some windows are
    computed twice. (At the last rows and columns of the scene, a window that lies mostly outside takes part
    where a large window reaches that far.)
    """

    window_px: int
    """Side of the network's windows."""
    step_px: int
    """Distance between their corners."""

    @classmethod
    def fit(cls, *, window_px: int, overlap_px: int, multiple_px: int) -> Blend:
        """
        Blend for a window and an overlap; both are rounded to the network's stride.

        Raises
        ------
        RecipeError
            If the windows do not overlap, or by more than half.
        """
        window = window_px // multiple_px * multiple_px
        overlap = math.ceil(overlap_px / multiple_px) * multiple_px
        if not 0 < overlap <= window // 2:
            raise RecipeError(
                f"Windows of {window_px} px with an overlap of {overlap_px} px cannot be blended. The overlap must "
                f"be from {multiple_px} px to half a window, such as --window 512 --overlap 128."
            )
        return cls(window, window - overlap)

    def plan(self, shape: tuple[int, int]) -> WindowPlan:
        """Large windows over a scene of this shape."""
        overlap = self.window_px - self.step_px
        margin = (overlap + math.ceil(overlap / self.step_px) * self.step_px) // 2
        along = (min(_MOST, max(1, math.ceil((length - overlap) / self.step_px))) for length in shape)
        height, width = (overlap + self.step_px * count for count in along)
        return WindowPlan(shape, height, width, margin)


class BlendedEngine:
    r"""
    Runs the network on overlapping windows of a large one, and takes the weighted mean of their probabilities.

    The scores are :math:`\ln \left(\sum_w h_w\, \mathrm{softmax}(s_w) / \sum_w h_w\right)` over the windows
    :math:`w` that hold a pixel, with the Hann weight :math:`h_w` of its position in each.
    """

    picks = False

    def __init__(self, engine: Engine, blend: Blend) -> None:
        self.name = engine.name
        self.batch = 1
        self._engine = engine
        self._blend = blend
        side = blend.window_px
        along = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
        self._weights = np.outer(along, along).astype(np.float32)[..., np.newaxis]

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`; the sides of the images are those of `Blend.plan`."""
        return np.stack([self._blended(image) for image in images])

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Engine.classes`."""
        classes: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return classes

    def _blended(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        side, step = self._blend.window_px, self._blend.step_px
        total: NDArray[np.float32] | None = None
        weight = np.zeros((*image.shape[:2], 1), np.float32)
        for row in range(0, image.shape[0] - side + 1, step):
            for col in range(0, image.shape[1] - side + 1, step):
                window = (slice(row, row + side), slice(col, col + side))
                view = np.ascontiguousarray(image[window][np.newaxis])
                p = _exponentials(self._engine.scores(view)[0])
                p *= self._weights / p.sum(-1, keepdims=True)
                if total is None:
                    total = np.zeros((*image.shape[:2], p.shape[-1]), np.float32)
                total[window] += p
                weight[window] += self._weights
        assert total is not None
        total /= weight
        return np.log(np.maximum(total, np.float32(1e-30), out=total), out=total)


def _exponentials(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exponentials of scores, the highest class of each pixel at 1."""
    p: NDArray[np.float32] = np.array(scores, order="C")
    p -= p.max(-1, keepdims=True)
    return np.exp(p, out=p)


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Over which windows the probabilities of a pixel are averaged; by default over one."""

    flips: bool = False
    """All eight flips and rotations of each window."""
    blend: Blend | None = None
    """Overlapping windows, weighted."""

    def of(self, engine: Engine) -> Engine:
        """Engine that averages the outputs of another one."""
        if self.flips:
            engine = FlippedEngine(engine)
        return engine if self.blend is None else BlendedEngine(engine, self.blend)

    def to_dict(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)
