"""The architecture: the few settings from which a network is built anew, without running stored code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, Self

from tesela.core.errors import ExpertError, unknown_name
from tesela.models.header_validation import MOST_CHANNELS, MOST_CLASSES, whole_number
from tesela.models.unmixers import UNMIXERS

if TYPE_CHECKING:
    from torch import nn

    from tesela.models.unet import Unet

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Channels of the five decoder stages, coarse to fine: those of the published U-Net of smp."""

SMALL_DECODER_CHANNELS = (128, 64, 48, 32, 16)
"""A narrower decoder, about a quarter less work with a small encoder."""


class Architecture(Protocol):
    """What every family of networks says of itself."""

    @property
    def bands(self) -> int:
        """Number of input bands."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def kind(self) -> str:
        """Name of the family in `ARCHITECTURES`."""

    @property
    def summary(self) -> str:
        """A few words for people."""

    def build(self) -> nn.Module:
        """Make the network, with random weights."""

    def to_dict(self) -> dict[str, object]:
        """Document from which `read_architecture` builds the same value."""

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Build from `to_dict`'s document, checking every field."""


@dataclass(frozen=True)
class UnetArchitecture:
    """A U-Net: encoder by name, bands in, classes out."""

    bands: int
    """Number of input bands."""
    classes: int
    """Number of classes: channels of the output."""
    encoder: str = "resnet50"
    """Name of an encoder of segmentation_models_pytorch or timm."""
    decoder_channels: tuple[int, ...] = DECODER_CHANNELS

    @property
    def kind(self) -> str:
        """Name of the family in `ARCHITECTURES`."""
        return "unet"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"U-Net, encoder {self.encoder}"

    def build(self) -> Unet:
        """Make the network, with random weights."""
        from tesela.models.unet import make_unet

        return make_unet(
            encoder=self.encoder,
            bands=self.bands,
            classes=self.classes,
            decoder_channels=self.decoder_channels,
        )

    def to_dict(self) -> dict[str, object]:
        """Document from which `read_architecture` builds the same value."""
        return {"kind": self.kind, **asdict(self), "decoder_channels": list(self.decoder_channels)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> UnetArchitecture:
        """Build from `to_dict`'s document, checking every field."""
        bands = whole_number(document, "bands", most=MOST_CHANNELS)
        classes = whole_number(document, "classes", most=MOST_CLASSES)
        encoder, channels = document.get("encoder"), document.get("decoder_channels")
        if not isinstance(encoder, str):
            raise ExpertError(f"architecture: encoder is {encoder!r}, a name was needed.")
        if not isinstance(channels, list) or not channels:
            raise ExpertError(f"architecture: decoder_channels is {channels!r}, a list was needed.")
        sizes = tuple(
            whole_number({"decoder_channels": item}, "decoder_channels", most=MOST_CHANNELS)
            for item in channels
        )
        return cls(bands, classes, encoder=encoder, decoder_channels=sizes)


ARCHITECTURES: dict[str, type[Architecture]] = {"unet": UnetArchitecture, **UNMIXERS}
"""Families of networks that an expert file may name."""


def read_architecture(document: object) -> Architecture:
    """
    Read the architecture of an expert's header.

    Raises
    ------
    ExpertError
        If a field is missing or of the wrong kind, or the family is unknown.
    """
    if not isinstance(document, Mapping):
        raise ExpertError(f"architecture is {document!r}, a table of settings was needed.")
    kind = str(document.get("kind"))
    if kind not in ARCHITECTURES:
        raise ExpertError(unknown_name("architecture", kind, ARCHITECTURES))
    return ARCHITECTURES[kind].from_dict(document)
