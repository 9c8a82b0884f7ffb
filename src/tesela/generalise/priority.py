"""The priority table: which neighbour gets an area that is too small or too narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import LegendError, join_words
from tesela.core.legend import Legend
from tesela.io.legends import list_priorities, read_priority


@dataclass(frozen=True)
class PriorityTable:
    """
    A score for each pair of classes of a legend; the neighbour of lowest score gets the area.

    Examples
    --------
    >>> from tesela.io.legends import open_legend
    >>> table = load_priority("tesela-corine-2", open_legend("corine-2"))
    >>> table.score("31", "32"), table.score("31", "51")
    (1.0, 5.0)
    """

    name: str
    legend: Legend
    scores: tuple[tuple[float, ...], ...]
    """scores[i][j]: score of neighbours of class j for an area of class i, both in the legend's order."""

    def score(self, area: str, neighbour: str) -> float:
        """Score of a neighbour's class for an area's class, by code."""
        codes = self.legend.codes
        return self.scores[codes.index(self.legend[area].code)][codes.index(self.legend[neighbour].code)]

    @property
    def ranks(self) -> NDArray[np.int32]:
        """Ranks by class value, (256, 256) int32: equal scores have equal ranks, the lowest is 0."""
        _, rank = np.unique(np.array(self.scores, np.float64), return_inverse=True)
        ranks = np.zeros((256, 256), np.int32)
        values = np.array(self.legend.values)
        ranks[np.ix_(values, values)] = rank.reshape(len(values), len(values))
        return ranks

    @classmethod
    def from_rows(cls, name: str, legend: Legend, rows: Sequence[Mapping[str, str]]) -> PriorityTable:
        """
        Build from the rows of a CSV: a matrix, or pairs with the columns CODE and PRI.

        A matrix has the area's class in its first column and one column for each neighbour's class. In pairs,
        CODE is the neighbour's code ("211"), or the area's and the neighbour's code together ("121211"), which
        overrides the former.

        Raises
        ------
        LegendError
            If a score is missing or is not a number, or a code has two meanings.
        """
        columns = [column.strip() for column in (rows[0] if rows else {})]
        if {column.upper() for column in columns} >= {"CODE", "PRI"}:
            scores = _read_pairs(name, legend, rows)
        else:
            scores = _read_matrix(name, rows)
        missing = [
            f"{area}->{neighbour}"
            for area in legend.codes
            for neighbour in legend.codes
            if area != neighbour and (area, neighbour) not in scores
        ]
        if missing:
            raise LegendError(
                f"Priority table '{name}' lacks {len(missing)} of the pairs of legend '{legend.address}': "
                f"{join_words(missing, most=6)}. Give every class a score for every other."
            )
        return cls(
            name,
            legend,
            tuple(
                tuple(
                    scores.get((area, neighbour), 0.0) if area != neighbour else 0.0
                    for neighbour in legend.codes
                )
                for area in legend.codes
            ),
        )


def load_priority(source: str | Path, legend: Legend) -> PriorityTable:
    """
    Find a shipped priority table by name, or read one from a CSV.

    Parameters
    ----------
    source : str or Path
        "tesela-corine-2", "tesela-corine-3" (our proposals, not the official table), or the path of a
        CSV, see `PriorityTable.from_rows`.

    Raises
    ------
    LegendError
        If there is no such table, or it is not complete over the legend.
    """
    return PriorityTable.from_rows(Path(source).stem, legend, read_priority(source))


def find_priority(legend: Legend) -> PriorityTable | None:
    """Shipped table of a legend, or None."""
    name = f"tesela-{legend.address}"
    return load_priority(name, legend) if name in list_priorities() else None


def _read_matrix(name: str, rows: Sequence[Mapping[str, object]]) -> dict[tuple[str, str], float]:
    scores = {}
    for number, row in enumerate(rows, start=2):
        (_, area), *cells = row.items()
        for neighbour, text in cells:
            if not isinstance(area, str) or not isinstance(
                text, str
            ):  # short and long rows give None and lists
                raise LegendError(
                    f"Priority table '{name}', line {number}: has more or fewer cells than the header; give a score, "
                    f"or an empty cell, for each neighbour."
                )
            if text.strip():
                scores[area.strip(), neighbour.strip()] = _number(name, number, text)
    return scores


def _read_pairs(name: str, legend: Legend, rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], float]:
    single: dict[str, float] = {}
    pairs: dict[tuple[str, str], float] = {}
    for number, raw in enumerate(rows, start=2):
        row = {(key or "").strip().upper(): (text or "").strip() for key, text in raw.items()}
        code, score = row["CODE"], _number(name, number, row["PRI"])
        cuts = [
            (code[:k], code[k:]) for k in range(1, len(code)) if code[:k] in legend and code[k:] in legend
        ]
        readings = len(cuts) + (code in legend)
        if readings > 1:
            raise LegendError(
                f"Priority table '{name}', line {number}: CODE '{code}' can be read in {readings} ways under "
                f"legend '{legend.address}'. Give the table as a matrix."
            )
        if code in legend:
            single[code] = score
        elif cuts:
            pairs[cuts[0]] = score
        else:
            raise LegendError(
                f"Priority table '{name}', line {number}: CODE '{code}' is neither a class of "
                f"legend '{legend.address}' nor two of them written together (it has "
                f"{join_words(legend.codes, most=8)})."
            )
    return {
        (area, neighbour): pairs.get((area, neighbour), single.get(neighbour, 0.0))
        for area in legend.codes
        for neighbour in legend.codes
        if (area, neighbour) in pairs or neighbour in single
    }


def _number(name: str, line: int, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise LegendError(f"Priority table '{name}', line {line}: '{text}' is not a number; lower is better.")
    return number
