"""Fields of a layer: their names, and codes as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words, unknown_name

if TYPE_CHECKING:
    import pandas as pd

NO_CODE = "null"
"""How a polygon without a code is named, in messages and in the `from` column of a crosswalk."""

RESERVED = frozenset({"fid", "ogc_fid", "geom", "geometry", "bbox"})
"""Names that GeoPackage and GeoParquet use themselves."""

_NUMBER = re.compile(r"([+-]?\d+)\.0*")


def find_field(name: str, fields: Sequence[str], *, where: str | Path) -> str:
    """
    Name of a field as the file writes it: the exact name, else the only one that differs in case alone.

    Raises
    ------
    InputError
        If there is none, or several differ in case alone.

    Examples
    --------
    >>> find_field("code_18", ["CODE_18", "code_18"], where="a.gpkg")
    'code_18'
    >>> find_field("Code_18", ["CODE_18", "ID"], where="a.gpkg")
    'CODE_18'
    """
    if name in fields:
        return name
    alike = [item for item in fields if item.casefold() == name.casefold()]
    if len(alike) > 1:
        raise InputError(
            f"{where}: the fields {join_words(alike)} differ in case alone; write the one you mean exactly."
        )
    if not fields:
        raise InputError(
            f"{where}: has no field '{name}', as it has no fields at all; those of a shapefile are in the .dbf "
            f"beside it."
        )
    if not alike:
        raise InputError(f"{where}: {unknown_name('field', name, fields)}")
    return alike[0]


def new_names(fields: Iterable[str], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """
    New names for the fields of an old layer that clash with others when case is ignored.

    A field keeps its name if it is free; else it gets the suffix ``_old``, ``_old2`` and so on.

    Parameters
    ----------
    fields : iterable of str
        Names of the old fields, in order.
    taken : iterable of str
        Names that new fields need; those of `RESERVED` are always taken.

    Returns
    -------
    dict of str to str
        Only the fields that change.

    Examples
    --------
    >>> new_names(["rank", "rank_old", "Area", "AREA", "fid"], taken=["rank"])
    {'rank': 'rank_old2', 'AREA': 'AREA_old', 'fid': 'fid_old'}
    """
    names = list(fields)
    used = {item.casefold() for item in (*taken, *RESERVED)}
    changed: list[str] = []
    for name in names:
        if name.casefold() in used:
            changed.append(name)
        else:
            used.add(name.casefold())
    renamed = {}
    for name in changed:
        new, number = f"{name}_old", 2
        while new.casefold() in used:
            new, number = f"{name}_old{number}", number + 1
        used.add(new.casefold())
        renamed[name] = new
    return renamed


def code_texts(column: pd.Series[Any]) -> NDArray[np.object_]:
    """
    Write a column of codes as text: numbers without decimals, blanks stripped, missing ones as "null".

    Examples
    --------
    >>> import pandas as pd
    >>> code_texts(pd.Series([311.0, None])).tolist(), code_texts(pd.Series([" 311 ", "2.1"])).tolist()
    (['311', 'null'], ['311', '2.1'])
    """
    import pandas as pd

    if column.dtype == object:  # lists of Parquet and JSON have no hash
        column = column.map(lambda item: str(item) if isinstance(item, list | dict | np.ndarray) else item)
    numbers, unique = pd.factorize(column)
    texts = np.array([*(_text(item) for item in unique), NO_CODE], object)
    written: NDArray[np.object_] = texts[numbers]
    return written


def _text(item: object) -> str:
    text = str(item).strip()
    match = _NUMBER.fullmatch(text)
    return match[1] if match else text or NO_CODE
