"""Verbs on recipes: whole chains, from a recipe to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.extras import need

if TYPE_CHECKING:
    from tesela.article.draw import DrawnFigures
    from tesela.chains.run import Outcome, RecipePlan
    from tesela.comparison.compare import Compared
    from tesela.io.scenes import SceneSource

Report = Callable[[str, str], None]


def _silent(stage: str, text: str) -> None:
    """Report nothing."""


def demo(
    chain: str = "corine",
    out: str | Path = "tesela-demo",
    *,
    size: str = "small",
    seed: int = 0,
    quiet: bool = False,
    report: Report = _silent,
) -> dict[str, Outcome]:
    """
    Run whole chains on a virtual region, from imagery to report.

    Parameters
    ----------
    chain : str
        corine, lulucf, unmixing, or all, each in its own folder.
    out : path
        Folder for all files.
    size : {"small", "full"}
        Minutes, or the whole virtual region.
    report : callable of (stage, text)
        Called when a stage begins and ends.

    Returns
    -------
    dict of Outcome
        By chain.

    Raises
    ------
    RecipeError
        If there is no such chain or size.
    """
    from tesela.chains.demo import write_demo
    from tesela.chains.run import run_recipe

    need("torch")
    folders = {name: Path(out) / name if chain == "all" else Path(out) for name in demo_chains(chain)}
    return {
        name: run_recipe(
            write_demo(name, folder, size=size, seed=seed, report=report), quiet=quiet, report=report
        )
        for name, folder in folders.items()
    }


def demo_chains(chain: str) -> tuple[str, ...]:
    """Names of the chains of a demo: one, or all."""
    from tesela.recipes.chain_registry import CHAINS

    return tuple(CHAINS) if chain == "all" else (chain,)


def init(chain: str, out: str | Path | None = None, *, like: SceneSource | None = None) -> Path:
    """
    Write a commented recipe to start from; see `tesela.recipes.first_recipe.write_template`.

    Parameters
    ----------
    chain : str
        corine, lulucf or unmixing.
    out : path, optional
        Default: the chain's name + ``.toml``. An existing file is not overwritten.
    like : path or several, optional
        Imagery of the first scene: its files and bands stand in the recipe, and patches and blocks fit its size.
    """
    from tesela.recipes.first_recipe import write_template

    return write_template(chain, Path(out or f"{chain}.toml"), like=like)


def run(
    recipe: str | Path,
    *,
    until: str | None = None,
    start: str | None = None,
    changes: Sequence[str] = (),
    dry_run: bool = False,
    quiet: bool = False,
    report: Report = _silent,
) -> Outcome | RecipePlan:
    """
    Run the stages of a recipe; those that are up to date are skipped, interrupted ones resumed.

    Parameters
    ----------
    until, start : str, optional
        Last stage to run, and first stage to run again.
    changes : sequence of str
        Keys with other values than in the file, "training.epochs=5".
    dry_run : bool
        Only open the inputs, and say what would run and what it takes.

    Returns
    -------
    Outcome, or RecipePlan with `dry_run`

    Raises
    ------
    RecipeError
        Lists all mistakes of the recipe at once.
    """
    from tesela.chains.run import plan_recipe, run_recipe

    if dry_run:
        return plan_recipe(recipe, start=start, until=until, changes=changes)
    return run_recipe(recipe, start=start, until=until, changes=changes, quiet=quiet, report=report)


def train(
    recipe: str | Path, *, changes: Sequence[str] = (), quiet: bool = False, report: Report = _silent
) -> Outcome:
    """Train the expert of a recipe: `run` until its stage "train". Without a recipe: `tesela.train_segmentation`."""
    from tesela.chains.run import run_recipe

    return run_recipe(recipe, until="train", changes=changes, quiet=quiet, report=report)


def compare(
    recipe: str | Path,
    *,
    vary: Sequence[str],
    seeds: int = 1,
    out: str | Path | None = None,
    quiet: bool = False,
    report: Report = _silent,
) -> Compared:
    """
    Run a recipe with all combinations of some settings; see `tesela.comparison.compare.compare_recipe`.

    Parameters
    ----------
    vary : sequence of str
        ``KEY=A,B``, each.
    seeds : int
        Runs of each combination.
    out : path, optional
        Folder; default: ``compare`` in the recipe's output folder.
    """
    from tesela.comparison.compare import compare_recipe

    return compare_recipe(recipe, vary=vary, seeds=seeds, out=out, quiet=quiet, report=report)


def figures(
    run: str | Path,
    out: str | Path | None = None,
    *,
    only: Sequence[str] | None = None,
    scene: str | None = None,
    dpi: int = 300,
    report: Report = _silent,
) -> DrawnFigures:
    """
    Draw the figures of the paper behind a chain from a finished run; see `tesela.article.draw.draw_figures`.

    Parameters
    ----------
    run : path
        Output folder of a finished run, or its recipe.
    out : path, optional
        Folder; default: ``figures`` in the output folder.
    only : sequence of str, optional
        Numbers in the paper, such as "4"; default: all that can be drawn.
    scene : str, optional
        Mapped scene to draw; default: the first one with labels.
    dpi : int
        Pixels per inch of the PNG, and of pictures in the PDF.
    """
    from tesela.article.draw import draw_figures

    need("matplotlib")
    return draw_figures(run, out, only=only, scene=scene, dpi=dpi, report=report)
