"""From a series of class maps to the land account of an inventory, written as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from tesela.accounting.accounts import (
    Accounts,
    Row,
    area_rows,
    change_rows,
    check_rows,
    cohort_rows,
    remaining_rows,
)
from tesela.accounting.change_uncertainty import (
    ChangeEstimates,
    ErrorModel,
    estimate_changes,
    simulate_changes,
)
from tesela.accounting.checks import (
    IMPLAUSIBLE,
    Check,
    check_changes,
    check_cohorts,
    check_forest,
    check_land_area,
    check_tables,
)
from tesela.accounting.cohorts import follow_cohorts
from tesela.accounting.forest_definition import ForestFinding, ForestRule, apply_forest_definition
from tesela.accounting.page import write_account_page
from tesela.accounting.table41 import transition_table, write_table41
from tesela.accounting.trajectories import Trajectories, count_trajectories
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, join_words
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.crosswalks import open_crosswalk
from tesela.io.fingerprints import fingerprint
from tesela.io.legends import open_legend
from tesela.io.manifest import Manifest, write_text
from tesela.io.maps import ClassMap
from tesela.io.tables import write_csv
from tesela.sampling.error_matrix import Sample
from tesela.sampling.responses import read_sample

Samples: TypeAlias = Mapping[tuple[int, int], Sample | str | Path]
"""Interpreted samples of change, or paths of their GeoPackages, by the years of two consecutive maps."""


def account_maps(
    maps: Sequence[ClassMap],
    years: Sequence[int],
    out_dir: str | Path | None = None,
    *,
    crosswalk: Crosswalk | None = None,
    samples: Samples | None = None,
    error_model: ErrorModel | None = None,
    transition_years: int = 20,
    keep_previous: Sequence[str] | None = None,
    forest: ForestRule | None = ForestRule(),  # noqa: B008 - frozen
    tree_cover: Mapping[int, Scene] | None = None,
    implausible: Sequence[tuple[str, str]] = IMPLAUSIBLE,
    tolerated_ha: float = 0.0,
    land_area_ha: float | None = None,
    absent: Mapping[str, str] | str = "NO",
    title: str = "",
    window_px: int = 2048,
) -> Accounts:
    """
    Account for land use in a series of maps, as an inventory reports it.

    Computes areas by year, change matrices between maps and by year (linear between maps), land remaining and
    converted by the rule of 20 years, Table 4.1 of every inventory year, checks, and change areas with intervals.
    Maps are read once; all tables derive from the counts of pixel trajectories.

    Parameters
    ----------
    maps, years : sequences of one length, at least two
        Ascending by year, in any legends with a crosswalk to the categories. The first map sets the grid.
    out_dir : path, optional
        Folder for areas.csv, changes.csv, remaining.csv, cohorts.csv, checks.csv, crosswalk.csv, table4.1.xlsx,
        account.html, accounts.json and manifest.json; default: nothing is written.
    crosswalk : Crosswalk, optional
        From the maps' classes to the categories; default: the shipped one from each legend to "lulucf".
    samples : mapping, optional
        By pair of years; change areas of that pair are estimated from the sample.
    error_model : ErrorModel, optional
        For pairs of years without a sample; the estimates are marked as model-based.
    transition_years : int
        Years for which converted land counts as converted.
    keep_previous : sequence of str, optional
        Codes of the maps' legends that keep the category of the previous map; see `KEEPS_PREVIOUS`.
    forest : ForestRule, optional
        The national definition to check forest against; None for no check.
    tree_cover : mapping, optional
        Layers of crown cover in per cent, by year of the map.
    implausible, tolerated_ha
        As in `tesela.accounting.checks.check_changes`.
    land_area_ha : float, optional
        Official land area to check the total against.
    absent : str or mapping
        Notation key of unmanaged land, see `tesela.accounting.table41.transition_table`.
    title : str
        Country or region, for the workbook.

    Raises
    ------
    InputError
        If numbers of maps and years differ, or the maps do not overlap.
    LegendError
        If a legend has no crosswalk to the categories of Table 4.1.
    GridError
        If the pixels do not all have the same area.
    """
    if len(maps) < 2:
        raise InputError(f"An account needs at least two maps of different years; {len(maps)} given.")
    crosswalks = [category_crosswalk(item.legend, crosswalk) for item in maps]
    trajectories = count_trajectories(
        maps, years, crosswalks=crosswalks, keep_previous=keep_previous, window_px=window_px
    )
    cohorts = follow_cohorts(trajectories, transition_years=transition_years)
    tables = tuple(
        transition_table(trajectories, year, absent=absent) for year in trajectories.inventory_years[1:]
    )
    estimates = _estimates(
        maps, trajectories, crosswalks=crosswalks, samples=samples or {}, error_model=error_model
    )
    forests = _forest_findings(
        maps, trajectories, crosswalks=crosswalks, rule=forest, tree_cover=tree_cover or {}
    )
    checks: list[Check] = [*check_tables(tables), *check_cohorts(cohorts, trajectories)]
    checks += check_changes(trajectories, implausible=implausible, tolerated_ha=tolerated_ha)
    if forest is not None and forests:
        checks += check_forest(forests, forest)
    if land_area_ha is not None:
        checks.append(check_land_area(trajectories, land_area_ha))
    crosswalk_rows = _crosswalk_rows(maps, crosswalks)
    rows: dict[str, list[Row]] = {
        "areas": area_rows(trajectories),
        "changes": change_rows(trajectories, {item.years: item for item in estimates}),
        "remaining": remaining_rows(cohorts),
        "cohorts": cohort_rows(cohorts),
        "checks": check_rows(tuple(checks)),
        "crosswalk": crosswalk_rows,
    }
    files = {} if out_dir is None else _files(Path(out_dir), rows)
    accounts = Accounts(
        trajectories=trajectories,
        cohorts=cohorts,
        tables=tables,
        checks=tuple(checks),
        estimates=estimates,
        forest=forests,
        crosswalk=tuple(crosswalk_rows),
        maps=tuple(item.path for item in maps),
        notes=tuple(_notes(trajectories, estimates, transition_years=transition_years)),
        files=files,
    )
    if out_dir is None:
        return accounts
    _write(accounts, rows, title=title)
    settings = {
        "years": list(trajectories.years),
        "transition_years": transition_years,
        "forest": None if forest is None else vars(forest),
        "basis": {f"{a}-{b}": item.basis for item in estimates for a, b in [item.years]},
    }
    Manifest(
        "account",
        settings=settings,
        inputs={item.path: fingerprint(item.path) for item in maps},
        outputs={path.name: fingerprint(path) for path in files.values() if path.is_file()},
        legend=trajectories.legend.address,
    ).write(Path(out_dir))
    return accounts


def _files(folder: Path, tables: Iterable[str]) -> dict[str, Path]:
    """Files of an account by name."""
    files = {name: folder / f"{name}.csv" for name in tables}
    names = {"table41": "table4.1.xlsx", "accounts": "accounts.json", "page": "account.html"}
    return files | {name: folder / file for name, file in names.items()}


def category_crosswalk(legend: Legend, crosswalk: Crosswalk | None = None) -> Crosswalk | None:
    """
    Crosswalk from the classes of a map to the categories; None where they are the same.

    Parameters
    ----------
    crosswalk : Crosswalk, optional
        Crosswalk of the user; default: the shipped one to "lulucf".
    """
    target = open_legend("lulucf") if crosswalk is None else crosswalk.target
    if legend.codes == target.codes and legend.values == target.values:
        return None
    return open_crosswalk(legend, target) if crosswalk is None else crosswalk


def _estimates(
    maps: Sequence[ClassMap],
    trajectories: Trajectories,
    *,
    crosswalks: Sequence[Crosswalk | None],
    samples: Samples,
    error_model: ErrorModel | None,
) -> tuple[ChangeEstimates, ...]:
    pairs = list(pairwise(trajectories.years))
    unknown = [f"{a}-{b}" for a, b in samples if (a, b) not in pairs]
    if unknown:
        raise InputError(
            f"A sample was given for {join_words(unknown)}; it must belong to two consecutive maps: "
            f"{join_words(f'{a}-{b}' for a, b in pairs)}."
        )
    results = []
    for i, years in enumerate(pairs):
        mapped = trajectories.changes_ha(i)
        given = samples.get(years)
        if given is not None:
            if not isinstance(given, Sample):
                given = read_sample(given, maps[i : i + 2], crosswalk=crosswalks[i : i + 2])
            results.append(estimate_changes(given, mapped, legend=trajectories.legend, years=years))
        elif error_model is not None:
            results.append(
                simulate_changes(mapped, legend=trajectories.legend, years=years, model=error_model)
            )
    return tuple(results)


def _forest_findings(
    maps: Sequence[ClassMap],
    trajectories: Trajectories,
    *,
    crosswalks: Sequence[Crosswalk | None],
    rule: ForestRule | None,
    tree_cover: Mapping[int, Scene],
) -> tuple[ForestFinding, ...]:
    if rule is None or rule.category not in trajectories.legend:
        return ()
    return tuple(
        apply_forest_definition(item, year, rule=rule, crosswalk=table, tree_cover=tree_cover.get(year))
        for item, year, table in zip(maps, trajectories.years, crosswalks, strict=True)
    )


def _crosswalk_rows(maps: Sequence[ClassMap], crosswalks: Sequence[Crosswalk | None]) -> list[Row]:
    rows: list[Row] = [("legend", "from", "name", "to", "share", "note")]
    seen: set[str] = set()
    for item, table in zip(maps, crosswalks, strict=True):
        if item.legend.address in seen:
            continue
        seen.add(item.legend.address)
        used = Crosswalk.identity(item.legend) if table is None else table
        rows += [
            (item.legend.address, row.code, item.legend[row.code].name, row.to, row.share, row.note)
            for row in used.rows
            if row.code in item.legend
        ]
    return rows


def _notes(
    trajectories: Trajectories, estimates: Sequence[ChangeEstimates], *, transition_years: int
) -> Iterator[str]:
    first, last = trajectories.years[0], trajectories.years[-1]
    yield (
        f"Conversions before {first} are unknown: until {min(last, first + transition_years - 1)} the area of land "
        f"in conversion is too small and that of land remaining too large."
    )
    yield f"Between maps, change is spread evenly over the years; only {join_words(trajectories.years)} are mapped."
    yield "Table 4.1, cohorts and areas by year are pixel counts; they have the bias of the maps."
    covered = {item.years for item in estimates}
    without = [f"{a}-{b}" for a, b in pairwise(trajectories.years) if (a, b) not in covered]
    if without:
        yield f"No sample and no error model for {join_words(without)}: these changes have no intervals."
    for item in estimates:
        yield f"{item.years[0]} to {item.years[1]}, {item.basis}: {item.detail}"
    yield from trajectories.notes


def _write(accounts: Accounts, rows: Mapping[str, list[Row]], *, title: str) -> None:
    files = accounts.files
    for name, (header, *body) in rows.items():
        write_csv(files[name], [str(item) for item in header], body)
    sheets: dict[str, Sequence[Sequence[object]]] = {
        name.capitalize(): list(table) for name, table in rows.items()
    }
    sheets["Notes"] = [("note",), *((note,) for note in accounts.notes)]
    write_table41(files["table41"], accounts.tables, title=title, sheets=sheets)
    write_text(files["accounts"], json.dumps(accounts.to_dict(), indent=1) + "\n")
    write_account_page(files["page"], accounts, title=title)
