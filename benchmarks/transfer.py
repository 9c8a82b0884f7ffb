"""
Transfer: an expert of one region maps another one without labels, as it is and adapted by each method.

    .venv/bin/python benchmarks/transfer.py [--pairs virtual cities naip dates] [--model boosting] [--seeds 0 1]
        [--methods none auto shift scene self_training quantiles] [--out FILE]

Pairs of known truth: two virtual regions of 8 km in other seasons, with or without another radiometry (gains and
offsets by band, as of another sensor or atmosphere). Real pairs (TESELA_DATA or ../shared/data): pixels of three
German cities, each city and each two of them mapping the others (9 directions); NAIP of 2014 mapping NAIP of 2011-12
in another quarter quad; Sentinel-2 of one date mapping another date and the other half of Slovenia's patch. Each pair
trains with `train_segmentation` and maps with `predict_map`; pixels that the upper limit, an expert trained there,
sees do not test. Prints a table on stderr and one JSON document. "quantiles" (of each band) and "batch_norm" (of
networks) are not in the package.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

import tesela
from mapping.probe import machine
from real_accuracy.ours import _open, make_table
from real_accuracy.sets import DATA, S2_BANDS, DataSet, LabelledScene, load_set
from real_accuracy.task import TEST, TRAIN, VAL, Task, cpu_s
from tesela.core.errors import join_words
from tesela.mapping.scene_distance import check_imagery, sample_pixels

LEVELS = np.linspace(0.005, 0.995, 100)


@dataclass(frozen=True)
class Pair:
    """A source whose labels train, and a target whose labels only test."""

    kind: str
    name: str
    source: DataSet
    target: DataSet


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--model", default="boosting", choices=("boosting", "forest", "unet"))
    parser.add_argument("--epochs", type=int, default=20, help="of a U-Net")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["none", "auto", "shift", "scene", "quantiles", "batch_norm", "self_training"],
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    records: list[dict[str, object]] = []
    scratch = tempfile.TemporaryDirectory()
    for kind in options.pairs:
        for pair in PAIRS[kind]():
            if options.model == "unet" and pair.source.pixels_only:
                continue
            for seed in options.seeds:
                rows = measure(pair, seed, options, Path(scratch.name))
                records += rows
                texts = [f"{row['method']} {row['accuracy']:.3f}/{row['macro_f1']:.3f}" for row in rows]
                line = f"{pair.name} seed {seed}: {join_words(texts)}  ({cpu_s():.0f} CPU s)"
                print(line, file=sys.stderr, flush=True)
    print(table_of(records), file=sys.stderr, flush=True)
    document = {"machine": machine(), "model": options.model, "records": records}
    text = json.dumps(document, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def measure(pair: Pair, seed: int, options: argparse.Namespace, scratch: Path) -> list[dict[str, object]]:
    """Train on the source, map the target by each method, and train on the target for the upper limit."""
    source, target = (
        scratch / f"{'+'.join(item.name for item in data.scenes)}-{seed}"
        for data in (pair.source, pair.target)
    )
    source.mkdir(exist_ok=True)
    target.mkdir(exist_ok=True)
    expert = train(pair.source, source, seed, options)
    rows: list[dict[str, object]] = []
    for method in ("upper", *options.methods):
        if method == "batch_norm" and options.model != "unet":
            continue
        started = cpu_s()
        used, what = expert, ""
        if method == "upper":
            used = train(pair.target, target, seed, options)
        predicted, reference, distances = [], [], []
        for scene in pair.target.scenes:
            opened = _open(pair.target, scene, target)
            adapted = used
            if method == "quantiles":
                opened = matched(pair, scene, source=source, target=target)
            elif method == "batch_norm":
                adapted = with_batch_norm(expert, opened)
            elif method not in ("upper", "none"):
                made = tesela.adapt_expert(expert, opened, method=method, seed=seed)
                adapted = made.expert
                what = made.alignment + ("+self_training" if made.self_trained else "")
            path = target / f"{scene.name}-{method}.tif"
            tesela.predict_map(adapted, opened, path, engine="torch")
            with rasterio.open(path) as data:
                values = data.read(1)
            tests = (split_of(pair.target, seed)[scene.units] == TEST) & (scene.labels > 0)
            predicted.append(values[tests])
            reference.append(scene.labels[tests])
            distance = check_imagery(expert.header, opened, any_scene=True, advise=False)
            distances.append(float("nan") if distance is None else distance.far)
        accuracy, macro = score(np.concatenate(reference), np.concatenate(predicted))
        rows.append(
            {
                "kind": pair.kind,
                "pair": pair.name,
                "seed": seed,
                "method": method,
                "accuracy": round(accuracy, 4),
                "macro_f1": round(macro, 4),
                "steps": what,
                "unlike_training": round(float(np.mean(distances)), 4),
                "cpu_s": round(cpu_s() - started, 2),
            }
        )
    return rows


def split_of(data: DataSet, seed: int) -> NDArray[np.int64]:
    """Split of each unit: half of the units test."""
    rng = np.random.default_rng([seed, 7])
    split = np.full(data.units, TEST)
    order = rng.permutation(data.units)
    half = max(2, data.units // 2)
    split[order[:half]] = TRAIN
    split[order[: max(1, half // 4)]] = VAL
    return split


def train(data: DataSet, folder: Path, seed: int, options: argparse.Namespace) -> tesela.models.expert.Expert:
    """Train one expert, once for all pairs."""
    if (folder / "expert.safetensors").exists():
        return tesela.load_expert(folder / "expert.safetensors")
    table = make_table(Task(data, split_of(data, seed), seed), folder)
    trees = {} if not data.pixels_only else {"window_sides_px": ()}
    settings = tesela.SegmentationSettings(
        model=options.model, seed=seed, encoder="resnet18", decoder="small", epochs=options.epochs, **trees
    )
    return tesela.load_expert(
        tesela.train_segmentation(table, folder / "expert.safetensors", settings=settings, quiet=True)
    )


def matched(pair: Pair, scene: LabelledScene, *, source: Path, target: Path) -> tesela.Scene:
    """The scene with each band brought to the training's quantiles."""
    from_pixels = sample_pixels(_open(pair.target, scene, target))
    to_pixels = np.concatenate(
        [sample_pixels(_open(pair.source, item, source)) for item in pair.source.scenes]
    )
    image = np.empty_like(scene.image)
    for band in range(len(image)):
        old, new = (np.quantile(item[:, band], LEVELS) for item in (from_pixels, to_pixels))
        values = scene.image[band]
        ends = np.minimum(values - old[0], 0) + np.maximum(values - old[-1], 0)
        image[band] = np.interp(values, old, new) + ends
    return _open(pair.target, replace(scene, name=f"{scene.name}-matched", image=image), target)


