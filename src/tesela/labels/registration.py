"""Registration: by how much the images of a cube lie beside the reference, from the series themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.io.cube import Cube
from tesela.labels.codes import Mixture
from tesela.labels.sensor_shares import AreaReader, check_psf, scan_weights

PARTS = 4
"""Parts of a cell along each side: shifts are tried in steps of a quarter cell, and interpolated between."""

REACH = 1.0
"""Largest shift that is tried, in cells."""

_MARGIN = 4
"""Cells around a window: for the shift, the response, and the local mean."""

_AROUND = 5
"""Side in cells of the squares whose mean is taken off: only what changes within them shows a shift."""

_MOST_WINDOWS = 64
_MOST_CELLS = 64
"""Windows of a large cube that are read, spread evenly, and their largest side."""

_DRAWS = 200
_RIDGE = 1e-3
_LEAST_COVER = 0.5


@dataclass(frozen=True)
class Shift:
    """Where the images show the ground of a cell: so many cells further down and to the right."""

    rows: float
    cols: float
    rows_sd: float
    """Standard deviations over bootstrap samples of the windows."""
    cols_sd: float
    explained: float
    """Share of the local variance of the series that the shares explain at this shift."""
    explained_unshifted: float
    windows: int

    @property
    def line(self) -> str:
        """The shift in one line."""
        return (
            f"shift {self.rows:+.2f} ± {self.rows_sd:.2f} cells down, {self.cols:+.2f} ± {self.cols_sd:.2f} to the "
            f"right; local variance explained: {self.explained:.1%}, unshifted {self.explained_unshifted:.1%}"
        )

    @property
    def is_clear(self) -> bool:
        """Whether the shift is more than two of its standard deviations in one direction at least."""
        return abs(self.rows) > 2 * self.rows_sd or abs(self.cols) > 2 * self.cols_sd


def estimate_shift(
    cube: Cube,
    open_reader: Callable[[GeoBox], AreaReader],
    mixture: Mixture,
    *,
    psf: str = "none",
    seed: int = 0,
) -> Shift:
    r"""
    Estimate the shift between a cube and a reference.

    For each shift *s* the local deviations of the series, :math:`X'`, are regressed on those of the shares of the
    shifted cells, :math:`S'_s`; the shift with the smallest residual :math:`\lVert X' - S'_s E \rVert` is that of the
    images. It is the maximum of the cross-correlation between the series that the reference lets expect and the seen
    ones, summed over classes, bands and months. Between the steps the residual is interpolated by a parabola.

    Parameters
    ----------
    open_reader : callable of GeoBox
        Opens the reference on a grid.
    mixture : Mixture
        From the planes of the reader to classes.
    psf : str
        Point-spread function of the cells, see `tesela.labels.sensor_shares`.

    Raises
    ------
    InputError
        If too little of the cube has both series and shares, or the best shift is at the end of those tried.
    """
    check_psf(psf)
    windows = _windows(cube)
    like = cube.grid
    around = window_grid(
        like, -_MARGIN, -_MARGIN, int(like.shape[0]) + 2 * _MARGIN, int(like.shape[1]) + 2 * _MARGIN
    )
    fine = GeoBox(
        (int(around.shape[0]) * PARTS, int(around.shape[1]) * PARTS),
        around.affine * Affine.scale(1 / PARTS),
        around.crs,
    )
    reader = open_reader(fine)
    shifts = _shifts()
    sums = []
    try:
        for row, col, rows, cols in windows:
            series = _series(cube, row, col, rows, cols)
            if series is None:
                continue
            areas = mixture.classes(
                reader.read(
                    row * PARTS, col * PARTS, ((rows + 2 * _MARGIN) * PARTS, (cols + 2 * _MARGIN) * PARTS)
                )
            )
            found = _moments(series, areas, shifts, psf=psf)
            if found is not None:
                sums.append(found)
    finally:
        reader.close()
    if len(sums) < 4:
        raise InputError(
            f"{cube.path}: only {len(sums)} windows hold both series and reference, too few to estimate a shift; give "
            f"it (shift = [0.0, 0.0]), or leave it out."
        )
    grams, crosses, totals = (np.stack(parts) for parts in zip(*sums, strict=True))
    explained = _explained(grams.sum(0), crosses.sum(0), float(totals.sum()))
    best = _peak(explained)
    if best is None:
        raise InputError(
            f"{cube.path}: no shift of less than {REACH:g} cell fits the reference best; they differ by more, or the "
            f"series do not show the classes. Check the coordinate systems and the reference."
        )
    draws = []
    generator = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        taken = generator.integers(0, len(sums), len(sums))
        weights = np.bincount(taken, minlength=len(sums)).astype(float)
        drawn = _explained(
            np.tensordot(weights, grams, 1), np.tensordot(weights, crosses, 1), float(weights @ totals)
        )
        peak = _peak(drawn)
        if peak is not None:
            draws.append(peak[:2])
    spread = np.std(draws, axis=0) if len(draws) > _DRAWS // 2 else np.array([np.nan, np.nan])
    middle = len(explained) // 2
    return Shift(
        rows=best[0],
        cols=best[1],
        rows_sd=float(spread[0]),
        cols_sd=float(spread[1]),
        explained=max(best[2], float(explained.max())),
        explained_unshifted=float(explained[middle, middle]),
        windows=len(sums),
    )


def _windows(cube: Cube) -> list[tuple[int, int, int, int]]:
    """Row, column, rows and columns of windows spread over the cube."""
    rows, cols = (int(side) for side in cube.grid.shape)
    side = int(np.clip(math.sqrt(rows * cols / _MOST_WINDOWS), 12, _MOST_CELLS))
    every = [
        (row, col, min(side, rows - row), min(side, cols - col))
        for row in range(0, rows, side)
        for col in range(0, cols, side)
    ]
    every = [window for window in every if min(window[2:]) >= side // 2]
    if len(every) <= _MOST_WINDOWS:
        return every
    return [every[at] for at in np.linspace(0, len(every) - 1, _MOST_WINDOWS).astype(int)]


def _shifts() -> list[int]:
    """Shifts along one side, in parts of a cell."""
    most = round(REACH * PARTS)
    return list(range(-most, most + 1))


def _series(cube: Cube, row: int, col: int, rows: int, cols: int) -> NDArray[np.float64] | None:
    """Local deviations of the series, (values, rows, cols), 0 in gaps; None if hardly anything is observed."""
    half = _AROUND // 2
    grid = window_grid(cube.grid, row - half, col - half, rows + 2 * half, cols + 2 * half)
    values = cube.read(grid).astype(np.float64)
    values = values.reshape(-1, *values.shape[2:])
    local = _local(values)[:, half:-half, half:-half]
    return local if np.count_nonzero(local) > local.size / 4 else None


def _local(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values without the mean of the observed ones around; 0 in gaps."""
    from scipy.ndimage import uniform_filter  # here: the extra `imagery`

    known = np.isfinite(values)
    size = (0, _AROUND, _AROUND)
    total = uniform_filter(np.where(known, values, 0.0), size, mode="constant")
    weight = uniform_filter(known.astype(float), size, mode="constant")
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-9)
    return np.where(known, values - mean, 0.0)


