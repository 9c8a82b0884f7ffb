"""Reference codes: how the codes or numbers of a reference become values of a legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import LegendError, join_words
from tesela.core.legend import NODATA, Legend
from tesela.io.legends import load_crosswalk, load_legend

_CORINE_EXTRAS = {"48": "NODATA", "49": "unclassified land", "50": "unclassified water", "128": "nodata"}
_CORINE_EXTRAS |= {"-128": "nodata", "255": "unclassified", "999": "NODATA", "990": "unclassified land"}
_CORINE_EXTRAS |= {"995": "unclassified water"}
"""What EEA products hold beside the 44 classes: grid codes of the rasters, then codes of the polygons."""


@dataclass(frozen=True)
class CodeBook:
    """From the codes of a reference to the values of a legend."""

    legend: Legend
    """Legend of the labels."""
    source: str
    """What the codes are drawn in, for messages."""
    by_code: Mapping[str, int]
    """Value of the legend, or nodata where the code is left out on purpose, by code."""
    readings: tuple[tuple[Mapping[int, int], ...], ...]
    """For each level of the source, the ways to read the numbers of a raster: as codes, then as values."""

    def values_of(self, codes: Sequence[str], *, where: str) -> NDArray[np.uint8]:
        """
        Translate codes to values.

        Raises
        ------
        LegendError
            If a code is unknown: nothing becomes nodata silently.
        """
        strange = sorted({code for code in codes if code not in self.by_code})
        if strange:
            raise LegendError(self._unknown(strange, where=where))
        return np.array([self.by_code[code] for code in codes], np.uint8)

    def reading_of(self, numbers: Iterable[int], *, where: str) -> Mapping[int, int]:
        """
        Find how the numbers of a raster are to be read: as codes, else as values, of a level of the source.

        Parameters
        ----------
        numbers : iterable of int
            All numbers that occur, without nodata.

        Raises
        ------
        LegendError
            If no way of reading knows all numbers, or two levels do and disagree.
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

    def _unknown(self, strange: Sequence[str], *, where: str) -> str:
        return (
            f"{where} holds the codes {join_words(strange)}, which {self.source} does not have "
            f"(it has {join_words(self.by_code, most=8)}). Name the legend that the codes are drawn in "
            f"(--source), or give a crosswalk (--crosswalk FILE) that says where they go, 'nodata' where "
            f"they are to be left out."
        )


def make_code_book(
    legend: Legend, *, source: str | None = None, crosswalk: Crosswalk | None = None
) -> CodeBook:
    """
    Gather all that is known about the codes of a reference.

    Parameters
    ----------
    legend : Legend
        Legend of the labels, at the level wanted.
    source : str, optional
        Name or address of the legend that the reference is drawn in. Without it, and without a crosswalk, the
        codes are those of the legend's own tree, at its level or any finer one.
    crosswalk : Crosswalk, optional
        Used instead of the shipped ones.

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
    walk = load_crosswalk(str(source), legend) if crosswalk is None else crosswalk
    drawn_in = _known(source or walk.source)
    name = f"crosswalk {walk.source} -> {legend.address}"
    extras = drawn_in is not None and drawn_in.name == "corine"
    return _book(legend, name, [(walk.main_target, drawn_in)], extras=extras)


def _is_own(source: str, legend: Legend) -> bool:
    known = _known(source)
    return known is not None and known.name == legend.name


def _known(source: str) -> Legend | None:
    try:
        return load_legend(source)
    except LegendError:
        return None


def _own_book(legend: Legend, source: str | None) -> CodeBook:
    """Codes of the legend's own tree: of the level named as source, else of all levels from `legend` down."""
    level = _known(source or legend.name)
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
    return _book(legend, name, list(zip(targets, levels, strict=True)), extras=legend.name == "corine")


def _book(
    legend: Legend, name: str, levels: Sequence[tuple[Mapping[str, int], Legend | None]], *, extras: bool
) -> CodeBook:
    nothing = dict.fromkeys(_CORINE_EXTRAS, NODATA) if extras else {}
    by_code = dict(nothing)
    readings = []
    for targets, drawn_in in levels:
        by_code |= targets
        spare = {NODATA: NODATA} | {int(code): NODATA for code in nothing}
        ways = [spare | {int(code): value for code, value in targets.items() if code.isdecimal()}]
        if drawn_in is not None:
            known = [item for item in drawn_in.classes if item.code in targets]
            ways.append(spare | {item.value: targets[item.code] for item in known})
        readings.append(tuple(ways))
    return CodeBook(legend, name, by_code, tuple(readings))
