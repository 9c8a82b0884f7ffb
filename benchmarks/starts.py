"""
Starting points of the network for class maps: random, ImageNet, and self-supervised, at equal processor time.

    .venv/bin/python benchmarks/starts.py --sets lanjaron-1 chesapeake --seeds 0 1 --minutes 1.25 --keep FOLDER

Sets and splits are those of real_accuracy.py. Every row trains the same network with the same settings (U-Net, encoder
EfficientNet-Lite0, small decoder), by `train_segmentation` with a budget; pretraining is part of the budget:

- random: no start
- imagenet: the weights of the extra `start`, their channels repeated over the bands in order
- imagenet-by-name: the same weights, channels matched to the bands by name, other bands the mean of all
- masked, imagenet-masked: half of the budget is `pretrain_encoder` on the scenes without labels, from random weights or
  from those of imagenet; pixels of the test area have no data
- barlow, imagenet-barlow: the same with Barlow Twins at each place of the feature maps (Zbontar et al. 2021), which is
  defined here

Test pixels are scored once. With --keep each result is a file, and is not measured again while it is there. Prints a
table on stderr, and one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import torch
from rasterio.features import shapes
from shapely.geometry import shape
from torch import Tensor, nn

import tesela  # before torch: it sets how idle threads wait
from mapping.probe import machine
from real_accuracy.ours import _open, make_table
from real_accuracy.scoring import TestCounts, mean_scores, paired_difference
from real_accuracy.sets import SETS, require_set
from real_accuracy.task import TEST, Clock, Task, cpu_s, make_task
from tesela.core.standardisation import Standardisation
from tesela.patches.dataset import band_statistics
from tesela.training.segmentation.pretraining import MaskedReconstruction, Objective, pretrain_encoder

ENCODER = "tf_efficientnet_lite0"
PRETRAINING = 0.5
"""Share of the budget of a row with pretraining."""

Start = Callable[[Task, Path, Clock], str]
"""Makes the start of a training in a folder, and returns the setting `weights`."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", default=["lanjaron-1", "chesapeake"], choices=SETS, metavar="SET"
    )
    parser.add_argument("--rows", nargs="+", default=list(STARTS), choices=STARTS, metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--minutes", type=float, default=1.25, help="processor minutes of each row")
    parser.add_argument("--keep", type=Path, help="folder of one result file per set, row, seed and minutes")
    options = parser.parse_args()
    results = []
    for name in options.sets:
        data = require_set(name)
        records = []
        for seed in options.seeds:
            task = make_task(data, seed)
            for row in options.rows:
                records.append(measure(task, row, minutes=options.minutes, keep=options.keep))
                print(f"{name} seed {seed} {row}: {shown(records[-1])}", file=sys.stderr, flush=True)
        results.append(summarise(name, options.rows, records))
        print(table_of(results[-1]), file=sys.stderr)
    print(json.dumps({"machine": machine(), "minutes": options.minutes, "results": results}, indent=1))


# --- starts


def random(task: Task, folder: Path, clock: Clock) -> str:
    """No start."""
    return "random"


def imagenet(task: Task, folder: Path, clock: Clock) -> str:
    """The package's weights by name: channels repeat over the bands."""
    return "imagenet"


def imagenet_by_name(task: Task, folder: Path, clock: Clock) -> str:
    """The package's weights as a file that states its bands."""
    from safetensors.torch import save_file

    from tesela.models.segmentation.weights import packaged_weights

    tensors = packaged_weights(ENCODER)
    if tensors is None:
        sys.exit("Install tesela's extra 'start', which holds the ImageNet weights.")
    path = folder / "imagenet.safetensors"
    save_file({name: item.contiguous() for name, item in tensors.items()}, path, {"bands": "red,green,blue"})
    return str(path)


def self_supervised(
    task: Task,
    folder: Path,
    clock: Clock,
    *,
    weights: str,
    objective: Callable[[nn.Module], Objective] = MaskedReconstruction,
) -> str:
    """Pretraining on the scenes without the test area."""
    table = make_table(task, folder)
    mean, std = band_statistics(table, "train")
    settings = tesela.SegmentationSettings(
        model="unet", encoder=ENCODER, decoder="small", weights=weights, seed=task.seed
    )
    path = pretrain_encoder(
        [_open(task.data, scene, folder) for scene in task.data.scenes],
        folder / "start.safetensors",
        settings=settings,
        standardisation=Standardisation.of(task.data.bands, mean, std),
        size_px=task.data.patch_px,
        budget=f"{PRETRAINING * clock.budget_s:.0f} s",
        left_out=test_area(task),
        objective=objective,
        quiet=True,
    )
    return str(path)


def test_area(task: Task) -> gpd.GeoDataFrame:
    """Outlines of the test pixels of all scenes."""
    outlines = []
    for scene in task.data.scenes:
        mask = task.mask(scene, TEST)
        polygons = shapes(mask.astype(np.uint8), mask=mask, transform=scene.transform)
        outlines += [shape(outline) for outline, _ in polygons]
    return gpd.GeoDataFrame(geometry=outlines, crs=task.data.scenes[0].crs)


class DenseBarlowTwins(nn.Module):
    """
    Two views of the same pixels get the same features, whose components do not correlate [Zbontar2021]_.

    The views differ in brightness and contrast of each band, in bands that are left out and in hidden squares; every
    place of the feature maps at strides 8 and 16 is a sample.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.encoder: nn.Module = network.encoder  # type: ignore[assignment]
        channels = list(self.encoder.out_channels)  # type: ignore[arg-type]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 256, 1), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 256, 1))
            for width in (channels[3], channels[4])
        )

    def loss(self, images: Tensor, valid: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean over the strides."""
        pairs = zip(*(self._features(self._view(images, rng)) for _ in range(2)), strict=True)
        return torch.stack([self._distance(*pair) for pair in pairs]).mean()

    def _view(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        count, bands, rows, cols = images.shape
        gain = torch.from_numpy(rng.uniform(0.7, 1.3, (count, bands, 1, 1)).astype(np.float32))
        shift = torch.from_numpy(rng.uniform(-0.3, 0.3, (count, bands, 1, 1)).astype(np.float32))
        kept = torch.from_numpy(rng.random((count, bands, 1, 1)) >= 0.15)
        squares = torch.from_numpy(rng.random((count, 1, rows // 8, cols // 8)) >= 0.2)
        shown = squares.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return torch.where(kept & shown & (images != 0), images * gain + shift, 0)

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return [head(maps[level]) for head, level in zip(self.heads, (3, 4), strict=True)]

    def _distance(self, first: Tensor, second: Tensor) -> Tensor:
        flat = [item.float().transpose(0, 1).flatten(1) for item in (first, second)]  # (256, samples)
        a, b = ((item - item.mean(1, keepdim=True)) / (item.std(1, keepdim=True) + 1e-5) for item in flat)
        correlation = a @ b.T / a.shape[1]
        same = torch.diagonal(correlation)
        other = correlation.square().sum() - same.square().sum()
        return ((1 - same).square().sum() + 0.005 * other) / len(correlation)


STARTS: dict[str, Start] = {
    "random": random,
    "imagenet": imagenet,
    "imagenet-by-name": imagenet_by_name,
    "masked": partial(self_supervised, weights="random"),
    "imagenet-masked": partial(self_supervised, weights="imagenet"),
    "barlow": partial(self_supervised, weights="random", objective=DenseBarlowTwins),
    "imagenet-barlow": partial(self_supervised, weights="imagenet", objective=DenseBarlowTwins),
}


# --- measuring


def measure(task: Task, row: str, *, minutes: float, keep: Path | None) -> dict[str, object]:
    """Make the start, train, map the test area and score it."""
    kept = None if keep is None else keep / f"{task.data.name}_{row}_seed{task.seed}_{minutes:g}min.json"
    if kept is not None and kept.exists():
        known: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
        return known
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), Clock(60 * minutes)
        table = make_table(task, folder)
        clock = Clock(60 * minutes)
        weights = STARTS[row](task, folder, clock)
        started_s = clock.spent_s
        settings = tesela.SegmentationSettings(
            model="unet",
            encoder=ENCODER,
            decoder="small",
            weights=weights,
            budget=f"{max(clock.left_s, 1):.0f} s",
            seed=task.seed,
        )
        expert = tesela.train_segmentation(table, settings, folder / "expert.safetensors", quiet=True)
        train_s = clock.spent_s
        counts, begun = TestCounts.empty(), cpu_s()
        for scene in task.data.scenes:
            if task.mask(scene, TEST).any():
                path = folder / f"{scene.name}-map.tif"
                tesela.predict(expert, _open(task.data, scene, folder), path, engine="torch")
                with rasterio.open(path) as data:
                    counts.add(task, scene, data.read(1))
    record: dict[str, object] = {
        "row": row,
        "seed": task.seed,
        "start_cpu_s": round(started_s, 1),
        "train_cpu_s": round(train_s, 1),
        "map_cpu_s": round(cpu_s() - begun, 1),
        **counts.scores(pixels_only=False),
        "validation": expert.header.scores.get("macro_f1"),
        "confusion": {str(unit): matrix.tolist() for unit, matrix in counts.matrices.items()},
    }
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(kept)
    return record


def summarise(name: str, rows: list[str], records: list[dict[str, object]]) -> dict[str, object]:
    """Means over the seeds, and the difference of each row from the first."""
    by_row = {row: [item for item in records if item["row"] == row] for row in rows}
    matrices = {
        row: {
            int(str(item["seed"])): {
                int(unit): np.array(matrix) for unit, matrix in item["confusion"].items()
            }  # type: ignore[attr-defined]
            for item in items
        }
        for row, items in by_row.items()
    }
    first = rows[0]
    return {
        "set": name,
        "means": {row: mean_scores(items) for row, items in by_row.items()},
        "less_first": {row: paired_difference(matrices[row], matrices[first]) for row in rows[1:]},
        "records": [{key: value for key, value in item.items() if key != "confusion"} for item in records],
    }


def table_of(result: dict) -> str:  # type: ignore[type-arg]
    """A table for people: means over the seeds, and differences from the first row in points with 95 % intervals."""
    lines = [
        f"\n{result['set']}",
        f"{'row':18}{'CPU s':>7}{'acc.':>7}{'mIoU':>7}{'F1':>7}{'accuracy':>24}{'macro F1':>24}",
    ]
    for row, scores in result["means"].items():
        cells = f"{row:18}{scores['train_cpu_s']:7.0f}" + "".join(
            f"{scores[name]:7.3f}" for name in ("accuracy", "miou", "macro_f1")
        )
        for name in ("accuracy", "macro_f1") if row in result["less_first"] else ():
            item = {key: 100 * value for key, value in result["less_first"][row][name].items()}
            cells += f"{item['difference']:+.1f} ({item['low']:+.1f} to {item['high']:+.1f})".rjust(24)
        lines.append(cells)
    return "\n".join(lines)


def shown(record: dict[str, object]) -> str:
    return f"accuracy {record['accuracy']}, F1 {record['macro_f1']}, {record['train_cpu_s']} CPU s"


if __name__ == "__main__":
    main()
