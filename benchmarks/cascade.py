"""
The cascade: cost against the share of forest, on patchy ground and in large stands.

    .venv/bin/python benchmarks/cascade.py [--size 2048] [--encoder resnet18] [--shares 0 0.1 0.3 0.6 1]

Three U-Nets: context, then tree or not where it says forest, then species where it says tree. Where forest is, is
laid down by a fourth band that the context network's head reads (the network runs in full all the same), so that
share and pattern are exact; all forest is tree. Species are four groups of classes of the virtual region, on which
that network is trained for some steps: how far classes depend on the cover can only be seen with trained weights.
Compared are the cascade, all three networks on all ground, and gating window by window (one size, 576 px); each by
CPU seconds and by the megapixels that networks saw. Then the same with a shared backbone: canopy and species with the
context's encoder and decoder and heads of their own, beside the context expert alone; and with its encoder and narrow
decoders of their own. The classes are compared with those of the three networks run everywhere and gated afterwards,
with no rule for isolated pixels and with the usual one. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import rasterio
import scipy.ndimage
import torch
from numpy.typing import NDArray

import tesela.mapping.cascade_map  # before torch: it sets how idle threads wait
from mapping.probe import machine
from mapping.work import Ground, make_ground, mirrored, train
from tesela.core.legend import LandClass, Legend
from tesela.core.scene import Scene
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.mapping.cascade_map import CascadePrediction
from tesela.mapping.cascade_runner import CascadeRules
from tesela.mapping.window_cover import WindowSizes
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.segmentation.unet import DECODER_CHANNELS, UnetArchitecture

FIXED = {"engine": "torch", "precision": "bf16"}
NARROW = (64, 48, 32, 16, 16)
PATTERNS = {"patchy": 12.0, "stands": 160.0}
"""Pixels over which forest hangs together."""


class Encoder(torch.nn.Module):
    """The encoder of a U-Net on the first three bands; the fourth travels beside the features."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Run the module."""
        return [*self.inner(images[:, :3]), images[:, 3:]]


class Decoder(torch.nn.Module):
    """The decoder of a U-Net; the fourth band travels on."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, passed: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the module."""
        return [self.inner(passed[:-1]), passed[-1]]


class Head(torch.nn.Module):
    """The head of a U-Net; steered, its class is the one that the fourth band says, or the first one."""

    def __init__(self, inner: torch.nn.Module, steered: str) -> None:
        super().__init__()
        self.inner, self.steered = inner, steered

    def forward(self, passed: list[torch.Tensor]) -> torch.Tensor:
        """Run the module."""
        scores = self.inner(passed[0]).float()
        if self.steered == "band":
            wanted = torch.nn.functional.one_hot(passed[1][:, 0].round().long().clamp(0, 5), 6)
            return 0 * scores + 20 * wanted.permute(0, 3, 1, 2)
        if self.steered == "first":
            scores[:, 0] += 1000
        return scores


