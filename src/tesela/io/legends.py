"""Legends from the package's own tables, from a user's CSV or from the tag of a map."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from tesela.core.errors import LegendError, unknown_name, wrong_kind
from tesela.core.legend import Legend
from tesela.io.rows import read_rows

_COLUMNS = {"colour": "color"}
"""Other spellings of the columns of a legend's CSV."""

_ADDRESS = re.compile(r"(?P<name>.+)-(?P<depth>[1-9])")


def list_legends() -> tuple[str, ...]:
    """Names of the shipped legends, without levels."""
    return tuple(sorted(_shipped("")))


def open_legend(name: str | Path | Legend) -> Legend:
    """
    Find a legend by name, by name and level, or read it from a CSV; a `Legend` is returned as it is.

    Parameters
    ----------
    name : str, Path or Legend
        "corine" (the finest level), "corine-2" (level 2), or the path of a CSV with the columns value, code,
        name, color and, for trees, level and parent; the path may end in ``-2`` after ``.csv`` for a level.

    Raises
    ------
    LegendError
        If there is no such legend, level or file, or the table is wrong.

    Examples
    --------
    >>> open_legend("corine-1").codes
    ('1', '2', '3', '4', '5')
    """
    if isinstance(name, Legend):
        return name
    if not isinstance(name, str | Path):
        raise wrong_kind("A legend", "a name such as corine-2, the path of a CSV, or a Legend", name)
    text = str(name)
    if text in _shipped(""):
        return _load_shipped(text)
    match = _ADDRESS.fullmatch(text)
    if match and match["name"] in _shipped(""):
        return _load_shipped(match["name"]).level(int(match["depth"]))
    if text.endswith(".csv"):
        rows = read_rows(text, columns=("value", "code", "name"), kind="legend", error=LegendError)
        rows = [{_COLUMNS.get(name, name): cell for name, cell in row.items()} for row in rows]
        return Legend.from_rows(Path(text).stem, rows)
    if match and match["name"].endswith(".csv"):
        return open_legend(match["name"]).level(int(match["depth"]))
    raise LegendError(
        f"{unknown_name('legend', text, list_legends())} A legend of your own is given as a path that ends in .csv."
    )


def legend_as_tag(legend: Legend) -> str:
    """A legend with its coarser levels as text, from which `legend_of_tag` makes it again."""
    return json.dumps({"name": legend.name, "levels": legend.levels, "rows": legend.to_rows()})


def legend_of_tag(text: str, *, where: str | Path) -> Legend:
    """
    Legend in the tag ``TESELA_LEGEND`` of a raster, or in the header of a table.

    Raises
    ------
    LegendError
        If the text is damaged, or written by somebody else.
    """
    try:
        document = json.loads(text)
        rows = [{str(key): str(value) for key, value in row.items()} for row in document["rows"]]
        return Legend.from_rows(str(document["name"]), rows, levels=int(document["levels"]))
    except LegendError as error:
        reason = str(error).rstrip(".")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise LegendError(
        f"{where}: the legend that the file names is damaged ({reason}). Make the file again, or remove the tag "
        f"(gdal_edit.py -unsetmd) and name the legend (--legend)."
    )


def codes_without_class(legend: Legend | None) -> tuple[str, ...]:
    """Codes that layers and rasters in a legend hold beside its classes, such as 999 for no data in CORINE."""
    return _CORINE_EXTRAS if legend is not None and legend.name == "corine" else ()


_CORINE_EXTRAS = ("48", "49", "50", "128", "-128", "255", "990", "995", "999")
"""EEA: NODATA, unclassified land and water as grid codes; nodata and unclassified of rasters; codes of polygons."""


def list_priorities() -> tuple[str, ...]:
    """Names of the shipped priority tables."""
    return tuple(sorted(_shipped("priorities")))


def read_priority(source: str | Path) -> list[dict[str, str]]:
    """
    Rows of a shipped priority table, by name, or of a user's CSV.

    Raises
    ------
    LegendError
        If there is no such table or file.
    """
    text = str(source)
    if text in list_priorities():
        return parse_csv(_shipped("priorities")[text].read_text(encoding="utf-8"))
    if text.endswith(".csv"):
        return read_rows(text, kind="priority table", error=LegendError)
    raise LegendError(
        f"{unknown_name('priority table', text, list_priorities())} A table of your own is given as a path that "
        f"ends in .csv."
    )


def split_address(address: str) -> tuple[str, int | None]:
    """Name of a legend and its level, as "corine-2" has; None for an address without a level."""
    match = _ADDRESS.fullmatch(address)
    if match and address not in _shipped(""):
        return match["name"], int(match["depth"])
    return address, None


def crosswalk_tables() -> dict[str, Path]:
    """Files of the shipped crosswalks by name: source, "__", target."""
    return _shipped("crosswalks")


def use_rules(name: str) -> list[dict[str, str]]:
    """Rows of the table of land uses of a legend (use, covers, to, note); none for a legend without."""
    file = _shipped("uses").get(f"hilucs__{name}")
    return [] if file is None else parse_csv(file.read_text(encoding="utf-8"))


def with_origins(legend: Legend) -> Legend:
    """
    The legend with the origin of its classes, where all of them are classes of one level of a shipped legend.

    Such a legend is a selection: the species of an expert, or some classes of CORINE. Codes and names must be the same.
    """
    own = {(item.code, item.name) for item in legend.classes}
    homes = []
    for name in () if legend.composed else list_legends():
        level: Legend | None = _load_shipped(name)
        while level is not None:
            if own <= {(item.code, item.name) for item in level.classes}:
                homes.append(level.address)
            level = level.upper
    home = legend.address if legend.address in homes else homes[0] if len(homes) == 1 else None
    if home is None:
        return legend
    classes = tuple(replace(item, origin=f"{home}:{item.code}") for item in legend.classes)
    return replace(legend, classes=classes)


def parse_csv(text: str) -> list[dict[str, str]]:
    """Rows of a CSV with a header; a byte-order mark and blank lines are skipped."""
    rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    return [row for row in rows if any(value.strip() for value in row.values() if isinstance(value, str))]


@cache
def _load_shipped(name: str) -> Legend:
    return Legend.from_rows(name, parse_csv(_shipped("")[name].read_text(encoding="utf-8")))


@cache
def _shipped(folder: str) -> dict[str, Path]:
    root = resources.files("tesela.legends")
    directory = root.joinpath(folder) if folder else root
    return {
        Path(item.name).stem: Path(str(item)) for item in directory.iterdir() if item.name.endswith(".csv")
    }
