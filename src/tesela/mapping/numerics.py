"""Numerics: which parts of a network are computed in fp32 whatever the precision of the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

STAGES = ("encoder", "decoder", "head")
"""Modules that a network is run through, in this order, where it has them."""

_FINE = {"encoder": 4, "decoder": 1}
"""Pixels of the image in one of a stage's results, up to which its convolutions are exact."""


class ExactHead(nn.Module):
    """
    A network whose last stage is always computed in fp32.

    In bf16 two close scores round to the same number: with its head in fp32 a U-Net keeps a tenth of the classes that
    bf16 would flip, and the head is about a hundredth of the work.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of a network in stages as `tesela.models.unet.Unet` has them, or of any other as it is."""
        network: Any = self.network
        if not has_stages(network):
            scores: torch.Tensor = network(images)
            return scores
        return run_head(network, network.decoder(network.encoder(images)))


def has_stages(network: nn.Module) -> bool:
    """Whether a network is run through encoder, decoder and head."""
    return all(hasattr(network, name) for name in STAGES)


def run_head(network: Any, passed: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Last stage of a network (its ``head``), in fp32."""
    tensors = [passed] if isinstance(passed, torch.Tensor) else passed
    with torch.autocast(tensors[0].device.type, enabled=False):
        exact = [tensor.float() for tensor in tensors]
        scores: torch.Tensor = network.head(exact[0] if isinstance(passed, torch.Tensor) else exact)
    return scores


def keep_fine_exact(network: nn.Module, bands: int) -> None:
    """
    Compute the convolutions next to the image in fp32, also where autocast asks for less.

    These are the encoder's down to a quarter of the image's resolution, and the decoder's at full resolution. What they
    round, all later stages carry; of a U-Net with a ResNet50 they are a seventh of the arithmetic, and with them exact
    more than half of the classes that bf16 flips stay (see ``benchmarks/whole_job.py``). The rest runs as autocast
    says. Networks without the stages of `tesela.models.unet.Unet` are left as they are.

    Parameters
    ----------
    network : Module
        In evaluation mode; its convolutions are told how to run, no tensor is changed.
    bands : int
        Bands of its input.
    """
    if not has_stages(network):
        return
    side = 2 * int(getattr(network, "stride", 32))
    device = next(network.parameters()).device
    fine: list[nn.Module] = []

    def watch(limit: int, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def after(_: nn.Module, __: object, output: torch.Tensor) -> None:
            if output.shape[-1] * limit >= side:
                fine.append(module)

        return module.register_forward_hook(after)

    handles = [
        watch(limit, module)
        for stage, limit in _FINE.items()
        for module in getattr(network, stage).modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, bands, side, side, device=device))
    for handle in handles:
        handle.remove()
    for module in fine:
        module.forward = _Exact(module)  # type: ignore[method-assign]


class _Exact:
    """Runs a module in fp32."""

    def __init__(self, module: nn.Module) -> None:
        inner = module.forward
        self.inner = inner.inner if isinstance(inner, _Exact) else inner

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            found: torch.Tensor = self.inner(images.float())
        return found
