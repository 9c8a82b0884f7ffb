"""The land account: areas, changes, cohorts, transition tables and checks of a series of maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tesela.accounting.change_uncertainty import ChangeEstimates
from tesela.accounting.checks import Check
from tesela.accounting.cohorts import CohortTable
from tesela.accounting.forest_definition import ForestFinding
from tesela.accounting.table41 import TransitionTable
from tesela.accounting.trajectories import Trajectories
from tesela.core.errors import InputError, unknown_name
from tesela.core.legend import Legend

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = tuple[object, ...]

_VERDICTS: Mapping[bool | None, str] = {True: "pass", False: "FAIL", None: "skip"}


@dataclass(frozen=True, eq=False)
class Accounts:
    """Result of `tesela.accounting.accounting.account_maps`."""

    trajectories: Trajectories
    cohorts: CohortTable
    tables: tuple[TransitionTable, ...]
    """Table 4.1 of each inventory year, ascending."""
    checks: tuple[Check, ...]
    estimates: tuple[ChangeEstimates, ...]
    """Change areas with intervals, for pairs of dates with a sample or an error model."""
    forest: tuple[ForestFinding, ...]
    crosswalk: tuple[Row, ...]
    """Header and rows of every crosswalk used: legend, code, name, category, share, note."""
    maps: tuple[str, ...]
    notes: tuple[str, ...]
    """Limits of the figures, one sentence each."""
    files: Mapping[str, Path]
    """Files written, by name."""

    @property
    def legend(self) -> Legend:
        """The categories."""
        return self.trajectories.legend

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON."""
        trajectories, codes = self.trajectories, self.legend.codes
        return {
            "maps": [
                {"path": path, "year": year, "left_out_ha": missing * trajectories.pixel_area_ha}
                for path, year, missing in zip(
                    self.maps, trajectories.years, trajectories.missing_px, strict=True
                )
            ],
            "legend": self.legend.to_dict(),
            "area_ha": trajectories.total_ha,
            "pixel_area_ha": trajectories.pixel_area_ha,
            "areas": [
                dict(zip(header, row, strict=True))
                for header, *rows in [area_rows(trajectories)]
                for row in rows
            ],
            "changes": [
                {"years": [a, b], "codes": list(codes), "matrix_ha": trajectories.changes_ha(i).tolist()}
                for i, (a, b) in enumerate(pairwise(trajectories.years))
            ],
            "annual_tables": [
                {
                    "year": year,
                    "codes": list(codes),
                    "matrix_ha": trajectories.annual_changes_ha(year).tolist(),
                    "initial_ha": trajectories.areas_ha(year - 1).tolist(),
                    "final_ha": trajectories.areas_ha(year).tolist(),
                }
                for year in trajectories.inventory_years[1:]
            ],
            "transition_years": self.cohorts.transition_years,
            "estimates": [item.to_dict() for item in self.estimates],
            "flip_flops": [
                {
                    "years": list(item.years),
                    "category": item.category,
                    "between": item.between,
                    "area_ha": item.area_ha,
                }
                for item in trajectories.flip_flops()
            ],
            "forest": [vars(item) for item in self.forest],
            "checks": [vars(check) for check in self.checks],
            "crosswalk": [
                dict(zip(map(str, self.crosswalk[0]), row, strict=True)) for row in self.crosswalk[1:]
            ],
            "notes": list(self.notes),
            "files": {name: path.name for name, path in self.files.items()},
        }

    def to_frame(self, table: str = "areas") -> pd.DataFrame:
        """
        One of the tables of the account.

        Parameters
        ----------
        table : {"areas", "changes", "remaining", "cohorts", "checks", "crosswalk"}
            As in the CSV files of that name; "areas" has year, category, area_ha, share and basis.

        Raises
        ------
        InputError
            If there is no such table.
        """
        import pandas as pd

        makers: dict[str, Callable[[], Sequence[Row]]] = {
            "areas": lambda: area_rows(self.trajectories),
            "changes": lambda: change_rows(self.trajectories, {item.years: item for item in self.estimates}),
            "remaining": lambda: remaining_rows(self.cohorts),
            "cohorts": lambda: cohort_rows(self.cohorts),
            "checks": lambda: check_rows(self.checks),
            "crosswalk": lambda: self.crosswalk,
        }
        if table not in makers:
            raise InputError(unknown_name("table", table, tuple(makers)))
        header, *rows = makers[table]()
        return pd.DataFrame(rows, columns=[str(name) for name in header])

    def _repr_html_(self) -> str:
        from tesela.io.map_views import card

        areas = self.trajectories.mapped_areas_ha
        return card(
            f"Land account {self.trajectories.years[0]} to {self.trajectories.years[-1]}, "
            f"{len(self.failed)} checks failed",
            rows=[
                (item.color, item.name, *(f"{year[k]:,.1f}" for year in areas))
                for k, item in enumerate(self.legend.classes)
            ],
            header=("ha", *map(str, self.trajectories.years)),
        )

    def to_lines(self) -> Iterator[str]:
        """Areas, estimates and checks as text."""
        trajectories = self.trajectories
        width = max(len(name) for name in self.legend.names)
        yield " ".join([f"{'ha':{width}}", *(f"{year:>14}" for year in trajectories.years)])
        for k, name in enumerate(self.legend.names):
            yield " ".join(
                [f"{name:{width}}", *(f"{areas[k]:>14,.1f}" for areas in trajectories.mapped_areas_ha)]
            )
        for item in self.estimates:
            yield f"{item.years[0]} to {item.years[1]}, {item.basis}: {item.detail}"
            for before, after, mapped, estimate in item.rows():
                if before != after and mapped:
                    interval = f"{estimate.low:,.1f} to {estimate.high:,.1f}"
                    text = f"{estimate.value:,.1f} ha ({interval if estimate.has_interval else 'all points alike'})"
                    yield f"  {before} to {after}: mapped {mapped:,.1f} ha, {item.basis} {text}"
        for check in self.checks:
            yield f"{_VERDICTS[check.passed]}  {check.name}: {check.result}"


