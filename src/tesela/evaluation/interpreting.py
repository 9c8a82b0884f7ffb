"""Interpreting a sample: the points that are looked at, and the answers that go back into its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.tables import changing_rows, read_table

LAYER = "points"
CLASSES = "classes"


@dataclass(frozen=True)
class Answer:
    """What goes back into the file of one point; an empty reference says that nobody has answered."""

    reference: str = ""
    confidence: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class SamplePoints:
    """What an interpreter may see of a sample: neither strata nor the map's classes."""

    ids: tuple[str, ...]
    """In the random order in which they are to be looked at."""
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    """Centres of the pixels, in `crs`."""
    crs: str
    """As WKT."""
    side: float
    """Side of the pixel that is judged, in units of `crs`."""
    side_m: float
    """The same in metres."""
    references: Mapping[str, str]
    """Answers that stand in the file, by id; empty for none."""
    legend: Legend | None
    """Classes to choose from; None in samples drawn before the file held them."""

    @property
    def corners(self) -> NDArray[np.float64]:
        """(points, 4, 2): corners of the judged pixels, clockwise from the upper left."""
        half = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * self.side / 2
        return np.stack([self.x, self.y], axis=1)[:, None] + half


def read_points(path: str | Path) -> SamplePoints:
    """
    Read the points of a sample for those who interpret it.

    Parameters
    ----------
    path : path
        GeoPackage that `tesela.evaluation.points.draw_sample` wrote.

    Raises
    ------
    InputError
        If it is no such file.
    """
    import pyogrio

    points = read_table(path, layer=LAYER).sort_values("sample_id")
    area = float(read_table(path, layer="strata")["pixel_area_m2"].iloc[0])
    ids = tuple(str(int(number)) for number in points["sample_id"])
    answers = points["reference"].fillna("").astype(str).str.strip()
    layers = {str(name) for name, _ in pyogrio.list_layers(path)}
    metres = float(points.crs.axis_info[0].unit_conversion_factor)
    return SamplePoints(
        ids=ids,
        x=points["x"].to_numpy(np.float64),
        y=points["y"].to_numpy(np.float64),
        crs=points.crs.to_wkt(),
        side=float(np.sqrt(area)) / metres,
        side_m=float(np.sqrt(area)),
        references=dict(zip(ids, answers, strict=True)),
        legend=_legend(read_table(path, layer=CLASSES)) if CLASSES in layers else None,
    )


def write_answers(path: str | Path, answers: Callable[[], Mapping[str, Answer]]) -> None:
    """
    Write answers into the points of a sample: all of them or none, and nothing else is changed.

    Parameters
    ----------
    answers : callable
        Gives the answers by id; asked once nobody else can write, so that of several who write the last one's
        are the newest.

    Raises
    ------
    InputError
        If the file cannot be changed now.
    """
    with changing_rows(path, layer=LAYER, key="sample_id") as change:
        for thing_id, answer in answers().items():
            change(int(thing_id), answer.__dict__)


def classes_table(legend: Legend) -> pd.DataFrame:
    """Table of the classes that interpreters choose from."""
    return pd.DataFrame(
        [{"code": item.code, "name": item.name, "color": item.color} for item in legend.classes]
    )


def _legend(table: pd.DataFrame) -> Legend:
    rows = table[["code", "name", "color"]].astype(str).itertuples(index=False)
    classes = tuple(LandClass(k, *(str(part) for part in row)) for k, row in enumerate(rows, start=1))
    if not classes:
        raise InputError("The sample's table of classes is empty.")
    return Legend("sample", classes)
