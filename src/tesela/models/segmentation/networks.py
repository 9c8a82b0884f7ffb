"""The networks for class maps by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from tesela.models.architecture import Architecture
from tesela.models.segmentation.class_trees import FORMS, ClassTreesArchitecture
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.models.segmentation.unet_dates import UnetDatesArchitecture

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


@runtime_checkable
class BandNamed(Protocol):
    """A network that is made for the names of its bands, not for their number alone."""

    def of_bands(self, names: Sequence[str]) -> SegmentationArchitecture:
        """The architecture for bands of these names."""


SEGMENTATION_NETWORKS: dict[str, type[SegmentationArchitecture]] = {
    "unet": UnetArchitecture,
    "unet_dates": UnetDatesArchitecture,
}
"""Networks by the name that `SegmentationSettings.model` and the header of an expert give them."""


def plan_network(
    model: str, *, band_names: Sequence[str], classes: int, encoder: str, decoder: str
) -> SegmentationArchitecture:
    """
    Architecture of the network of a name for bands of these names.

    Raises
    ------
    ExpertError, InputError
        If the network has no such encoder, or cannot take these bands.
    """
    made = SEGMENTATION_NETWORKS[model].plan(
        bands=len(band_names), classes=classes, encoder=encoder, decoder=decoder
    )
    return made.of_bands(band_names) if isinstance(made, BandNamed) else made


PRETRAINED_MODELS = ("unet", "auto")
"""Names of `SegmentationSettings.model` whose encoder can be pretrained without labels."""

TREE_FORMS = FORMS
"""Trees by the name that `SegmentationSettings.model` gives them."""

OTHER_MODELS: dict[str, type[Architecture]] = {
    "class_trees": ClassTreesArchitecture,
    "fused": FusedArchitecture,
}
"""Models for class maps that no gradient trains, by the name that the header of an expert gives them."""
