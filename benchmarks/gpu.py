"""
Throughput of mapping on a GPU, beside a bare forward pass; needs only what is found beside torch, smp or timm.

    python benchmarks/gpu.py [--encoder resnet50] [--windows 512 1024] [--seconds 5]

Needs torch, numpy and one of segmentation_models_pytorch and timm; Tesela need not be installed. For each window side
and precision it prints the megapixels in a second of (a) bare forward passes on images that lie on the device, (b) the
way from scaled images in memory to classes in memory: upload, forward, argmax on the device, download; the next batch
is uploaded while the former is computed. (b) / (a) is what a pipeline can lose. Without a GPU it says so and runs on
the processor, for a look at the script. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for processors shared with others; read as torch loads

import numpy as np
import torch

CLASSES = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--windows", type=int, nargs="+", default=[512, 1024])
    parser.add_argument(
        "--batch", type=int, help="windows in a call; default: about 4 Mpx on a GPU, 1 without"
    )
    parser.add_argument("--seconds", type=float, default=5, help="seconds for each number")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        print("No GPU: torch finds no CUDA device. The numbers below are of the processor.", file=sys.stderr)
    network, made_by = make_network(options.encoder)
    network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True
    precisions = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device == "cuda":
        precisions["fp16"] = torch.float16
    found = []
    for side in options.windows:
        batch = options.batch or (max(1, 4_194_304 // side**2) if device == "cuda" else 1)
        images = np.random.default_rng(0).standard_normal((batch, side, side, 3), np.float32)
        for name, dtype in precisions.items():
            with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
                bare = rate(bare_pass(network, images, device), images, seconds=options.seconds)
                whole = rate(whole_way(network, images, device), images, seconds=options.seconds)
            found.append(
                {
                    "window_px": side,
                    "batch": batch,
                    "precision": name,
                    "bare_mpx_per_s": round(bare, 2),
                    "to_classes_mpx_per_s": round(whole, 2),
                    "ratio": round(whole / bare, 3),
                }
            )
    document = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "no GPU: processor",
        "torch": torch.__version__,
        "network": f"{made_by}, {options.encoder}, {CLASSES} classes",
        "results": found,
    }
    print(json.dumps(document, indent=2))


def make_network(encoder: str) -> tuple[torch.nn.Module, str]:
    """A U-Net of smp, or a plain decoder on an encoder of timm."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        import timm

        return _Plain(
            timm.create_model(encoder, features_only=True, pretrained=False)
        ), "timm with a plain decoder"
    return smp.Unet(encoder, encoder_weights=None, classes=CLASSES), "smp.Unet"


class _Plain(torch.nn.Module):
    """Features of an encoder, each brought to the size of the finest, and added."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.feature_info.channels()
        self.sides = torch.nn.ModuleList(torch.nn.Conv2d(count, 64, 1) for count in channels)
        self.head = torch.nn.Conv2d(64, CLASSES, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.encoder(images)
        size = features[0].shape[2:]
        merged = sum(
            torch.nn.functional.interpolate(side(each), size=size)
            for side, each in zip(self.sides, features, strict=True)
        )
        return torch.nn.functional.interpolate(self.head(merged), size=images.shape[2:])


def bare_pass(network: torch.nn.Module, images: np.ndarray, device: str) -> Callable[[], object]:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    return lambda: network(batch)


def whole_way(network: torch.nn.Module, images: np.ndarray, device: str) -> Callable[[], object]:
    """From scaled images in memory to classes in memory, with the upload one batch ahead."""
    host = torch.from_numpy(images)
    if device == "cpu":
        return lambda: network(host.permute(0, 3, 1, 2)).argmax(1).to(torch.uint8).numpy()
    host = host.pin_memory()
    aside = torch.cuda.Stream()
    out = torch.empty(images.shape[:3], dtype=torch.uint8).pin_memory()

    def upload() -> torch.Tensor:
        with torch.cuda.stream(aside):
            return host.to(device, non_blocking=True)

    waiting = upload()

    def call() -> object:
        nonlocal waiting
        torch.cuda.current_stream().wait_stream(aside)
        batch, waiting = waiting, upload()
        out.copy_(network(batch.permute(0, 3, 1, 2)).argmax(1).to(torch.uint8), non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return out

    return call


def rate(call: Callable[[], object], images: np.ndarray, *, seconds: float) -> float:
    """Megapixels in a second, after two calls to warm up."""
    call()
    call()
    _wait()
    begun, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - begun < seconds:
        call()
        calls += 1
        _wait()
    return calls * images[..., 0].size / 1e6 / (time.perf_counter() - begun)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