def _moments(
    series: NDArray[np.float64], areas: NDArray[np.float64], shifts: list[int], *, psf: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
    """
    Sums of products of a window for each shift.

    Returns
    -------
    (shifts, shifts, classes, classes), (shifts, shifts, classes, values) and their total sum of squares
    """
    half = _AROUND // 2
    rows, cols = series.shape[1:]
    classes, count = len(areas), len(shifts)
    lines = _along(areas, psf)
    wide = (rows + 2 * half, cols + 2 * half)
    grams = np.zeros((count, count, classes, classes))
    crosses = np.zeros((count, count, classes, len(series)))
    planes = {(i, j): _take(lines, i, j, wide, psf) for i in shifts for j in shifts}
    covered = np.ones(wide, np.bool_)
    for plane in planes.values():
        covered &= plane.sum(axis=0) > _LEAST_COVER
    used = covered[half:-half, half:-half].ravel()
    if used.sum() < used.size / 4:
        return None
    seen = series.reshape(len(series), -1)[:, used]
    for (i, j), plane in planes.items():
        local = _local(np.where(covered, plane, np.nan))[:, half:-half, half:-half]
        shares = local.reshape(classes, -1)[:, used]
        at = shifts.index(i), shifts.index(j)
        grams[at] = shares @ shares.T
        crosses[at] = shares @ seen.T
    return grams, crosses, float((seen**2).sum())


def _along(areas: NDArray[np.float64], psf: str) -> NDArray[np.float64]:
    """Running sums of the parts over a cell down, and through the response across; (classes, rows, cols) of parts."""
    across = scan_weights(PARTS).ravel() if psf == "modis" else np.full(PARTS, 1 / PARTS)
    down = np.full(PARTS, 1 / PARTS)
    summed = sum(weight * areas[:, at : areas.shape[1] - PARTS + 1 + at] for at, weight in enumerate(down))
    assert isinstance(summed, np.ndarray)
    width = len(across)
    out = sum(weight * summed[..., at : summed.shape[2] - width + 1 + at] for at, weight in enumerate(across))
    assert isinstance(out, np.ndarray)
    return out


def _take(
    lines: NDArray[np.float64], down: int, right: int, shape: tuple[int, int], psf: str
) -> NDArray[np.float64]:
    """Shares of the cells of a window, with its local surroundings, at a shift in parts of a cell."""
    first = (_MARGIN - _AROUND // 2) * PARTS
    lead = PARTS if psf == "modis" else 0  # the response begins a cell before its own
    row, col = first + down, first + right - lead
    return lines[:, row : row + shape[0] * PARTS : PARTS, col : col + shape[1] * PARTS : PARTS]


def _explained(grams: NDArray[np.float64], crosses: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Share of the variance that the regression explains, by shift."""
    classes = grams.shape[-1]
    scale = np.trace(grams, axis1=-2, axis2=-1) / classes
    ridge = _RIDGE * scale[..., None, None] * np.eye(classes) + 1e-12 * np.eye(classes)
    solved = np.linalg.solve(grams + ridge, crosses)
    return np.asarray((crosses * solved).sum(axis=(-2, -1)) / max(total, 1e-300))


def _peak(explained: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Rows and columns of the maximum, in cells, and its value; None at the edge of the shifts tried."""
    row, col = np.unravel_index(int(explained.argmax()), explained.shape)
    last = len(explained) - 1
    if not (0 < row < last and 0 < col < last):
        return None
    around = explained[row - 1 : row + 2, col - 1 : col + 2]
    y, x = np.mgrid[-1:2, -1:2].reshape(2, -1).astype(float)
    terms = np.stack([np.ones(9), y, x, y * y, x * x, y * x], axis=1)
    a = np.linalg.lstsq(terms, around.ravel(), rcond=None)[0]
    curve = np.array([[2 * a[3], a[5]], [a[5], 2 * a[4]]])
    step = np.clip(np.linalg.solve(curve - 1e-15 * np.eye(2), -a[1:3]), -1, 1)
    middle = len(explained) // 2
    value = float(a @ [1, step[0], step[1], step[0] ** 2, step[1] ** 2, step[0] * step[1]])
    return float(row - middle + step[0]) / PARTS, float(col - middle + step[1]) / PARTS, value
