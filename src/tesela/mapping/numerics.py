"""Numerics: parts of a network that are computed in fp32, whatever the precision of the rest."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

STAGES = ("encoder", "decoder", "head")
"""Modules of a network that runs in stages, in their order."""

_FINE = {"encoder": 4, "decoder": 1}
"""Largest reduction of the image's resolution at which the convolutions of a stage are exact."""


class ExactHead(nn.Module):
    """
    A network whose last stage is always computed in fp32.

    In bf16 two close scores round to the same number. With its head in fp32, a U-Net keeps a tenth of the classes that
    bf16 would flip, and the head is about a hundredth of the work.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of a network; one without stages runs as it is."""
        network: Any = self.network
        if not has_stages(network):
            scores: torch.Tensor = network(images)
            return scores
        return run_head(network, network.decoder(network.encoder(images)))


def has_stages(network: nn.Module) -> bool:
    """Whether a network has an encoder, a decoder and a head."""
    return all(hasattr(network, name) for name in STAGES)


def run_head(network: Any, passed: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Last stage of a network (its ``head``), in fp32."""
    tensors = [passed] if isinstance(passed, torch.Tensor) else passed
    with torch.autocast(tensors[0].device.type, enabled=False):
        exact = [tensor.float() for tensor in tensors]
        scores: torch.Tensor = network.head(exact[0] if isinstance(passed, torch.Tensor) else exact)
    return scores


def keep_fine_exact(network: nn.Module, bands: int) -> nn.Module:
    """
    Copy of a network whose convolutions next to the image run in fp32, also under autocast.

    These are the convolutions of the encoder down to a quarter of the image's resolution, and of the decoder at full
    resolution. All later stages depend on their rounding. They are a seventh of the arithmetic of a U-Net with a
    ResNet50, and keeping them exact saves more than half of the classes that bf16 flips (see
    ``benchmarks/whole_job.py``). Each is fused with the batch normalisation that follows it, which saves a pass over
    the largest arrays. The rest runs under autocast.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    bands : int
        Bands of its input.

    Returns
    -------
    Module
        The network itself where it lacks the stages of `tesela.models.segmentation.encoder_decoder.EncoderDecoder`.
    """
    if not has_stages(network):
        return network
    side = 2 * int(getattr(network, "stride", 32))
    device = next(network.parameters()).device
    probe = torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        fine, norms = _fine_convolutions(network, probe)
        folded = _exact_copy(network, fine, norms)
        expected, scores = network(probe), folded(probe)
        if float((scores - expected).abs().max()) > 1e-4 * float(expected.abs().max()):
            folded = _exact_copy(network, fine, {})  # a normalisation does not follow its convolution alone
    return folded


def _fine_convolutions(network: nn.Module, probe: torch.Tensor) -> tuple[list[str], dict[str, str]]:
    """Names of the convolutions next to the image, and of the normalisations that follow them."""
    fine: list[str] = []
    norms: dict[str, str] = {}
    made: dict[int, str] = {}
    held: list[torch.Tensor] = []  # keeps every array alive, so that ids are unique
    side = probe.shape[-1]

    def watch(name: str, limit: int, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def after(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            held.append(output)
            if type(module) is nn.BatchNorm2d and id(inputs[0]) in made:
                norms[made[id(inputs[0])]] = name
            elif isinstance(module, nn.Conv2d) and output.shape[-1] * limit >= side:
                fine.append(name)
                made[id(output)] = name

        return module.register_forward_hook(after)

    handles = [
        watch(f"{stage}.{name}", limit, module)
        for stage, limit in _FINE.items()
        for name, module in getattr(network, stage).named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    network(probe)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(fine)), norms


def _exact_copy(network: nn.Module, fine: list[str], norms: dict[str, str]) -> nn.Module:
    exact = copy.deepcopy(network)
    for name in fine:
        module: nn.Module = exact.get_submodule(name)
        if name in norms:
            norm: Any = exact.get_submodule(norms[name])
            module = fuse_conv_bn_eval(module, norm)  # type: ignore[type-var]
            exact.set_submodule(norms[name], nn.Identity())
        exact.set_submodule(name, _Exact(module.to(memory_format=torch.channels_last)))
    return exact


class _Exact(nn.Module):
    """Runs a module in fp32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            output: torch.Tensor = self.inner(images.float())
        return output
