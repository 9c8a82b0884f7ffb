"""The encoder-decoder network, with the shape of its input checked in words."""

from __future__ import annotations

import torch
from torch import nn
from torch._C import _get_tracing_state

from tesela.core.errors import ExpertError


class EncoderDecoder(nn.Module):
    """
    An encoder, a decoder and a head, as segmentation_models_pytorch makes them.

    Parameters
    ----------
    encoder, decoder, head : torch.nn.Module
        Image to features, features to a map of the image's size, that map to scores of the classes.
    bands, classes : int
        Channels of the input and of the output.
    stride : int
        Rows and columns of the input must be a multiple of this.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        head: nn.Module,
        *,
        bands: int,
        classes: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.bands, self.classes, self.stride = bands, classes, stride
        self.encoder = encoder
        self.decoder = decoder
        self.head = head

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
            reason = (str(error).strip().splitlines() or ["AssertionError"])[0].rstrip(".")
            raise ExpertError(
                f"This encoder does not take {images.shape[2]} x {images.shape[3]} px ({reason}). "
                f"Take one for any size, such as 'resnet50' or 'convnext_tiny'."
            ) from error
        scores: torch.Tensor = self.head(self.decoder(features))  # (b, classes, rows, cols)
        return scores

    @torch.no_grad()
    def add_to_scores(self, values: torch.Tensor) -> None:
        """
        Add a number to all scores of each class, for good.

        Raises
        ------
        ExpertError
            If the head has no bias to add it to.
        """
        last = [module for module in self.head.modules() if isinstance(module, nn.Conv2d)][-1]
        if last.bias is None:
            raise ExpertError(
                "The head of this network has no bias, so its scores cannot be adjusted; set prior = 0."
            )
        last.bias += values.to(last.bias)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] != self.bands:
            raise ExpertError(
                f"The network got an array of shape {shape}, "
                f"but needs (batch, {self.bands} bands, rows, cols)."
            )
        rows, cols = shape[2:]
        if rows % self.stride or cols % self.stride or not rows or not cols:
            fits = tuple(max(1, -(-size // self.stride)) * self.stride for size in (rows, cols))
            raise ExpertError(
                f"The network got {rows} x {cols} px, but needs multiples of {self.stride}: "
                f"pad to {fits[0]} x {fits[1]} px."
            )
