"""The legend: an immutable tree of land-cover classes."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import LegendError, join_words, unknown_name
from tesela.core.plain_text import has_control_characters

NODATA = 0
"""Value of pixels without a class, in every class raster of the package."""

IGNORE = 255
"""Position of pixels without a class, in the labels that networks learn from; see `Legend.index_table`."""

_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class LandClass:
    """One class of a legend."""

    value: int
    """What a class raster stores: 1 to 254, unique in its level."""
    code: str
    """Official code, as text: "311"."""
    name: str
    """Name for people: "Broad-leaved forest"."""
    color: str = field(compare=False)
    """Colour as ``#rrggbb``; two classes that differ in colour alone are equal."""
    parent: str = ""
    """Code of the class one level up; empty at level 1."""
    origin: str = field(default="", compare=False)
    """Class that it is in another legend, as "tree-cover:tree"; empty for the classes of a legend of its own."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        return (int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16))


@dataclass(frozen=True)
class Legend:
    """
    The classes that a map may hold, at one level of a tree, with the coarser levels above it.

    Examples
    --------
    >>> water = LandClass(1, "w", "Water", "#0000ff")
    >>> land = LandClass(2, "l", "Land", "#00ff00")
    >>> legend = Legend("demo", (water, land))
    >>> legend["w"].value, legend.codes
    (1, ('w', 'l'))
    """

    name: str
    """Name of the whole tree: "corine"."""
    classes: tuple[LandClass, ...]
    """Classes of this level, in the order that networks and tables use."""
    upper: Legend | None = None
    """The next coarser level, or None at level 1."""
    levels: int = 1
    """How many levels the whole tree has."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise LegendError(f"Legend '{self.name}': {'; '.join(problems)}.")

    def __repr__(self) -> str:
        return f"<Legend {self.address}: {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        """Classes as a table for notebooks."""
        cells = "".join(
            f'<tr><td style="background:{item.color};width:1.5em"></td>'
            + "".join(
                f"<td>{escape(str(text))}</td>" for text in (item.value, item.code, item.name, item.parent)
            )
            + "</tr>"
            for item in self.classes
        )
        head = "".join(f"<th>{text}</th>" for text in ("", "value", "code", "name", "parent"))
        return f"<p><b>{escape(repr(self))}</b></p><table><tr>{head}</tr>{cells}</table>"

    def __len__(self) -> int:
        return len(self.classes)

    def __contains__(self, code: object) -> bool:
        return code in self._by_code

    def __getitem__(self, code: str) -> LandClass:
        """Class by its code."""
        try:
            return self._by_code[str(code)]
        except KeyError:
            raise LegendError(
                f"In legend '{self.address}': {unknown_name('code', str(code), self.codes)}"
            ) from None

    @cached_property
    def _by_code(self) -> dict[str, LandClass]:
        return {item.code: item for item in self.classes}

    @property
    def depth(self) -> int:
        """Level number: 1 is the coarsest."""
        return 1 if self.upper is None else self.upper.depth + 1

    @property
    def address(self) -> str:
        """Name that finds this level again, such as "corine-2"; just the name where there is one level."""
        return self.name if self.levels == 1 else f"{self.name}-{self.depth}"

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes in order."""
        return tuple(item.code for item in self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Raster values in order."""
        return tuple(item.value for item in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(item.name for item in self.classes)

    @cached_property
    def index_table(self) -> NDArray[np.uint8]:
        """Table of 256: from raster value to position in `classes`; 255 for nodata and unknown values."""
        table = np.full(256, IGNORE, np.uint8)
        table[list(self.values)] = np.arange(len(self.classes), dtype=np.uint8)
        table.setflags(write=False)
        return table

    @cached_property
    def value_table(self) -> NDArray[np.uint8]:
        """Table of 256: from position in `classes` to raster value; 0 (nodata) for all other positions."""
        table = np.zeros(256, np.uint8)
        table[: len(self.classes)] = self.values
        table.setflags(write=False)
        return table

    @property
    def composed(self) -> bool:
        """Whether its classes come from other legends, as those of a cascade do; see `LandClass.origin`."""
        return any(item.origin for item in self.classes)

    def class_above(self, item: LandClass) -> LandClass | None:
        """
        The class that the experts of a cascade divided to get a class of this level; None for one of the first.

        At the finer levels of a cascade's legend, a class that is not divided stands under itself.
        """
        level, above = self.upper, item
        while level is not None:
            above = level[above.parent]
            if (above.value, above.code) != (item.value, item.code):
                known = above.code in self and self[above.code].value == above.value
                return self[above.code] if known else None
            level = level.upper
        return None

    def same_classes(self, other: Legend) -> bool:
        """Whether another legend has the same values, codes and names in the same order, whatever it is called."""
        return [(item.value, item.code, item.name) for item in self.classes] == [
            (item.value, item.code, item.name) for item in other.classes
        ]

    def level(self, depth: int) -> Legend:
        """
        The same tree at a coarser level.

        Raises
        ------
        LegendError
            If the tree has no such level at or above this one.
        """
        legend: Legend | None = self
        while legend is not None and legend.depth != depth:
            legend = legend.upper
        if legend is None:
            raise LegendError(
                f"Legend '{self.address}' has levels 1 to {self.depth}; there is no level {depth}."
            )
        return legend

    def ancestor(self, code: str, depth: int) -> LandClass:
        """Class of level `depth` that holds the class `code` of this level."""
        if depth == self.depth:
            return self[code]
        if self.upper is None or depth > self.depth:
            raise LegendError(
                f"Legend '{self.address}' has levels 1 to {self.depth}; there is no level {depth}."
            )
        return self.upper.ancestor(self[code].parent, depth)

    def level_table(self, depth: int) -> NDArray[np.uint8]:
        """Table of 256: from a raster value of this level to the value at level `depth`; others to nodata."""
        table = np.zeros(256, np.uint8)
        for item in self.classes:
            table[item.value] = self.ancestor(item.code, depth).value
        return table

    def check_values(self, values: Iterable[int], *, where: str) -> None:
        """
        Check that raster values belong to the legend; nodata always does.

        Raises
        ------
        LegendError
            Names the unknown values and what to do.
        """
        strange = sorted({int(value) for value in values} - set(self.values) - {NODATA})
        if strange and all(str(value) in self.codes for value in strange):
            raise LegendError(
                f"{where} holds codes of legend '{self.address}' ({join_words(strange)}); a map holds its values, "
                f"{_ranges(self.values)}. Make a map of them (tesela label FILE --like FILE --legend {self.address} "
                f"-o MAP.tif), then try again."
            )
        if strange:
            raise LegendError(
                f"{where} holds the values {join_words(strange)}, but legend '{self.address}' has "
                f"{_ranges(self.values)}. Translate them with a crosswalk (tesela legend convert), or name the "
                f"legend they were drawn with."
            )

    def to_dict(self) -> dict[str, object]:
        """Document of this level, as `tesela legend show --json` prints it."""
        return {
            "name": self.name,
            "level": self.depth,
            "nodata": NODATA,
            "classes": [
                {
                    "value": item.value,
                    "code": item.code,
                    "name": item.name,
                    "color": item.color,
                    "parent": item.parent or None,
                }
                for item in self.classes
            ],
        }

    def to_rows(self) -> list[dict[str, str]]:
        """Rows of the legend's CSV (level, value, code, name, color, parent), coarsest level first."""
        above = [] if self.upper is None else self.upper.to_rows()
        return above + [
            {
                "level": str(self.depth),
                "value": str(item.value),
                "code": item.code,
                "name": item.name,
                "color": item.color,
                "parent": item.parent,
            }
            | ({"origin": item.origin} if item.origin else {})
            for item in self.classes
        ]

    @classmethod
    def from_rows(cls, name: str, rows: Sequence[Mapping[str, str]], *, levels: int | None = None) -> Legend:
        """
        Build a legend from rows with value, code, name, color and, for trees, level and parent.

        Parameters
        ----------
        name : str
            Name of the tree.
        rows : sequence of mappings of str
            One per class; ``level`` defaults to 1, ``parent`` to none and ``color`` to one of `spare_color`.
        levels : int, optional
            Levels of the whole tree, if the rows are those of a legend cut at a coarser level.

        Raises
        ------
        LegendError
            Names the row that is wrong.
        """
        by_level: dict[int, list[LandClass]] = {}
        for number, row in enumerate(rows):
            depth, item = _read_row(name, row, number=number)
            by_level.setdefault(depth, []).append(item)
        if not by_level or sorted(by_level) != list(range(1, len(by_level) + 1)):
            raise LegendError(
                f"Legend '{name}' has classes of level {join_words(sorted(by_level)) or 'none'}: "
                f"levels must run from 1 without a gap."
            )
        legend: Legend | None = None
        for depth in sorted(by_level):
            legend = cls(name, tuple(by_level[depth]), upper=legend, levels=levels or len(by_level))
        assert legend is not None
        return legend


def sum_to_level(shares: NDArray[np.floating], legend: Legend, depth: int) -> NDArray[np.float32]:
    """
    Shares of the classes of a coarser level: each is the sum of its children's.

    Parameters
    ----------
    shares : (classes, ...) array of float
        In the order of `legend`; NaN stays NaN.

    Returns
    -------
    (classes of the level, ...) array of float32
    """
    coarse = legend.level(depth)
    parents = coarse.index_table[legend.level_table(depth)[list(legend.values)]]
    out = np.zeros((len(coarse), *shares.shape[1:]), np.float64)
    np.add.at(out, parents, shares)
    return out.astype(np.float32)


def spare_color(number: int) -> str:
    """
    Colour of the class of a row without one: neighbours in the table differ in hue and in lightness.

    Examples
    --------
    >>> [spare_color(number) for number in range(3)]
    ['#b13333', '#7491d6', '#537622']
    """
    hue, light = number * _GOLDEN % 1, (0.45, 0.65, 0.3)[number % 3]
    return "#" + "".join(f"{int(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, 0.55))


_GOLDEN = 0.618034
"""Steps of this part of the circle never meet an earlier hue."""


def _read_row(name: str, row: Mapping[str, str], *, number: int) -> tuple[int, LandClass]:
    """Level and class of a row; the first row, number 0, is line 2 of the file."""
    line = number + 2
    missing = [key for key in ("value", "code", "name") if not (row.get(key) or "").strip()]
    if missing:
        raise LegendError(
            f"Legend '{name}', line {line}: no {join_words(missing)}; each row needs value, code and name."
        )
    try:
        depth, value = int(row.get("level") or 1), int(row["value"])
    except ValueError:
        raise LegendError(f"Legend '{name}', line {line}: level and value must be whole numbers.") from None
    item = LandClass(
        value,
        row["code"].strip(),
        row["name"].strip(),
        (row.get("color") or "").strip().lower() or spare_color(number),
        (row.get("parent") or "").strip(),
        (row.get("origin") or "").strip(),
    )
    return depth, item


def _problems(legend: Legend) -> Iterable[str]:
    if not legend.classes:
        yield "it has no classes; it needs at least one"
    for what, items in (("value", legend.values), ("code", legend.codes)):
        twice = sorted({str(item) for item in items if items.count(item) > 1})
        if twice:
            yield f"{what} {join_words(twice)} occurs twice; each must be unique in its level"
    outside = [item.value for item in legend.classes if not 1 <= item.value <= 254]
    if outside:
        yield f"value {join_words(outside)} is outside 1 to 254 (0 is nodata)"
    odd = [
        repr(text)
        for item in legend.classes
        for text in (item.code, item.name, item.origin)
        if has_control_characters(text)
    ]
    if odd:
        yield f"{join_words(odd)} holds control characters; write it anew without them"
    wrong = [item.color for item in legend.classes if not _COLOR.fullmatch(item.color)]
    if wrong:
        yield f"colour {join_words(wrong)} is not of the form #rrggbb"
    parents = set() if legend.upper is None else set(legend.upper.codes)
    if legend.upper is None:
        orphans = [item.parent for item in legend.classes if item.parent]
    else:
        orphans = [
            item.parent or f"(none, of {item.code})" for item in legend.classes if item.parent not in parents
        ]
    if orphans:
        yield f"parent {join_words(orphans)} is not a class of level {legend.depth - 1}"


def _ranges(values: Sequence[int]) -> str:
    if len(values) > 1 and sorted(values) == list(range(min(values), max(values) + 1)):
        return f"values {min(values)} to {max(values)}"
    return f"values {join_words(sorted(values), most=30)}"
