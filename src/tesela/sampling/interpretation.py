"""Interpreting a sample: the points that are looked at, and the answers that go back into its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words, unknown_name
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
    def fingerprint(self) -> str:
        """What no other sample has: where its points lie, in their order."""
        places = np.stack([self.x, self.y], axis=1).round(6)
        return hashlib.sha256(places.tobytes()).hexdigest()[:16]

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
        GeoPackage that `tesela.sampling.draw.draw_sample` wrote.

    Raises
    ------
    InputError
        If it is no such file.
    """
    import pyogrio

    points = points_table(path, "reference", "confidence", "note").sort_values("sample_id")
    area = float(strata_table(path)["pixel_area_m2"].iloc[0])
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


def points_table(path: str | Path, *fields: str) -> pd.DataFrame:
    """
    Points of a sample as they stand in its file, which others may have edited.

    Parameters
    ----------
    fields : str
        Fields that are needed beside sample_id, x and y.

    Raises
    ------
    InputError
        If a field is missing, the points have no coordinate system, or one is there twice or nowhere.
    """
    points = _with_fields(read_table(path, layer=LAYER), ("sample_id", "x", "y", *fields), where=path)
    if getattr(points, "crs", None) is None:
        raise InputError(f"{path}: its points have no coordinate system. Take the file that was drawn.")
    if not np.isfinite(points[["sample_id", "x", "y"]].to_numpy(np.float64)).all():
        raise InputError(f"{path}: a point has no sample_id, x or y. Put back what was drawn.")
    ids = points["sample_id"]
    if not ids.is_unique:
        twice = join_words(sorted({int(number) for number in ids[ids.duplicated()]}), most=6)
        raise InputError(f"{path}: sample_id {twice} stands twice; each point has one answer.")
    return points


def strata_table(path: str | Path) -> pd.DataFrame:
    """
    Strata of a sample, with the size of each.

    Raises
    ------
    InputError
        If it is not the table that `tesela.sampling.draw.draw_sample` wrote.
    """
    numbers = ["size_px", "pixel_area_m2", "seed"]
    strata = _with_fields(read_table(path, layer="strata"), ("stratum", *numbers), where=path)
    sizes = strata[numbers].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not len(sizes) or not np.isfinite(sizes).all() or (sizes[:, :2] <= 0).any():
        raise InputError(
            f"{path}: its table 'strata' was changed: each stratum needs pixels (size_px) of some size "
            f"(pixel_area_m2) and the seed. Take it from the file that was drawn."
        )
    return strata


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
        for item_id, answer in answers().items():
            change(int(item_id), asdict(answer))


def classes_table(legend: Legend) -> pd.DataFrame:
    """Table of the classes that interpreters choose from."""
    return pd.DataFrame(
        [{"code": item.code, "name": item.name, "color": item.color} for item in legend.classes]
    )


def _with_fields(table: pd.DataFrame, fields: Sequence[str], *, where: str | Path) -> pd.DataFrame:
    for name in fields:
        if name not in table.columns:
            raise InputError(f"{where}: {unknown_name('field', name, [str(c) for c in table.columns])}")
    return table


def _legend(table: pd.DataFrame) -> Legend:
    rows = table[["code", "name", "color"]].astype(str).itertuples(index=False)
    classes = tuple(LandClass(k, *(str(part) for part in row)) for k, row in enumerate(rows, start=1))
    if not classes:
        raise InputError("The sample's table of classes is empty.")
    return Legend("sample", classes)
