"""Trees for class maps: what an expert's header says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tesela.core.errors import ExpertError
from tesela.models.architecture import MOST_CHANNELS, MOST_CLASSES, choice, whole_number
from tesela.models.segmentation.feature_spec import FeatureSpec

if TYPE_CHECKING:
    from torch import nn

FORMS = ("boosting", "forest")
"""Boosting: symmetric trees, one feature and threshold a level, a score for each class in each leaf.
Forest: trees of any shape whose leaves hold class frequencies."""

MOST_DEPTH = 8
"""Levels of a symmetric tree."""

MOST_TREES = 10_000


@dataclass(frozen=True)
class ClassTreesArchitecture:
    """Trees over window features."""

    bands: int
    classes: int
    form: str
    trees: int
    depth: int
    """Levels of the symmetric trees; of a forest, the deepest tree."""
    nodes: int
    """Nodes of all trees of a forest; 0 for boosting."""
    spec: FeatureSpec

    @property
    def kind(self) -> str:
        """Name of the family in an expert's header."""
        return "class_trees"

    @property
    def summary(self) -> str:
        """A few words for people."""
        name = "Boosted trees" if self.form == "boosting" else "Forest"
        return f"{name}, {self.trees} trees, {len(self.spec.features)} features"

    @property
    def band_dates(self) -> tuple[int, ...]:
        """Number of the date of each band; empty: all are of one date."""
        return self.spec.band_dates

    @property
    def stride(self) -> int:
        """Rows and columns of the input must be a multiple of this."""
        return 1

    def build(self) -> nn.Module:
        """Make the trees, all empty."""
        from tesela.models.segmentation.tree_network import ClassTrees

        return ClassTrees(self)

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        return {
            "kind": self.kind,
            "bands": self.bands,
            "classes": self.classes,
            "form": self.form,
            "trees": self.trees,
            "depth": self.depth,
            "nodes": self.nodes,
            "features": self.spec.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Build from `to_dict`'s document, checking every field."""
        features = document.get("features")
        if not isinstance(features, Mapping):
            raise ExpertError(f"architecture: features is {features!r}, a table was needed.")
        made = cls(
            bands=whole_number(document, "bands", most=MOST_CHANNELS),
            classes=whole_number(document, "classes", most=MOST_CLASSES),
            form=choice(document, "form", FORMS),
            trees=whole_number(document, "trees", most=MOST_TREES),
            depth=whole_number(
                document, "depth", most=MOST_DEPTH if document.get("form") == "boosting" else 64
            ),
            nodes=whole_number(document, "nodes", most=50_000_000, least=0),
            spec=FeatureSpec.from_dict(features),
        )
        if made.spec.bands != made.bands:
            raise ExpertError(f"architecture: features of {made.spec.bands} bands, {made.bands} were needed.")
        return made
