"""
Land accounts of a virtual region of 20 x 20 km over six years, whose every change is known.

Runs `tesela account` on the maps, compares all areas and changes with a count of the arrays, opens the workbook with
openpyxl and, where it is installed, with LibreOffice, and plants a mistake for each check to find. Prints JSON.

    python benchmarks/accounting.py FOLDER [--size-px 2000]
"""

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import openpyxl
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.accounting.accounting import account_maps
from tesela.accounting.accounts import Accounts
from tesela.accounting.checks import check_cohorts, check_tables
from tesela.accounting.table41 import read_table41
from tesela.cli import main as tesela
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.scenes import open_scene
from tesela.simulate.region.landscape import make_landscape
from tesela.simulate.region.references import generalised

YEARS = (2000, 2006, 2012, 2018, 2021, 2024)
CORINE, LULUCF = open_legend("corine"), open_legend("lulucf")
SIDE_PX = 12
"""A change is a square of 1.44 ha."""
MOVES = (
    ("211", "112"),
    ("211", "312"),
    ("324", "312"),
    ("312", "324"),
    ("231", "211"),
    ("312", "112"),
    ("211", "411"),
)
"""Changes by CORINE code; sparse where the region has little of the first."""

Values = NDArray[np.uint8]


def value(code: str) -> int:
    """Raster value of a CORINE code."""
    return CORINE[code].value


def known_years(base: Values, *, seed: int = 3, per_move: int = 12) -> tuple[list[Values], dict[str, int]]:
    """Maps of all years, and how many pixels changed by years and codes; no ground changes twice."""
    rng = np.random.default_rng(seed)
    fresh = np.ones(base.shape, np.bool_)
    values, changed = [base], {}
    for years in pairwise(YEARS):
        now = values[-1].copy()
        for before, after in MOVES:
            spots = np.argwhere(fresh & (now == value(before)))
            for row, col in rng.permutation(spots)[: 40 * per_move]:
                # a margin of the old class stays around the square, so that no stand is cut into small pieces
                margin = np.s_[max(row - 14, 0) : row + SIDE_PX + 14, max(col - 14, 0) : col + SIDE_PX + 14]
                part = np.s_[row : row + SIDE_PX, col : col + SIDE_PX]
                if not fresh[margin].all() or not (now[margin] == value(before)).all():
                    continue
                if now[part].shape != (SIDE_PX, SIDE_PX):
                    continue
                now[part], fresh[margin] = value(after), False
                name = f"{years[0]}-{years[1]} {before}>{after}"
                changed[name] = changed.get(name, 0) + SIDE_PX**2
                if changed[name] >= per_move * SIDE_PX**2:
                    break
        values.append(now)
    return values, changed


def write_all(folder: Path, values: list[Values], grid: GeoBox) -> list[ClassMap]:
    return [
        write_map(folder / f"map_{year}.tif", one, grid, legend=CORINE)
        for year, one in zip(YEARS, values, strict=True)
    ]


def categories(values: Values) -> Values:
    """The six categories of a map, 0 outside."""
    return open_crosswalk("corine", LULUCF).table(CORINE)[values]


def largest_difference_ha(document: dict, values: list[Values], pixel_ha: float) -> float:
    """Of all areas and changes in accounts.json from a count of the arrays."""
    dates = [categories(one) for one in values]
    land = np.all([one > 0 for one in dates], axis=0)
    worst = 0.0
    for i, change in enumerate(document["changes"]):
        pairs = np.bincount(dates[i][land] * 7 + dates[i + 1][land].astype(np.int64), minlength=49)
        truth = pairs.reshape(7, 7)[1:, 1:] * pixel_ha
        worst = max(worst, float(np.abs(np.array(change["matrix_ha"]) - truth).max()))
    for year, one in zip(YEARS, dates, strict=True):
        truth = np.bincount(one[land], minlength=7)[1:] * pixel_ha
        areas = [row["area_ha"] for row in document["areas"] if row["year"] == year]
        worst = max(worst, float(np.abs(np.array(areas) - truth).max()))
    return worst


