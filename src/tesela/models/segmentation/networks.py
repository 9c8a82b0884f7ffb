"""The networks for class maps by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from tesela.models.architecture import Architecture
from tesela.models.segmentation.class_trees import FORMS, ClassTreesArchitecture
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.unet import UnetArchitecture

if TYPE_CHECKING:
    from torch import nn


class SegmentationArchitecture(Architecture, Protocol):
    """
    A network for class maps: (batch, bands, rows, cols) in, logits (batch, classes, rows, cols) out.

    A new network is one file with a frozen dataclass of these methods, and one line in `SEGMENTATION_NETWORKS`.
    Opening an expert's header reads the dataclass, so the file imports torch inside `build` only.
    """

    @property
    def stride(self) -> int:
        """Rows and columns of the input must be a multiple of this."""

    @classmethod
    def plan(cls, *, bands: int, classes: int, encoder: str, decoder: str) -> Self:
        """
        Architecture for the settings of a training; see `SegmentationSettings` for `encoder` and `decoder`.

        Raises
        ------
        ExpertError
            If the network has no such encoder.
        """

    def build(
        self, *, weights: str | Path | None = None, band_names: Sequence[str] | None = None
    ) -> nn.Module:
        """Make the network, with random weights, or with pretrained ones of the encoder, matched to bands by name."""


SEGMENTATION_NETWORKS: dict[str, type[SegmentationArchitecture]] = {"unet": UnetArchitecture}
"""Networks by the name that `SegmentationSettings.model` and the header of an expert give them."""

TREE_FORMS = FORMS
"""Trees by the name that `SegmentationSettings.model` gives them."""

OTHER_MODELS: dict[str, type[Architecture]] = {
    "class_trees": ClassTreesArchitecture,
    "fused": FusedArchitecture,
}
"""Models for class maps that no gradient trains, by the name that the header of an expert gives them."""
