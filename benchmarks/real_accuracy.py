"""
Accuracy on real data at equal processor time: Tesela's models beside what a practitioner gets in an afternoon.

    .venv/bin/python benchmarks/real_accuracy.py --sets all --minutes 2 10 30 --keep FOLDER [--out FILE]

Needs the real data (TESELA_DATA or ../shared/data) and, for LightGBM, the extra ``bench``. Units of each set (blocks,
patches, plots, polygons) are split by a seed, the same for all rows; everything is chosen on validation pixels, and
test pixels are scored once. A row trains until its processor time ends; choices, features and validation count, maps of
the test area do not. Rows whose name ends in "+prior" are the same model, with its probabilities divided by class
frequencies to a power chosen on validation.

Rivals: published (Demir and Musaoglu's U-Net to the letter, from scratch), practitioner (smp with augmentation), forest
and lightgbm (the pixel), forest-texture and lightgbm-texture (windows of 3, 7, 15 and 31 px). Ours: tesela-unet,
tesela-forest, tesela-boosting, tesela-auto. With --keep each result is a file of its own, and is not measured again
while that file is there. Prints a table on stderr, and one JSON document.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import tesela  # before torch: it sets how idle threads wait
from mapping.probe import machine
from real_accuracy.network_rivals import practitioner, published
from real_accuracy.ours import our_rows
from real_accuracy.scoring import TestCounts, mean_scores, paired_difference
from real_accuracy.sets import SETS, require_set
from real_accuracy.task import TEST, Clock, NotApplicable, Task, Trained, cpu_s, make_task, thinned
from real_accuracy.tree_rivals import forest_pixel, forest_texture, lightgbm_pixel, lightgbm_texture

Row = Callable[[Task, Clock], Trained]
RIVALS: dict[str, Row] = {
    "published": published,
    "practitioner": practitioner,
    "forest": forest_pixel,
    "forest-texture": forest_texture,
    "lightgbm": lightgbm_pixel,
    "lightgbm-texture": lightgbm_texture,
}
DEFAULT_SETS = ("lanjaron-1", "chesapeake")
BEST = ("tesela-auto", "tesela-boosting", "tesela-forest", "tesela-unet")
"""Of ours the first that was measured is compared with the rivals."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", default=DEFAULT_SETS, choices=("all", *SETS), metavar="SET", help="; ".join(SETS)
    )
    parser.add_argument("--rows", nargs="+", choices=(*RIVALS, *BEST), metavar="ROW", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[2.0], help="processor minutes of each training"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the training units that are used")
    parser.add_argument(
        "--best",
        choices=BEST,
        help="which of ours is compared with the rivals; default: the first of " + ", ".join(BEST),
    )
    parser.add_argument(
        "--settings", nargs="*", default=[], metavar="KEY=VALUE", help="of ours, such as encoder=resnet18"
    )
    parser.add_argument("--keep", type=Path, help="folder of one result file per set, row, seed and minutes")
    parser.add_argument("--out", type=Path, help="write the JSON document here, not to stdout")
    options = parser.parse_args()
    rows = {**RIVALS, **our_rows(_settings(options.settings))}
    names = list(SETS) if "all" in options.sets else options.sets
    document = {
        "machine": machine(),
        "tesela": tesela.__version__,
        "settings": options.settings,
        "results": [
            result
            for name in names
            for result in measure_set(name, {row: rows[row] for row in options.rows or rows}, options)
        ],
    }
    for result in document["results"]:
        print(table_of(result), file=sys.stderr)
    text = json.dumps(document, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def measure_set(name: str, rows: dict[str, Row], options: argparse.Namespace) -> list[dict[str, object]]:
    """One document for each number of minutes."""
    data = require_set(name)
    tasks = [thinned(make_task(data, seed), options.share) for seed in options.seeds]
    results = []
    for minutes in options.minutes:
        records, missing = [], {}
        for task in tasks:
            for row, train in rows.items():
                outcome = measure(task, row, train, minutes=minutes, keep=_kept(options, task, row, minutes))
                if isinstance(outcome, str):
                    missing[row] = outcome
                else:
                    records += outcome
                _progress(name, task.seed, row, minutes, outcome)
        results.append(
            {
                "set": name,
                "minutes": minutes,
                "share": options.share,
                "classes": data.classes,
                "bands": data.bands,
                "unit": data.unit,
                "test_units": {task.seed: int((task.split == TEST).sum()) for task in tasks},
                "means": {
                    row: mean_scores([item for item in records if item["row"] == row])
                    for row in dict.fromkeys(item["row"] for item in records)
                },
                "missing": missing,
                **compare(records, options.best),
                "records": records,
            }
        )
    return results


def measure(
    task: Task, row: str, train: Row, *, minutes: float, keep: Path | None
) -> list[dict[str, object]] | str:
    """Train one row, map the test area and score it: one record per variant, or why there is none."""
    if keep is not None and keep.exists():
        known: list[dict[str, object]] = json.loads(keep.read_text(encoding="utf-8"))
        return known
    clock = Clock(60 * minutes)
    try:
        trained = train(task, clock)
    except NotApplicable as error:
        return str(error)
    train_s, started = clock.spent_s, cpu_s()
    counts: dict[str, TestCounts] = {}
    for scene in task.data.scenes:
        if task.mask(scene, TEST).any():
            for variant, classes in trained.classify(scene).items():
                counts.setdefault(variant, TestCounts.empty()).add(task, scene, classes)
    map_s = cpu_s() - started
    records: list[dict[str, object]] = [
        {
            "row": f"{row}{variant}",
            "seed": task.seed,
            "minutes": minutes,
            "train_cpu_s": round(train_s, 1),
            "map_cpu_s": round(map_s, 1),
            **item.scores(pixels_only=task.data.pixels_only),
            "choices": trained.choices,
            "confusion": {str(unit): matrix.tolist() for unit, matrix in item.matrices.items()},
        }
        for variant, item in counts.items()
    ]
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        part = keep.with_suffix(".part")
        part.write_text(json.dumps(records), encoding="utf-8")
        part.replace(keep)
    return records


def compare(records: Sequence[dict[str, object]], best: str | None) -> dict[str, object]:
    """Differences of the best of ours from every other row, over the seeds that both have."""
    by_row: dict[str, dict[int, dict[int, np.ndarray]]] = {}
    for record in records:
        matrices = {int(unit): np.array(matrix) for unit, matrix in record["confusion"].items()}  # type: ignore[attr-defined]
        by_row.setdefault(str(record["row"]), {})[int(str(record["seed"]))] = matrices
    ours = next((row for row in ([best] if best else BEST) if row in by_row), None)
    if ours is None:
        return {"compared": None, "differences": {}}
    differences = {}
    for row, seeds in by_row.items():
        common = sorted(set(seeds) & set(by_row[ours]))
        if row != ours and common:
            pair = [{seed: item[seed] for seed in common} for item in (by_row[ours], seeds)]
            differences[row] = paired_difference(*pair)
    return {"compared": ours, "differences": differences}


def table_of(result: dict) -> str:  # type: ignore[type-arg]
    """A table for people: means over the seeds, and differences in points with their intervals."""
    seeds = ", ".join(map(str, result["test_units"]))
    lines = [
        "",
        f"{result['set']}: {len(result['classes'])} classes, {result['minutes']:g} CPU minutes, seeds {seeds}; "
        f"differences of {result['compared']} in points, 95 % interval by resampling (unit: {result['unit']})",
        f"{'row':24}{'CPU s':>7}{'acc.':>7}{'mIoU':>7}{'F1':>7}{'border':>8}{'inner':>7}"
        f"  {'accuracy':>22}{'macro F1':>22}",
    ]
    for row, scores in result["means"].items():
        cells = [f"{row:24}", f"{scores['train_cpu_s']:7.0f}"]
        for name, width in (
            ("accuracy", 7),
            ("miou", 7),
            ("macro_f1", 7),
            ("border_accuracy", 8),
            ("inner_accuracy", 7),
        ):
            value = "-" if scores[name] is None else f"{scores[name]:.3f}"
            cells.append(f"{value:>{width}}")
        difference = result["differences"].get(row)
        if difference:
            cells.append("  ")
            for name in ("accuracy", "macro_f1"):
                item = {key: 100 * value for key, value in difference[name].items()}
                text = f"{item['difference']:+.1f} ({item['low']:+.1f} to {item['high']:+.1f})"
                cells.append(f"{text:>22}")
        lines.append("".join(cells))
    lines += [f"{row}: not measured, {reason}" for row, reason in result["missing"].items()]
    return "\n".join(lines)


def _settings(words: Sequence[str]) -> dict[str, object]:
    out: dict[str, object] = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            out[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            out[key] = value
    return out


def _kept(options: argparse.Namespace, task: Task, row: str, minutes: float) -> Path | None:
    """File that keeps one result; one of ours also by its settings."""
    if options.keep is None:
        return None
    words = [task.data.name, row, f"seed{task.seed}", f"{minutes:g}min"]
    if options.share < 1:
        words.append(f"share{options.share:g}")
    if row not in RIVALS:
        words += [word.replace("/", "-") for word in sorted(options.settings)]
    return Path(options.keep) / f"{'_'.join(words)}.json"


def _progress(name: str, seed: int, row: str, minutes: float, outcome: list[dict[str, object]] | str) -> None:
    last = outcome if isinstance(outcome, str) else outcome[-1]
    text = last if isinstance(last, str) else f"accuracy {last['accuracy']}, F1 {last['macro_f1']}"
    print(f"{name} seed {seed} {row} {minutes:g} min: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
