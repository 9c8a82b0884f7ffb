"""The items of a review: proposals of an update or points of a sample, and the answers in their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qgis.core import (
    NULL,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsUnitTypes,
    QgsVectorLayer,
)

PROPOSALS, POINTS = "proposals", "points"
"""Names of the layers that hold items."""
_POLYGONS = "update"
_UNANSWERED = "no answer"


class ReviewError(Exception):
    """One line for the reviewer: what is wrong, and what to do."""


@dataclass(frozen=True)
class Choice:
    """A class to choose."""

    code: str
    name: str
    color: str
    """``#rrggbb``."""

    @property
    def label(self) -> str:
        """Code and name."""
        return self.code if self.name in ("", self.code) else f"{self.code} {self.name}"


@dataclass(frozen=True)
class Item:
    """What the reviewer is shown."""

    fid: int
    title: str
    old: str
    """Code of the old map; empty for a point."""
    new: str
    """Proposed code; empty for a point, and where nothing is proposed."""
    answer: str
    note: str
    shape: QgsGeometry
    """The ground to look at, in the CRS of the layer."""
    around: QgsGeometry | None
    """The whole polygon of the old map."""


class ReviewItems:
    """
    Items in their order: proposals by rank, points in the random order in which they were drawn.

    An answer is the code of a class in the field `decision` (of proposals: the old code rejects, the new code accepts)
    or `reference` (of points). It is in the file as soon as `answer` returns; `tesela update apply`, `tesela sample
    estimate` and `tesela review serve` read it there.

    Raises
    ------
    ReviewError
        If the layer is neither.
    """

    def __init__(self, layer: QgsVectorLayer) -> None:
        names = layer.fields().names()
        self.is_sample = "sample_id" in names and "reference" in names
        if not self.is_sample and not {"decision", "old_code", "new_code", "rank"} <= set(names):
            raise ReviewError(
                f"{layer.name()}: neither the proposals of an update nor the points of a sample. Open the GeoPackage "
                "that tesela update or tesela sample draw has written."
            )
        self.layer = layer
        self.field = "reference" if self.is_sample else "decision"
        self.path = layer.source().split("|")[0]
        self.choices = self._read_choices()
        self.by_code: Mapping[str, Choice] = {item.code: item for item in self.choices}
        order = "sample_id" if self.is_sample else "rank"
        rows = sorted((row[order], row.id()) for row in self._rows(order, self.field))
        self.order = [fid for _, fid in rows]
        self._undo: list[tuple[int, str, str]] = []
        self._side = self._pixel_side() if self.is_sample else 0.0
        self._polygons = None if self.is_sample else self._other(_POLYGONS)
        self._offer_choices()

    def answers(self) -> dict[int, str]:
        """Answers by feature id; empty for none."""
        return {row.id(): _text(row[self.field]) for row in self._rows(self.field)}

    def item(self, fid: int) -> Item:
        """
        One item as it is in the file now.

        Raises
        ------
        ReviewError
            If it is no longer there.
        """
        row = self.layer.getFeature(fid)
        if not row.isValid():
            raise ReviewError(f"{self.layer.name()}: feature {fid} is no longer there. Open the file again.")
        if self.is_sample:
            point = row.geometry().asPoint()
            half = self._side / 2
            shape = QgsGeometry.fromWkt(_square(point.x(), point.y(), half))
            title = f"point {row['sample_id']}"
            return Item(fid, title, "", "", _text(row["reference"]), _text(row["note"]), shape, None)
        title = f"rank {row['rank']} · {row['verdict']} · polygon {row['feature']} · {row['area_ha']:.2f} ha"
        if row["share"]:
            title += f" ({row['share']:.0%})"
        codes = _text(row["old_code"]), _text(row["new_code"])
        around = self._outline(row["feature"])
        return Item(fid, title, *codes, _text(row["decision"]), _text(row["note"]), row.geometry(), around)

    def after(self, fid: int | None, *, step: int = 1, open_only: bool = True) -> int | None:
        """The next item, after the last one the first; None if none is open."""
        start = self.order.index(fid) if fid in self.order else -1 if step > 0 else 0
        answers = self.answers() if open_only else {}
        for count in range(1, len(self.order) + 1):
            other = self.order[(start + step * count) % len(self.order)]
            if not answers.get(other):
                return other
        return None

    def answer(self, fid: int, code: str, note: str) -> None:
        """
        Write an answer into the file.

        Raises
        ------
        ReviewError
            If the code is unknown or the file cannot be written.
        """
        before = self.item(fid)
        if code and code not in self.by_code and code != before.old:
            raise ReviewError(f"{code} is no class of {self.layer.name()}; choose one of the list.")
        self._write(fid, code, note)
        self._undo.append((fid, before.answer, before.note))

    def undo(self) -> int | None:
        """Take the last answer back; returns its item, None if there is none."""
        if not self._undo:
            return None
        fid, code, note = self._undo[-1]
        self._write(fid, code, note)
        self._undo.pop()
        return fid

    def _write(self, fid: int, code: str, note: str) -> None:
        if self.layer.isEditable():
            raise ReviewError(f"{self.layer.name()} is being edited. Save and stop editing, then review.")
        fields = self.layer.fields()
        values = {fields.indexOf(self.field): code, fields.indexOf("note"): note}
        provider = self.layer.dataProvider()
        if not provider.changeAttributeValues({fid: values}):
            why = "; ".join(provider.errors()) or "read only?"
            raise ReviewError(
                f"{self.path}: the answer cannot be written ({why}). Is the file open elsewhere?"
            )
        self.layer.triggerRepaint()

    def _rows(self, *fields: str):
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.NoGeometry)
        return self.layer.getFeatures(request.setSubsetOfAttributes(list(fields), self.layer.fields()))

    def _other(self, name: str) -> QgsVectorLayer:
        """Another layer or table of the file."""
        other = QgsVectorLayer(f"{self.path}|layername={name}", name, "ogr")
        if not other.isValid():
            raise ReviewError(f"{self.path}: has no table '{name}'. Use the file that Tesela has written.")
        return other

    def _read_choices(self) -> tuple[Choice, ...]:
        rows = self._other("classes").getFeatures()
        choices = tuple(Choice(*(_text(row[name]) for name in ("code", "name", "color"))) for row in rows)
        if not choices:
            raise ReviewError(
                f"{self.path}: its table of classes is empty. Use the file that Tesela has written."
            )
        return choices

    def _pixel_side(self) -> float:
        """Side of the pixel to interpret, in units of the CRS."""
        row = next(self._other("strata").getFeatures(), QgsFeature())
        if not row.isValid():
            raise ReviewError(
                f"{self.path}: its table of strata is empty. Use the file that Tesela has written."
            )
        metres = QgsUnitTypes.fromUnitToUnitFactor(self.layer.crs().mapUnits(), QgsUnitTypes.DistanceMeters)
        return float(row["pixel_area_m2"]) ** 0.5 / metres

    def _outline(self, feature: int) -> QgsGeometry | None:
        request = QgsFeatureRequest().setFilterExpression(f'"feature" = {int(feature)}')
        row = next(self._polygons.getFeatures(request), QgsFeature())
        return row.geometry() if row.isValid() else None

    def _offer_choices(self) -> None:
        """A list of the classes in the attribute form, where the style has none."""
        index = self.layer.fields().indexOf(self.field)
        if self.layer.editorWidgetSetup(index).type() != "ValueMap":
            listed = [{_UNANSWERED: ""}, *({item.label: item.code} for item in self.choices)]
            self.layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": listed}))


def has_items(path: str) -> bool:
    """Whether a GeoPackage has a layer of items."""
    return any(
        QgsVectorLayer(f"{path}|layername={name}", name, "ogr").isValid() for name in (PROPOSALS, POINTS)
    )


def items_in(path: str) -> QgsVectorLayer:
    """
    The layer of items in a GeoPackage.

    Raises
    ------
    ReviewError
        If there is none.
    """
    for name in (PROPOSALS, POINTS):
        layer = QgsVectorLayer(f"{path}|layername={name}", f"Tesela: {name}", "ogr")
        if layer.isValid():
            return layer
    raise ReviewError(
        f"{path}: has neither proposals nor points. Open the GeoPackage that tesela update or tesela sample draw has "
        "written."
    )


def _text(value: object) -> str:
    """A text; empty for NULL."""
    return "" if value is None or value == NULL else str(value).strip()


def _square(x: float, y: float, half: float) -> str:
    corners = ((-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1))
    return f"POLYGON(({', '.join(f'{x + half * a!r} {y + half * b!r}' for a, b in corners)}))"
