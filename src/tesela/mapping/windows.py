"""Windows: which squares of a scene the network sees, and which part of each output is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tesela.core.errors import RecipeError


@dataclass(frozen=True)
class Strip:
    """One part of the work: a row of windows of one panel of columns."""

    number: int
    rows: Span
    cols: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns kept."""
        return self.rows.keep_stop - self.rows.keep_start, self.cols[-1].keep_stop - self.cols[0].keep_start

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column, in the scene, of the first pixel kept."""
        return self.rows.keep_start, self.cols[0].keep_start


@dataclass(frozen=True)
class Footprint:
    r"""
    Memory that the pipeline takes beside the network, in bytes.

    With :math:`B` bands stored in :math:`s` bytes, :math:`K` classes, :math:`L` layers of output, batches of
    :math:`b` windows of :math:`h \times w` px, and blocks of :math:`t` rows in the file, a panel of :math:`W` columns
    takes

    .. math:: h w \left((2b + 1)(4B + 1) + 2b(4K + 1)\right) + W \left(B s (2h + t) + 2 h L\right)

    : windows read ahead, scores waiting to become classes, rows of the image with a copy, a strip of the map with a
    copy. It does not depend on the scene.
    """

    bands: int
    stored_bytes: int
    """Bytes of one number as read."""
    classes: int
    layers: int
    block_rows: int
    """Rows of the file's blocks."""
    batch: int = 1

    def windows(self, plan: WindowPlan) -> int:
        """Bytes of the windows in the pipeline."""
        ahead = (2 * self.batch + 1) * (4 * self.bands + 1) + 2 * self.batch * (4 * self.classes + 1)
        return plan.height_px * plan.width_px * ahead

    def column(self, plan: WindowPlan) -> int:
        """Bytes of each column of a panel."""
        image = self.bands * self.stored_bytes * (2 * plan.height_px + self.block_rows)
        return image + 2 * plan.height_px * self.layers


def make_strips(plan: WindowPlan, footprint: Footprint, *, memory: int) -> tuple[tuple[Strip, ...], ...]:
    """
    Divide the windows into panels of columns and strips of rows; a panel takes at most `memory` bytes.

    A panel is never narrower than one window, even if that takes more.

    Returns
    -------
    tuple of panels, each a tuple of strips from the top
    """
    spans = plan.col_spans
    step = max(1, plan.width_px - 2 * plan.margin_px)
    left = memory - footprint.windows(plan) - footprint.column(plan) * 2 * plan.margin_px
    most = max(1, left // (footprint.column(plan) * step))
    count = -(-len(spans) // most)  # panels of about the same width
    bounds = [round(number * len(spans) / count) for number in range(count + 1)]
    rows = plan.row_spans
    return tuple(
        tuple(Strip(panel * len(rows) + index, span, spans[start:stop]) for index, span in enumerate(rows))
        for panel, (start, stop) in enumerate(pairwise(bounds))
    )


@dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the scene."""

    start: int
    """First pixel that the network sees; a multiple of the network's stride."""
    keep_start: int
    """First pixel whose output is kept."""
    keep_stop: int
    """One past the last pixel whose output is kept."""


@dataclass(frozen=True)
class WindowPlan:
    r"""
    Covers a scene with windows whose margins are cropped: no seam is visible and no pixel is kept twice.

    Along an axis of :math:`L` pixels with windows of at most :math:`w` and margin :math:`m`,
    :math:`n = \lceil (L - 2m) / (w - 2m) \rceil` windows are needed. All have the same side,
    :math:`\lceil (L + 2m(n-1)) / n \rceil` rounded up to the network's stride, so that little of the last one is
    outside. Windows at the edge of the scene keep their outer margin, because the network sees the same padding
    there as in one huge window.

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
            The network's stride. Window origins are multiples of it, because a shift changes the classes (1.4 % of
            them for one pixel).
        square : bool
            Use the larger of the two lengths for both sides.

        Raises
        ------
        RecipeError
            If the window is too small for its margins.
        """
        margin = math.ceil(2 * margin_px / multiple_px) * multiple_px // 2
        window = window_px // multiple_px * multiple_px
        if window < 2 * margin + multiple_px:
            raise RecipeError(
                f"A window of {window_px} px has no pixel between margins of {margin} px. Use at least "
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
