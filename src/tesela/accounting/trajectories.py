"""Land-use trajectories: the sequences of categories in a series of maps, with their pixel counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError, join_words
from tesela.core.grid import pixel_offset, windows
from tesela.core.legend import Legend
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import equal_pixels_m2, stratum_table

KEEPS_PREVIOUS: Mapping[str, tuple[str, ...]] = {"corine": ("334",)}
"""By legend, classes that are no land use: a burnt area keeps its use from before the fire."""

_MOST_YEARS = 300
"""From the first map to the last; the size of the cohort tables grows with its square."""


@dataclass(frozen=True)
class FlipFlop:
    """Area that changed and changed back within three maps: mostly an error of the map between."""

    years: tuple[int, int, int]
    category: str
    """First and last category."""
    between: str
    area_ha: float


@dataclass(frozen=True, eq=False, repr=False)
class Trajectories:
    """
    Pixel counts by the sequence of categories at the dates of the maps, the only input of an account.

    Only pixels with a category at every date count, so that the total area is the same in all years.
    """

    legend: Legend
    """The categories."""
    years: tuple[int, ...]
    """Years of the maps, ascending."""
    paths: NDArray[np.uint8]
    """(S, N): positions in the legend at the N dates, each row once."""
    pixels: NDArray[np.int64]
    """(S,): pixels of each trajectory."""
    pixel_area_ha: float
    missing_px: tuple[int, ...] = ()
    """By date, pixels without a category at that date that have one at another date."""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.years) < 1 or any(b <= a for a, b in zip(self.years, self.years[1:], strict=False)):
            raise InputError(
                f"The years are {join_words(self.years)}; give one for each map, in ascending order."
            )
        if self.years[-1] - self.years[0] > _MOST_YEARS:
            raise InputError(
                f"The years are {join_words(self.years)}; an account covers {_MOST_YEARS} years at most. Write all "
                f"four digits of each year."
            )
        if self.paths.shape != (len(self.pixels), len(self.years)):
            raise InputError(
                f"Trajectories of {len(self.years)} dates have the shape {self.paths.shape} for {len(self.pixels)} "
                f"counts; it must be (counts, dates)."
            )

    def __repr__(self) -> str:
        return f"<Trajectories {self.legend.address} {join_words(self.years)}: {self.total_ha:,.1f} ha>"

    @property
    def total_ha(self) -> float:
        """Area with a category at every date."""
        return float(self.pixels.sum()) * self.pixel_area_ha

    @property
    def inventory_years(self) -> tuple[int, ...]:
        """Every year from the first map to the last."""
        return tuple(range(self.years[0], self.years[-1] + 1))

    @cached_property
    def mapped_areas_ha(self) -> NDArray[np.float64]:
        """(N, K): area of each category at each date."""
        size = len(self.legend)
        counts = [np.bincount(column, weights=self.pixels, minlength=size) for column in self.paths.T]
        return np.asarray(np.array(counts) * self.pixel_area_ha, np.float64)

    def changes_ha(self, first: int, last: int | None = None) -> NDArray[np.float64]:
        """
        Change matrix between two dates, (K, K): the row is the category before, the column the category after.

        Parameters
        ----------
        first, last : int
            Positions in `years`; `last` is the date after `first` by default.
        """
        size = len(self.legend)
        before = self.paths[:, first].astype(np.int64)
        after = self.paths[:, first + 1 if last is None else last]
        counts = np.bincount(before * size + after, weights=self.pixels, minlength=size * size)
        return np.asarray(counts.reshape(size, size) * self.pixel_area_ha, np.float64)

    def interval_of(self, year: int) -> int:
        """
        Position of the interval of an inventory year: after this map and not after the next.

        Raises
        ------
        InputError
            If the year is not between two maps.
        """
        if not self.years[0] < year <= self.years[-1]:
            raise InputError(
                f"There is no change for {year}: the maps show {self.years[0]} to {self.years[-1]}."
            )
        return int(np.searchsorted(self.years, year, side="left")) - 1

    def areas_ha(self, year: int) -> NDArray[np.float64]:
        """Area of each category at the end of a year, (K,), linear between maps."""
        if year == self.years[0]:
            return np.asarray(self.mapped_areas_ha[0])
        i = self.interval_of(year)
        part = (year - self.years[i]) / (self.years[i + 1] - self.years[i])
        return np.asarray((1 - part) * self.mapped_areas_ha[i] + part * self.mapped_areas_ha[i + 1])

    def annual_changes_ha(self, year: int) -> NDArray[np.float64]:
        r"""
        Change matrix of one year, (K, K): from the end of the year before to the end of this one.

        A change between two maps is spread evenly over the :math:`L` years between them, :math:`c_{ab} / L`; the
        diagonal is the area that stays in its category.
        """
        i = self.interval_of(year)
        annual = self.changes_ha(i) / (self.years[i + 1] - self.years[i])
        np.fill_diagonal(annual, 0)
        stays = self.areas_ha(year - 1) - annual.sum(axis=1)
        return annual + np.diag(stays)

    def flip_flops(self) -> tuple[FlipFlop, ...]:
        """Areas of category A, B and A at three consecutive dates, by years and categories, largest first."""
        flips = []
        for i in range(len(self.years) - 2):
            first, middle, last = (self.paths[:, i + step].astype(np.int64) for step in range(3))
            back = (first == last) & (first != middle)
            pairs = first[back] * len(self.legend) + middle[back]
            for pair in np.unique(pairs):
                area = float(self.pixels[back][pairs == pair].sum()) * self.pixel_area_ha
                a, b = divmod(int(pair), len(self.legend))
                years = (self.years[i], self.years[i + 1], self.years[i + 2])
                flips.append(FlipFlop(years, self.legend.codes[a], self.legend.codes[b], area))
        return tuple(sorted(flips, key=lambda item: -item.area_ha))


def count_trajectories(
    maps: Sequence[ClassMap],
    years: Sequence[int],
    *,
    crosswalks: Sequence[Crosswalk | None],
    keep_previous: Sequence[str] | None = None,
    window_px: int = 2048,
) -> Trajectories:
    """
    Count the trajectories of all pixels in one streaming pass, on the grid of the first map.

    Parameters
    ----------
    maps, years : sequences of one length
        In ascending order; maps on other grids are read at the pixel centres of the first.
    crosswalks : sequence
        From the classes of each map to the categories; None where they are the categories.
    keep_previous : sequence of str, optional
        Codes of classes that keep the category of the previous map (in the first map, of the next); default:
        `KEEPS_PREVIOUS` of the map's legend.

    Raises
    ------
    InputError
        If numbers of maps and years differ, or no pixel has a category at every date.
    LegendError
        If the crosswalks lead to different legends.
    GridError
        If the pixels do not all have the same area.
    """
    if len(maps) != len(years) or not maps:
        raise InputError(
            f"{len(maps)} maps with {len(years)} years given; each map needs its year (--years)."
        )
    tables, legends = zip(
        *(stratum_table(item.legend, table) for item, table in zip(maps, crosswalks, strict=True)),
        strict=True,
    )
    legend: Legend = legends[0]
    if any(other.codes != legend.codes for other in legends):
        raise LegendError(
            f"The crosswalks lead to the legends {join_words(dict.fromkeys(item.address for item in legends))}; "
            f"an account needs one. Give a crosswalk."
        )
    base = len(legend) + 1
    if base ** len(maps) >= 2**62:
        raise InputError(f"{len(maps)} maps of {len(legend)} categories are too many for one account.")
    area_ha = equal_pixels_m2(maps[0]) / 10_000
    kept = [_kept_values(item.legend, keep_previous) for item in maps]
    pixels: dict[int, int] = {}
    with ExitStack() as stack:
        readers = [stack.enter_context(MapReader(item)) for item in maps]
        for _, _, window in windows(maps[0].grid, window_px):
            raw = [reader.read(window) for reader in readers]
            codes = _codes(raw, tables, kept, legend=legend)
            for code, count in zip(*_runs(codes), strict=True):
                pixels[int(code)] = pixels.get(int(code), 0) + int(count)
    digits = np.array(list(pixels), np.int64)[:, np.newaxis] // base ** np.arange(len(maps)) % base
    counts = np.array(list(pixels.values()), np.int64)
    whole, some = np.asarray((digits > 0).all(axis=1)), np.asarray((digits > 0).any(axis=1))
    if not whole.any():
        raise InputError(
            f"No pixel has a category at all of {join_words(years)}: the maps "
            f"{join_words(m.path for m in maps)} do not overlap, or the crosswalk leaves their classes out."
        )
    order = np.lexsort(digits[whole].T[::-1])
    gaps = np.asarray((digits == 0) & some[:, np.newaxis], np.bool_)
    return Trajectories(
        legend,
        tuple(int(year) for year in years),
        (digits[whole] - 1)[order].astype(np.uint8),
        counts[whole][order],
        area_ha,
        missing_px=tuple(int(n) for n in gaps.T @ counts),
        notes=tuple(_grid_notes(maps)),
    )


def _kept_values(legend: Legend, codes: Sequence[str] | None) -> list[int]:
    wanted = KEEPS_PREVIOUS.get(legend.name, ()) if codes is None else codes
    return [legend[code].value for code in wanted if codes is not None or code in legend]


def _codes(
    raw: Sequence[NDArray[np.uint8]],
    tables: Sequence[NDArray[np.uint8]],
    kept: Sequence[list[int]],
    *,
    legend: Legend,
) -> NDArray[np.int64]:
    """One number per pixel: its positions + 1 at all dates as digits, 0 for no category."""
    position = np.where(legend.index_table == 255, 0, legend.index_table + 1).astype(np.uint8)
    digits = [position[table[values]] for table, values in zip(tables, raw, strict=True)]
    masks = [
        np.asarray(np.isin(values, keep), np.bool_) if keep else None
        for values, keep in zip(raw, kept, strict=True)
    ]
    last = len(digits) - 1
    steps = [(t, t - 1) for t in range(1, last + 1)] + [(t, t + 1) for t in range(last - 1, -1, -1)]
    for to, source in steps:  # forward: the previous category; then backward, where there is no previous one
        mask = masks[to]
        if mask is not None:
            take = mask if source < to else mask & np.asarray(digits[to] == 0)
            digits[to] = np.where(take, digits[source], digits[to])
    code = np.zeros(raw[0].shape, np.int64)
    for values in reversed(digits):
        code = code * (len(legend) + 1) + values
    return code


def _runs(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unique numbers and their counts; runs are sorted, not pixels, since maps consist of long runs."""
    flat = codes.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    unique, where = np.unique(flat[starts], return_inverse=True)
    return unique, np.bincount(where, weights=lengths).astype(np.int64)


def _grid_notes(maps: Sequence[ClassMap]) -> list[str]:
    first = maps[0].grid
    return [
        f"{item.path} has another grid than {maps[0].path} and is read at its pixel centres: edges shifted by "
        f"less than a pixel count as change."
        for item in maps[1:]
        if pixel_offset(item.grid, first) is None
    ]
