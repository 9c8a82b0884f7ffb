"""
What mapping a country takes: hours of cores and machines, from rates measured here.

    .venv/bin/python benchmarks/sizing.py [--rate MPX_PER_S] [--pipeline CPU_S_PER_100_MPX]

The rate is that of smp's U-Net with a ResNet50, 12 classes, in bf16 on all cores of this machine, measured in a few
windows of 1088 px, or given; the pipeline's share is given, from `pipeline.py`. Windows overlap, which costs the
compute of `WindowPlan`. Prints the table of docs/cluster.md and one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import tesela.mapping  # noqa: F401 - before torch: it sets how idle threads wait
from mapping.probe import machine
from tesela.mapping.windows import WindowPlan

SPAIN_KM2 = 505_990  # Instituto Geografico Nacional
JOBS = {
    "Spain at 10 m (Sentinel-2)": SPAIN_KM2 * 1e6 / 10**2,
    "France at 10 m (Sentinel-2)": 551_500 * 1e6 / 10**2,
    "one sheet of 1:50 000 at 0.25 m": 510 * 1e6 / 0.25**2,
    "Spain at 0.25 m (PNOA)": SPAIN_KM2 * 1e6 / 0.25**2,
}
CORES = 16
"""Of one machine of the cluster."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, help="Mpx of windows in a second on all cores here")
    parser.add_argument("--pipeline", type=float, default=3.2, help="CPU seconds per 100 Mpx")
    options = parser.parse_args()
    rate = options.rate or measure_rate()
    cores = os.cpu_count() or 1
    compute = WindowPlan.fit((100_000, 100_000), window_px=1088, margin_px=32, multiple_px=32).compute
    rows = []
    for name, pixels in JOBS.items():
        network_h = pixels / 1e6 * compute / rate * cores / 3600
        core_hours = network_h + pixels / 1e8 * options.pipeline / 3600
        rows.append(
            {
                "job": name,
                "gigapixels": round(pixels / 1e9, 2),
                "core_hours": round(core_hours),
                "one_machine_h": round(core_hours / CORES, 1),
                "machines_for_a_day": round(core_hours / CORES / 24, 2),
                "map_gb": round(pixels / 5 / 1e9, 2),
            }
        )
    print(
        f"| job | Gpx | core hours | hours on one machine of {CORES} cores | machines for one day | map, GB |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            "| "
            + " | ".join(f"{value:,}" if not isinstance(value, str) else value for value in row.values())
            + " |"
        )
    found = {"machine": machine(), "mpx_per_s": round(rate, 3), "compute": round(compute, 3), "rows": rows}
    print(json.dumps(found))


def measure_rate() -> float:
    import numpy as np
    import torch

    from mapping.work import CLASSES
    from tesela.core.machine import steady_memory
    from tesela.mapping.engines import has_bf16, make_engine
    from tesela.models.segmentation.unet import make_unet

    torch.manual_seed(0)
    network = make_unet(encoder="resnet50", bands=3, classes=CLASSES).eval().requires_grad_(False)
    engine = make_engine(network, "torch-bf16" if has_bf16() else "torch-fp32")
    image = np.random.default_rng(0).standard_normal((1, 1088, 1088, 3), np.float32)
    seconds = []
    with steady_memory():
        engine.scores(image)
        for _ in range(5):
            begun = time.perf_counter()
            engine.scores(image)
            seconds.append(time.perf_counter() - begun)
    return 1.088**2 / statistics.median(seconds)


if __name__ == "__main__":
    main()
