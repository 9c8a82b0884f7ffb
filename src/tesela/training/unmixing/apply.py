"""Apply an unmixing expert to a pixel table: to judge it, or to look at single pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError, InputError
from tesela.models.answer import UnmixingNetwork
from tesela.models.applied import Floats, TorchRunner, Unmixed, series_of, unmix
from tesela.models.expert import Expert
from tesela.patches.pixels import PixelTable

_TILE_PX = 64
_PIXELS_AT_ONCE = 8192


def unmix_pixels(
    expert: Expert,
    table: PixelTable,
    chosen: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    *,
    level: int | None = None,
) -> Unmixed:
    """
    Answer of an expert for pixels of a table, in their order.

    Parameters
    ----------
    chosen : (pixels,) mask or positions, optional
        Which pixels; default: all. Networks that see neighbours look at those of the whole table.
    level : int, optional
        Coarser level of the expert's legend to answer in.

    Raises
    ------
    InputError
        If the table's bands or layers are not those of the expert.
    GridError
        If the expert sees neighbours and the pixels lie on no grid.
    """
    network, header = expert.network, expert.header
    if not isinstance(network, UnmixingNetwork):
        raise ExpertError(f"The expert is one for {header.task}; one for unmixing was needed.")
    series = series_of(header)
    if table.bands != header.bands or table.layers != series.layers or table.months != series.months:
        raise InputError(
            "The pixels have other bands, layers or months than the expert. Read them from a cube of the same kind."
        )
    wanted = np.arange(len(table)) if chosen is None else np.arange(len(table))[chosen]
    run = TorchRunner(network)
    if not network.margin_px:
        starts = range(0, max(len(wanted), 1), _PIXELS_AT_ONCE)
        rows = [wanted[start : start + _PIXELS_AT_ONCE] for start in starts]
        return _join(
            [unmix(header, run, table.values[part], table.static[part], level=level) for part in rows]
        )
    return _by_tiles(expert, run, table, wanted, level)


def _by_tiles(
    expert: Expert, run: TorchRunner, table: PixelTable, wanted: NDArray[np.integer], level: int | None
) -> Unmixed:
    margin = run.network.margin_px
    where = np.pad(table.positions(), margin + _TILE_PX, constant_values=-1)
    values = np.concatenate([table.values, np.full_like(table.values[:1], np.nan)])
    static = np.concatenate([table.static, np.full_like(table.static[:1], np.nan)])
    pieces, places = [], []
    asked = np.zeros(len(table) + 1, bool)
    asked[wanted] = True
    corners = np.unique(np.stack([table.rows[wanted], table.cols[wanted]], 1) // _TILE_PX, axis=0) * _TILE_PX
    for row, col in corners:
        top, left = int(row) + _TILE_PX, int(col) + _TILE_PX
        side = _TILE_PX + 2 * margin
        window = where[top : top + side, left : left + side]
        inner = window[margin : margin + _TILE_PX, margin : margin + _TILE_PX]
        found = unmix(expert.header, run, values[window][None], static[window][None], level=level)
        kept = asked[inner]
        pieces.append(_keep(found, kept))
        places.append(inner[kept])
    whole = _join(pieces)
    order = np.empty(len(table), np.int64)
    order[np.concatenate(places)] = np.arange(len(whole.shares))
    return _pick(whole, order[wanted])


def _keep(found: Unmixed, kept: NDArray[np.bool_]) -> Unmixed:
    return Unmixed(*(None if item is None else item[0][kept] for item in vars(found).values()))  # type: ignore[arg-type]


def _pick(found: Unmixed, order: NDArray[np.integer]) -> Unmixed:
    return Unmixed(*(None if item is None else item[order] for item in vars(found).values()))  # type: ignore[arg-type]


def _join(pieces: list[Unmixed]) -> Unmixed:
    def joined(items: list[Floats | None]) -> Floats | None:
        there = [item for item in items if item is not None]
        return np.concatenate(there) if there else None

    return Unmixed(
        np.concatenate([piece.shares for piece in pieces]),
        joined([piece.deviation for piece in pieces]),
        np.concatenate([piece.unseen for piece in pieces]),
        joined([piece.imputed for piece in pieces]),
    )