class Steered(torch.nn.Module):
    """A U-Net in three stages, steered by a band."""

    stride = 32

    def __init__(self, encoder: torch.nn.Module, decoder: torch.nn.Module, head: torch.nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the module."""
        scores: torch.Tensor = self.head(self.decoder(self.encoder(images)))
        return scores


@cache
def ground(seed: int) -> Ground:
    """Ground of the virtual region, to train on and to map."""
    return make_ground(1024, seed=seed)


@cache
def trained_species(encoder: str, steps: int) -> torch.nn.Module:
    """A network of four groups of classes."""
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 1, 0], np.uint8)
    architecture = UnetArchitecture(3, 4, encoder=encoder)
    legend = Legend("species", tuple(LandClass(i, str(i), str(i), f"#00{i:02x}00") for i in range(1, 5)))
    made = train(ground(1), architecture, steps=steps, legend=legend, labels=groups[ground(1).truth])
    return made.network


def make_cascade(
    encoder: str, *, shared: int, steps: int, channels: tuple[int, ...] = DECODER_CHANNELS
) -> Cascade:
    """Context, canopy and species; `shared` stages are the context's own."""
    members: list[Member] = []
    first: Steered | None = None
    for seed, (name, codes, steered) in enumerate(
        (
            ("context", ("water", "artificial", "forest", "crops", "pasture", "bare"), "band"),
            ("canopy", ("tree", "open"), "first"),
            ("species", ("pine", "oak", "beech", "chestnut"), ""),
        )
    ):
        torch.manual_seed(seed)
        own = DECODER_CHANNELS if first is None else channels
        architecture = UnetArchitecture(3, len(codes), encoder=encoder, decoder_channels=own)
        made = architecture.build()
        if name == "species" and not shared:
            made.load_state_dict(trained_species(encoder, steps).state_dict())
        network = Steered(Encoder(made.encoder), Decoder(made.decoder), Head(made.head, steered))
        if first is not None and shared:
            network.encoder.load_state_dict(first.encoder.state_dict())
        if first is not None and shared > 1:
            network.decoder.load_state_dict(first.decoder.state_dict())
        first = first or network
        legend = Legend(
            name, tuple(LandClass(i, code, code, f"#00{i:02x}00") for i, code in enumerate(codes, 1))
        )
        header = ExpertHeader(
            architecture=replace(architecture, bands=4),
            legend=legend,
            bands=("red", "green", "blue", "gate"),
            mean=(*(float(each) for each in ground(1).image.mean((1, 2))), 0.0),
            std=(*(float(each) for each in ground(1).image.std((1, 2))), 1.0),
            patch_size_px=256,
            pixel_size_m=0,
        )
        gate = {
            "context": None,
            "canopy": Gate("context", ("forest",)),
            "species": Gate("canopy", ("tree",)),
        }[name]
        members.append(Member(name, Expert(header, network.eval().requires_grad_(False)), gate))
    return Cascade("bench", tuple(members))


def write_ground(path: Path, size: int, *, share: float, cell_px: float) -> Scene:
    """The virtual region in three bands, and forest (2) or crops (3) in the fourth."""
    random = np.random.default_rng(0)
    field = scipy.ndimage.gaussian_filter(
        random.standard_normal((size, size)).astype(np.float32), cell_px, mode="wrap"
    )
    edge = np.quantile(field, 1 - share) if 0 < share < 1 else (np.inf if share == 0 else -np.inf)
    gate = np.where(field > edge, 2, 3).astype(np.uint16)
    image = mirrored(ground(2).image, -(-size // 1024))[:, :size, :size]
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 4,
        "height": size,
        "width": size,
        "crs": "EPSG:25830",
    }
    profile |= {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.1e6), "tiled": True, "compress": "deflate"}
    with rasterio.open(path, "w", **profile) as data:
        data.write(np.concatenate([image, gate[None]]))
        data.descriptions = ("red", "green", "blue", "gate")
    return open_scene(path)


@contextmanager
def one_size() -> Iterator[None]:
    """Gating window by window: no smaller windows."""
    usual = WindowSizes.of

    def only(plan: object, *, multiple_px: int) -> WindowSizes:
        sizes = usual(plan, multiple_px=multiple_px)  # type: ignore[arg-type]
        return replace(sizes, kept=sizes.kept[:1])

    with mock.patch.object(WindowSizes, "of", only):
        yield


def timed(call) -> tuple[float, object]:  # type: ignore[no-untyped-def]
    begun = time.process_time()
    made = call()
    return time.process_time() - begun, made


def seen_mpx(made: CascadePrediction) -> float:
    """Megapixels that networks saw."""
    total = 0.0
    for name, count in made.tally.windows.items():
        rows, cols = name.rsplit(" ", 1)[1].split("x")
        total += count * int(rows) * int(cols) / 1e6
    return round(total, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--steps", type=int, default=300, help="training of the species network")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.1, 0.3, 0.6, 1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder, options)
        document = {
            "machine": machine(),
            "size_px": options.size,
            "encoder": options.encoder,
            "own_backbones": [
                own_backbones(folder, options, pattern, share)
                for pattern in PATTERNS
                for share in options.shares
            ],
            "shared_backbone": [
                shared_backbone(folder, options, share, shared=shared, channels=channels)
                for shared, channels in ((2, DECODER_CHANNELS), (1, NARROW))
                for share in options.shares
            ],
        }
    print(json.dumps(document, indent=2))


def warm_up(folder: Path, options: argparse.Namespace) -> None:
    """Libraries are loaded and kernels made before anything is timed."""
    scene = write_ground(folder / "warm.tif", 640, share=0.3, cell_px=30)
    for shared in (0, 2):
        cascade = make_cascade(options.encoder, shared=shared, steps=options.steps)
        tesela.mapping.cascade_map.predict_cascade(cascade, scene, folder / "warm_map.tif", **FIXED)


def own_backbones(folder: Path, options: argparse.Namespace, pattern: str, share: float) -> dict[str, object]:
    cascade = make_cascade(options.encoder, shared=0, steps=options.steps)
    scene = write_ground(folder / "scene.tif", options.size, share=share, cell_px=PATTERNS[pattern])
    exact = CascadeRules(isolated_px=0)
    run = tesela.mapping.cascade_map.predict_cascade
    cpu, made = timed(lambda: run(cascade, scene, folder / "map.tif", rules=exact, **FIXED))
    usual_cpu, usual = timed(lambda: run(cascade, scene, folder / "usual.tif", **FIXED))
    with one_size():
        fixed_cpu, fixed = timed(
            lambda: run(cascade, scene, folder / "fixed.tif", window_px=576, rules=exact, **FIXED)
        )
    all_cpu, maps = timed(lambda: everywhere(cascade, scene, folder))
    expected = gated(cascade, maps)
    all_mpx = 3 * sum(
        count * np.prod([int(side) for side in name.rsplit(" ", 1)[1].split("x")]) / 1e6
        for name, count in made.tally.windows.items()
        if name.startswith("context")
    )
    return {
        "pattern": pattern,
        "forest": share,
        "cpu_s": {
            "cascade": round(cpu, 1),
            "cascade_isolated_8": round(usual_cpu, 1),
            "window_by_window": round(fixed_cpu, 1),
            "all_everywhere": round(all_cpu, 1),
        },
        "mpx_seen": {
            "cascade": seen_mpx(made),
            "cascade_isolated_8": seen_mpx(usual),
            "window_by_window": seen_mpx(fixed),
            "all_everywhere": round(float(all_mpx), 2),
        },
        "classes_unlike_gates_afterwards_percent": round(
            100 * float((read(folder / "map.tif") != expected).mean()), 4
        ),
        "isolated_8": {
            "left_to_the_class_above_percent": round(
                100 * sum(usual.tally.isolated.values()) / options.size**2, 4
            ),
            "classes_unlike_percent": round(100 * float((read(folder / "usual.tif") != expected).mean()), 4),
        },
        "windows": dict(made.tally.windows),
    }


def shared_backbone(
    folder: Path, options: argparse.Namespace, share: float, *, shared: int, channels: tuple[int, ...]
) -> dict[str, object]:
    cascade = make_cascade(options.encoder, shared=shared, steps=options.steps, channels=channels)
    scene = write_ground(folder / "scene.tif", options.size, share=share, cell_px=PATTERNS["patchy"])
    cpu, made = timed(
        lambda: tesela.mapping.cascade_map.predict_cascade(cascade, scene, folder / "map.tif", **FIXED)
    )
    context = cascade.members[0].expert
    alone, _ = timed(
        lambda: tesela.mapping.predict.predict_map(context, scene, folder / "context.tif", **FIXED)
    )
    return {
        "shared": ("encoder", "encoder and decoder")[shared - 1],
        "decoders": list(channels),
        "forest": share,
        "engines": dict(made.engines),
        "cpu_s": {"cascade": round(cpu, 1), "context_alone": round(alone, 1)},
        "ratio_to_context_alone": round(cpu / alone, 2),
    }


def everywhere(cascade: Cascade, scene: Scene, folder: Path) -> list[NDArray[np.uint8]]:
    maps = []
    for member in cascade.members:
        out = folder / f"{member.name}.tif"
        tesela.mapping.predict.predict_map(member.expert, scene, out, **FIXED)
        maps.append(read(out))
    return maps


def gated(cascade: Cascade, maps: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Gates applied to maps of all ground."""
    values = maps[0].copy()
    for member, found in zip(cascade.members[1:], maps[1:], strict=True):
        table = cascade.values(member)
        for above in cascade.gate_values(member):
            ground = values == above
            values[ground] = table[above][found[ground] - 1]
    return values


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as data:
        values: NDArray[np.uint8] = data.read(1)
    return values


if __name__ == "__main__":
    main()
