"""
What helps networks on small data: one change at a time against the default network, at equal processor time.

    .venv/bin/python benchmarks/ablations.py --keep FOLDER [--sets SET ...] [--rows ROW ...] [--out FILE]
    .venv/bin/python benchmarks/ablations.py --steps

Sets, splits and scores are those of ``real_accuracy.py``: the split is drawn by the seed, the strength of the prior is
chosen on validation patches, test pixels are scored once. Each row is the default network with one change of its
settings, of its patches or of its training. With --keep each result is a file of its own, and is not measured again
while that file is there. Prints a table of means over the seeds, with differences to the default in points and their
95 % intervals by resampling of the units, and one JSON document. With --steps it times training steps of three encoders
in fp32 and bf16 instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import tesela  # before torch: it sets how idle threads wait
from mapping.probe import machine
from real_accuracy.ours import our_rows
from real_accuracy.scoring import TestCounts, mean_scores, paired_difference
from real_accuracy.sets import SETS, load_set
from real_accuracy.task import TEST, Clock, Task, make_task
from tesela.chains.label_ranking import rank_patches
from tesela.patches.label_quality import automatic_quality
from tesela.patches.table import PatchTable

DEFAULT_SETS = ("lanjaron-1", "chesapeake")
DEFAULT = "default"
FIRST_SHARE = 0.3
"""Share of the steps of the first stage of a training in two stages."""


@contextmanager
def two_stages(name: str) -> Iterator[None]:
    """Train the first steps with a frozen encoder, or the last ones without weights of classes."""
    from tesela.training.segmentation import fit

    class TwoStages(fit.SegmentationTask):
        def training_step(self, batch, index):  # type: ignore[no-untyped-def]
            first = self.global_step < FIRST_SHARE * self.total_steps
            if name == "frozen":
                self.network.encoder.requires_grad_(not first)
            elif self.global_step >= (1 - FIRST_SHARE) * self.total_steps:
                self.weight = None
            return super().training_step(batch, index)

    plain, fit.SegmentationTask = fit.SegmentationTask, TwoStages  # type: ignore[misc]
    try:
        yield
    finally:
        fit.SegmentationTask = plain  # type: ignore[misc]


@dataclass(frozen=True)
class Row:
    """One change against the default."""

    settings: Mapping[str, object] = field(default_factory=dict)
    prepare: Callable[[PatchTable], PatchTable] = lambda table: table
    """Changes the patches."""
    stages: str = ""
    """Training in two stages, see `two_stages`."""


def weigh_quality(table: PatchTable) -> PatchTable:
    """Quality classes of the training patches by their likelihood of error, from forests of the other folds."""
    training = replace(table, frame=table.frame[table.frame["split"] == "train"].reset_index(drop=True))
    with tempfile.TemporaryDirectory() as folder:
        file = training.write(Path(folder) / "patches.parquet")
        ranked = rank_patches(file, folds=3, quiet=True).table
    quality = automatic_quality(ranked).frame.set_index("patch_id")["quality"]
    return replace(table, frame=table.frame.assign(quality=table.frame["patch_id"].map(quality).fillna("")))


ROWS: dict[str, Row] = {
    DEFAULT: Row(),
    "shift 0.25": Row({"shift": 0.25}),
    "shift 0.5": Row({"shift": 0.5}),
    "border weight 0.5": Row({"border_weight": 0.5}),
    "border weight 0": Row({"border_weight": 0.0}),
    "border relaxation": Row({"border_relaxation": True}),
    "quality weights": Row({"quality_weights": (1.0, 0.5, 0.25)}, prepare=weigh_quality),
    "frozen encoder first": Row(stages="frozen"),
    "weights of classes first": Row(stages="weighted"),
    "2 members": Row({"members": 2}),
    "ResNet18, random start": Row({"encoder": "resnet18", "decoder": "small", "weights": "random"}),
    "ResNet18, random start, fp32": Row(
        {"encoder": "resnet18", "decoder": "small", "weights": "random", "precision": "fp32"}
    ),
    "ResNet50, random start": Row({"encoder": "resnet50", "decoder": "full", "weights": "random"}),
    "cross-entropy, weighted": Row({"loss": "ce"}),
    "cross-entropy, unweighted": Row({"loss": "ce", "imbalance_strategy": "none"}),
    "cross-entropy + Dice, unweighted": Row({"imbalance_strategy": "none"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=DEFAULT_SETS, choices=SETS, metavar="SET")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=40, help="processor time of each training")
    parser.add_argument("--keep", type=Path, help="folder of one result file per set, row and seed")
    parser.add_argument("--out", type=Path, help="write the JSON document here, not to stdout")
    parser.add_argument("--steps", action="store_true", help="time training steps in fp32 and bf16 instead")
    options = parser.parse_args()
    document: dict[str, object] = {"machine": machine(), "tesela": tesela.__version__}
    if options.steps:
        document["steps"] = step_times()
    else:
        document["results"] = [measure_set(name, options) for name in options.sets]
    text = json.dumps(document, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def measure_set(name: str, options: argparse.Namespace) -> dict[str, object]:
    """All rows of one set, over the seeds."""
    data = load_set(name)
    rows = [DEFAULT, *(row for row in options.rows if row != DEFAULT)]
    records: dict[str, list[dict[str, object]]] = {row: [] for row in rows}
    for seed in options.seeds:
        task = make_task(data, seed)
        for row in rows:
            record = measure(task, row, options)
            records[row].append(record)
            scores = (
                f"accuracy {record['accuracy']}, macro F1 {record['macro_f1']}, {record['train_cpu_s']} s"
            )
            print(f"{name} seed {seed} {row}: {scores}", file=sys.stderr, flush=True)
    means = {row: mean_scores(items) for row, items in records.items()}
    matrices = {
        row: {int(str(item["seed"])): _matrices(item) for item in items} for row, items in records.items()
    }
    differences = {row: paired_difference(matrices[row], matrices[DEFAULT]) for row in rows if row != DEFAULT}
    print(table_of(name, means, differences), file=sys.stderr)
    return {
        "set": name,
        "seconds": options.seconds,
        "seeds": options.seeds,
        "means": means,
        "differences": differences,
        "records": [item for items in records.values() for item in items],
    }


def measure(task: Task, name: str, options: argparse.Namespace) -> dict[str, object]:
    """Train one row, map the test area and score it."""
    kept = (
        None
        if options.keep is None
        else options.keep / f"{task.data.name}_{name}_seed{task.seed}_{options.seconds:g}s.json"
    )
    if kept is not None and kept.exists():
        known: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
        return known
    row = ROWS[name]
    clock = Clock(options.seconds)
    with two_stages(row.stages) if row.stages else nullcontext():
        trained = our_rows(row.settings, prepare=row.prepare)["tesela-unet"](task, clock)
    train_s, counts = clock.spent_s, TestCounts.empty()
    for scene in task.data.scenes:
        if task.mask(scene, TEST).any():
            counts.add(task, scene, trained.classify(scene)[""])
    record: dict[str, object] = {
        "row": name,
        "seed": task.seed,
        "train_cpu_s": round(train_s, 1),
        "map_cpu_s": round(clock.spent_s - train_s, 1),
        **counts.scores(pixels_only=task.data.pixels_only),
        "choices": trained.choices,
        "confusion": {str(unit): matrix.tolist() for unit, matrix in counts.matrices.items()},
    }
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(kept)
    return record


def table_of(
    name: str,
    means: Mapping[str, Mapping[str, float | None]],
    differences: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """A table for people."""
    lines = [
        "",
        f"{name}{'':35}CPU s   acc.  macro F1  border  inner   accuracy, points      macro F1, points",
    ]
    for row, scores in means.items():
        cells = [f"{row:36}", f"{scores['train_cpu_s']:6.0f}"]
        cells += [
            f"{scores[key]:8.4f}" for key in ("accuracy", "macro_f1", "border_accuracy", "inner_accuracy")
        ]
        for key in ("accuracy", "macro_f1") if row in differences else ():
            item = {part: 100 * value for part, value in differences[row][key].items()}
            cells.append(f"  {item['difference']:+.1f} ({item['low']:+.1f} to {item['high']:+.1f})")
        lines.append(" ".join(cells))
    return "\n".join(lines)


def step_times(
    side_px: int = 64, batch: int = 16, bands: int = 6, classes: int = 5
) -> list[dict[str, object]]:
    """Processor seconds a patch of a training step, of three encoders in fp32 and bf16."""
    import torch

    from tesela.models.segmentation.unet import UnetArchitecture
    from tesela.training.segmentation.losses import segmentation_loss

    out: list[dict[str, object]] = []
    for encoder, decoder in (("resnet18", "small"), ("resnet50", "full"), ("tf_efficientnet_lite0", "small")):
        plan = UnetArchitecture.plan(bands=bands, classes=classes, encoder=encoder, decoder=decoder)
        network = plan.build().to(memory_format=torch.channels_last).train()
        images = torch.randn(batch, bands, side_px, side_px).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, classes, (batch, side_px, side_px))
        times: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for step in range(5):  # the first sets up
            for precision, spent in times.items():
                begun = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    logits = network(images)
                segmentation_loss(logits, labels).backward()
                if step:
                    spent.append((time.process_time() - begun) / batch)
        out.append(
            {"encoder": encoder, **{key: round(float(np.median(value)), 4) for key, value in times.items()}}
        )
        print(out[-1], file=sys.stderr, flush=True)
    return out


def _matrices(record: Mapping[str, object]) -> dict[int, np.ndarray]:
    confusion: Mapping[str, Sequence[Sequence[int]]] = record["confusion"]  # type: ignore[assignment]
    return {int(unit): np.array(matrix) for unit, matrix in confusion.items()}


if __name__ == "__main__":
    main()
