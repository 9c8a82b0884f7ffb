"""SIOSE AR in the classes of a legend: polygons streamed from its GeoPackage to one of class polygons."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.io.manifest import write_whole
from tesela.io.vector import NO_CODE, Bounds
from tesela.sources.siose.cascade_rules import CascadeClassifier, make_classifier
from tesela.sources.siose.geopackage import COVERS, SioseFile
from tesela.sources.siose.land_use import ParcelUses, years_of
from tesela.sources.siose.rules import Classifier, SioseRules, main_covers

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Composition:
    """
    Rows of T_VALORES by polygon; use it in a `with` block.

    A province has millions of rows without an index. They are copied once, with an index, to a temporary database
    on disk: memory does not grow with the table.
    """

    def __init__(self, file: SioseFile) -> None:
        if file.values is None:
            raise InputError(
                f"{file.path}: has no table T_VALORES, which holds the composition and the species of polygons. "
                f"Use the whole GeoPackage, or the covers of largest share (--mode majority)."
            )
        self._file = file
        self._folder = tempfile.TemporaryDirectory(prefix="tesela-siose-")
        self._base = sqlite3.connect(Path(self._folder.name) / "values.sqlite", uri=True)

    def __enter__(self) -> Self:
        columns = self._file.value_columns
        species = f'"{columns["species"]}"' if "species" in columns else "NULL"
        try:
            self._base.execute("PRAGMA journal_mode = OFF")
            self._base.execute(
                "ATTACH DATABASE ? AS siose", (f"{self._file.path.resolve().as_uri()}?mode=ro",)
            )
            self._base.execute(
                f'CREATE TABLE parts AS SELECT "{columns["polygon"]}" AS polygon, '
                f'CAST("{columns["cover"]}" AS TEXT) AS cover, CAST("{columns["share"]}" AS REAL) AS percent, '
                f'CAST({species} AS TEXT) AS species FROM siose."{self._file.values}"'
            )
            self._base.execute("CREATE INDEX by_polygon ON parts (polygon)")
            self._base.execute("CREATE TEMP TABLE wanted (polygon, number INTEGER)")
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(f"{self._file.path}: T_VALORES cannot be read ({error}).") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary database."""
        self._base.close()
        self._folder.cleanup()

    def of(self, polygons: Sequence[object]) -> pd.DataFrame:
        """
        Composition of some polygons.

        Returns
        -------
        DataFrame
            number (position in `polygons`), cover (ID_COBERTURA as text), percent, species (FF_SP as text or None).
        """
        import pandas as pd

        self._base.execute("DELETE FROM wanted")
        self._base.executemany(
            "INSERT INTO wanted VALUES (?, ?)", ((item, number) for number, item in enumerate(polygons))
        )
        rows = self._base.execute(
            "SELECT number, cover, percent, species FROM wanted JOIN parts USING (polygon) ORDER BY number, parts.rowid"
        ).fetchall()
        return pd.DataFrame(rows, columns=["number", "cover", "percent", "species"])


LAYER = "classes"
"""Layer that is written."""

FIELD = "CODE"
"""Its field of class codes."""

_INTERPRETED = "REV_VISUAL"
"""MEJORADO of polygons that were photo-interpreted."""

BATCH = 16_384
"""Polygons in memory at a time; a province has millions."""


@dataclass
class SioseClasses:
    """Counts and areas of the polygons of a file that got a class, and counts of the others."""

    path: Path
    legend: Legend
    area_m2: dict[str, float] = field(default_factory=dict)
    """Area of each class, by code."""
    written: int = 0
    too_small: int = 0
    without_class: int = 0
    """Polygons whose cover the legend leaves out, or in which no class has the minimum share."""
    other_years: int = 0
    """Polygons whose reference date is not in the years wanted, or is missing."""
    not_interpreted: int = 0
    """Polygons that nobody interpreted, where only those that were are wanted."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Polygons by ID_COBERTURA that is in no table, such as the legacy codes 219, 317 and 352."""


