"""Interpretation of a sample: its points as interpreters see them, and their responses written into its file."""

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
class Response:
    """Response for one point as stored in the file; an empty reference means none."""

    reference: str = ""
    confidence: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class SamplePoints:
    """Points of a sample without the strata and classes of the map, which interpreters must not see."""

    ids: tuple[str, ...]
    """In the random order in which they are interpreted."""
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    """Centres of the pixels, in `crs`."""
    crs: str
    """As WKT."""
    side: float
    """Side of the pixel to interpret, in units of `crs`."""
    side_m: float
    """The same in metres."""
    references: Mapping[str, str]
    """Responses in the file, by id; empty for none."""
    legend: Legend | None
    """Classes to choose from; None for older files without them."""

    @property
    def fingerprint(self) -> str:
        """Identity of the sample: a hash of its points in their order."""
        coordinates = np.stack([self.x, self.y], axis=1).round(6)
        return hashlib.sha256(coordinates.tobytes()).hexdigest()[:16]

    @property
    def corners(self) -> NDArray[np.float64]:
        """(points, 4, 2): corners of the pixels to interpret, clockwise from the upper left."""
        half = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * self.side / 2
        return np.stack([self.x, self.y], axis=1)[:, None] + half


def read_points(path: str | Path) -> SamplePoints:
    """
    Read the points of a sample for its interpreters.

    Parameters
    ----------
    path : path
        GeoPackage that `tesela.sampling.draw.draw_sample` wrote.

    Raises
    ------
    InputError
        If the file is not such a sample.
    """
    import pyogrio

    layers = {str(name) for name, _ in pyogrio.list_layers(path)} if Path(path).is_file() else {LAYER}
    if LAYER not in layers:
        raise InputError(
            f"{path}: has the layers {join_words(sorted(layers)) or 'none'}, no points to interpret and no proposed "
            f"changes. Name a file of `tesela sample draw`, `tesela update` or `tesela review rank`."
        )
    points = points_table(path, "reference", "confidence", "note").sort_values("sample_id")
    area = float(strata_table(path)["pixel_area_m2"].iloc[0])
    ids = tuple(str(int(number)) for number in points["sample_id"])
    responses = points["reference"].fillna("").astype(str).str.strip()
    metres = float(points.crs.axis_info[0].unit_conversion_factor)
    return SamplePoints(
        ids=ids,
        x=points["x"].to_numpy(np.float64),
        y=points["y"].to_numpy(np.float64),
        crs=points.crs.to_wkt(),
        side=float(np.sqrt(area)) / metres,
        side_m=float(np.sqrt(area)),
        references=dict(zip(ids, responses, strict=True)),
        legend=_legend(read_table(path, layer=CLASSES)) if CLASSES in layers else None,
    )


def points_table(path: str | Path, *fields: str) -> pd.DataFrame:
    """
    Points of a sample from its file, which may have been edited.

    Parameters
    ----------
    fields : str
        Fields required in addition to sample_id, x and y.

    Raises
    ------
    InputError
        If a field is missing, the points have no coordinate system, or a point is there twice or has no position.
    """
    if Path(path).is_file():
        import pyogrio

        names = [str(name) for name, _ in pyogrio.list_layers(path)]
        if LAYER not in names:
            raise InputError(
                f"{path}: has no layer '{LAYER}' (it has {join_words(names) or 'none'}). Give the file of `tesela "
                f"sample draw`; a layer of responses alone is given beside it (--responses)."
            )
    points = _with_fields(read_table(path, layer=LAYER), ("sample_id", "x", "y", *fields), where=path)
    if getattr(points, "crs", None) is None:
        raise InputError(f"{path}: its points have no coordinate system. Use the file that was drawn.")
    if not np.isfinite(points[["sample_id", "x", "y"]].to_numpy(np.float64)).all():
        raise InputError(f"{path}: a point has no sample_id, x or y. Restore the point as it was drawn.")
    ids = points["sample_id"]
    if not ids.is_unique:
        twice = join_words(sorted({int(number) for number in ids[ids.duplicated()]}), most=6)
        raise InputError(f"{path}: sample_id {twice} is there twice; each point has one response.")
    return points


def strata_table(path: str | Path) -> pd.DataFrame:
    """
    Strata of a sample, with the size of each.

    Raises
    ------
    InputError
        If the table is not as `tesela.sampling.draw.draw_sample` wrote it.
    """
    numbers = ["size_px", "pixel_area_m2", "seed"]
    strata = _with_fields(read_table(path, layer="strata"), ("stratum", *numbers), where=path)
    sizes = strata[numbers].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not len(sizes) or not np.isfinite(sizes).all() or (sizes[:, :2] <= 0).any():
        raise InputError(
            f"{path}: its table 'strata' was changed: each stratum needs its number of pixels (size_px), their "
            f"area (pixel_area_m2) and the seed. Use the table of the file that was drawn."
        )
    return strata


def write_responses(path: str | Path, responses: Callable[[], Mapping[str, Response]]) -> None:
    """
    Write responses into the points of a sample, all of them or none; nothing else changes.

    Parameters
    ----------
    responses : callable
        Returns the responses by id. It is called while no other process can write, so that the last of several
        writers writes the newest responses.

    Raises
    ------
    InputError
        If the file cannot be changed now.
    """
    with changing_rows(path, layer=LAYER, key="sample_id") as change:
        for item_id, response in responses().items():
            change(int(item_id), asdict(response))


def classes_table(legend: Legend) -> pd.DataFrame:
    """Table of the classes for interpreters to choose from."""
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
