"""
Mapping with a fused expert beside mapping with its network alone, on one core.

    .venv/bin/python benchmarks/fused.py [--encoders tf_efficientnet_lite0,resnet18] [--trees 300]

Random weights: the work is the same. Six bands, 5 classes, 300 trees of depth 6 over 80 window features, windows of
544 px, the engine that mapping takes on a processor in fp32 (and in bf16 where it has it). CPU seconds a Mpx, the least
of the rounds, which alternate. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
import torch

from tesela.mapping.engines import Engine, has_bf16, make_engine
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import default_features
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.unet import SMALL_DECODER_CHANNELS, UnetArchitecture
from tesela.training.segmentation.tree_fit import BOOSTED_TREES, KEPT_FEATURES

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
CLASSES, SIDE_PX = 5, 544


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", default="tf_efficientnet_lite0,resnet18")
    parser.add_argument("--trees", type=int, default=BOOSTED_TREES)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).standard_normal((1, SIDE_PX, SIDE_PX, len(BANDS)), np.float32)
    trees = make_trees(options.trees)
    results = {}
    for encoder in options.encoders.split(","):
        shape = UnetArchitecture(len(BANDS), CLASSES, encoder, SMALL_DECODER_CHANNELS)
        network = shape.build().eval().requires_grad_(False)
        fused = FusedNetwork(FusedArchitecture((shape, trees.architecture)), [network, trees]).eval()
        for precision in ("fp32", "bf16")[: 2 if has_bf16() else 1]:
            engines = {
                name: make_engine(model, f"torch-{precision}")
                for name, model in (("network", network), ("trees", trees), ("fused", fused))
            }
            seconds = measure(engines, images, options.rounds)
            seconds["ratio"] = seconds["fused"] / seconds["network"]
            results[f"{encoder}, {precision}"] = {name: round(value, 3) for name, value in seconds.items()}
    print(json.dumps(results, indent=1))


def measure(engines: dict[str, Engine], images: np.ndarray, rounds: int) -> dict[str, float]:
    """CPU seconds a Mpx."""
    least = dict.fromkeys(engines, float("inf"))
    for number in range(rounds + 1):  # the first sets up
        for name, engine in engines.items():
            begun = time.process_time()
            engine.scores(images)
            if number:
                least[name] = min(least[name], (time.process_time() - begun) * 1e6 / SIDE_PX**2)
    return least


def make_trees(count: int) -> ClassTrees:
    """Random trees over features as a training keeps them."""
    rng = np.random.default_rng(0)
    spec = default_features(BANDS)
    spec = spec.select(sorted(rng.choice(len(spec.features), KEPT_FEATURES, replace=False).tolist()))
    network = ClassTrees(ClassTreesArchitecture(len(BANDS), CLASSES, "boosting", count, 6, 0, spec))
    return network.fill(
        {
            "feature": rng.integers(0, KEPT_FEATURES, (count, 6)),
            "threshold": rng.integers(-300, 300, (count, 6)),
            "leaf": rng.normal(size=(count, 64, CLASSES)).astype(np.float32) / 10,
            "mean": np.full(len(BANDS), 0.2, np.float32),
            "std": np.full(len(BANDS), 0.1, np.float32),
        }
    )


if __name__ == "__main__":
    main()