def write_siose_classes(
    file: SioseFile,
    out: str | Path,
    *,
    legend: Legend,
    rules: SioseRules | None = None,
    within: Bounds | BaseGeometry | None = None,
) -> SioseClasses:
    """
    Write the polygons of SIOSE AR with their classes as a GeoPackage.

    Polygons are read in batches: memory does not grow with their number. Polygons without a class are left out and
    give no labels.

    Parameters
    ----------
    file : SioseFile
        See `tesela.sources.siose.geopackage.open_siose`.
    out : path
        GeoPackage with the layer "classes": ID_POLYGON, CODE, SHARE (0 to 1), COVER (ID_COBERTURA), FECHA_REF.
    legend : Legend
        "lulucf-context" or another target of a crosswalk from "siose-ar", "tree-cover", "mfe-species", one of
        `tesela.sources.siose.rules.species_legend`, or that of a cascade of such.
    within : bounds or polygon, optional
        Area to read, in the CRS of the file; polygons are cut at the outline of a sheet.

    Raises
    ------
    InputError
        If the file lacks a column or table that the rules need, or no polygon gets a class.
    LegendError
        If SIOSE AR cannot be translated to `legend`.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    classifier = make_classifier(legend, rules or SioseRules())
    lacking = [name for name in classifier.needs if name not in file.columns]
    if lacking:
        wanted = {"canopy": "FCCARB", "lidar": "LIDAR_POR_ARB"}[lacking[0]]
        raise InputError(
            f"{file.path}: layer {file.polygons.layer} has no {wanted}, which the rule for tree cover needs. Use "
            f'covers instead (trees = "covers").'
        )
    for wanted_by, key, column in (
        (classifier.rules.years, "date", "FECHA_REF"),
        (classifier.rules.interpreted, "improved", "MEJORADO"),
    ):
        if wanted_by and key not in file.columns:
            raise InputError(
                f"{file.path}: layer {file.polygons.layer} has no {column}, by which polygons are to be chosen. Leave "
                f"years and interpreted out, or use the file as IGN publishes it."
            )
    outline = within if isinstance(within, BaseGeometry) else None
    bounds = outline.bounds if outline is not None else within
    unit_m2 = _square_metre(file, classifier.rules)
    result = SioseClasses(Path(out), legend)
    with ExitStack() as stack:
        parts = stack.enter_context(Composition(file)) if classifier.needs_parts else None
        by_parcel = classifier.needs_use and file.uses is not None
        uses = stack.enter_context(ParcelUses(file)) if by_parcel else None
        part = stack.enter_context(write_whole(Path(out)))
        try:
            opened = pyogrio.open_arrow(
                file.path,
                layer=file.polygons.layer,
                columns=sorted(set(file.columns.values())),
                bbox=bounds,
                batch_size=BATCH,
                use_pyarrow=True,
            )
            meta, reader = stack.enter_context(opened)
            stream = _Stream(file, classifier, parts, uses, result, outline, unit_m2)
            pyogrio.write_arrow(
                stream.through(reader, meta["geometry_name"] or "wkb_geometry"),
                part,
                layer=LAYER,
                driver="GPKG",
                geometry_name="geometry",
                geometry_type="Unknown",
                crs=file.polygons.crs,
            )
        except DataSourceError as error:
            raise InputError(f"{file.path}: cannot be read ({error}).") from None
        if not result.written:
            raise InputError(
                f"{file.path}: no polygon gets a class of '{legend.address}' ({result.too_small} are too small, "
                f"{result.other_years} of other years, {result.not_interpreted} not interpreted, "
                f"{result.without_class} have none). Check the area, the minimum area and share, and the years."
            )
    return result


@dataclass(frozen=True)
class _Stream:
    """Batches of polygons from one file to the other."""

    file: SioseFile
    classifier: Classifier | CascadeClassifier
    parts: Composition | None
    uses: ParcelUses | None
    result: SioseClasses
    outline: BaseGeometry | None
    unit_m2: float
    """Square metres of a square unit of the CRS."""

    def through(self, reader: pa.RecordBatchReader, geometry: str) -> pa.RecordBatchReader:
        """Reader of the batches to write."""
        import pyarrow as pa

        fields = [("ID_POLYGON", pa.string()), (FIELD, pa.string()), ("SHARE", pa.float64())]
        fields += [("COVER", pa.string()), ("FECHA_REF", pa.string()), ("geometry", pa.binary())]
        schema = pa.schema(fields)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in reader:
                made = self._batch(batch, geometry)
                yield pa.RecordBatch.from_pydict(made, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _batch(self, batch: pa.RecordBatch, geometry: str) -> dict[str, object]:
        frame = batch.to_pandas()
        shapes = shapely.from_wkb(frame[geometry].to_numpy(object))
        table = frame[list(self.file.columns.values())].rename(
            columns={name: key for key, name in self.file.columns.items()}
        )
        area_m2 = shapely.area(shapes) * self.unit_m2
        large = area_m2 >= self.classifier.rules.min_area_m2
        self.result.too_small += int((~large).sum())
        kept = large & self._wanted(table, large)
        table, shapes = table[kept].reset_index(drop=True), shapes[kept]
        if self.uses is not None:
            table["use"] = self.uses.of(table["parcel"].tolist())
        parts = None if self.parts is None else self.parts.of(table["polygon"].tolist())
        codes, shares = self.classifier.classes(table, parts)
        covers = main_covers(table)
        self._count_unknown(covers, codes)
        shapes = self._clipped(shapes)
        kept = (codes != "") & ~shapely.is_empty(shapes)
        self.result.without_class += int((codes == "").sum())
        self.result.written += int(kept.sum())
        for code in np.unique(codes[kept].astype(str)):
            more = float(shapely.area(shapes[kept & (codes == code)]).sum()) * self.unit_m2
            self.result.area_m2[str(code)] = self.result.area_m2.get(str(code), 0.0) + more
        return {
            "ID_POLYGON": _texts(table, "polygon", kept),
            FIELD: codes[kept],
            "SHARE": shares[kept],
            "COVER": covers[kept],
            "FECHA_REF": _texts(table, "date", kept),
            "geometry": shapely.to_wkb(shapes[kept]),
        }

    def _wanted(self, table: pd.DataFrame, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Polygons of the years and of the kind that the rules ask for; the others are counted."""
        rules, wanted = self.classifier.rules, among
        if rules.years is not None:
            years = years_of(table["date"].tolist())
            wanted = wanted & (years >= rules.years[0]) & (years <= rules.years[1])
            self.result.other_years += int((among & ~wanted).sum())
        if rules.interpreted:
            texts = table["improved"].tolist()
            seen = np.array([str(text).strip().upper() == _INTERPRETED for text in texts], np.bool_)
            self.result.not_interpreted += int((wanted & ~seen).sum())
            wanted = wanted & seen
        return wanted

    def _count_unknown(self, covers: NDArray[np.object_], codes: NDArray[np.object_]) -> None:
        listed = set(COVERS.values())
        self.result.unknown.update(str(c) for c in covers[codes == ""] if c not in listed and c != NO_CODE)

    def _clipped(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        if self.outline is None:
            return shapes
        shapely.prepare(self.outline)
        across = ~shapely.contains_properly(self.outline, shapes)
        shapes = shapes.copy()
        shapes[across] = shapely.intersection(shapely.make_valid(shapes[across]), self.outline)
        return shapes


def _texts(table: pd.DataFrame, column: str, kept: NDArray[np.bool_]) -> list[str | None]:
    if column not in table:
        return [None] * int(kept.sum())
    return [None if value is None else str(value) for value in table[column].to_numpy(object)[kept]]


def _square_metre(file: SioseFile, rules: SioseRules) -> float:
    """Square metres of a square unit of the CRS; 1 for degrees, which have no fixed size."""
    crs = pyproj.CRS.from_user_input(file.polygons.crs)
    if crs.is_projected:
        return float(crs.axis_info[0].unit_conversion_factor) ** 2
    if rules.min_area_m2:
        raise InputError(
            f"{file.path}: is in degrees, so polygons have no area in m2. Reproject it (ogr2ogr -t_srs EPSG:25830), "
            f"or leave out the minimum area."
        )
    return 1.0
