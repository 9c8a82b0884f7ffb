"""Labels from SIOSE AR: its polygons, in the classes of a legend, on the pixels of a scene."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import bounds_in
from tesela.core.legend import Legend
from tesela.io.manifest import record_step, recorded_above
from tesela.io.maps import ClassMap
from tesela.io.scenes import open_scene
from tesela.io.vector import Bounds
from tesela.labels import write_labels
from tesela.sources.pnoa import check_zone, read_sheet
from tesela.sources.siose.classes import FIELD, LAYER, SioseClasses, write_siose_classes
from tesela.sources.siose.geopackage import is_siose, open_siose
from tesela.sources.siose.rules import SioseRules


@dataclass(frozen=True)
class DrawnSheet:
    """Labels of one sheet, with the counts of polygons used and left out."""

    map: ClassMap
    classes: SioseClasses

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Code, name and hectares of each class that occurs."""
        return [
            (item.code, item.name, f"{self.classes.area_m2[item.code] / 1e4:.2f}")
            for item in self.map.legend.classes
            if item.code in self.classes.area_m2
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """Polygons that give no labels, and why."""
        classes = self.classes
        notes = []
        if classes.too_small:
            notes.append(f"{classes.too_small} polygons are smaller than the minimum area")
        if classes.other_years:
            notes.append(f"{classes.other_years} polygons are of other years, or have no date")
        if classes.not_interpreted:
            notes.append(f"{classes.not_interpreted} polygons were not photo-interpreted")
        if classes.without_class:
            notes.append(f"{classes.without_class} polygons have no class in '{self.map.legend.address}'")
        if classes.unknown:
            notes.append(f"covers that are in no table: {join_words(sorted(classes.unknown))}")
        return tuple(notes)

    @property
    def document(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "map": self.map.path,
            "legend": self.map.legend.address,
            "shape": list(self.map.grid.shape),
            "area_m2": {code: round(area, 1) for code, area in self.classes.area_m2.items()},
            "polygons": self.classes.written,
            "too_small": self.classes.too_small,
            "without_class": self.classes.without_class,
            "unknown_covers": dict(self.classes.unknown),
        }


def label_sheet(
    reference: str | Path,
    out: str | Path,
    *,
    image: str | Path,
    legend: Legend,
    rules: SioseRules | None = None,
    outlines: str | Path | None = None,
) -> DrawnSheet:
    """
    Draw SIOSE AR on an orthophoto; a PNOA name is checked against the CRS and gives the sheet.

    Parameters
    ----------
    outlines : path, optional
        Sheets of the MTN50 grid: labels end at the outline of the sheet of the image.

    Raises
    ------
    TeselaError
        As `label_siose`, and if the name has another zone than the file, or a sheet that is not in `outlines`.
    """
    grid = open_scene(image).grid
    name = check_zone(image, grid)
    outline = None
    if outlines is not None:
        if name is None:
            raise InputError(
                f"{image}: the name contains no sheet, which is needed to find its outline. Restore the name of PNOA "
                f"(PNOA_MA_OF_ETRS89_HU30_h25_0559_1.tif), or leave out the outlines."
            )
        outline = read_sheet(outlines, name.sheet, crs=open_siose(reference).polygons.crs)
    return DrawnSheet(*label_siose(reference, out, like=grid, legend=legend, rules=rules, outline=outline))


def label_siose(
    reference: str | Path,
    out: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    rules: SioseRules | None = None,
    outline: BaseGeometry | None = None,
) -> tuple[ClassMap, SioseClasses]:
    """
    Draw a SIOSE AR GeoPackage as a class mask on the pixels of a scene.

    Parameters
    ----------
    reference : path
        See `tesela.sources.siose.geopackage.open_siose`; only the polygons that touch the scene are read.
    out : path
        The mask, a class map.
    like : GeoBox
        Grid of the scene, in any CRS.
    legend, rules
        See `tesela.sources.siose.classes.write_siose_classes`.
    outline : polygon, optional
        Sheet, in the file's CRS: labels end at its border.

    Returns
    -------
    ClassMap, SioseClasses
        The mask, and the counts of polygons used and left out.

    Raises
    ------
    GridError
        If the file does not reach the scene.
    InputError, LegendError
        As `write_siose_classes`.
    """
    file = open_siose(reference)
    bounds = _bounds(like, file.polygons.crs)
    left, bottom, right, top = file.polygons.bounds
    if not shapely.box(*bounds).intersects(shapely.box(left, bottom, right, top)):
        raise GridError(
            f"{reference} is at {left:.0f} {bottom:.0f} {right:.0f} {top:.0f} (left, bottom, right, top), the scene "
            f"at {' '.join(f'{side:.0f}' for side in bounds)} in the same CRS: they do not overlap. Give the file of "
            f"this province and zone."
        )
    with tempfile.TemporaryDirectory(prefix="tesela-siose-") as folder:
        classes = write_siose_classes(
            file, Path(folder) / "classes.gpkg", legend=legend, rules=rules, within=outline or bounds
        )
        with recorded_above():  # below, with the file itself as input
            labels = write_labels(classes.path, out, like=like, legend=legend, field=FIELD, layer=LAYER)
    record_step(
        "label",
        [out],
        inputs=[reference],
        settings=asdict(rules or SioseRules()),
        legend=legend.address,
    )
    return labels, classes


def holds_siose(reference: str | Path) -> bool:
    """Whether a reference is a GeoPackage of SIOSE AR, which is read by its own fields."""
    return is_siose(reference)


def write_siose_polygons(
    reference: str | Path,
    out: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    rules: SioseRules | None = None,
) -> SioseClasses:
    """
    Write the polygons of a SIOSE AR GeoPackage that touch a scene with their classes, for `tesela update`.

    With the legend of a cascade, polygons get the species of T_VALORES.

    Parameters
    ----------
    out : path
        See `tesela.sources.siose.classes.write_siose_classes`; the others are those of `label_siose`.
    """
    file = open_siose(reference)
    return write_siose_classes(file, out, legend=legend, rules=rules, within=_bounds(like, file.polygons.crs))


def _bounds(grid: GeoBox, crs: str) -> Bounds:
    """Bounds of a grid in another CRS, with a margin of 1 %."""
    left, bottom, right, top = bounds_in(grid, crs)
    margin = 0.01 * max(right - left, top - bottom)
    return left - margin, bottom - margin, right + margin, top + margin