def area_rows(trajectories: Trajectories) -> list[Row]:
    """Header and rows of the areas by year: year, category, hectares, share, mapped or interpolated."""
    rows: list[Row] = [("year", "category", "area_ha", "share", "basis")]
    for year in trajectories.inventory_years:
        basis = "mapped" if year in trajectories.years else "interpolated"
        for code, area in zip(trajectories.legend.codes, trajectories.areas_ha(year).tolist(), strict=True):
            rows.append((year, code, area, area / trajectories.total_ha, basis))
    return rows


def change_rows(
    trajectories: Trajectories, estimates: Mapping[tuple[int, int], ChangeEstimates]
) -> list[Row]:
    """Header and rows of the changes between maps, with their intervals where there are estimates."""
    rows: list[Row] = [
        (
            "year_from",
            "year_to",
            "from",
            "to",
            "mapped_ha",
            "mapped_ha_per_year",
            "basis",
            "estimate_ha",
            "se_ha",
            "low_ha",
            "high_ha",
        )
    ]
    codes = trajectories.legend.codes
    for i, (first, last) in enumerate(pairwise(trajectories.years)):
        matrix, estimated = trajectories.changes_ha(i), estimates.get((first, last))
        for a, before in enumerate(codes):
            for b, after in enumerate(codes):
                mapped = float(matrix[a, b])
                yearly = mapped / (last - first) if a != b else ""
                tail: Row = ("pixel-counted", "", "", "", "")
                if estimated is not None:
                    area = estimated.changes[a][b]
                    tail = (estimated.basis, area.value, area.se, area.low, area.high)
                if mapped or (estimated is not None and estimated.changes[a][b].value):
                    rows.append((first, last, before, after, mapped, yearly, *tail))
    return rows


def remaining_rows(cohorts: CohortTable) -> list[Row]:
    """Header and rows of land remaining in a category and land converted to it, by origin and year."""
    rows: list[Row] = [("year", "category", "status", "from", "area_ha")]
    codes = cohorts.legend.codes
    for year in cohorts.years:
        remaining, converting = cohorts.remaining_ha(year), cohorts.converting_ha(year)
        for k, code in enumerate(codes):
            rows.append((year, code, "remaining", code, float(remaining[k])))
            rows += [
                (year, code, "converted", origin, float(converting[o, k]))
                for o, origin in enumerate(codes)
                if converting[o, k]
            ]
    return rows


def cohort_rows(cohorts: CohortTable) -> list[Row]:
    """Header and rows of the cohort table; year 0 of conversion is land never converted."""
    return [("year", "converted_in", "from", "to", "area_ha", "status"), *cohorts.rows()]


def check_rows(checks: tuple[Check, ...]) -> list[Row]:
    """Header and rows of the checks."""
    rows: list[Row] = [("check", "kind", "passed", "result", "area_ha")]
    rows += [(item.name, item.kind, _VERDICTS[item.passed], item.result, item.area_ha) for item in checks]
    return rows
