"""Corrections of a recipe: the reviewed polygons of ``[[corrections]]``, drawn over the labels of each expert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.chains.targets import Target
from tesela.core.class_tree import Branch, Node, class_nodes
from tesela.core.legend import NODATA
from tesela.io.addresses import in_folder
from tesela.io.manifest import write_text
from tesela.io.maps import ClassMap
from tesela.labels.codes import CodeBook, make_code_book
from tesela.labels.corrections import (
    Corrected,
    CorrectionCodes,
    CorrectionLayer,
    correct_labels,
    open_corrections,
    reaches,
)
from tesela.recipes.sections import CorrectionSection, input_content

FOLDER = "corrections"
"""Folder in that of the labels with what was corrected, by scene."""


@dataclass(frozen=True)
class Corrections:
    """The layers of ``[[corrections]]``, and what their codes mean for each expert."""

    sections: tuple[CorrectionSection, ...]
    folder: Path
    """Folder of the recipe."""
    branches: tuple[Branch, ...]
    """Experts as the tree of the classes of the map."""

    def __bool__(self) -> bool:
        return bool(self.sections)

    @property
    def settings(self) -> dict[str, object]:
        """What labels depend on besides files; nothing without corrections."""
        if not self.sections:
            return {}
        gates = [[item.name, item.parent, list(item.classes)] for item in self.branches]
        return {"corrections": [item.model_dump() for item in self.sections], "gates": gates}

    def files(self) -> list[str | Path]:
        """Files and addresses of the layers."""
        return [
            file
            for item in self.sections
            for file in (
                input_content(item.path, self.folder, layer=item.layer),
                *item.tables(self.folder),
            )
        ]

    def reach(self, grid: GeoBox) -> bool:
        """Whether one of the layers overlaps a grid."""
        return any(reaches(layer, grid) for layer in self._layers)

    def draw(self, target: Target, labels: ClassMap) -> Corrected:
        """
        Draw the corrections over the labels of an expert.

        Raises
        ------
        LegendError
            If a code is unknown.
        """
        pairs = zip(self._layers, self.sections, strict=True)
        return correct_labels(labels, [(layer, self._codes(target, layer, item)) for layer, item in pairs])

    @cached_property
    def _layers(self) -> tuple[CorrectionLayer, ...]:
        return tuple(
            open_corrections(in_folder(self.folder, item.path), layer=item.layer, field=item.field)
            for item in self.sections
        )

    @cached_property
    def _nodes(self) -> tuple[Node, ...]:
        return class_nodes(self.branches, name="map")

    def _codes(self, target: Target, layer: CorrectionLayer, section: CorrectionSection) -> CorrectionCodes:
        """Codes of the source named; else of the map, where it has all of them; else of the expert's reference."""
        if section.source is not None:
            source = section.source_in(self.folder)
            return CorrectionCodes(make_code_book(target.legend, source=source))
        if layer.codes <= {node.code for node in self._nodes}:
            return map_codes(self._nodes, target)
        reference = target.reference
        crosswalk = reference.open_crosswalk(target.legend, self.folder)
        source = reference.source_in(self.folder)
        return CorrectionCodes(make_code_book(target.legend, source=source, crosswalk=crosswalk))


def map_codes(nodes: Sequence[Node], target: Target) -> CorrectionCodes:
    """
    What the classes of a map say about the labels of one of its experts.

    A class of the expert, or below one, gives that class. A class above the expert that opens its gate says nothing.
    Any other closes the gate: there is nothing to learn for this expert, and its label goes.
    """
    opening = {above.code for node in nodes if node.member == target.name for above in node.path[1:]}
    by_code: dict[str, int] = {}
    kept: set[str] = set()
    for node in nodes:
        own = [item for item in node.path if item.member == target.name]
        if own:
            by_code[node.code] = target.legend.classes[own[0].position].value
        elif node.code in opening:
            kept.add(node.code)
        else:
            by_code[node.code] = NODATA
    return CorrectionCodes(CodeBook(target.legend, "the map", by_code, ()), frozenset(kept))


def write_corrected(folder: Path, scene: str, corrected: dict[str, Corrected]) -> Path:
    """Write what was corrected on a scene, by expert, into the folder of the labels."""
    home = folder / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    document = {name: asdict(item) for name, item in corrected.items()}
    return write_text(home / f"{scene}.json", json.dumps(document, indent=2) + "\n")


def read_corrected(folder: Path, scenes: Sequence[str]) -> dict[str, Corrected]:
    """What was corrected on scenes together, by expert."""
    total: dict[str, Corrected] = {}
    for scene in scenes:
        file = folder / FOLDER / f"{scene}.json"
        if file.exists():
            for name, item in json.loads(file.read_text(encoding="utf-8")).items():
                total[name] = total.get(name, Corrected()) + Corrected(**item)
    return total


def corrected_words(corrected: dict[str, Corrected]) -> str:
    """The same in words."""
    most = max((item.polygons for item in corrected.values()), default=0)
    areas = [f"{item.changed_ha:.2f} ha" for item in corrected.values()]
    if len(corrected) > 1:
        areas = [f"{name} {area}" for name, area in zip(corrected, areas, strict=True)]
    return f"{', '.join(areas)} of the labels by {most} reviewed polygon{'' if most == 1 else 's'}"
