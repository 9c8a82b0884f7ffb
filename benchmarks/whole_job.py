"""
The whole job: smp's U-Net with a ResNet50, 12 classes, trained weights, from a scene to a COG.

    .venv/bin/python benchmarks/whole_job.py [--size 8192] [--peer-size 4096] [--steps 800] [--work FOLDER] [--runs 2]

The network is trained for some steps on the virtual region (kept in the work folder), the scene is other ground of
it, mirrored to the size asked for. Peer, on the first piece of it, since its time goes with the pixels: a plain
rasterio loop at its usual setting, fp32, windows of 512 px with 128 px overlap. Tesela: as it comes, `--engine auto`.
Both run in processes of their own, in turns. Reported are medians of throughput, the ratio; the ratio of the job to
the bare forward passes of the engine that `auto` chose, on the same windows in the same process (with the trial and
without); the share of classes that equal Tesela's own fp32 map; and the accuracy of both. Last, on one crop of 1024
px: classes that equal fp32's and seconds of one pass with the whole network in bf16, and as the engine torch-bf16
runs it. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import rasterio
from rasterio.windows import Window

from mapping.probe import machine, run_alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--peer-size", type=int, default=4096, help="the peer's piece of the scene")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keep the trained network here")
    parser.add_argument("--one", nargs=4, metavar=("WHO", "EXPERT", "SCENE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(options.one[0], *map(Path, options.one[1:]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = options.work or folder
        work.mkdir(parents=True, exist_ok=True)
        expert, scene, truth = prepare(work, folder, size=options.size, steps=options.steps)
        scenes = {"tesela": scene, "rasterio_loop": cut(scene, folder / "piece.tif", options.peer_size)}
        runs: dict[str, list[dict[str, object]]] = {"tesela": [], "rasterio_loop": []}
        for _ in range(options.runs):
            for who, each in runs.items():
                each.append(
                    run_alone(__file__, ["--one", who, str(expert), str(scenes[who]), f"{folder}/{who}.tif"])
                )
        fp32 = run_alone(__file__, ["--one", "tesela-fp32", str(expert), str(scene), f"{folder}/fp32.tif"])
        numerics = run_alone(__file__, ["--one", "numerics", str(expert), str(scene), f"{folder}/none.tif"])
        maps = {who: read(folder / f"{who}.tif") for who in ("tesela", "rasterio_loop", "fp32")}
    sizes = {"tesela": options.size, "rasterio_loop": options.peer_size}
    rates = {
        who: [sizes[who] ** 2 / 1e6 / float(run["wall_s"]) for run in each] for who, each in runs.items()
    }
    piece = (slice(options.peer_size), slice(options.peer_size))
    document = {
        "machine": machine(),
        "size_px": sizes,
        "mpx_per_s": {who: round(statistics.median(each), 3) for who, each in rates.items()},
        "ratio_to_peer": round(
            statistics.median(rates["tesela"]) / statistics.median(rates["rasterio_loop"]), 2
        ),
        "share_of_bare_forward_rate": {
            key: round(statistics.median(float(run[key]) for run in runs["tesela"]), 3)
            for key in ("with_trial", "without_trial")
        },
        "classes_equal_to_fp32": round(float((maps["tesela"] == maps["fp32"]).mean()), 6),
        "accuracy_on_the_piece": {
            who: round(float((found[piece] == truth[piece] + 1).mean()), 4) for who, found in maps.items()
        },
        "numerics": numerics,
        "runs": {**runs, "tesela-fp32": [fp32]},
    }
    print(json.dumps(document, indent=2))


def prepare(work: Path, folder: Path, *, size: int, steps: int):  # type: ignore[no-untyped-def]
    from mapping.work import make_ground, mirrored, trained_expert, trained_file, write_scene

    trained_expert(work, steps=steps)
    ground = make_ground(1024, seed=2)
    times = -(-size // 1024)
    scene = write_scene(folder / "scene.tif", mirrored(ground.image, times)[:, :size, :size])
    return trained_file(work, steps), scene, mirrored(ground.truth, times)[:size, :size]


def cut(scene: Path, out: Path, size: int) -> Path:
    from mapping.work import write_scene

    with rasterio.open(scene) as data:
        return write_scene(out, data.read(window=Window(0, 0, size, size)))


def one_run(who: str, expert_file: Path, scene: Path, out: Path) -> dict[str, object]:
    import tesela.mapping.predict  # before torch: it sets how idle threads wait

    if who == "rasterio_loop":
        return peer_run(expert_file, scene, out)
    if who == "numerics":
        return compare_numerics(expert_file, scene)
    import numpy as np

    from mapping.probe import measure
    from tesela.core.machine import steady_memory
    from tesela.io.scenes import open_scene
    from tesela.mapping.engines import make_engine
    from tesela.mapping.predict import plan_windows
    from tesela.models.expert import open_expert

    expert = open_expert(expert_file)
    opened = open_scene(scene)
    precision = "fp32" if who == "tesela-fp32" else "auto"
    made = None

    def call() -> object:
        nonlocal made
        made = tesela.mapping.predict.predict_map(expert, opened, out, precision=precision)
        return made

    found = measure(call)
    assert made is not None
    plan = plan_windows(expert, opened, window_px=1088, overlap_px=64)
    engine = make_engine(expert.network, made.engine)
    image = np.random.default_rng(0).standard_normal((1, plan.height_px, plan.width_px, 3), np.float32)
    seconds = []
    with steady_memory():
        engine.scores(image)
        for _ in range(max(3, len(plan) // 2)):
            begun = time.perf_counter()
            engine.scores(image)
            seconds.append(time.perf_counter() - begun)
    bare = statistics.median(seconds) * len(plan)
    trial = found["wall_s"] - made.mapping_seconds
    return found | {
        "bare_s": round(bare, 3),
        "with_trial": bare / float(found["wall_s"]),
        "without_trial": bare / (float(found["wall_s"]) - trial),
        "windows": len(plan),
        "trial": {"rates": made.trial.rates, "agreement": made.trial.agreement, "seconds": round(trial, 2)},
    }


def compare_numerics(expert_file: Path, scene: Path) -> dict[str, object]:
    import numpy as np

    from mapping.work import BANDS
    from tesela.core.machine import steady_memory
    from tesela.core.standardisation import Standardisation
    from tesela.io.scenes import open_scene
    from tesela.mapping.engines import TorchEngine, make_engine
    from tesela.mapping.reading import read_trial
    from tesela.mapping.windows import WindowPlan
    from tesela.models.expert import open_expert

    class AllBf16(TorchEngine):
        def build(self, bands: int):  # type: ignore[no-untyped-def]
            return self._plain

    expert = open_expert(expert_file)
    standardisation = Standardisation(BANDS, expert.header.mean, expert.header.std)
    plan = WindowPlan.fit((1024, 1024), window_px=1024, margin_px=0, multiple_px=32)
    image = read_trial(open_scene(scene), plan=plan, standardisation=standardisation, count=1)[0][np.newaxis]
    found: dict[str, object] = {}
    with steady_memory():
        truth = make_engine(expert.network, "torch-fp32").scores(image).argmax(-1)
        engines = {
            "all_bf16": AllBf16(expert.network, "bf16"),
            "torch-bf16": make_engine(expert.network, "torch-bf16"),
        }
        for name, engine in engines.items():
            same = float((engine.scores(image).argmax(-1) == truth).mean())
            seconds = []
            for _ in range(5):
                begun = time.perf_counter()
                engine.scores(image)
                seconds.append(time.perf_counter() - begun)
            found[name] = {
                "classes_equal_to_fp32": round(same, 5),
                "seconds": round(statistics.median(seconds), 3),
            }
    return found


def peer_run(expert_file: Path, scene: Path, out: Path) -> dict[str, object]:
    from mapping.peers import rasterio_loop
    from mapping.probe import measure
    from tesela.models.expert import open_expert

    expert = open_expert(expert_file)
    mean, std = expert.header.mean, expert.header.std
    return measure(lambda: rasterio_loop(expert.network, scene, out, mean=mean, std=std))


def read(path: Path):  # type: ignore[no-untyped-def]
    with rasterio.open(path) as data:
        return data.read(1)


if __name__ == "__main__":
    main()