def with_batch_norm(expert: tesela.models.expert.Expert, scene: tesela.Scene) -> tesela.models.expert.Expert:
    """The network with the batch norm statistics of the scene [Li2018]."""
    import copy

    import torch

    from tesela.mapping.scene_distance import sample_windows
    from tesela.models.expert import Expert

    network = copy.deepcopy(expert.network)
    layers = [item for item in network.modules() if isinstance(item, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    images = np.stack(sample_windows(scene.select(expert.header.bands), side_px=96, count=16))
    with torch.inference_mode():
        for part in np.array_split(expert.scaled(images), max(1, len(images) // 8)):
            network(torch.from_numpy(part))
    return Expert(expert.header, network.eval())


def score(reference: NDArray[np.integer], predicted: NDArray[np.integer]) -> tuple[float, float]:
    """Accuracy, and macro F1 over the classes of the reference."""
    present = np.unique(reference)
    size = int(max(reference.max(), predicted.max())) + 1
    counts = np.bincount(reference.astype(int) * size + predicted, minlength=size * size).reshape(size, size)
    hits = np.diag(counts)
    f1 = 2 * hits / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return float(hits.sum() / counts.sum()), float(f1[present].mean())


def table_of(records: list[dict[str, object]]) -> str:
    """Means over seeds by pair, with the methods as columns, accuracy / macro F1."""
    methods = list(dict.fromkeys(str(row["method"]) for row in records))
    lines = ["| pair | unlike training | " + " | ".join(methods) + " |", "| --- " * (len(methods) + 2) + "|"]
    for name in dict.fromkeys(str(row["pair"]) for row in records):
        cells = []
        for method in methods:
            own = [row for row in records if row["pair"] == name and row["method"] == method]
            means = [np.mean([float(str(row[key])) for row in own]) for key in ("accuracy", "macro_f1")]
            cells.append(f"{means[0]:.3f} / {means[1]:.3f}" if own else "")
        far = np.mean(
            [
                float(str(row["unlike_training"]))
                for row in records
                if row["pair"] == name and row["method"] == "none"
            ]
        )
        lines.append(f"| {name} | {far:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- pairs


def cities() -> Iterator[Pair]:
    """All directions between three German cities."""
    whole = load_set("cities-jena")
    names = [scene.name for scene in whole.scenes]

    def part(chosen: list[str]) -> DataSet:
        return replace(
            whole, scenes=tuple(item for item in whole.scenes if item.name in chosen), test_units=()
        )

    for name in names:
        others = [item for item in names if item != name]
        for sources in (*([item] for item in others), others):
            yield Pair("cities", f"{' + '.join(sources)} to {name}", part(sources), part([name]))


def naip() -> Iterator[Pair]:
    """NAIP of two quarter quads and two years."""
    files = sorted((DATA / "chesapeake_naip_lc/patches").glob("*.npz"))
    if not files:
        sys.exit(f"{DATA}: holds no chesapeake_naip_lc. Set TESELA_DATA to the folder of the real data.")
    whole = load_set("chesapeake")
    old = [np.load(file)["arr_0"][0][4:8] for file in files]
    quads = {"sw": [k for k, file in enumerate(files) if "_sw_" in file.name]}
    quads["ne"] = [k for k in range(len(files)) if k not in quads["sw"]]

    def part(quad: str, year: int) -> DataSet:
        scenes = [
            replace(
                whole.scenes[k],
                name=f"{quad}{year}-{k}",
                image=whole.scenes[k].image if year == 2014 else np.ascontiguousarray(old[k], np.float32),
                units=np.add.outer(np.arange(256) // 64 * 4, np.arange(256) // 64).astype(np.int32)
                + 16 * place,
            )
            for place, k in enumerate(quads[quad])
        ]
        return replace(whole, scenes=tuple(scenes), patch_px=64)

    for source, target in (
        (("sw", 2014), ("ne", 2011)),
        (("ne", 2011), ("sw", 2014)),
        (("sw", 2011), ("ne", 2014)),
    ):
        yield Pair(
            "naip", f"{source[0]} {source[1]} to {target[0]} {target[1]}", part(*source), part(*target)
        )


def dates() -> Iterator[Pair]:
    """Sentinel-2 of one date on the west half of Slovenia's patch to another date on the east half."""
    whole = load_set("slovenia")
    count, scene = len(S2_BANDS), whole.scenes[0]
    names = {0: "July", 1: "August", 2: "September"}

    def part(date: int, side: int) -> DataSet:
        cols = slice(48 * side, 48 * side + 48)
        image = np.ascontiguousarray(scene.image[count * date : count * (date + 1), :, cols])
        units = np.add.outer(np.arange(96) // 8 * 6, np.arange(48) // 8).astype(np.int32)
        own = replace(
            scene,
            name=f"{names[date]}-{side}",
            image=image,
            labels=np.ascontiguousarray(scene.labels[:, cols]),
            units=units,
            transform=scene.transform * Affine.translation(48 * side, 0),
        )
        return replace(whole, scenes=(own,), bands=tuple(S2_BANDS.values()), patch_px=32)

    for source, target in ((0, 2), (2, 0), (0, 1), (1, 0), (1, 2), (2, 1)):
        yield Pair("dates", f"{names[source]} to {names[target]}", part(source, 0), part(target, 1))


def virtual() -> Iterator[Pair]:
    """Virtual regions: another region, radiometry, season, or all of them; level 2 of CORINE."""
    rng = np.random.default_rng(5)
    gain, offset = np.exp(rng.normal(0, 0.12, 10)), rng.normal(0.01, 0.01, 10)
    cases = (
        ("another region", (1, "july"), (2, "july"), None),
        ("region, radiometry", (1, "july"), (2, "july"), (gain, offset)),
        ("region, radiometry back", (3, "july"), (1, "july"), (1 / gain, -offset)),
        ("region, season", (1, "july"), (2, "september"), None),
        ("region, season back", (2, "september"), (1, "july"), None),
        ("region, season, radiometry", (2, "july"), (1, "september"), (1 / gain, offset)),
    )
    for name, source, target, radiometry in cases:
        first, second = _region(*source, None), _region(*target, radiometry)
        yield Pair("virtual", name, first, second)


def _region(seed: int, season: str, radiometry: tuple[NDArray, NDArray] | None) -> DataSet:
    from tesela.io.legends import load_legend
    from tesela.simulate import make_landscape, simulate_image

    landscape = make_landscape(size_px=400, pixel_m=20, seed=seed)
    image = simulate_image(landscape, season, clouds="none").values.astype(np.float32) / 10_000
    if radiometry is not None:
        image = (image * radiometry[0][:, None, None] + radiometry[1][:, None, None]).astype(np.float32)
    codes = {item.value: item.code[:2] for item in load_legend("corine-3").classes}
    names = sorted(set(codes.values()))
    table = np.zeros(256, np.uint8)
    for value, code in codes.items():
        table[value] = names.index(code) + 1
    blocks = np.add.outer(np.arange(400) // 50 * 8, np.arange(400) // 50).astype(np.int32)
    scene = LabelledScene(
        f"region{seed}-{season}" + ("" if radiometry is None else f"-{radiometry[0][0]:.3f}"),
        image,
        table[landscape.truth],
        blocks,
        "EPSG:25830",
        Affine(20, 0, 440_000, 0, -20, 4_090_000),
    )
    return DataSet(f"virtual-{seed}", (scene,), tuple(S2_BANDS.values()), tuple(names), 32, "block of 50 px")


PAIRS = {"virtual": virtual, "cities": cities, "naip": naip, "dates": dates}

if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    main()
