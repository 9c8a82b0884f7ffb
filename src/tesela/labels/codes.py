"""Reference codes: how the codes or numbers of a reference become values of a legend, or shares of its classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk, CrosswalkRow
from tesela.core.errors import LegendError, join_words
from tesela.core.legend import NODATA, LandClass, Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import codes_without_class, open_legend
from tesela.io.vector import NO_CODE, VectorLayer, code_texts

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True)
class CodeBook:
    """From the codes of a reference to the values of a legend."""

    legend: Legend
    """Legend of the labels."""
    source: str
    """Legend or crosswalk of the codes, for messages."""
    by_code: Mapping[str, int]
    """Value of the legend by code; nodata where the code is left out on purpose."""
    readings: tuple[tuple[Mapping[int, int], ...], ...]
    """For each level of the source, two readings of the numbers of a raster: as codes, then as values."""

    def values_of(self, codes: Sequence[str], *, where: str) -> NDArray[np.uint8]:
        """
        Translate codes to values; a missing code has no class, unless the crosswalk has a row from "null".

        Raises
        ------
        LegendError
            If a code is unknown: nothing becomes nodata silently.
        """
        strange = sorted({code for code in codes if code not in self.by_code} - {NO_CODE})
        if strange:
            raise LegendError(self._unknown(strange, where=where))
        return np.array([self.by_code.get(code, NODATA) for code in codes], np.uint8)

    def reading_of(self, numbers: Iterable[int], *, where: str) -> Mapping[int, int]:
        """
        Choose the reading of the numbers of a raster: as codes, else as values, of a level of the source.

        Parameters
        ----------
        numbers : iterable of int
            All numbers that occur, without nodata.

        Raises
        ------
        LegendError
            If no reading has all numbers, or two levels have them and disagree.
        """
        present = sorted({int(number) for number in numbers})
        fitting = []
        for ways in self.readings:
            fitting += [way for way in ways if all(number in way for number in present)][:1]
        if not fitting:
            every = [way for level in self.readings for way in level]
            nearest = max(every, key=lambda way: sum(number in way for number in present))
            raise LegendError(self._unknown([str(n) for n in present if n not in nearest], where=where))
        if any(way[number] != fitting[0][number] for way in fitting for number in present):
            depths = range(self.legend.depth, self.legend.levels + 1)
            levels = [f"{self.legend.name}-{depth}" for depth in depths]
            raise LegendError(
                f"{where} holds the numbers {join_words(present)}, which belong to more than one level of "
                f"legend '{self.legend.name}'. Name the level as the source ({join_words(levels)})."
            )
        return fitting[0]

    def is_ambiguous(self, numbers: Iterable[int]) -> bool:
        """Whether one of the numbers has two meanings, so that only the whole raster can decide."""
        ways = [way for level in self.readings for way in level]
        return any(len({way[number] for way in ways if number in way}) > 1 for number in numbers)

    def _unknown(self, strange: Sequence[str], *, where: str) -> str:
        return (
            f"{where} holds the codes {join_words(strange)}, which {self.source} does not have "
            f"(it has {join_words(self.by_code, most=8)}). Name the legend of the codes (--source), or give a "
            f"crosswalk (--crosswalk FILE) with a target for each of them, 'nodata' to leave one out."
        )


def make_code_book(
    legend: Legend, *, source: str | None = None, crosswalk: Crosswalk | None = None
) -> CodeBook:
    """
    Make the table from the codes of a reference to the values of a legend.

    Parameters
    ----------
    legend : Legend
        Legend of the labels, at the level wanted.
    source : str, optional
        Name or address of the legend of the reference. Without it, and without a crosswalk, the codes are those of
        the tree of `legend`, at its level or any finer one.
    crosswalk : Crosswalk, optional
        Replaces the shipped ones.

    Raises
    ------
    LegendError
        If there is no such legend or crosswalk, or the crosswalk leads to another legend.
    """
    if crosswalk is not None and crosswalk.target != legend:
        raise LegendError(
            f"The crosswalk leads to legend '{crosswalk.target.address}', but labels in '{legend.address}' "
            f"are wanted. Use one legend for both."
        )
    if crosswalk is None and (source is None or _is_own(source, legend)):
        return _own_book(legend, source)
    if crosswalk is None:
        crosswalk = open_crosswalk(str(source), legend)
    drawn_in = _shipped_legend(source or crosswalk.source)
    name = f"crosswalk {crosswalk.source} -> {legend.address}"
    return _book(legend, name, [(crosswalk.main_target, drawn_in)], extras=codes_without_class(drawn_in))


def _is_own(source: str, legend: Legend) -> bool:
    shipped = _shipped_legend(source)
    return shipped is not None and shipped.name == legend.name and not legend.composed


def _shipped_legend(source: str) -> Legend | None:
    try:
        return open_legend(source)
    except LegendError:
        return None


def _own_book(legend: Legend, source: str | None) -> CodeBook:
    """Codes of the legend's own tree: of the level named as source, else of all levels from `legend` on."""
    level = legend if legend.composed else _shipped_legend(source or legend.name)
    if level is None or level.name != legend.name or level.depth < legend.depth:
        level = legend
    levels: list[Legend] = []
    while level is not None and level.depth >= legend.depth:
        levels.append(level)
        level = level.upper
    if source is not None:
        levels = levels[:1]
    targets = [{code: item.ancestor(code, legend.depth).value for code in item.codes} for item in levels]
    name = f"legend '{source or legend.name}'"
    return _book(legend, name, list(zip(targets, levels, strict=True)), extras=codes_without_class(legend))


