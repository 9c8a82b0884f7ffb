"""Endmember files: the spectra of classes as a table and a picture, compared with a library of spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tesela.core.spectra import Match, Spectra
from tesela.io.manifest import write_whole
from tesela.io.spectra import read_spectra, write_spectra
from tesela.pages.plots import new_figure, plain_axes, png_of, put_title

_LETTERS = "JFMAMJJASOND"


@dataclass(frozen=True)
class EndmemberFiles:
    """Endmembers, and the files that hold them."""

    spectra: Spectra
    table: Path
    picture: Path
    matches: tuple[Match, ...]
    """Nearest spectra of the library; empty without one."""


def write_endmembers(
    spectra: Spectra, out: str | Path, *, titles: Sequence[str], library: str | Path | None = None
) -> EndmemberFiles:
    """
    Write monthly endmember spectra as CSV, and as PNG beside it.

    Parameters
    ----------
    titles : sequence of str
        Names of the classes in the order of `spectra.names`, for the picture.
    library : path, optional
        CSV of the same columns (class, month, band, value) with other spectra; an empty month means the whole year.
        Both must have the same unit.

    Raises
    ------
    InputError
        If the library cannot be read or shares no band.
    """
    matches = () if library is None else spectra.nearest(read_spectra(library))
    table, picture = Path(out), Path(out).with_suffix(".png")
    content = draw_spectra(spectra, titles=titles)
    with write_whole(picture) as part:
        part.write_bytes(content)
    return EndmemberFiles(spectra, write_spectra(table, spectra), picture, matches)


def draw_spectra(spectra: Spectra, *, titles: Sequence[str]) -> bytes:
    """Values over the months, one panel by class and one line by band."""
    import matplotlib as mpl

    count = len(spectra.names)
    cols = min(count, 5 if count > 4 else 4)
    rows = math.ceil(count / cols)
    wide = 2.2 * max(cols, 2) + 1.2
    figure = new_figure(wide, 0.5 + 1.9 * rows)
    colors = mpl.colormaps["turbo"]
    steps = range(len(spectra.months))
    lines, first = [], None
    for k, title in enumerate(titles):
        axes = figure.add_subplot(rows, cols, k + 1, sharey=first)
        first = first or axes
        lines = [
            axes.plot(
                steps,
                spectra.values[k, :, band],
                color=colors((band + 0.5) / len(spectra.bands) * 0.9 + 0.05),
                linewidth=1.4,
                marker="o" if len(steps) == 1 else "",
            )[0]
            for band in range(len(spectra.bands))
        ]
        put_title(axes, title)
        plain_axes(axes)
        every = max(1, math.ceil(len(steps) / 12))
        axes.set_xticks(list(steps)[::every], [_LETTERS[month - 1] for month in spectra.months][::every])
        axes.tick_params(labelleft=k % cols == 0, labelsize=7)
    figure.legend(lines, spectra.bands, loc="outside right upper", fontsize=8, frameon=False)
    figure.supxlabel("month", fontsize=8)
    figure.supylabel("value, in the unit of the cube", fontsize=8)
    return png_of(figure)
