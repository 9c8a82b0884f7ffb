"""
The queue of an update as a file: a GeoPackage that `tesela update` writes, and that reviewers and `apply` read.

Its layer `update` holds the polygons that may be out of date. Its layer `proposals` holds what may be changed in them,
one row for each decision: a part of a polygon that shows another class, or a whole polygon that is doubtful without
such a part. Their field `decision` is empty, or the code that the ground shall have: the old code rejects the
proposal, the new code accepts it, any other code is another class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.tables import changing_rows, read_table
from tesela.io.vector import code_texts, open_layer, read_layer

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

QUEUE = "update"
"""Layer of the polygons."""
PROPOSALS = "proposals"
"""Layer of the proposed changes."""
CHOICES = "classes"
"""Table of the codes that ground can get."""
FACTS = "queue"
"""Table of one row: where the polygons come from."""
_TOLD = re.compile(r"rotulo|fecha|mejorado|remark|date|year", re.IGNORECASE)
"""Old fields that a reviewer sees: label, dates and source of SIOSE AR, remark of CORINE, and their like."""


@dataclass(frozen=True)
class ClassChoice:
    """A code of the old map."""

    code: str
    name: str
    color: str
    """``#rrggbb``."""

    @property
    def label(self) -> str:
        """Code and name."""
        return self.code if self.name == self.code else f"{self.code} {self.name}"


@dataclass(frozen=True)
class QueueFacts:
    """Where the polygons of a queue come from."""

    source: str
    """File or address of the old layer."""
    layer: str
    field: str
    """Field of the codes."""


@dataclass(frozen=True, eq=False)
class UpdateQueue:
    """The proposals of a queue, in the order of rank."""

    path: Path
    facts: QueueFacts
    choices: tuple[ClassChoice, ...]
    proposals: gpd.GeoDataFrame
    """By id, which is the number of the row as text."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the proposals, the most urgent first."""
        return tuple(str(item) for item in self.proposals.index)

    def outlines(self) -> gpd.GeoDataFrame:
        """The whole polygons by the number of the feature, with their old fields of labels, dates and sources."""
        layer = open_layer(self.path, layer=QUEUE)
        told = [name for name in layer.fields if _TOLD.search(name)]
        return read_layer(layer, columns=["feature", *told], report=False).set_index("feature")


def is_queue(path: str | Path) -> bool:
    """Whether a file is the queue of an update."""
    import pyogrio

    with suppress(Exception):  # no file that GDAL reads
        return Path(path).suffix.lower() == ".gpkg" and PROPOSALS in pyogrio.list_layers(path)[:, 0]
    return False


def queue_tables(choices: Sequence[ClassChoice], facts: QueueFacts) -> dict[str, object]:
    """Tables without geometry of a queue."""
    import pandas as pd

    return {
        CHOICES: pd.DataFrame([vars(item) for item in choices], columns=["code", "name", "color"]),
        FACTS: pd.DataFrame([vars(facts)]),
    }


def read_queue(path: str | Path) -> UpdateQueue:
    """
    Read the proposals of a queue.

    Raises
    ------
    InputError
        If the file is no queue.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file.")
    if not is_queue(path):
        raise InputError(
            f"{path}: has no layer '{PROPOSALS}'; give the GeoPackage that tesela update wrote (-o queue.gpkg)."
        )
    classes, facts = read_table(path, layer=CHOICES), read_table(path, layer=FACTS)
    choices = tuple(
        ClassChoice(*(str(row[name]) for name in ("code", "name", "color"))) for row in _rows(classes)
    )
    fact = _rows(facts)[0]
    frame = read_layer(open_layer(path, layer=PROPOSALS), report=False)
    for name in ("old_code", "new_code", "decision"):
        texts = code_texts(frame[name])
        frame[name] = np.where(texts == "null", "", texts)
    frame["note"] = frame["note"].fillna("")
    frame = frame.iloc[np.lexsort((frame.index, frame["rank"]))]
    return UpdateQueue(
        Path(path),
        QueueFacts(*(str(fact[name]) for name in ("source", "layer", "field"))),
        choices,
        frame,
    )


def write_decisions(path: str | Path, decisions: Mapping[str, tuple[str, str]]) -> None:
    """
    Write decisions, (code, note) by id, into the layer `proposals`, all or none.

    Raises
    ------
    InputError
        If the file cannot be changed.
    """
    with changing_rows(path, layer=PROPOSALS, key="fid") as change:
        for item_id, (code, text) in decisions.items():
            change(int(item_id), {"decision": code, "note": text})


def outcome(
    old: NDArray[np.object_], new: NDArray[np.object_], decided: NDArray[np.object_]
) -> NDArray[np.object_]:
    """(n,) "accepted", "rejected", "other class" or, without a decision, empty."""
    kinds = np.where(decided == old, "rejected", np.where(decided == new, "accepted", "other class"))
    outcomes: NDArray[np.object_] = np.where(decided == "", "", kinds).astype(object)
    return outcomes


def _rows(table: pd.DataFrame) -> list[Mapping[str, object]]:
    return [{str(name): row[name] for name in row} for row in table.to_dict("records")]
