"""The transition matrix of an inventory year, as in Table 4.1 of the common reporting tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.trajectories import Trajectories
from tesela.core.errors import InputError, LegendError, join_words, unknown_name
from tesela.core.legend import Legend

CATEGORIES: Mapping[str, str] = {
    "forest_land": "Forest land (managed)",
    "forest_land_unmanaged": "Forest land (unmanaged)",
    "cropland": "Cropland",
    "grassland": "Grassland (managed)",
    "grassland_unmanaged": "Grassland (unmanaged)",
    "wetlands": "Wetlands (managed)",
    "wetlands_unmanaged": "Wetlands (unmanaged)",
    "settlements": "Settlements",
    "other_land": "Other land",
}
"""Rows and columns in the order of the table, by the code of the category."""

NOTATION_KEYS = {
    "NO": "not occurring",
    "NE": "not estimated",
    "NA": "not applicable",
    "IE": "included elsewhere",
    "C": "confidential",
}

_SIZE = len(CATEGORIES)
_HA_PER_KHA = 1000.0


@dataclass(frozen=True, eq=False)
class TransitionTable:
    """The transition matrix of one inventory year, with its reported sums."""

    year: int
    matrix_kha: NDArray[np.float64]
    """(9, 9): from the row's category to the column's, in the order of `CATEGORIES`; 0 in cells with a notation key."""
    initial_kha: NDArray[np.float64]
    """(9,): area at the end of the year before, the last column."""
    final_kha: NDArray[np.float64]
    """(9,): area at the end of this year, the row below the matrix."""
    keys: Mapping[tuple[int, int], str]
    """Notation keys of cells without a number."""

    @property
    def absent(self) -> tuple[int, ...]:
        """Positions of the categories that the account does not have: a key on the diagonal and no area."""
        areas = self.initial_kha + self.final_kha
        return tuple(i for i in range(_SIZE) if (i, i) in self.keys and areas[i] == 0)

    @property
    def net_kha(self) -> NDArray[np.float64]:
        """Net change of each category, (9,)."""
        return self.final_kha - self.initial_kha


def transition_table(
    trajectories: Trajectories, year: int, *, absent: Mapping[str, str] | str = "NO"
) -> TransitionTable:
    """
    Table 4.1 of an inventory year: the annual change matrix in kilohectares.

    Cells without area, of categories that the account has, are "NO".

    Parameters
    ----------
    absent : str or mapping
        Notation key of categories that the account does not have (unmanaged land), for all or by code: "NO" where
        all land is managed, "IE" where it is included in managed land.

    Raises
    ------
    LegendError
        If the categories are not those of the table.
    """
    legend = trajectories.legend
    positions = _positions(legend)
    matrix = np.zeros((_SIZE, _SIZE))
    matrix[np.ix_(positions, positions)] = trajectories.annual_changes_ha(year) / _HA_PER_KHA
    keys: dict[tuple[int, int], str] = {}
    codes = list(CATEGORIES)
    for i in range(_SIZE):
        for j in range(_SIZE):
            lacking = [codes[k] for k in (i, j) if k not in positions]
            if lacking:
                chosen = {absent if isinstance(absent, str) else absent.get(code, "NO") for code in lacking}
                keys[i, j] = "IE" if "IE" in chosen and "NO" not in chosen else sorted(chosen)[-1]
            elif matrix[i, j] == 0:
                keys[i, j] = "NO"
    unknown = sorted(set(keys.values()) - set(NOTATION_KEYS))
    if unknown:
        raise InputError(f"{unknown_name('notation key', unknown[0], NOTATION_KEYS)}")
    initial, final = np.zeros(_SIZE), np.zeros(_SIZE)
    initial[positions] = trajectories.areas_ha(year - 1) / _HA_PER_KHA
    final[positions] = trajectories.areas_ha(year) / _HA_PER_KHA
    return TransitionTable(year, matrix, initial, final, keys)


def _positions(legend: Legend) -> list[int]:
    codes = list(CATEGORIES)
    unknown = [code for code in legend.codes if code not in CATEGORIES]
    if unknown:
        raise LegendError(
            f"Table 4.1 has no row for {join_words(unknown)} of legend '{legend.address}'; its categories "
            f"are {join_words(codes)}. Give a crosswalk to them."
        )
    return [codes.index(code) for code in legend.codes]