def workbook_numbers(path: Path) -> dict[str, object]:
    """Sums of the sheet as openpyxl finds it: rows against initial, columns against final areas, in kha."""
    book = openpyxl.load_workbook(path, data_only=True)
    sheet = book["Table4.1"]
    rows = [[sheet.cell(9 + r, 3 + c).value for c in range(11)] for r in range(10)]
    number = [[cell if isinstance(cell, (int, float)) else 0.0 for cell in row] for row in rows]
    matrix = np.array([row[:9] for row in number[:9]])
    initial, final = np.array([row[10] for row in number[:9]]), np.array(number[9][:9])
    return {
        "sheets": len(book.sheetnames),
        "tables": sum(name.startswith("Table4.1") for name in book.sheetnames),
        "total_kha": round(float(final.sum()), 6),
        "rows_off_kha": float(np.abs(matrix.sum(axis=1) - initial).max()),
        "columns_off_kha": float(np.abs(matrix.sum(axis=0) - final).max()),
    }


def libreoffice(path: Path, folder: Path) -> dict[str, object]:
    """The workbook opened and saved again by LibreOffice: the table must be the same."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        return {"opened": "skipped: LibreOffice is not installed"}
    saved = folder / "libreoffice"
    profile = f"-env:UserInstallation=file://{(folder / 'profile').resolve()}"
    command = [
        office,
        profile,
        "--headless",
        "--convert-to",
        "xlsx:Calc MS Excel 2007 XML",
        "--outdir",
        saved,
        path,
    ]
    subprocess.run(command, check=True, timeout=1800, capture_output=True)
    mine, theirs = read_table41(path), read_table41(saved / path.name)
    apart = float(np.abs(np.subtract(mine.matrix_kha, theirs.matrix_kha)).max())
    return {
        "opened": True,
        "same_numbers": apart < 1e-12,  # LibreOffice saves 15 digits
        "largest_difference_kha": apart,
        "same_notation_keys": mine.keys == theirs.keys,
    }


def planted(accounts: Accounts, maps: list[ClassMap], values: list[Values], folder: Path) -> dict[str, bool]:
    """A mistake for each check, and whether that check, which passes without it, fails."""
    first, second, *later = accounts.tables

    def failing(*changed: object) -> set[str]:
        return {item.name for item in check_tables([*changed, *later]) if item.passed is False}  # type: ignore[list-item]

    cell = second.matrix_kha.copy()
    cell[2, 0] += 0.0001  # a tenth of a hectare
    below = second.matrix_kha.copy()
    below[0, 5] -= 0.01
    initial = second.initial_kha.copy()
    initial[[0, 2]] += 0.0001, -0.0001
    final = second.final_kha.copy()
    final[0] += 0.0001
    detected = {
        "row sums": "row sums" in failing(first, replace(second, matrix_kha=cell)),
        "column sums": "column sums" in failing(first, replace(second, matrix_kha=cell)),
        "no negative area": "no negative area" in failing(first, replace(second, matrix_kha=below)),
        "continuity of years": "continuity of years" in failing(first, replace(second, initial_kha=initial)),
        "a missing year": "continuity of years" in failing(first),
        "constant total": "constant total" in failing(first, replace(second, final_kha=final)),
    }
    counts = accounts.trajectories.pixels.copy()
    counts[0] += 1  # one pixel that the cohorts lack
    other = replace(accounts.trajectories, pixels=counts)
    detected["cohort totals"] = any(item.passed is False for item in check_cohorts(accounts.cohorts, other))
    detected |= planted_in_maps(maps, values, folder)
    return detected


def planted_in_maps(maps: list[ClassMap], values: list[Values], folder: Path) -> dict[str, bool]:
    grid, detected = maps[0].grid, {}

    def failed(name: str, dates: list[Values], **options: object) -> bool:
        wrong = write_all(folder / name.replace(" ", "_"), dates, grid)
        made = account_maps(wrong, YEARS, folder / "planted" / name.replace(" ", "_"), **options)  # type: ignore[arg-type]
        return name in {item.name for item in made.failed}

    def steady(code: str) -> tuple[int, int]:
        """Corner of a square of 40 pixels that keeps a class for all years."""
        same = np.all([one == value(code) for one in values], axis=0).astype(np.int32).cumsum(0).cumsum(1)
        area = same[40:, 40:] - same[:-40, 40:] - same[40:, :-40] + same[:-40, :-40]
        row, col = np.argwhere(area == 1600)[0] + 1
        return int(row), int(col)

    def changed(code: str, to: str | int, *, dates: range, side: int = 12) -> list[Values]:
        row, col = steady(code)
        made = [one.copy() for one in values]
        for i in dates:
            made[i][row + 14 : row + 14 + side, col + 14 : col + 14 + side] = (
                value(to) if isinstance(to, str) else to
            )
        return made

    detected["implausible changes"] = failed("implausible changes", changed("112", "312", dates=range(3, 6)))
    detected["flip-flops"] = failed("flip-flops", changed("211", "112", dates=range(2, 3)))
    detected["area left out"] = failed("area left out", changed("211", 0, dates=range(4, 5)))
    detected["minimum forest area"] = failed(
        "minimum forest area", changed("211", "312", dates=range(6), side=9)
    )
    detected["official land area"] = failed(
        "official land area", values, land_area_ha=1.02 * total_ha(values, maps)
    )
    cover = np.full(values[0].shape, 60, np.uint8)
    cover[categories(values[0]) == LULUCF["forest_land"].value] = 15
    path = folder / "cover.tif"
    profile = {
        "driver": "GTiff",
        "count": 1,
        "dtype": "uint8",
        "height": cover.shape[0],
        "width": cover.shape[1],
    }
    with rasterio.open(path, "w", crs="EPSG:25830", transform=grid.affine, **profile) as data:
        data.write(cover, 1)
    detected["forest crown cover"] = failed(
        "forest crown cover", values, tree_cover={YEARS[0]: open_scene(path)}
    )
    return detected


def total_ha(values: list[Values], maps: list[ClassMap]) -> float:
    land = np.all([categories(one) > 0 for one in values], axis=0)
    return float(land.sum()) * abs(maps[0].grid.affine.a * maps[0].grid.affine.e) / 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size-px", type=int, default=2000)
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    landscape = make_landscape(size_px=chosen.size_px, seed=1)
    values, changed = known_years(generalised(landscape.truth, least_px=2500))
    maps = write_all(folder / "maps", values, landscape.grid)
    years = ",".join(map(str, YEARS))
    printed = io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(printed):
        status = tesela(
            ["account", *(item.path for item in maps), "--years", years, "-o", str(folder / "out"), "--json"]
        )
    seconds = time.perf_counter() - started
    document = json.loads(printed.getvalue())
    pixel_ha = document["pixel_area_ha"]
    accounts = account_maps(maps, YEARS, folder / "again")
    mistakes = planted(accounts, maps, values, folder)
    result = {
        "claim": "areas and changes are those of the arrays, all checks pass, planted mistakes are all detected",
        "region_px": list(values[0].shape),
        "years": YEARS,
        "known_changes_ha": {name: round(px * pixel_ha, 2) for name, px in changed.items()},
        "command": {"status": status, "seconds": round(seconds, 1)},
        "area_ha": document["area_ha"],
        "largest_difference_ha": largest_difference_ha(document, values, pixel_ha),
        "checks": {item["name"]: item["passed"] for item in document["checks"]},
        "openpyxl": workbook_numbers(folder / "out" / "table4.1.xlsx"),
        "libreoffice": libreoffice(folder / "out" / "table4.1.xlsx", folder),
        "planted_mistakes_detected": mistakes,
        "detected": f"{sum(mistakes.values())} of {len(mistakes)}",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
