"""Blending: overlapping windows joined by Hann weights, instead of cropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import RecipeError
from tesela.mapping.engines import Engine
from tesela.mapping.windows import WindowPlan

BLENDS = ("none", "hann")
"""Names of what may be asked for."""

_MOST = 4
"""Windows of the network along a side of a large window."""


@dataclass(frozen=True)
class Blend:
    """
    How a large window is made of the network's windows, which start at multiples of one step in the whole scene.

    The margins of the large windows are wide enough that each pixel kept has seen every window of the network that
    holds it, wherever the large windows lie: so the map is that of one sum over the scene, and strips stay
    independent of each other. What is computed twice is the price. (At the last rows and columns of the scene a
    window that lies outside for the most part takes part where a large window reaches so far.)
    """

    window_px: int
    """Side of the network's windows."""
    step_px: int
    """Distance between their corners."""

    @classmethod
    def fit(cls, *, window_px: int, overlap_px: int, multiple_px: int) -> Blend:
        """
        Blend for windows and overlaps as the user gives them; both are rounded to the network's stride.

        Raises
        ------
        RecipeError
            If the windows do not overlap, or by more than half.
        """
        window = window_px // multiple_px * multiple_px
        overlap = math.ceil(overlap_px / multiple_px) * multiple_px
        if not 0 < overlap <= window // 2:
            raise RecipeError(
                f"Windows of {window_px} px that share {overlap_px} px cannot be blended: let them share from "
                f"{multiple_px} px up to half a window, such as --window 512 --overlap 128."
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
    Runs the network on overlapping windows of a large one, and weighs the answers.

    The scores are :math:`\ln \left(\sum_w h_w\, \mathrm{softmax}(s_w) / \sum_w h_w\right)` over the windows
    :math:`w` that hold a pixel, with the Hann weight :math:`h_w` of its place in each.
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
        found: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return found

    def _blended(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        side, step = self._blend.window_px, self._blend.step_px
        total: NDArray[np.float32] | None = None
        weight = np.zeros((*image.shape[:2], 1), np.float32)
        for row in range(0, image.shape[0] - side + 1, step):
            for col in range(0, image.shape[1] - side + 1, step):
                place = (slice(row, row + side), slice(col, col + side))
                shown = np.ascontiguousarray(image[place][np.newaxis])
                answer = np.array(self._engine.scores(shown)[0], order="C")
                answer -= answer.max(-1, keepdims=True)
                np.exp(answer, out=answer)
                answer *= self._weights / answer.sum(-1, keepdims=True)
                if total is None:
                    total = np.zeros((*image.shape[:2], answer.shape[-1]), np.float32)
                total[place] += answer
                weight[place] += self._weights
        assert total is not None
        total /= weight
        found: NDArray[np.float32] = np.log(np.maximum(total, np.float32(1e-30), out=total), out=total)
        return found