def _book(
    legend: Legend,
    name: str,
    levels: Sequence[tuple[Mapping[str, int], Legend | None]],
    *,
    extras: tuple[str, ...],
) -> CodeBook:
    nothing = dict.fromkeys(extras, NODATA)
    by_code: dict[str, int] = {}
    readings = []
    for targets, drawn_in in levels:
        by_code |= targets
        empty = {NODATA: NODATA} | {int(code): NODATA for code in nothing}
        ways = [empty | {int(code): value for code, value in targets.items() if code.isdecimal()}]
        if drawn_in is not None:
            listed = [item for item in drawn_in.classes if item.code in targets]
            ways.append(empty | {item.value: targets[item.code] for item in listed})
        readings.append(tuple(ways))
    by_code |= {
        code: NODATA for code in nothing if code not in by_code
    }  # last: messages list the classes first
    return CodeBook(legend, name, by_code, tuple(readings))


def polygon_values(
    book: CodeBook, polygons: gpd.GeoDataFrame, field: str, layer: VectorLayer
) -> NDArray[np.uint8]:
    """
    Values of the legend for polygons of a layer; those without a code are counted in `layer.repairs`.

    Raises
    ------
    LegendError
        If a code is unknown.
    """
    codes, numbers = np.unique(code_texts(polygons[field]).astype(str), return_inverse=True)
    values = book.values_of(codes.tolist(), where=f"Field '{field}' of {layer.path}")
    if NO_CODE not in book.by_code:
        layer.repairs.add_without_code(field, polygons.index[codes[numbers] == NO_CODE])
    return np.asarray(values[numbers], np.uint8)


@dataclass(frozen=True)
class Mixture:
    """How codes become shares of classes when a crosswalk splits some of them."""

    legend: Legend
    """Classes of the first translation: those of the target, or one for each way to split."""
    crosswalk: Crosswalk | None
    """From the codes to `legend`; None if the codes are those of the legend's own tree."""
    weights: NDArray[np.float64]
    """(classes of `legend`, classes of the target) share of the area that goes to each target class."""

    @property
    def plane_of(self) -> NDArray[np.int64]:
        """Table of 256: plane of a value of `legend`, -1 for nodata."""
        position = self.legend.index_table.astype(np.int64)
        return np.where(position == 255, -1, position)

    def classes(self, areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """(planes, rows, cols) areas as areas of the target's classes."""
        if (
            self.weights.shape[0] == self.weights.shape[1]
            and (self.weights == np.eye(len(self.weights))).all()
        ):
            return areas
        mixed: NDArray[np.float64] = np.einsum("pc,pij->cij", self.weights, areas)
        return mixed


def make_mixture(legend: Legend, *, source: str | None = None, crosswalk: Crosswalk | None = None) -> Mixture:
    """
    Make the rule by which codes become shares of classes, with the shares of a crosswalk.

    Parameters
    ----------
    legend : Legend
        Target classes.
    source, crosswalk
        As in `write_fractions`.

    Raises
    ------
    LegendError
        If there is no such crosswalk.
    """
    named = source == legend.name or (source or "").startswith(f"{legend.name}-")
    own = source is None or (named and not legend.composed)
    if crosswalk is None and not own:
        crosswalk = open_crosswalk(str(source), legend)
    if crosswalk is None or not crosswalk.splits:
        return Mixture(legend, crosswalk, np.eye(len(legend)))
    mixes: dict[tuple[tuple[str, float], ...], str] = {}
    rows = []
    for code in crosswalk.codes:
        mix = tuple((row.to, row.share) for row in crosswalk.rows if row.code == code and row.to != TO_NODATA)
        to = mixes.setdefault(mix, f"mix{len(mixes) + 1}") if mix else TO_NODATA
        rows.append(CrosswalkRow(code, to))
    if len(mixes) > 254:
        raise LegendError(
            f"Crosswalk {crosswalk.source} -> {legend.address} splits codes in {len(mixes)} ways; at most "
            f"254 are possible. Give codes with the same targets the same shares."
        )
    weights = np.zeros((len(mixes), len(legend)))
    for number, mix in enumerate(mixes):
        for to, share in mix:
            weights[number, legend.codes.index(to)] += share
    names = [LandClass(number, name, name, "#000000") for number, name in enumerate(mixes.values(), start=1)]
    mixed = Legend(f"{legend.name}, mixed", tuple(names))
    return Mixture(mixed, Crosswalk(crosswalk.source, mixed, tuple(rows)), weights)
