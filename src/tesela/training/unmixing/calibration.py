"""Calibration of unmixing experts: their claimed variance is fitted to their errors on the validation pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.beta import probabilities_around
from tesela.core.errors import ExpertError, InputError
from tesela.core.legend import sum_to_level
from tesela.models.expert import Expert
from tesela.models.inference import TorchRunner, Unmixed, series_of, unmix
from tesela.models.output import UnmixingNetwork
from tesela.models.unmixing_header import Floats, Variance
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.batches import VAL

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
    Predict the shares of pixels of a table, in their order.

    Parameters
    ----------
    chosen : (pixels,) mask or positions, optional
        Which pixels; default: all. Networks that use neighbours get those of the whole table.
    level : int, optional
        Coarser level of the expert's legend.

    Raises
    ------
    InputError
        If the table's bands or layers are not those of the expert.
    GridError
        If the expert uses neighbours and the pixels have no grid.
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
    pieces, indices = [], []
    included = np.zeros(len(table) + 1, bool)
    included[wanted] = True
    corners = np.unique(np.stack([table.rows[wanted], table.cols[wanted]], 1) // _TILE_PX, axis=0) * _TILE_PX
    for row, col in corners:
        top, left = int(row) + _TILE_PX, int(col) + _TILE_PX
        side = _TILE_PX + 2 * margin
        window = where[top : top + side, left : left + side]
        inner = window[margin : margin + _TILE_PX, margin : margin + _TILE_PX]
        values, static = table.inputs_at(window)
        piece = unmix(expert.header, run, values[None], static[None], level=level)
        kept = included[inner]
        pieces.append(_keep(piece, kept))
        indices.append(inner[kept])
    whole = _join(pieces)
    order = np.empty(len(table), np.int64)
    order[np.concatenate(indices)] = np.arange(len(whole.shares))
    return _pick(whole, order[wanted])


def _keep(piece: Unmixed, kept: NDArray[np.bool_]) -> Unmixed:
    return Unmixed(*(None if item is None else item[0][kept] for item in vars(piece).values()))  # type: ignore[arg-type]


def _pick(whole: Unmixed, order: NDArray[np.integer]) -> Unmixed:
    return Unmixed(*(None if item is None else item[order] for item in vars(whole).values()))  # type: ignore[arg-type]


def _join(pieces: list[Unmixed]) -> Unmixed:
    def joined(items: list[Floats | None]) -> Floats | None:
        given = [item for item in items if item is not None]
        return np.concatenate(given) if given else None

    return Unmixed(
        np.concatenate([piece.shares for piece in pieces]),
        joined([piece.deviation for piece in pieces]),
        np.concatenate([piece.unseen for piece in pieces]),
        joined([piece.imputed for piece in pieces]),
    )


_MOST_SHARES = 100_000
"""Largest number of shares whose likelihood is summed; more change little."""

_MOST_PIXELS = 200_000
"""Largest number of validation pixels, about: runs of `_RUN_PX` that lie together, evenly over the table."""

_RUN_PX = 4096

_LEAST_LIKELIHOOD = 1e-6


def calibrate(expert: Expert, table: PixelTable) -> Expert:
    """
    Fit the variance of an expert on the validation pixels, for each level of the legend.

    `train_unmixing` ends with this; call it for experts that were joined, or for the pixels of another region. Experts
    without a variance of their own get that of their errors, by the size of the share.

    Returns
    -------
    Expert
        The same network with another `ExpertHeader.variance`; with none if there are no errors to fit it to: no pixel
        of val was observed, or all its shares are right.

    Raises
    ------
    InputError
        If the table has no shares of the expert's legend, or no pixel of val.
    """
    header = expert.header
    if table.legend != header.legend:
        raise InputError(
            "The pixels have no shares of the expert's legend. Read them with an abundance map of it."
        )
    val = np.flatnonzero(table.splits == VAL)
    if not len(val):
        raise InputError("No pixel is in val. Split the table first (split_pixels).")
    runs = -(-len(val) // _MOST_PIXELS)
    val = val[np.arange(len(val)) // _RUN_PX % runs == 0]
    plain = Expert(replace(header, variance=()), expert.network)
    variances = []
    for level in range(1, header.legend.depth + 1):
        predicted = unmix_pixels(plain, table, val, level=level)
        truth = sum_to_level(table.targets[val].T, header.legend, level).T
        seen = ~predicted.unseen
        if not seen.any():
            return plain
        deviation = None if predicted.deviation is None else predicted.deviation[seen]
        variances.append(fit_variance(truth[seen], predicted.shares[seen], deviation))
    if not all(one.is_sound for one in variances):
        return plain
    return Expert(replace(header, variance=tuple(variances)), expert.network)


def fit_variance(
    truth: NDArray[np.floating], shares: NDArray[np.floating], deviation: NDArray[np.floating] | None
) -> Variance:
    r"""
    Fit the variance whose mean is the mean squared error, and under which the truth is most likely.

    The parts of both terms, :math:`(1 - w)` of the network's own variance and *w* of :math:`m (1 - m)`, are those with
    the largest likelihood of the true shares under Beta distributions.

    Parameters
    ----------
    truth, shares : (pixels, classes) arrays of float
    deviation : (pixels, classes) array of float, optional
        The network's own.
    """
    from scipy.optimize import minimize_scalar

    t, m = (part.astype(np.float64) for part in (truth, shares))
    most = m * (1 - m)
    own = np.zeros_like(m) if deviation is None else deviation.astype(np.float64) ** 2
    step = max(1, m.size // _MOST_SHARES)  # of pixels, whose shares stay together: all classes count
    error, scales = ((t - m) ** 2).mean(), np.array([own.mean(), most.mean()])
    parts = np.divide(error, scales, out=np.zeros(2), where=scales > 0)

    def unlikely(mixed: float) -> float:
        variance = (1 - mixed) * parts[0] * own[::step] + mixed * parts[1] * most[::step]
        low, high = probabilities_around(t[::step], m[::step], np.sqrt(variance))
        return float(-np.log(np.maximum(high - low, _LEAST_LIKELIHOOD)).mean())

    mixed = 1.0
    if parts[0]:
        mixed = float(minimize_scalar(unlikely, bounds=(0, 1), method="bounded", options={"xatol": 0.01}).x)
    return Variance(round(float((1 - mixed) * parts[0]), 6), round(float(mixed * parts[1]), 6))
