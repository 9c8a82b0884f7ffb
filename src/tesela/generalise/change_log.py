"""The change log: which pixels a generalisation moved and why, and which areas it had to keep."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import NODATA, Legend
from tesela.core.plain_text import cell_text
from tesela.generalise.unit import Tally
from tesela.io.manifest import write_whole


@dataclass(frozen=True)
class Move:
    """Pixels that changed from one class to another in one step."""

    reason: str
    """"mosaic", "width" or "unit"."""
    round: int
    """0 for steps before the rounds of width and unit, then 1, 2, ..."""
    source: str
    """Code of the class before the step."""
    target: str
    """Code of the class after it."""
    areas: int
    """Whole areas (mosaic, unit) or connected pieces of areas (width)."""
    pixels: int


@dataclass(frozen=True)
class Remainder:
    """Areas of one class that are still smaller than the mapping unit."""

    code: str
    reason: str
    """"edge" or "nodata": cut by the edge of the map or by nodata, and kept; "alone": without a neighbour."""
    areas: int
    pixels: int


@dataclass(frozen=True)
class ChangeLog:
    """
    The changes of one generalisation: for each class, pixels before plus moves equal pixels after.

    Areas are pixels times `pixel_m2`.
    """

    legend: str
    """Address of the legend."""
    pixel_m2: float
    mmu_m2: float
    min_width_m: float
    edges: str
    rounds: int
    """Rounds of width and unit that were run; fewer than the limit if the map stopped changing."""
    settled: bool
    """Whether the last round changed nothing; generalising the result again then changes nothing either."""
    before: Mapping[str, int]
    """Pixels by class code; classes of the legend that do not occur have 0."""
    after: Mapping[str, int]
    moves: tuple[Move, ...]
    below: tuple[Remainder, ...]
    """Areas still smaller than the unit, by reason."""
    narrow: Mapping[str, int]
    """Pixels of parts that are still narrower than the width, by class code."""

    @property
    def moved_px(self) -> int:
        """Pixels that changed class; a pixel that changed twice counts twice."""
        return sum(move.pixels for move in self.moves)

    def balance(self) -> dict[str, int]:
        """Pixels by class that the moves do not explain; always zero."""
        rest = {code: self.after[code] - self.before[code] for code in self.before}
        for move in self.moves:
            rest[move.source] += move.pixels
            rest[move.target] -= move.pixels
        return rest

    def to_rows(self) -> list[dict[str, str | int | float]]:
        """The log as one table; kind is "before", "after", "move", "below unit" or "narrow"."""
        rows: list[dict[str, str | int | float]] = []

        def add(kind: str, pixels: int, **cells: str | int) -> None:
            row: dict[str, str | int | float] = dict.fromkeys(_COLUMNS, "")
            row.update(cells)
            row.update(kind=kind, pixels=pixels, area_m2=pixels * self.pixel_m2)
            rows.append(row)

        for code in self.before:
            add("before", self.before[code], source=code)
        for move in self.moves:
            add(
                "move",
                move.pixels,
                reason=move.reason,
                round=move.round,
                source=move.source,
                target=move.target,
                areas=move.areas,
            )
        for code in self.after:
            add("after", self.after[code], source=code)
        for item in self.below:
            add("below unit", item.pixels, reason=item.reason, source=item.code, areas=item.areas)
        for code, pixels in self.narrow.items():
            if pixels:
                add("narrow", pixels, source=code)
        return rows

    def to_dict(self) -> dict[str, object]:
        """Document for JSON."""
        return {
            "legend": self.legend,
            "pixel_m2": self.pixel_m2,
            "mmu_m2": self.mmu_m2,
            "min_width_m": self.min_width_m,
            "edges": self.edges,
            "rounds": self.rounds,
            "settled": self.settled,
            "before": dict(self.before),
            "after": dict(self.after),
            "moves": [vars(move) for move in self.moves],
            "below_unit": [vars(item) for item in self.below],
            "narrow": dict(self.narrow),
        }

    def write(self, path: str | Path) -> Path:
        """
        Write the log as JSON if the path ends in .json, else as one CSV table.

        Returns
        -------
        Path
        """
        target = Path(path)
        with write_whole(target) as part:
            if target.suffix.lower() == ".json":
                part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
            else:
                with part.open("w", encoding="utf-8", newline="") as file:
                    table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
                    table.writeheader()
                    table.writerows(
                        {key: cell_text(cell) for key, cell in row.items()} for row in self.to_rows()
                    )
        return target


_COLUMNS = ("kind", "reason", "round", "source", "target", "areas", "pixels", "area_m2")


def moves_of(tally: Tally, legend: Legend, *, reason: str, round_number: int) -> list[Move]:
    """Moves of one step, the largest first."""
    codes = {item.value: item.code for item in legend.classes}
    moves = [
        Move(
            reason,
            round_number,
            codes[int(a)],
            codes[int(b)],
            int(tally.areas[a, b]),
            int(tally.pixels[a, b]),
        )
        for a, b in np.argwhere(tally.pixels)
        if a != b
    ]
    return sorted(moves, key=lambda move: (-move.pixels, move.source, move.target))


def by_code(counts: NDArray[np.int64], legend: Legend) -> dict[str, int]:
    """Counts of a (256,) array by class code, in the legend's order, without nodata."""
    return {item.code: int(counts[item.value]) for item in legend.classes if item.value != NODATA}
