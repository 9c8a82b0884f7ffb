"""Figure of endmember spectra, as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tesela.core.spectra import Spectra
from tesela.evaluation.abundance_figures import new_figure, plain_axes, png_of, put_title

_LETTERS = "JFMAMJJASOND"


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
