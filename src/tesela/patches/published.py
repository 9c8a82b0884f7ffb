"""Pixel tables from the published data sets: Andalusia-MSMTU and TimeSpec4LULC."""

from __future__ import annotations

import colorsys

import numpy as np

from tesela.core.errors import InputError, join_words
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import load_legend
from tesela.io.msmtu import BANDS, TIMES, PublishedPixels, rebuild_grid
from tesela.io.timespec import LabelledSeries
from tesela.patches.pixels import NO_SPLIT, PixelTable


def table_of_msmtu(pixels: PublishedPixels, *, level: int = 2) -> PixelTable:
    """
    Pixels of Andalusia-MSMTU with their shares and their published partitions, on the rebuilt grid.

    Raises
    ------
    InputError
        If there are no shares of that level.
    GridError
        If the pixels do not lie on one grid.
    """
    if level not in pixels.shares:
        raise InputError(
            f"The data set holds no shares of level {level}; it has {join_words(pixels.shares) or 'none'}."
        )
    grid, rows, cols = rebuild_grid(pixels)
    table = PixelTable(
        values=pixels.values,
        static=pixels.static,
        targets=pixels.shares[level],
        rows=rows,
        cols=cols,
        splits=pixels.splits[level],
        times=TIMES,
        bands=BANDS,
        layers=pixels.layers,
        legend=load_legend(f"sipna-{level}"),
        grid=grid,
    )
    return table.take(np.flatnonzero(np.isfinite(table.targets).all(axis=1)))


def table_of_timespec(series: LabelledSeries) -> PixelTable:
    """Windows of TimeSpec4LULC with their class as the whole pixel; no layers, and no places on a grid."""
    count, classes = len(series), len(series.classes)
    legend = Legend(
        "timespec4lulc",
        tuple(
            LandClass(k + 1, str(k + 1), name, _color(k, classes)) for k, name in enumerate(series.classes)
        ),
    )
    return PixelTable(
        values=series.values,
        static=np.zeros((count, 0), np.float32),
        targets=np.eye(classes, dtype=np.float32)[series.labels],
        rows=np.arange(count, dtype=np.int32),
        cols=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
        times=TIMES,
        bands=BANDS,
        layers=(),
        legend=legend,
    )


def _color(number: int, count: int) -> str:
    red, green, blue = colorsys.hsv_to_rgb(number / count, 0.6, 0.8)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
