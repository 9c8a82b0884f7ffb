"""The U-Net: any encoder of smp or timm, any number of bands."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.band_dates import STATIC, group_by_date
from tesela.core.errors import ExpertError, join_words
from tesela.models.architecture import MOST_CHANNELS, MOST_CLASSES, number_list, whole_number

if TYPE_CHECKING:
    from tesela.models.segmentation.encoder_decoder import EncoderDecoder

STRIDE = 32
"""Rows and columns of the input must be a multiple of this: the encoder halves them five times."""

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Channels of the five decoder stages, coarse to fine: those of the published U-Net of smp."""

MOST_DATES = 366

_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")

SMALL_DECODER_CHANNELS = (128, 64, 48, 32, 16)
"""A narrower decoder, about a quarter less work with a small encoder."""


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
    band_dates: tuple[int, ...] = ()
    """Number of the date of each band, `tesela.core.band_dates.STATIC` for none; empty: a single date. A date without
    data in a pixel is seen as its mean."""

    @property
    def kind(self) -> str:
        """Name of the family in an expert's header."""
        return "unet"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"U-Net, encoder {self.encoder}"

    @property
    def stride(self) -> int:
        """Rows and columns of the input must be a multiple of this."""
        return STRIDE

    @classmethod
    def plan(cls, *, bands: int, classes: int, encoder: str, decoder: str) -> UnetArchitecture:
        """Architecture for the settings of a training; raises ExpertError if there is no such encoder."""
        encoder_name(encoder)
        channels = SMALL_DECODER_CHANNELS if decoder == "small" else DECODER_CHANNELS
        return cls(bands, classes, encoder=encoder, decoder_channels=channels)

    def of_bands(self, names: Sequence[str]) -> UnetArchitecture:
        """The architecture for bands of these names: of several dates, a pixel needs data at one of them only."""
        dates = group_by_date(names)
        several = dates.of_bands if len(dates.names) > 1 else ()
        return replace(self, bands=len(names), band_dates=several)

    def build(
        self, *, weights: str | Path | None = None, band_names: Sequence[str] | None = None
    ) -> EncoderDecoder:
        """Make the network, with random weights, or with pretrained ones of the encoder; see `make_unet`."""
        return make_unet(
            encoder=self.encoder,
            bands=self.bands,
            classes=self.classes,
            decoder_channels=self.decoder_channels,
            weights=weights,
            band_names=band_names,
        )

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        document = {"kind": self.kind, **asdict(self), "decoder_channels": list(self.decoder_channels)}
        dates = document.pop("band_dates")
        return document | ({"band_dates": list(dates)} if dates else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> UnetArchitecture:
        """Build from `to_dict`'s document, checking every field."""
        bands = whole_number(document, "bands", most=MOST_CHANNELS)
        classes = whole_number(document, "classes", most=MOST_CLASSES)
        encoder = document.get("encoder")
        if not isinstance(encoder, str):
            raise ExpertError(f"architecture: encoder is {encoder!r}, a name was needed.")
        channels = number_list(document, "decoder_channels", most=MOST_CHANNELS, least=1)
        if not channels:
            raise ExpertError("architecture: decoder_channels is [], a list was needed.")
        dates = document.get("band_dates", [])
        if not isinstance(dates, list) or len(dates) not in (0, bands):
            raise ExpertError(
                f"architecture: band_dates is {dates!r}, one number for each of {bands} bands was needed."
            )
        numbers = tuple(
            whole_number({"band_dates": item}, "band_dates", most=MOST_DATES - 1, least=STATIC)
            for item in dates
        )
        return cls(bands, classes, encoder=encoder, decoder_channels=channels, band_dates=numbers)


def make_unet(
    *,
    encoder: str = "resnet50",
    bands: int,
    classes: int,
    weights: str | Path | None = None,
    decoder_channels: Sequence[int] = DECODER_CHANNELS,
    band_names: Sequence[str] | None = None,
) -> EncoderDecoder:
    """
    Make a U-Net of segmentation_models_pytorch [Ronneberger2015]_, with random or pretrained encoder weights.

    Parameters
    ----------
    encoder : str
        Any encoder of segmentation_models_pytorch ("resnet50") or of timm ("convnext_tiny", also written
        "tu-convnext_tiny") that gives features at strides up to 32.
    bands, classes : int
        Channels of the input and of the output.
    weights : str or Path, optional
        None for random weights; a name such as "imagenet" for what smp or timm offer for the encoder, from an
        installed package (``tf_efficientnet_lite0``, extra ``start``), the cache or downloaded; a name of torchgeo's
        for satellite imagery ("SENTINEL2_ALL_MOCO"), from the cache or downloaded; or a local ``.safetensors`` or
        ``.pth`` file. The first convolution is spread over the bands, see
        `tesela.models.segmentation.weights.load_encoder_weights`.
    decoder_channels : sequence of 5 int
        Channels of the decoder's stages, coarse to fine.
    band_names : sequence of str, optional
        Names of the bands, by which files of weights and those for satellite imagery are matched to them. The channels
        of photographs ("imagenet") repeat over the bands in order.

    Raises
    ------
    ExpertError
        If the encoder or the weights are unknown, cannot be downloaded, or do not fit.

    Examples
    --------
    >>> network = make_unet(encoder="resnet18", bands=6, classes=5)
    >>> network.stride
    32
    """
    import segmentation_models_pytorch as smp

    from tesela.models.segmentation.encoder_decoder import EncoderDecoder
    from tesela.models.segmentation.known_weights import known_weights_file
    from tesela.models.segmentation.weights import load_encoder_weights, pretrained_weights

    if bands < 1 or classes < 1 or len(decoder_channels) != 5 or min(decoder_channels) < 1:
        raise ExpertError(
            f"A U-Net needs 1 band or more, 1 class or more and 5 decoder channels; "
            f"got {bands}, {classes} and {list(decoder_channels)}."
        )
    if band_names is not None and len(band_names) != bands:
        raise ExpertError(
            f"A U-Net of {bands} bands got {len(band_names)} band names ({join_words(band_names)})."
        )
    name = encoder_name(encoder)
    try:
        with warnings.catch_warnings():
            # timm warns that a checkpoint of its own was renamed: nothing the user can act on
            warnings.filterwarnings("ignore", message="Mapping deprecated model", category=UserWarning)
            net = smp.Unet(
                encoder_name=name,
                encoder_weights=None,
                in_channels=bands,
                classes=classes,
                decoder_channels=tuple(decoder_channels),
            )
    except (RuntimeError, LookupError, ValueError, AttributeError, AssertionError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ExpertError(
            f"Encoder '{encoder}' cannot carry a U-Net of {bands} bands ({reason}): it must give "
            f"features at strides 2 to 32; 'resnet50' and 'convnext_tiny' do."
        ) from error
    network = EncoderDecoder(
        net.encoder, net.decoder, net.segmentation_head, bands=bands, classes=classes, stride=STRIDE
    )
    if weights is not None:
        known = None if Path(weights).suffix in _WEIGHT_FILES else known_weights_file(name, str(weights))
        path = known or Path(weights)
        if path.suffix not in _WEIGHT_FILES:
            tensors = pretrained_weights(name, str(weights))
            load_encoder_weights(network.encoder, tensors, source=f"'{weights}' weights of {encoder}")
        else:
            load_encoder_weights(network.encoder, path, source=str(path), bands=band_names or ())
    return network


def encoder_name(name: str) -> str:
    """
    Translate an encoder's name to smp's spelling, where those of timm start with ``tu-``.

    Raises
    ------
    ExpertError
        If neither library has it; names the nearest one.
    """
    ours, timm_names = available_encoders()
    if name in ours:
        return name
    plain = name.removeprefix("tu-")
    if plain.split(".")[0] in timm_names and "/" not in plain and ":" not in plain:
        return f"tu-{plain}"
    near = difflib.get_close_matches(plain, (*ours, *sorted(timm_names)), n=3, cutoff=0.5)
    hint = f" did you mean {join_words(near)}?" if near else ""
    raise ExpertError(
        f"Unknown encoder '{name}':{hint} Available are the {len(ours)} of segmentation_models_pytorch "
        f"({join_words(ours, most=5)}) and the {len(timm_names)} of timm."
    )


@functools.cache
def available_encoders() -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of the encoders of smp, in its order, and of timm."""
    import segmentation_models_pytorch as smp
    import timm

    native = tuple(item for item in smp.encoders.get_encoder_names() if not item.startswith("timm-"))
    return native, frozenset(timm.list_models())
