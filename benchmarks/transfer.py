"""
Transfer: an expert of one region maps another one without labels, as it is and adapted by each method.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/transfer.py [--pairs virtual cities naip dates] [--seeds 0 1]
        [--model boosting unet fused] [--methods none auto shift scene batch_norm self_training quantiles] [--out FILE]

Pairs of known truth: two virtual regions of 8 km in July, or one in September, with or without another radiometry
(gains and offsets by band, as of another sensor or atmosphere). Real pairs (TESELA_DATA or ../shared/data): pixels of
three German cities, each city and each two of them mapping the others (9 directions); NAIP of 2014 mapping NAIP of
2011-12 in another quarter quad; Sentinel-2 of one date mapping another date and the other half of Slovenia's patch.

Boosted trees, 100 of them, learn from 12,000 labelled pixels of half of the blocks of the source; the other half of the
blocks of the target tests. "upper" is trained on the first half of the target. "quantiles" (each band brought to the
quantiles of the training) is not in the package. All in memory, with the functions that `tesela predict --transfer`
calls. With `--model unet`, a small U-Net (EfficientNet-Lite0 from ImageNet) that has trained for --seconds of processor
time on the same half of the source, a fifth of which validates. It needs neighbours, so it cannot map the cities, and
has no "upper". `--model fused` joins both with equal weights.
Prints a table on stderr and one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

import tesela  # before torch: it sets how idle threads wait
from mapping.probe import machine
from real_accuracy.ours import make_table
from real_accuracy.sets import DATA, S2_BANDS, DataSet, LabelledScene, load_set
from real_accuracy.task import TEST, TRAIN, VAL, Task, cpu_s
from tesela.chains.transfer import adapt_to_pixels
from tesela.core.standardisation import Standardisation
from tesela.core.training_imagery import describe_imagery
from tesela.mapping.scene_distance import measure_distance
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.segmentation.feature_spec import default_features
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.window_features import compute_features
from tesela.training.segmentation.network_transfer import make_batch
from tesela.training.segmentation.tree_fit import fit_chosen, keep_features
from tesela.training.segmentation.tree_pixels import TreePixels

LEVELS = np.linspace(0.005, 0.995, 100)
TREES = 100
PIXELS = 12_000
WINDOW_PX = 96
"""Side of the windows of a network."""


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", type=int, help="numbers of the pairs, from 0; default: all")
    parser.add_argument(
        "--methods", nargs="+", default=["none", "auto", "shift", "scene", "self_training", "quantiles"]
    )
    parser.add_argument("--model", choices=("boosting", "unet", "fused"), default="boosting")
    parser.add_argument("--seconds", type=float, default=20, help="processor time of a U-Net's training")
    parser.add_argument(
        "--jitter", type=float, default=0.0, help="deviation of an offset of each band of each U-Net patch"
    )
    parser.add_argument("--experts", type=Path, help="folder that keeps the trained U-Nets for further calls")
    parser.add_argument("--join", nargs="+", type=Path, help="print the table of documents written before")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.model != "boosting" and "cities" in options.pairs and not options.join:
        parser.error("a U-Net needs neighbours, which pixels of cities do not have: leave out --pairs cities")
    records: list[dict[str, object]] = []
    for file in options.join or ():
        records += json.loads(file.read_text(encoding="utf-8"))["records"]
    for kind in () if options.join else options.pairs:
        experts: dict[tuple[object, ...], Expert] = {}
        for number, pair in enumerate(PAIRS[kind]()):
            for seed in options.seeds if options.only is None or number in options.only else ():
                rows = measure(pair, seed, options, experts)
                records += rows
                texts = [f"{row['method']} {row['accuracy']:.3f}/{row['macro_f1']:.3f}" for row in rows]
                line = f"{pair.name} seed {seed}: {' '.join(texts)} ({cpu_s():.0f} CPU s)"
                print(line, file=sys.stderr, flush=True)
    print(table_of(records), file=sys.stderr, flush=True)
    text = json.dumps({"machine": machine(), "tesela": tesela.__version__, "records": records}, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def measure(
    pair: Pair, seed: int, options: argparse.Namespace, experts: dict[tuple[object, ...], Expert]
) -> list[dict[str, object]]:
    """Train on the source, map the target by each method, and train on the target for the upper limit."""

    def trained(data: DataSet) -> Expert:
        key = (*(scene.name for scene in data.scenes), seed)
        if key not in experts:
            experts[key] = TRAININGS[options.model](data, seed, options)
        return experts[key]

    expert = trained(pair.source)
    halves = first_half(pair.target, seed)
    reference = np.concatenate(
        [scene.labels[~halves[scene.units] & (scene.labels > 0)] for scene in pair.target.scenes]
    )
    pixels = np.concatenate([scene.image.reshape(len(scene.image), -1).T for scene in pair.target.scenes])
    pixels = pixels[np.random.default_rng(seed).permutation(len(pixels))[:20_000]]
    rows: list[dict[str, object]] = []
    for method in (*(("upper",) if options.model == "boosting" else ()), *options.methods):
        started = cpu_s()
        used, what = (trained(pair.target) if method == "upper" else expert), ""
        scenes = pair.target.scenes
        if method == "quantiles":
            scenes = tuple(matched(scene, pixels, pair.source) for scene in scenes)
        elif method not in ("upper", "none"):
            used, steps = adapt_to_pixels(
                expert,
                pixels,
                lambda: [window for item in pair.target.scenes for window in windows_of(item, expert)],
                method=method,
                seed=seed,
            )
            what = " + ".join(steps)
        predicted = np.concatenate(
            [classify(used, scene)[~halves[scene.units] & (scene.labels > 0)] for scene in scenes]
        )
        accuracy, macro = score(reference, predicted)
        rows.append(
            {
                "kind": pair.kind,
                "model": options.model,
                "pair": pair.name,
                "seed": seed,
                "method": method,
                "accuracy": round(accuracy, 4),
                "macro_f1": round(macro, 4),
                "steps": what,
                "unlike_training": round(measure_distance(expert.header, pixels).far, 4),
                "cpu_s": round(cpu_s() - started, 2),
            }
        )
    return rows


def first_half(data: DataSet, seed: int) -> NDArray[np.bool_]:
    """Units that train; the others test."""
    half = np.zeros(data.units, bool)
    half[np.random.default_rng([seed, 7]).permutation(data.units)[: data.units // 2]] = True
    return half


def train(data: DataSet, seed: int, standardisation: Standardisation | None = None) -> Expert:
    """An expert of boosted trees, trained on half of the units; its standardisation is that of the scenes, or given."""
    half = first_half(data, seed)
    flat = np.concatenate([scene.image.reshape(len(scene.image), -1).T for scene in data.scenes])
    mean, std = flat.mean(0, dtype=np.float64), flat.std(0, dtype=np.float64)
    if standardisation is not None:
        mean, std = np.array(standardisation.mean), np.array(standardisation.std)
    sides = () if data.pixels_only else (3, 7, 15, 31)
    spec = default_features(data.bands, sides_px=sides, texture=bool(sides))
    features, values, classes = [], [], []
    for number, scene in enumerate(data.scenes):
        scaled = np.ascontiguousarray(((scene.image.transpose(1, 2, 0) - mean) / std).astype(np.float32))
        made = compute_features(scaled, spec, mean.astype(np.float32), std.astype(np.float32))
        mask = half[scene.units] & (scene.labels > 0)
        chosen = np.flatnonzero(mask)
        chosen = np.random.default_rng([seed, number]).permutation(chosen)[: PIXELS // len(data.scenes)]
        features.append(made.reshape(len(made), -1)[:, chosen])
        values.append(scaled.reshape(-1, len(mean))[chosen])
        classes.append(scene.labels.ravel()[chosen].astype(np.int64) - 1)
    labels = np.concatenate(classes)
    count = len(data.classes)
    spec, drawn = keep_features(
        TreePixels(np.concatenate(features, axis=1), labels), spec, classes=count, seed=seed
    )
    network = fit_chosen(
        "boosting", drawn, spec=spec, classes=count, mean=mean, std=std, trees=TREES, seed=seed
    )
    legend = tesela.Legend(
        "pairs",
        tuple(
            tesela.LandClass(value, f"c{value}", str(name), f"#{value * 9:02x}{255 - value * 9:02x}80")
            for value, name in enumerate(data.classes, 1)
        ),
    )
    header = ExpertHeader(
        architecture=network.architecture,
        legend=legend,
        bands=data.bands,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        patch_size_px=32,
        pixel_size_m=0.0,
        imagery=describe_imagery(np.concatenate(values), labels, mean=mean, std=std),
    )
    return Expert(header, network)


@contextmanager
def band_jitter(deviation: float) -> Iterator[None]:
    """Train with another light in each band of each patch: what several seasons would show."""
    if not deviation:
        yield
        return
    from tesela.training.segmentation import task

    plain = task.augment

    def augment(images, labels, rng, **settings):  # type: ignore[no-untyped-def]
        images, labels = plain(images, labels, rng, **settings)
        shape = (*images.shape[:2], 1, 1)
        gain, offset = (rng.normal(0, item, shape).astype(np.float32) for item in (deviation / 2, deviation))
        changed = images * images.new_tensor(np.exp(gain)) + images.new_tensor(offset)
        return changed * (images != 0), labels  # 0 is no data

    task.augment = augment  # type: ignore[assignment]
    try:
        yield
    finally:
        task.augment = plain


def train_network(data: DataSet, seed: int, options: argparse.Namespace) -> Expert:
    """An expert of a small U-Net, trained on half of the units, a fifth of which validates."""
    parts = (data.name, data.scenes[0].name, len(data.scenes), f"seed{seed}", f"jitter{options.jitter:g}")
    name = "_".join(map(str, parts)) + ".safetensors"
    folder: Path | None = options.experts
    if folder is not None and (folder / name).exists():
        return tesela.open_expert(folder / name)
    units = np.flatnonzero(first_half(data, seed))
    split = np.full(data.units, TEST)
    split[units] = TRAIN
    split[np.random.default_rng([seed, 9]).permutation(units)[: max(1, len(units) // 5)]] = VAL
    few = replace(data, pixels_only=True)  # also patches with few labelled pixels
    settings = tesela.SegmentationSettings(
        model="unet",
        encoder="tf_efficientnet_lite0",
        decoder="small",
        weights="imagenet",
        budget=f"{options.seconds:g} s",
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as scratch, band_jitter(options.jitter):
        table = make_table(Task(few, split, seed), Path(scratch))
        out = (folder or Path(scratch)) / name
        return tesela.train_segmentation(table, settings, out, quiet=True)


def train_fused(data: DataSet, seed: int, options: argparse.Namespace) -> Expert:
    """The U-Net and boosted trees, joined with equal weights."""
    first = train_network(data, seed, options)
    second = train(data, seed, first.header.standardisation)
    plan = FusedArchitecture((first.header.architecture, second.header.architecture))  # type: ignore[arg-type]
    network = FusedNetwork(plan, [first.network, second.network])
    network.weight.fill_(0.5)
    return Expert(replace(first.header, architecture=plan), network.eval())


TRAININGS: dict[str, Callable[[DataSet, int, argparse.Namespace], Expert]] = {
    "boosting": lambda data, seed, options: train(data, seed),
    "unet": train_network,
    "fused": train_fused,
}


def classify(expert: Expert, scene: LabelledScene) -> NDArray[np.uint8]:
    """Class values of a scene, (rows, cols)."""
    rows, cols = scene.labels.shape
    batch, _ = make_batch(expert, [scene.image], [np.full((rows, cols), 255)])
    scores = expert.network(batch)[0, :, :rows, :cols].detach().numpy()
    return (scores.argmax(0) + 1).astype(np.uint8)


def windows_of(scene: LabelledScene, expert: Expert) -> list[NDArray[np.float32]]:
    """What an expert learns from: for trees the scene with a margin without data, for networks windows of it."""
    margin = int(getattr(expert.network, "margin_px", 0))
    if isinstance(expert.network, ClassTrees):
        sides = ((0, 0), (margin, margin), (margin, margin))
        return [np.pad(scene.image, sides, constant_values=np.nan)]
    firsts = [
        np.unique(np.linspace(0, max(0, side - WINDOW_PX), min(5, -(-side // WINDOW_PX))).astype(int))
        for side in scene.labels.shape
    ]
    whole = np.pad(scene.image, ((0, 0), (margin, margin), (margin, margin)), constant_values=np.nan)
    side = WINDOW_PX + 2 * margin
    return [whole[:, row : row + side, col : col + side] for row in firsts[0] for col in firsts[1]]


def matched(scene: LabelledScene, pixels: NDArray[np.float32], source: DataSet) -> LabelledScene:
    """The scene with each band brought to the training's quantiles."""
    training = np.concatenate([item.image.reshape(len(item.image), -1).T for item in source.scenes])
    image = np.empty_like(scene.image)
    for band in range(len(image)):
        old, new = (np.quantile(item[:, band], LEVELS) for item in (pixels, training))
        values = scene.image[band]
        ends = np.minimum(values - old[0], 0) + np.maximum(values - old[-1], 0)
        image[band] = np.interp(values, old, new) + ends
    return replace(scene, image=image)


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
        far = np.mean([float(str(row["unlike_training"])) for row in records if row["pair"] == name])
        lines.append(f"| {name} | {100 * far:.0f} % | " + " | ".join(cells) + " |")
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
    from tesela.io.legends import open_legend
    from tesela.simulate import make_landscape, simulate_image

    landscape = make_landscape(size_px=400, pixel_m=20, seed=seed)
    image = simulate_image(landscape, season, clouds="none").values.astype(np.float32) / 10_000
    if radiometry is not None:
        image = (image * radiometry[0][:, None, None] + radiometry[1][:, None, None]).astype(np.float32)
    codes = {item.value: item.code[:2] for item in open_legend("corine-3").classes}
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
    main()
