"""Rules of SIOSE AR for the legend of a cascade: the rules of each expert's legend, joined level by level."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import LandClass, Legend
from tesela.io.legends import open_legend
from tesela.sources.siose.rules import Classifier, SioseRules

if TYPE_CHECKING:
    import pandas as pd


class CascadeClassifier:
    """Classes of polygons in the legend of a cascade; the same questions as to a `Classifier`."""

    def __init__(self, legend: Legend, rules: SioseRules) -> None:
        self.legend, self.rules = legend, rules
        below: dict[str, list[LandClass]] = {}
        for item in legend.classes:
            above = legend.class_above(item)
            below.setdefault("" if above is None else above.code, []).append(item)
        self._experts = {above: _Expert(items, rules) for above, items in below.items()}

    @property
    def needs_parts(self) -> bool:
        """Whether T_VALORES is needed."""
        return any(expert.classifier.needs_parts for expert in self._experts.values())

    @property
    def needs_use(self) -> bool:
        """Whether land use decides some classes."""
        return any(expert.classifier.needs_use for expert in self._experts.values())

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the polygons that the rules require."""
        return tuple(dict.fromkeys(name for item in self._experts.values() for name in item.classifier.needs))

    def classes(
        self, table: pd.DataFrame, parts: pd.DataFrame | None
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """
        Code of each polygon and its share; parameters as in `Classifier.classes`.

        A polygon whose class has experts below it, but that has no class of theirs, has none: "".
        """
        codes, shares = self._experts[""].classes(table, parts)
        waiting = [""]
        while waiting:
            above = waiting.pop()
            for item in self._experts[above].code_of.values():
                if item not in self._experts:
                    continue
                waiting.append(item)
                inside = codes == item
                if inside.any():
                    own, own_shares = self._experts[item].classes(table, parts)
                    codes, shares = np.where(inside, own, codes), np.where(inside, own_shares, shares)
        return codes, shares


class _Expert:
    """Rules of one expert, with the codes of the cascade for its own."""

    def __init__(self, items: list[LandClass], rules: SioseRules) -> None:
        origins = [item.origin.partition(":") for item in items]
        self.code_of = {code: item.code for (_, _, code), item in zip(origins, items, strict=True)}
        legend = open_legend(origins[0][0])
        if len(items) < len(legend):  # the species of an expert
            chosen = [replace(legend[code], parent="") for code in self.code_of]
            legend = Legend(legend.name, tuple(chosen))
        self.classifier = Classifier(legend, rules)

    def classes(
        self, table: pd.DataFrame, parts: pd.DataFrame | None
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        codes, shares = self.classifier.classes(table, parts if self.classifier.needs_parts else None)
        return np.array([self.code_of.get(code, "") for code in codes], object), shares


def make_classifier(legend: Legend, rules: SioseRules) -> Classifier | CascadeClassifier:
    """
    Rules for a legend: those of its experts where it is a cascade's.

    Raises
    ------
    LegendError
        If SIOSE AR cannot be translated to the legend.
    """
    divided = any(legend.class_above(item) is not None for item in legend.classes)
    return CascadeClassifier(legend, rules) if legend.composed and divided else Classifier(legend, rules)
