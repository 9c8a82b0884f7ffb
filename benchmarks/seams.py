"""
Seams: maps stitched of windows, beside one huge window over the whole scene.

    .venv/bin/python benchmarks/seams.py [--size 2048] [--steps 300] [--work FOLDER]

The trained U-Net of `whole_job.py` in fp32; for each setting the share of pixels whose class differs from that of one
window of the scene's size, and the compute (pixels that the network sees for each pixel of the scene). The peer is the
plain loop with windows of 512 px and 128 px overlap. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import tesela.mapping.predict  # before torch: it sets how idle threads wait
from mapping.peers import rasterio_loop
from mapping.probe import machine
from mapping.work import make_ground, mirrored, trained_expert, write_scene
from tesela.io.scenes import open_scene
from tesela.mapping.predict import plan_windows
from whole_job import read

SETTINGS = ((1088, 64), (1120, 128), (1120, 192), (576, 64), (512, 128), (512, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--work", type=Path, help="keep the trained network here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = options.work or folder
        work.mkdir(parents=True, exist_ok=True)
        expert = trained_expert(work, steps=options.steps)
        image = mirrored(make_ground(1024, seed=2).image, -(-options.size // 1024))
        path = write_scene(folder / "scene.tif", image[:, : options.size, : options.size])
        scene = open_scene(path)
        fixed = {"engine": "torch", "precision": "fp32"}
        huge = -(-options.size // 32) * 32
        tesela.mapping.predict.predict_map(
            expert, scene, folder / "huge.tif", window_px=huge, overlap_px=0, **fixed
        )
        truth = read(folder / "huge.tif")
        found = {}
        for window, overlap in SETTINGS:
            out = folder / "map.tif"
            tesela.mapping.predict.predict_map(
                expert, scene, out, window_px=window, overlap_px=overlap, **fixed
            )
            plan = plan_windows(expert, scene, window_px=window, overlap_px=overlap)
            found[f"tesela {window}/{overlap}"] = {
                "windows": f"{plan.height_px} x {plan.width_px}",
                "compute": round(plan.compute, 3),
                "pixels_that_differ_percent": round(100 * float((read(out) != truth).mean()), 4),
            }
        rasterio_loop(
            expert.network, path, folder / "peer.tif", mean=expert.header.mean, std=expert.header.std
        )
        found["rasterio_loop 512/128"] = {
            "compute": round((-(-options.size // 384) * 512 / options.size) ** 2, 3),
            "pixels_that_differ_percent": round(100 * float((read(folder / "peer.tif") != truth).mean()), 4),
        }
    print(json.dumps({"machine": machine(), "size_px": options.size, "settings": found}, indent=2))


if __name__ == "__main__":
    main()
