"""
Crosswalks from and to the legend of a cascade, composed of those of its experts' legends, level by level.

*From a cascade*: each class goes where the crosswalk of its own expert's legend leads; where that has no way, or leaves
the class out ("no tree" says nothing about land use), the class above decides.

*To a cascade*: a code goes to a class of the first expert, then to one of the expert behind that gate, as far as the
crosswalks lead. A code that does not tell between classes of the last expert it reaches goes to all of them, the class
above first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tesela.core.crosswalk import TO_NODATA, Crosswalk, CrosswalkRow
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import open_legend

Find = Callable[["str | Legend", Legend], "Crosswalk | None"]
"""Finds the way between two legends; see `tesela.io.crosswalks.find_crosswalk`."""


def from_cascade(source: Legend, target: Legend, *, find: Find) -> Crosswalk | None:
    """Crosswalk from the classes of a cascade; None where no expert's legend leads to the target."""
    tables: dict[str, Crosswalk | None] = {}
    rows: list[CrosswalkRow] = []
    used: dict[str, None] = {}
    for item in source.classes:
        decided = _decide(source, item, target, tables, find)
        if decided is None:
            rows.append(CrosswalkRow(item.code, TO_NODATA, note="no expert's legend leads there"))
            continue
        by, table, found = decided
        used |= dict.fromkeys(table.steps)
        above = "" if by is item else f"as {by.name}, the class above"
        rows += [
            CrosswalkRow(item.code, row.to, row.share, "; ".join(text for text in (above, row.note) if text))
            for row in found
        ]
    if all(row.to == TO_NODATA for row in rows):
        return None
    return Crosswalk(source.address, target, tuple(rows), tuple(used))


def _decide(
    source: Legend, item: LandClass, target: Legend, tables: dict[str, Crosswalk | None], find: Find
) -> tuple[LandClass, Crosswalk, list[CrosswalkRow]] | None:
    """The class of the chain up to the first expert that decides, with its crosswalk and the rows."""
    left_out = None
    current: LandClass | None = item
    while current is not None:
        address, _, code = current.origin.partition(":")
        if address:
            if address not in tables:
                tables[address] = find(address, target)
            table = tables[address]
            rows = [] if table is None else [row for row in table.rows if row.code == code]
            if table is not None and rows:
                if any(row.to != TO_NODATA for row in rows):
                    return current, table, rows
                left_out = (current, table, rows)
        current = source.class_above(current)
    return left_out


def into_cascade(source: str | Legend, target: Legend, *, find: Find) -> Crosswalk | None:
    """Crosswalk to the classes of a cascade; None where no way leads to the legend of its first expert."""
    tree = _Tree(source, target, find)
    codes = tree.first_codes()
    if not codes:
        return None
    rows: list[CrosswalkRow] = []
    for code in codes:
        shares: dict[str, float] = {}
        for to, share in tree.place(code, None):
            shares[to] = shares.get(to, 0.0) + share
        rows += [CrosswalkRow(code, to, share) for to, share in shares.items()]
    name = source if isinstance(source, str) else source.address
    return Crosswalk(name, target, tuple(rows), tuple(tree.used))


@dataclass
class _Tree:
    """The classes of a cascade below each other, and the ways to the legends of its experts."""

    source: str | Legend
    target: Legend
    find: Find
    used: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.below: dict[str | None, list[LandClass]] = {}
        for item in self.target.classes:
            above = self.target.class_above(item)
            self.below.setdefault(None if above is None else above.code, []).append(item)
        addresses = dict.fromkeys(item.origin.partition(":")[0] for item in self.target.classes)
        self.tables = {name: self.find(self.source, open_legend(name)) for name in addresses if name}

    def first_codes(self) -> tuple[str, ...]:
        """Codes of the source that lead to the first expert."""
        addresses = {item.origin.partition(":")[0] for item in self.below.get(None, [])}
        tables = [self.tables.get(name) for name in sorted(addresses)]
        return next((table.codes for table in tables if table is not None), ())

    def place(self, code: str, above: str | None) -> list[tuple[str, float]]:
        """Classes below one, with shares that sum to 1."""
        stay = TO_NODATA if above is None else above
        table, members, legend = self._expert(above)
        rows = (
            [] if table is None else [row for row in table.rows if row.code == code and row.to != TO_NODATA]
        )
        groups = [] if legend is None else [(row.share, _members(legend, row.to, members)) for row in rows]
        groups = [(share, items) for share, items in groups if items]
        if table is not None and groups:
            self.used |= dict.fromkeys(table.steps)
        rest = 1.0 - sum(share for share, _ in groups)
        placed = [
            (to, share * inner / len(items))
            for share, items in groups
            for item in items
            for to, inner in self.place(code, item.code)
        ]
        if above is None:
            return [*placed, *([(TO_NODATA, rest)] if rest > 1e-9 else [])]
        if not groups:
            return _equal([stay, *self._all_below(above)])
        if len(groups) > 1 or rest > 1e-9:  # it does not tell: the class above first
            return _equal([stay, *(to for to, _ in placed)])
        return placed

    def _expert(self, above: str | None) -> tuple[Crosswalk | None, dict[str, LandClass], Legend | None]:
        """Way to the legend of the expert behind a class, its classes by their code there, and that legend."""
        by_legend: dict[str, dict[str, LandClass]] = {}
        for item in self.below.get(above, []):
            address, _, code = item.origin.partition(":")
            if address:
                by_legend.setdefault(address, {})[code] = item
        for address, members in by_legend.items():
            if self.tables[address] is not None:
                return self.tables[address], members, open_legend(address)
        return None, {}, None

    def _all_below(self, above: str) -> list[str]:
        found = []
        for item in self.below.get(above, []):
            found += [item.code, *self._all_below(item.code)]
        return found


def _members(legend: Legend, code: str, members: dict[str, LandClass]) -> list[LandClass]:
    """
    Classes of an expert that a code of its whole legend means.

    A class with the code of its parent (conifers without species) means all of that parent; a species that the expert
    does not tell means the class of its parent.
    """
    parent = legend[code].parent
    if parent and parent == code:
        kin = [item for key, item in members.items() if legend[key].parent == code and key != code]
        return [*([members[code]] if code in members else []), *kin]
    if code in members:
        return [members[code]]
    return [members[parent]] if parent in members else []


def _equal(codes: Sequence[str]) -> list[tuple[str, float]]:
    once = list(dict.fromkeys(codes))
    return [(code, 1 / len(once)) for code in once]
