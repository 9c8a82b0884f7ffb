"""
Memory does not grow with the scene: peaks of 8192 x 8192 and of 65536 x 8192 px through the pipeline.

    .venv/bin/python benchmarks/memory.py [--budget "512 MiB"]

A 1 x 1 convolution as network, windows of 512 px; every run is a process of its own, memory is what the call adds at
its peak. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mapping.probe import machine, measure, run_alone

SIZES = ((8192, 8192), (65536, 8192))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="512 MiB")
    parser.add_argument("--one", nargs=2, metavar=("SCENE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(Path(options.one[0]), Path(options.one[1]), options.budget)))
        return
    from mapping.work import write_texture

    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        write_texture(Path(folder) / "small.tif", 1024, 1024)
        for rows, cols in SIZES:
            scene = write_texture(Path(folder) / f"scene{rows}.tif", rows, cols)
            words = ["--budget", options.budget, "--one", str(scene), f"{folder}/map.tif"]
            peaks[f"{rows} x {cols}"] = run_alone(__file__, words)
            scene.unlink()
    ratios = {}
    for key in ("peak_mib", "extra_mib"):
        small, large = (float(each[key]) for each in peaks.values())
        ratios[key] = round(large / small, 3)
    document = {"machine": machine(), "budget": options.budget, "runs": peaks}
    print(json.dumps(document | {"ratios": ratios}, indent=2))


def one_run(scene: Path, out: Path, budget: str) -> dict[str, object]:
    import torch

    from mapping.work import pointwise_expert
    from tesela.io.scenes import open_scene
    from tesela.mapping.predict import predict_map

    torch.set_num_threads(2)
    settings = {"window_px": 512, "overlap_px": 0, "engine": "torch", "precision": "fp32", "memory": budget}
    predict_map(pointwise_expert(), open_scene(scene.with_name("small.tif")), out, **settings)
    return measure(lambda: predict_map(pointwise_expert(), open_scene(scene), out, **settings))


if __name__ == "__main__":
    main()
