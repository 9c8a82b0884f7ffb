"""Plots: sizes, colours and habits that all figures drawn with matplotlib share, and the files they become."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

INK, SOFT, ACCENT, GRID = "#1d2329", "#5b6770", "#0b5c8a", "#e3e0d9"
NO_DATA = "#eceae4"
"""Behind pixels without data."""

SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Colours of series side by side, told apart by the colour-blind: OkabeIto2008 in docs/references.md."""

MM = 1 / 25.4
"""Inches in a millimetre."""


@dataclass(frozen=True)
class Sizes:
    """Width of a figure and the size of its letters."""

    wide: float
    """Inches."""
    text: float = 1.0
    """Factor on all letters, whose sizes are written for a page on the screen."""
    article: bool = False
    """Whether panels are lettered a, b, c, and maps have a scale bar and a north arrow."""

    def pt(self, size: float) -> float:
        """Size of letters in points."""
        return self.text * size


SCREEN = Sizes(11.0)
"""Pages."""
ARTICLE = Sizes(180 * MM, text=0.85, article=True)
"""Both columns of a journal: 180 mm."""


def new_figure(wide: float, high: float, *, dpi: int = 120) -> Figure:
    """A white figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=dpi, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def put_title(axes: Axes, name: str, *, sizes: Sizes = SCREEN, number: int | None = None) -> None:
    """
    Name of a class above its panel, in at most two lines.

    Parameters
    ----------
    number : int, optional
        Of the panel, from 0: its letter stands before the name where the figure has letters.
    """
    text = textwrap.fill(name, 24, max_lines=2, placeholder=" …")
    text = lettered(text, number, sizes)
    axes.set_title(text, loc="left", fontsize=sizes.pt(9), color=INK, linespacing=1.1)


def lettered(text: str, number: int | None, sizes: Sizes) -> str:
    """
    A title with the letter of its panel before it, where the figure has letters.

    Examples
    --------
    >>> lettered("RMSE", 1, ARTICLE), lettered("RMSE", 1, SCREEN)
    ('(b) RMSE', 'RMSE')
    """
    return text if number is None or not sizes.article else f"({chr(ord('a') + number)}) {text}"


def plain_axes(axes: Axes, *, sizes: Sizes = SCREEN) -> None:
    """Quiet frame and numbers."""
    axes.spines[:].set_color(GRID)
    axes.tick_params(length=0, labelsize=sizes.pt(8), colors=SOFT)


def halo() -> list[AbstractPathEffect]:
    """White around letters that stand on a picture."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def png_of(figure: Figure, *, dpi: int | None = None) -> bytes:
    """The figure as PNG; the same content gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi if dpi is None else dpi, metadata={"Software": None})
    return file.getvalue()


def pdf_of(figure: Figure, *, dpi: int) -> bytes:
    """
    The figure as PDF: letters and lines as such, pictures as pixels; the same content gives the same bytes.

    Letters are embedded as TrueType (type 42), which editors of journals can search and change.
    """
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42, "pdf.compression": 6}):
        figure.savefig(file, format="pdf", dpi=dpi, metadata={"CreationDate": None})
    return file.getvalue()
