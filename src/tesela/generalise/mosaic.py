"""Mosaic classes: groups of small parcels that together are one area of a mixed class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import LegendError
from tesela.core.legend import Legend
from tesela.generalise.merging import group_regions
from tesela.generalise.regions import RegionGraph


@dataclass(frozen=True)
class Share:
    """Part of a mosaic: some classes, and the share of the area that they must have together."""

    codes: tuple[str, ...]
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class MosaicRule:
    """
    When a group of small areas becomes one area of a mixed class.

    A group is a set of areas under the mapping unit, all of classes of the rule, that touch each other. It
    becomes `target` when it reaches the unit, has at least two classes, no class covers more than `most_single`
    of its area, and every part is within its limits.
    """

    target: str
    parts: tuple[Share, ...]
    most_single: float = 0.75


_CROPS_3 = ("211", "212", "213", "221", "222", "223", "231", "241", "242")
_FARMED_3 = (*_CROPS_3, "243", "244")
_NATURAL_3 = ("311", "312", "313", "321", "322", "323", "324")

RULES: dict[str, tuple[MosaicRule, ...]] = {
    "corine-3": (
        MosaicRule("242", (Share(_CROPS_3),)),
        MosaicRule("313", (Share(("311",), 0.25), Share(("312",), 0.25), Share(("313",)))),
        MosaicRule("243", (Share(_FARMED_3, 0.25, 0.75), Share(_NATURAL_3, 0.25, 0.75))),
    ),
    "corine-2": (
        MosaicRule("24", (Share(("21", "22", "23", "24")),)),
        MosaicRule("24", (Share(("21", "22", "23", "24"), 0.25, 0.75), Share(("31", "32"), 0.25, 0.75))),
    ),
}
"""Rules by legend, in the order in which they are applied; our interpretation of the CORINE nomenclature."""


def find_rules(legend: Legend) -> tuple[MosaicRule, ...]:
    """
    Shipped rules of a legend.

    Raises
    ------
    LegendError
        If the legend has none, or lacks a class that they use.
    """
    if legend.address not in RULES:
        raise LegendError(
            f"Legend '{legend.address}' has no mosaic rules; {', '.join(RULES)} have. Leave the step out, "
            f"or pass your own rules (mosaic=[MosaicRule(...)])."
        )
    return RULES[legend.address]


def build_mosaics(
    graph: RegionGraph, *, legend: Legend, rules: Sequence[MosaicRule], unit_px: int, edges: str
) -> None:
    """
    Give each group that meets a rule its mixed class; rules apply in order, and a group is used once.

    Parameters
    ----------
    graph : RegionGraph
        Built with the unit `unit_px`; the classes of its nodes are changed in place.
    edges : {"keep", "merge"}
        With "keep", areas cut by the edge or by nodata join no group, because their true size is unknown.
    """
    free = graph.whole & (graph.size < unit_px)
    if edges == "keep":
        free &= graph.flags == 0
    for rule in rules:
        parts = [_values_of(legend, part.codes) for part in rule.parts]
        allowed = np.zeros(256, np.bool_)
        for part in parts:
            allowed |= part
        nodes = np.flatnonzero(free & allowed[graph.value])
        if not len(nodes):
            continue
        chosen = np.zeros(len(graph.value), np.bool_)
        chosen[nodes] = True
        groups = group_regions(graph.arrays, chosen)
        _, index = np.unique(groups[nodes], return_inverse=True)
        count = int(index.max()) + 1
        pixels = np.zeros((count, 256), np.int64)
        np.add.at(pixels, (index, graph.value[nodes]), graph.size[nodes])
        total = pixels.sum(axis=1)
        fits = (total >= unit_px) & ((pixels > 0).sum(axis=1) > 1)
        fits &= pixels.max(axis=1) <= rule.most_single * total
        for part, share in zip(parts, rule.parts, strict=True):
            own = pixels[:, part].sum(axis=1)
            fits &= (own >= share.least * total) & (own <= share.most * total)
        used = nodes[fits[index]]
        graph.value[used] = legend[rule.target].value
        free[used] = False


def _values_of(legend: Legend, codes: Sequence[str]) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[[legend[code].value for code in codes]] = True
    return table
