"""The crosswalk: a table from one legend's codes to another legend's classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import LegendError, join_words, unknown_name
from tesela.core.legend import NODATA, Legend

TO_NODATA = "nodata"
"""Written in the `to` column for codes that are left out on purpose."""


@dataclass(frozen=True)
class CrosswalkRow:
    """One line of a crosswalk."""

    code: str
    """Code of the source legend."""
    to: str
    """Code of the target legend, or "nodata"."""
    share: float = 1.0
    """Part of the source class that goes there; the rows of one code sum to 1."""
    note: str = ""


@dataclass(frozen=True)
class Crosswalk:
    """
    Translation of class codes, which covers the source legend or names the codes that it leaves out.

    Examples
    --------
    >>> from tesela.core.legend import LandClass
    >>> legend = Legend("t", (LandClass(1, "green", "Green", "#00ff00"),))
    >>> crosswalk = Crosswalk("mine", legend, (CrosswalkRow("a", "green"), CrosswalkRow("b", "green")))
    >>> crosswalk.merges
    {'green': ('a', 'b')}
    """

    source: str
    """Name of the source legend, or of the attribute whose codes are translated."""
    target: Legend
    rows: tuple[CrosswalkRow, ...]
    way: tuple[str, ...] = field(default=(), compare=False)
    """Crosswalks that it is composed of, as "lulucf-context -> lulucf"; none for a table of its own."""

    def __post_init__(self) -> None:
        unknown = [row.to for row in self.rows if row.to != TO_NODATA and row.to not in self.target]
        if unknown:
            raise LegendError(
                f"Crosswalk {self.source} -> {self.target.address}: "
                f"{unknown_name('target code', unknown[0], (*self.target.codes, TO_NODATA))}"
            )
        outside = [f"{row.code} -> {row.to} ({row.share:g})" for row in self.rows if not 0 <= row.share <= 1]
        if outside:
            raise LegendError(
                f"Crosswalk {self.source} -> {self.target.address}: the shares of {join_words(outside)} are not parts "
                f"of 1. Write shares from 0 to 1 that sum to 1 for each code."
            )
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[row.code] = sums.get(row.code, 0.0) + row.share
        wrong = [f"{code} ({total:g})" for code, total in sums.items() if abs(total - 1) > 1e-6]
        if wrong:
            raise LegendError(
                f"Crosswalk {self.source} -> {self.target.address}: the shares of {join_words(wrong)} do not sum to 1. "
                f"Correct the column 'share', or leave it out where a code has one target."
            )

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Source codes, in order, each once."""
        return tuple(dict.fromkeys(row.code for row in self.rows))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Source codes whose pixels become nodata."""
        return tuple(row.code for row in self.rows if row.to == TO_NODATA)

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Source codes that go to more than one class, with those classes, the largest share first."""
        groups: dict[str, list[str]] = {}
        for row in sorted(self.rows, key=lambda row: -row.share):
            groups.setdefault(row.code, []).append(row.to)
        return {code: tuple(members) for code, members in groups.items() if len(members) > 1}

    @property
    def merges(self) -> dict[str, tuple[str, ...]]:
        """Target classes that receive more than one code, with those codes."""
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if row.to != TO_NODATA:
                groups.setdefault(row.to, []).append(row.code)
        return {code: tuple(members) for code, members in groups.items() if len(members) > 1}

    @cached_property
    def main_target(self) -> dict[str, int]:
        """Raster value of the target with the largest share, by source code; the first row wins a tie."""
        best: dict[str, CrosswalkRow] = {}
        for row in self.rows:
            if row.code not in best or row.share > best[row.code].share:
                best[row.code] = row
        return {
            code: NODATA if row.to == TO_NODATA else self.target[row.to].value for code, row in best.items()
        }

    def missing(self, codes: Iterable[str]) -> tuple[str, ...]:
        """Those of `codes` that the crosswalk lacks."""
        return tuple(sorted({str(code) for code in codes} - set(self.codes)))

    def values_of(self, codes: Sequence[str], *, where: str) -> NDArray[np.uint8]:
        """
        Translate a column of codes to raster values of the target legend.

        Raises
        ------
        LegendError
            If a code is not in the crosswalk: no code becomes nodata silently.
        """
        strange = self.missing(codes)
        if strange:
            raise LegendError(
                f"{where} holds the codes {join_words(strange)}, which crosswalk {self.source} -> "
                f"{self.target.address} lacks (it has {join_words(self.codes, most=8)}). Add them to the "
                f"crosswalk, with '{TO_NODATA}' where they are to be left out."
            )
        return np.array([self.main_target[str(code)] for code in codes], np.uint8)

    def table(self, source: Legend) -> NDArray[np.uint8]:
        """
        Table of 256: from a raster value of the source legend to a raster value of the target.

        Raises
        ------
        LegendError
            If the crosswalk lacks a code of the source legend.
        """
        table = np.zeros(256, np.uint8)
        table[list(source.values)] = self.values_of(source.codes, where=f"Legend '{source.address}'")
        return table

    def to_level(self, depth: int) -> Crosswalk:
        """The same crosswalk with its targets cut at a coarser level."""
        shares: dict[tuple[str, str], float] = {}
        for row in self.rows:
            to = row.to if row.to == TO_NODATA else self.target.ancestor(row.to, depth).code
            shares[row.code, to] = shares.get((row.code, to), 0.0) + row.share
        rows = _rows(shares)
        return Crosswalk(self.source, self.target.level(depth), rows, self.way)

    def then(self, further: Crosswalk) -> Crosswalk:
        """
        Go on from the targets by another crosswalk; shares are multiplied.

        Raises
        ------
        LegendError
            If the other lacks a code that this one leads to.
        """
        strange = further.missing(row.to for row in self.rows if row.to != TO_NODATA)
        if strange:
            raise LegendError(
                f"Crosswalk {further.source} -> {further.target.address} lacks the codes {join_words(strange)}, to "
                f"which {self.source} -> {self.target.address} leads. Add them."
            )
        shares: dict[tuple[str, str], float] = {}
        for row in self.rows:
            onward = [(item.to, item.share) for item in further.rows if item.code == row.to]
            for to, share in onward if row.to != TO_NODATA else [(TO_NODATA, 1.0)]:
                shares[row.code, to] = shares.get((row.code, to), 0.0) + row.share * share
        rows = _rows(shares)
        return Crosswalk(self.source, further.target, rows, (*self.steps, *further.steps))

    @property
    def steps(self) -> tuple[str, ...]:
        """The tables that it stands for: `way`, or itself."""
        if self.way or self.source == self.target.address:
            return self.way
        return (f"{self.source} -> {self.target.address}",)

    def to_rows(self) -> list[dict[str, str]]:
        """Rows of the crosswalk's CSV: from, to, share, note."""
        return [
            {"from": row.code, "to": row.to, "share": f"{row.share:.6g}", "note": row.note}
            for row in self.rows
        ]

    def summary(self) -> str:
        """One line for a person: what is merged, split and left out."""
        return ". ".join(self.to_lines())

    def to_lines(self) -> list[str]:
        """What is merged, split and left out, a line each."""
        parts = [f"{len(self.codes)} codes -> {len({row.to for row in self.rows} - {TO_NODATA})} classes"]
        if self.merges:
            parts.append(
                "merged: " + "; ".join(f"{join_words(v, most=6)} -> {k}" for k, v in self.merges.items())
            )
        if self.splits:
            parts.append(
                "split, the largest share first: "
                + "; ".join(f"{k} -> {join_words(v)}" for k, v in self.splits.items())
            )
        parts.append(f"left to nodata: {join_words(self.left_out) or 'none'}")
        return parts

    @classmethod
    def identity(cls, legend: Legend, depth: int | None = None) -> Crosswalk:
        """From the codes of a legend, at any level down to its own, to its classes at level `depth`."""
        target = legend if depth is None else legend.level(depth)
        rows = tuple(CrosswalkRow(code, legend.ancestor(code, target.depth).code) for code in legend.codes)
        return cls(legend.address, target, rows)

    @classmethod
    def from_rows(cls, source: str, target: Legend, rows: Sequence[Mapping[str, str]]) -> Crosswalk:
        """Build from rows with `from`, `to` and, optionally, `share` and `note`."""
        items = []
        for number, row in enumerate(rows, start=2):
            code, to = (row.get("from") or "").strip(), (row.get("to") or "").strip()
            if not code or not to:
                raise LegendError(
                    f"Crosswalk {source} -> {target.address}, line {number}: needs columns 'from' and 'to', "
                    f"but holds '{code}' and '{to}'. Write '{TO_NODATA}' where a code is to be left out."
                )
            try:
                share = float((row.get("share") or "1").strip().replace(",", "."))
            except ValueError:
                raise LegendError(
                    f"Crosswalk {source} -> {target.address}, line {number}: share '{row['share']}' is not a number; "
                    f"write a part of 1, such as 0.5, or nothing for 1."
                ) from None
            items.append(CrosswalkRow(code, to, share, (row.get("note") or "").strip()))
        return cls(source, target, tuple(items))


def _rows(shares: Mapping[tuple[str, str], float]) -> tuple[CrosswalkRow, ...]:
    """Rows of summed shares: eleven times 1/11 is more than 1 by a rounding."""
    return tuple(CrosswalkRow(code, to, min(share, 1.0)) for (code, to), share in shares.items())
