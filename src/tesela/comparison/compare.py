"""Compare: run a recipe with each combination of some of its settings and write the tables of the papers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tesela.chains.metrics import Blocks, Comparable
from tesela.chains.run import Chain, build_chain
from tesela.comparison.comparison import Comparison, Entry, SeedRun
from tesela.comparison.page import write_page
from tesela.comparison.parameter_grid import Axis, Combination, combine, digest, parse_axis
from tesela.comparison.significance import compare_blocks, score_interval
from tesela.core.errors import RecipeError, TeselaError
from tesela.io.manifest import Manifest, write_text
from tesela.recipes.schema import Recipe, check_recipe, read_document
from tesela.recipes.stages import run_stages

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Compared:
    """A comparison and its files."""

    comparison: Comparison
    files: dict[str, Path]


def compare_recipe(
    path: str | Path,
    *,
    vary: Sequence[str],
    seeds: int = 1,
    out: str | Path | None = None,
    quiet: bool = False,
    report: Report = lambda stage, text: None,
) -> Compared:
    """
    Run all combinations of some settings of a recipe and write tables of scores and cost.

    Every run has a folder of its own; runs with equal settings and inputs up to a stage share that stage. Finished
    stages are kept: a comparison that was killed is resumed, and one with more values runs only the new ones.

    Parameters
    ----------
    vary : sequence of str
        ``KEY=A,B``, each; see `tesela.comparison.parameter_grid.parse_axis`.
    seeds : int
        Runs of each combination, with the recipe's seed and those after it.
    out : path, optional
        Folder; default: ``compare`` in the recipe's own output folder.

    Returns
    -------
    Compared
        Its files are ``compare.csv``, ``compare.json``, ``compare.png`` and the page ``compare.html``.

    Raises
    ------
    RecipeError
        If a key or value is wrong, before anything runs, or the chain cannot be compared.
    """
    file = Path(path)
    document, folder = read_document(file), file.resolve().parent
    base = check_recipe(document, where=str(path), folder=folder)
    if seeds < 1:
        raise RecipeError(f"seeds is {seeds}; each combination needs at least one run.")
    axes = tuple(parse_axis(text) for text in vary)
    target = folder / base.out / "compare" if out is None else Path(out).resolve()
    grid = combine(document, axes)
    plans = [
        [_plan(item, number, where=str(path), folder=folder, target=target) for number in range(seeds)]
        for item in grid
    ]
    if not hasattr(build_chain(base, folder, quiet=quiet), "metrics"):
        raise RecipeError(f"{path}: runs of the chain '{base.chain}' cannot be compared yet.")
    runs: list[list[SeedRun]] = []
    blocks: list[list[Blocks]] = []
    count = len(grid) * seeds
    for item, row in zip(grid, plans, strict=True):
        runs.append([])
        blocks.append([])
        for recipe in row:
            number = sum(map(len, runs)) + 1
            name = f"{number}/{count} {' '.join(item.labels)}, seed {recipe.seed}"
            try:
                chain = _run(recipe, folder, target, quiet=quiet, report=_named(report, name))
            except TeselaError as error:
                raise type(error)(f"Run {name}: {error} Finished stages are kept.") from error
            runs[-1].append(_seed_run(chain, recipe, target))
            blocks[-1].append(chain.blocks())
    comparison = _compare(f"{base.name}: {', '.join(axis.key for axis in axes)}", axes, grid, runs, blocks)
    return Compared(comparison, _write(comparison, target))


def _plan(item: Combination, number: int, *, where: str, folder: Path, target: Path) -> Recipe:
    document = {**item.document, "seed": int(item.document.get("seed", 0)) + number}
    document["out"] = str(target / "runs" / f"{item.name}-{document['seed']}")
    return check_recipe(document, where=f"{where} with {' '.join(item.labels)}", folder=folder)


def _run(recipe: Recipe, folder: Path, target: Path, *, quiet: bool, report: Report) -> Comparable:
    chain = build_chain(recipe, folder, quiet=quiet)
    _share_stages(chain, target / "shared")
    write_text(Path(recipe.out) / "recipe.json", recipe.model_dump_json(indent=1) + "\n")
    run_stages(chain.stages, report=report)
    return cast(Comparable, chain)


def _share_stages(chain: Chain, shared: Path) -> None:
    """Make the folder of each stage a link to one that all runs with the same settings up to that stage share."""
    settings: list[Any] = []
    for stage in chain.stages:
        settings.append([stage.name, stage.settings, stage.seed, stage.legend])
        home = shared / f"{stage.name}-{digest(settings)}"
        home.mkdir(parents=True, exist_ok=True)
        if not stage.folder.is_symlink():
            stage.folder.parent.mkdir(parents=True, exist_ok=True)
            stage.folder.symlink_to(os.path.relpath(home, stage.folder.parent), target_is_directory=True)


def _seed_run(chain: Comparable, recipe: Recipe, target: Path) -> SeedRun:
    manifests = [Manifest.read(stage.folder) for stage in chain.stages]
    return SeedRun(
        seed=recipe.seed,
        folder=os.path.relpath(recipe.out, target),
        metrics=chain.metrics(),
        minutes=sum(item.seconds for item in manifests if item is not None) / 60,
        mflops_per_px=chain.mflops_per_px(),
    )


def _compare(
    title: str,
    axes: tuple[Axis, ...],
    grid: Sequence[Combination],
    runs: Sequence[Sequence[SeedRun]],
    blocks: Sequence[Sequence[Blocks]],
) -> Comparison:
    entries = tuple(
        Entry(
            labels=item.labels,
            runs=tuple(row),
            interval=score_interval(counts),
            blocks=len({name for part in counts for name in part.names}),
        )
        for item, row, counts in zip(grid, runs, blocks, strict=True)
    )
    comparison = Comparison(title, axes, tuple(run.seed for run in runs[0]), entries)
    best = blocks[entries.index(comparison.best)]
    compared = [
        entry if entry is comparison.best else replace(entry, difference=compare_blocks(counts, best))
        for entry, counts in zip(entries, blocks, strict=True)
    ]
    return replace(comparison, entries=tuple(compared))


def _write(comparison: Comparison, target: Path) -> dict[str, Path]:
    files = {kind: target / f"compare.{kind}" for kind in ("csv", "json", "png", "html")}
    write_text(files["csv"], comparison.to_csv())
    write_text(files["json"], json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n")
    write_page(comparison, page=files["html"], picture=files["png"])
    return files


def _named(report: Report, name: str) -> Report:
    return lambda stage, text: report(f"{name}: {stage}", text)
