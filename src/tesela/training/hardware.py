"""The hardware that a training runs on."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from tesela.training.segmentation.settings import SegmentationSettings, SettingsError


def choose_hardware(settings: SegmentationSettings) -> tuple[str, int, str]:
    """
    Accelerator, number of devices and precision, in Lightning's words.

    Raises
    ------
    SettingsError
        If the machine does not have what the settings ask for.
    """
    gpus = torch.cuda.device_count()
    accelerator = settings.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    if accelerator == "gpu" and not gpus:
        raise SettingsError(
            "accelerator is 'gpu', but torch finds no CUDA device here: take 'auto' or 'cpu'."
        )
    most = gpus if accelerator == "gpu" else os.cpu_count() or 1
    devices = (gpus if accelerator == "gpu" else 1) if settings.devices == "auto" else settings.devices
    if devices > most:
        raise SettingsError(f"devices is {devices}, but this machine has {most} for '{accelerator}'.")
    precision = settings.precision
    if precision == "auto":
        if accelerator == "gpu":
            precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            precision = "bf16" if _cpu_computes_bf16() else "fp32"
    if precision == "fp16" and accelerator == "cpu":
        raise SettingsError(
            "precision is 'fp16', which a CPU does not train in: take 'auto', 'bf16' or 'fp32'."
        )
    return accelerator, devices, {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision]


def freeze_idle(network: nn.Module, *, bands: int) -> None:
    """Leave out parameters that no output depends on: devices that train together would wait for their gradients."""
    network.eval()
    network(torch.zeros(1, bands, 64, 64)).sum().backward()
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
    network.zero_grad(set_to_none=True)
    network.train()


def _cpu_computes_bf16() -> bool:
    """Whether the CPU has matrix instructions for bf16 (AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags
