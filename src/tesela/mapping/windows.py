"""Windows: which squares of a scene the network sees, and which part of each answer is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tesela.core.errors import RecipeError


@dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the scene."""

    start: int
    """First pixel that the network sees; a multiple of the network's stride."""
    keep_start: int
    """First pixel whose answer is kept."""
    keep_stop: int
    """One past the last pixel whose answer is kept."""


@dataclass(frozen=True)
class WindowPlan:
    r"""
    Covers a scene with windows whose margins are cropped, so that no seam shows and no pixel is kept twice.

    Along an axis of :math:`L` pixels with windows of at most :math:`w` and margin :math:`m`,
    :math:`n = \lceil (L - 2m) / (w - 2m) \rceil` windows are needed; all get the same side
    :math:`\lceil (L + 2m(n-1)) / n \rceil`, rounded up to the network's stride, so that little of the last one
    lies outside. Windows at the edge of the scene keep their outer margin: beyond it the network sees the same
    padding as in one huge window.

    Examples
    --------
    >>> plan = WindowPlan.fit((1100, 500), window_px=1088, margin_px=32, multiple_px=32)
    >>> plan.height_px, plan.width_px, plan.row_spans
    (608, 512, (Span(start=0, keep_start=0, keep_stop=576), Span(start=544, keep_start=576, keep_stop=1100)))
    """

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    height_px: int
    width_px: int
    margin_px: int

    @classmethod
    def fit(
        cls, shape: tuple[int, int], *, window_px: int, margin_px: int, multiple_px: int, square: bool = False
    ) -> WindowPlan:
        """
        Plan for a scene.

        Parameters
        ----------
        window_px : int
            Largest side of a window; rounded down to a multiple of `multiple_px`.
        margin_px : int
            Cropped on each inner side; twice the margin is rounded up to a multiple of `multiple_px`.
        multiple_px : int
            The network's stride: window origins are multiples of it, else its answers change
            (1.4 % of classes for a shift of one pixel).
        square : bool
            Give both sides the larger of the two lengths.

        Raises
        ------
        RecipeError
            If the window is too small for its margins.
        """
        margin = math.ceil(2 * margin_px / multiple_px) * multiple_px // 2
        window = window_px // multiple_px * multiple_px
        if window < 2 * margin + multiple_px:
            raise RecipeError(
                f"A window of {window_px} px leaves nothing between margins of {margin} px: give at least "
                f"{2 * margin + multiple_px} px, a multiple of {multiple_px}."
            )
        height, width = (_side(length, window, margin, multiple_px) for length in shape)
        if square:
            height = width = max(height, width)
        return cls(shape, height, width, margin)

    @property
    def row_spans(self) -> tuple[Span, ...]:
        """Windows along the rows, from the top."""
        return _spans(self.shape[0], self.height_px, self.margin_px)

    @property
    def col_spans(self) -> tuple[Span, ...]:
        """Windows along the columns, from the left."""
        return _spans(self.shape[1], self.width_px, self.margin_px)

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        """All windows as (rows, columns), by rows."""
        return ((rows, cols) for rows in self.row_spans for cols in self.col_spans)

    def __len__(self) -> int:
        return len(self.row_spans) * len(self.col_spans)

    @property
    def compute(self) -> float:
        """Pixels that the network sees for each pixel of the scene."""
        return len(self) * self.height_px * self.width_px / (self.shape[0] * self.shape[1])


def _side(length: int, window: int, margin: int, multiple: int) -> int:
    count = max(1, math.ceil((length - 2 * margin) / (window - 2 * margin)))
    return math.ceil((length + 2 * margin * (count - 1)) / count / multiple) * multiple


def _spans(length: int, side: int, margin: int) -> tuple[Span, ...]:
    step = side - 2 * margin
    starts = [0]
    while starts[-1] + side < length:
        starts.append(starts[-1] + step)
    last = len(starts) - 1
    return tuple(
        Span(start, start + margin if index else 0, length if index == last else start + side - margin)
        for index, start in enumerate(starts)
    )
