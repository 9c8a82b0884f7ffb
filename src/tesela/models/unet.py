"""The U-Net: any encoder of smp or timm, any number of bands."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch._C import _get_tracing_state

from tesela.core.errors import ExpertError, join_words
from tesela.models.architecture import DECODER_CHANNELS
from tesela.models.weights import load_encoder_weights, pretrained_weights

STRIDE = 32
"""Rows and columns of the input must be a multiple of this: the encoder halves them five times."""


class Unet(nn.Module):
    """
    U-Net of segmentation_models_pytorch [Ronneberger2015]_, with its shape checked in words.

    Parameters
    ----------
    encoder : str
        Name as smp knows it ("resnet50", "tu-convnext_tiny"); `make_unet` translates others.
    bands, classes : int
        Channels of the input and of the output.
    decoder_channels : sequence of 5 int
        Channels of the decoder's stages, coarse to fine.
    """

    stride = STRIDE

    def __init__(self, *, encoder: str, bands: int, classes: int, decoder_channels: Sequence[int]) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.bands, self.classes = bands, classes
        net = smp.Unet(
            encoder_name=encoder,
            encoder_weights=None,
            in_channels=bands,
            classes=classes,
            decoder_channels=tuple(decoder_channels),
        )
        self.encoder: nn.Module = net.encoder
        self.decoder: nn.Module = net.decoder
        self.head: nn.Module = net.segmentation_head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """
        Score every class in every pixel.

        Parameters
        ----------
        images : (batch, bands, rows, cols) tensor of float
            Scaled images; rows and cols are multiples of `stride`.

        Returns
        -------
        (batch, classes, rows, cols) tensor of float
            Logits: softmax over classes gives probabilities.

        Raises
        ------
        ExpertError
            If the number of bands or the size does not fit.
        """
        if _get_tracing_state() is None:  # a tracer (OpenVINO, ONNX) would bake the shape in
            self._check(tuple(images.shape))
        try:
            features = self.encoder(images)  # strides 1 to 32
        except AssertionError as error:  # transformers of timm that were built for one size
            raise ExpertError(
                f"This encoder does not take {images.shape[2]} x {images.shape[3]} px ({_first_line(error)}). "
                f"Take one for any size, such as 'resnet50' or 'convnext_tiny'."
            ) from error
        scores: torch.Tensor = self.head(self.decoder(features))  # (b, classes, rows, cols)
        return scores

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] != self.bands:
            raise ExpertError(
                f"The network was given an array of shape {shape}, "
                f"but needs (batch, {self.bands} bands, rows, cols)."
            )
        rows, cols = shape[2:]
        if rows % STRIDE or cols % STRIDE or not rows or not cols:
            fits = tuple(max(1, -(-size // STRIDE)) * STRIDE for size in (rows, cols))
            raise ExpertError(
                f"The network was given {rows} x {cols} px, but needs multiples of {STRIDE}: "
                f"pad to {fits[0]} x {fits[1]} px."
            )


def make_unet(
    *,
    encoder: str = "resnet50",
    bands: int,
    classes: int,
    weights: str | Path | None = None,
    decoder_channels: Sequence[int] = DECODER_CHANNELS,
) -> Unet:
    """
    Make a U-Net, with random or pretrained encoder weights.

    Parameters
    ----------
    encoder : str
        Any encoder of segmentation_models_pytorch ("resnet50") or of timm ("convnext_tiny", also written
        "tu-convnext_tiny") that gives features at strides up to 32.
    bands, classes : int
        Channels of the input and of the output.
    weights : str or Path, optional
        None for random weights; a name such as "imagenet" to download (and cache) what smp or timm offer for
        the encoder; or a local ``.safetensors`` or ``.pth`` file. The first convolution is spread over the
        bands, see `tesela.models.weights.load_encoder_weights`.
    decoder_channels : sequence of 5 int
        Channels of the decoder's stages, coarse to fine.

    Raises
    ------
    ExpertError
        If the encoder or the weights are unknown, cannot be had, or do not fit.

    Examples
    --------
    >>> network = make_unet(encoder="resnet18", bands=6, classes=5)
    >>> network.stride
    32
    """
    if bands < 1 or classes < 1 or len(decoder_channels) != 5 or min(decoder_channels) < 1:
        raise ExpertError(
            f"A U-Net needs 1 band or more, 1 class or more and 5 decoder channels; "
            f"got {bands}, {classes} and {list(decoder_channels)}."
        )
    name = encoder_name(encoder)
    try:
        with warnings.catch_warnings():
            # timm says that a checkpoint of its own was renamed: nothing the user can act on
            warnings.filterwarnings("ignore", message="Mapping deprecated model", category=UserWarning)
            network = Unet(encoder=name, bands=bands, classes=classes, decoder_channels=decoder_channels)
    except (RuntimeError, LookupError, ValueError, AttributeError, AssertionError, TypeError) as error:
        raise ExpertError(
            f"Encoder '{encoder}' cannot carry a U-Net of {bands} bands ({_first_line(error)}): it must give "
            f"features at strides 2 to 32; 'resnet50' and 'convnext_tiny' do."
        ) from error
    if weights is not None:
        path = Path(weights)
        if path.suffix not in {".safetensors", ".pth", ".pt", ".bin"}:
            tensors = pretrained_weights(name, str(weights))
            load_encoder_weights(network.encoder, tensors, source=f"'{weights}' weights of {encoder}")
        else:
            load_encoder_weights(network.encoder, path, source=str(path))
    return network


def encoder_name(name: str) -> str:
    """
    Translate an encoder's name to smp's spelling, where those of timm start with ``tu-``.

    Raises
    ------
    ExpertError
        If neither library has it; names the nearest one.
    """
    ours, timm_names = known_encoders()
    if name in ours:
        return name
    plain = name.removeprefix("tu-")
    if plain.split(".")[0] in timm_names and "/" not in plain and ":" not in plain:
        return f"tu-{plain}"
    near = difflib.get_close_matches(plain, (*ours, *sorted(timm_names)), n=3, cutoff=0.5)
    hint = f" did you mean {join_words(near)}?" if near else ""
    raise ExpertError(
        f"Unknown encoder '{name}':{hint} Known are the {len(ours)} of segmentation_models_pytorch "
        f"({join_words(ours, most=5)}) and the {len(timm_names)} of timm."
    )


@functools.cache
def known_encoders() -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of the encoders of smp, in its order, and of timm."""
    import segmentation_models_pytorch as smp
    import timm

    native = tuple(item for item in smp.encoders.get_encoder_names() if not item.startswith("timm-"))
    return native, frozenset(timm.list_models())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
