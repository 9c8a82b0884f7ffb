"""Strips: the parts in which a scene is mapped, sized so that one fits into the memory that is given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tesela.mapping.windows import Span, WindowPlan


@dataclass(frozen=True)
class Strip:
    """One part of the work: a row of windows of one panel of columns."""

    number: int
    rows: Span
    cols: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of ground kept."""
        return self.rows.keep_stop - self.rows.keep_start, self.cols[-1].keep_stop - self.cols[0].keep_start

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column, in the scene, of the ground kept."""
        return self.rows.keep_start, self.cols[0].keep_start


@dataclass(frozen=True)
class Footprint:
    r"""
    Memory that the pipeline takes beside the network, in bytes.

    With :math:`B` bands stored in :math:`s` bytes, :math:`K` classes, :math:`L` layers of output, batches of
    :math:`b` windows of :math:`h \times w` px, and blocks of :math:`t` rows in the file, a panel of :math:`W` columns
    takes

    .. math:: h w \left((2b + 1)(4B + 1) + 2b(4K + 1)\right) + W \left(B s (2h + t) + 2 h L\right)

    : windows read ahead, scores waiting for their classes, rows of the image with a copy, a strip of the map with a
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
        """Bytes of windows on their way."""
        ahead = (2 * self.batch + 1) * (4 * self.bands + 1) + 2 * self.batch * (4 * self.classes + 1)
        return plan.height_px * plan.width_px * ahead

    def column(self, plan: WindowPlan) -> int:
        """Bytes of each column of a panel."""
        image = self.bands * self.stored_bytes * (2 * plan.height_px + self.block_rows)
        return image + 2 * plan.height_px * self.layers


def make_strips(plan: WindowPlan, footprint: Footprint, *, memory: int) -> tuple[tuple[Strip, ...], ...]:
    """
    Divide the windows into panels of columns and strips of rows, so that a panel takes at most `memory` bytes.

    A panel is never narrower than one window, however little memory is given.

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
