"""
The pipeline alone: a 1 x 1 convolution as network, a scene of 8192 x 8192 x 3 uint8, windows of 512 px, a COG out.

    .venv/bin/python benchmarks/pipeline.py [--size 8192] [--runs 3]

Beside it a plain rasterio loop (as it is, and with torch's idle threads asleep, as Tesela lets them be) and, where
it is installed, torchgeo's grid sampler with a rasterio writer. Every run is a process of its own; memory is what the
call adds at its peak. The map is compared with the network applied to the whole array, pixel by pixel. Prints one JSON
document: medians, and ratios to Tesela.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from pathlib import Path

from mapping.probe import machine, measure, run_alone

WINDOW_PX = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WHO", "SCENE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(options.one[0], Path(options.one[1]), Path(options.one[2]))))
        return
    from mapping.work import write_texture

    names = ["tesela", "rasterio_loop", "rasterio_loop_passive"]
    if importlib.util.find_spec("torchgeo"):
        names.append("torchgeo")
    runs: dict[str, list[dict[str, object]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        scene = write_texture(Path(folder) / "scene.tif", options.size, options.size)
        write_texture(Path(folder) / "small.tif", 1024, 1024)
        for _ in range(options.runs):
            for name in names:
                policy = {"OMP_WAIT_POLICY": "PASSIVE"} if name.endswith("_passive") else {}
                words = ["--one", name, str(scene), f"{folder}/{name}.tif"]
                runs[name].append(run_alone(__file__, words, policy))
        differing = count_differences(scene, Path(folder) / "tesela.tif")
    pixels = options.size**2 / 1e8
    found = {
        name: {
            "cpu_s_per_100_mpx": round(statistics.median(float(run["cpu_s"]) for run in each) / pixels, 2),
            "network_cpu_s_per_100_mpx": round(
                statistics.median(float(run["network_s"]) for run in each) / pixels, 2
            ),
            "extra_mib": statistics.median(float(run["extra_mib"]) for run in each),
            "wall_s": statistics.median(float(run["wall_s"]) for run in each),
        }
        for name, each in runs.items()
    }
    ours = float(found["tesela"]["cpu_s_per_100_mpx"])
    ratios = {name: round(float(each["cpu_s_per_100_mpx"]) / ours, 1) for name, each in found.items()}
    document = {"machine": machine(), "size_px": options.size, "runs": options.runs, "medians": found}
    print(json.dumps(document | {"cpu_ratio_to_tesela": ratios, "pixels_that_differ": differing}, indent=2))


def one_run(who: str, scene: Path, out: Path) -> dict[str, object]:
    """Warm up on a small scene, then measure; the network's own CPU seconds are those of the bare calls."""
    if who == "tesela":
        import tesela.mapping.predict  # before torch, as the command line does: it sets how idle threads wait
    from mapping.peers import rasterio_loop
    from mapping.work import pointwise_expert
    from tesela.io.scenes import open_scene

    expert = pointwise_expert()

    def call(path: Path) -> object:
        if who == "tesela":
            return tesela.mapping.predict.predict_map(
                expert,
                open_scene(path),
                out,
                window_px=WINDOW_PX,
                overlap_px=0,
                engine="torch",
                precision="fp32",
            )
        mean, std = expert.header.mean, expert.header.std
        if who == "torchgeo":
            return torchgeo_loop(expert.network, path, out, mean=mean, std=std)
        return rasterio_loop(expert.network, path, out, mean=mean, std=std, window_px=WINDOW_PX, overlap_px=0)

    call(scene.with_name("small.tif"))
    found = measure(lambda: call(scene))
    return found | {"network_s": network_seconds(expert.network, scene)}


def network_seconds(network: object, scene: Path) -> float:
    import time

    import numpy as np
    import rasterio

    from tesela.core.machine import steady_memory
    from tesela.mapping.engines import make_engine

    with rasterio.open(scene) as data:
        windows = (data.height // WINDOW_PX) * (data.width // WINDOW_PX)
    image = np.random.default_rng(0).standard_normal((1, WINDOW_PX, WINDOW_PX, 3), np.float32)
    engine = make_engine(network, "torch-fp32")
    with steady_memory():
        engine.scores(image)
        begun = time.process_time()
        for _ in range(32):
            engine.scores(image)
        return (time.process_time() - begun) / 32 * windows


def torchgeo_loop(
    network: object, scene: Path, out: Path, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    import numpy as np
    import rasterio
    import rasterio.shutil
    import torch
    from rasterio.windows import Window
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    data = RasterDataset(str(scene))
    sampler = GridGeoSampler(data, size=WINDOW_PX, stride=WINDOW_PX)
    tiles = out.with_suffix(".tiles.tif")
    scale = (np.array(each, np.float32)[:, None, None] for each in (mean, std))
    mean_px, std_px = (torch.from_numpy(each) for each in scale)
    with rasterio.open(scene) as source:
        profile = source.profile | {"count": 1, "nodata": 0, "compress": "lzw", "interleave": "band"}
        with rasterio.open(tiles, "w", **profile) as target, torch.inference_mode():
            target.write_colormap(1, {value: (value, 0, 0, 255) for value in range(256)})
            for number, batch in enumerate(DataLoader(data, sampler=sampler, collate_fn=stack_samples)):
                across = source.width // WINDOW_PX
                row, col = divmod(number, across)
                scores = network((batch["image"] - mean_px) / std_px)
                answer = (scores[0].argmax(0) + 1).to(torch.uint8).numpy()
                target.write(answer, 1, window=Window(col * WINDOW_PX, row * WINDOW_PX, *answer.shape[::-1]))
    rasterio.shutil.copy(tiles, out, driver="COG", compress="deflate", overview_resampling="mode")


def count_differences(scene: Path, made: Path) -> int:
    """Pixels of the map that differ from the network applied to the array, block by block."""
    import numpy as np
    import rasterio
    import torch
    from rasterio.windows import Window

    from mapping.work import pointwise_expert

    expert = pointwise_expert()
    gain = (1 / np.array(expert.header.std)).astype(np.float32)[:, None, None]
    bias = (-np.array(expert.header.mean) / np.array(expert.header.std)).astype(np.float32)[:, None, None]
    count = 0
    with rasterio.open(scene) as image, rasterio.open(made) as found, torch.inference_mode():
        for row in range(0, image.height, 1000):  # no multiple of windows or blocks
            place = Window(0, row, image.width, min(1000, image.height - row))
            scaled = image.read(window=place).astype(np.float32) * gain + bias
            answer = expert.network(torch.from_numpy(scaled)[None])[0].argmax(0).numpy() + 1
            count += int((answer != found.read(1, window=place)).sum())
    return count


if __name__ == "__main__":
    main()
