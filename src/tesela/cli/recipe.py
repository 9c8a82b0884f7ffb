"""`tesela demo`, `init`, `run`, `compare` and `figures`: whole chains, from a recipe to its report and figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tesela.cli.output import Json, Quiet, print_json, print_table, split_names


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(demo)
    app.command()(init)
    app.command()(run)
    app.command()(compare)
    app.command()(figures)


def demo(
    chain: Annotated[
        str,
        typer.Argument(
            metavar="CHAIN", help="Chain to run: corine, lulucf, unmixing, or all, each in its own folder."
        ),
    ] = "corine",
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for all files.")] = "tesela-demo",
    size: Annotated[str, typer.Option(help="small (minutes) or full (the whole virtual region).")] = "small",
    seed: Annotated[int, typer.Option(help="Seed of the virtual region and the training.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Run a chain on a virtual region, from imagery to report.

    Example: tesela demo
    """
    from tesela.verbs import chains

    silent = quiet or as_json
    names = chains.demo_chains(chain)
    documents = {}
    for name in names:
        folder = Path(out) / name if chain == "all" else Path(out)
        made = chains.demo(name, folder, size=size, seed=seed, quiet=silent, report=Reporter(silent))
        documents[name] = made[name].document
        if not as_json:
            print(*(() if chain != "all" else (f"{name}:",)), *made[name].lines, sep="\n")
    if as_json:
        print_json(documents if chain == "all" else documents[chain])


def init(
    chain: Annotated[str, typer.Argument(metavar="CHAIN", help="corine, lulucf or unmixing.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="File to write; default: the chain's name + .toml.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Imagery (files, comma-separated): the recipe names its files and bands, and patches fit its size."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """
    Write a commented recipe to start from.

    Example: tesela init corine --like scene.tif -o corine.toml
    """
    from tesela.verbs import chains

    path = chains.init(chain, out, like=like)
    print(f"recipe  {path}")
    if not quiet:
        print(f"Edit its paths, then: tesela run {path}")


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file; see `tesela init`.")],
    until: Annotated[str | None, typer.Option(help="Last stage to run; --dry-run shows the stages.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First stage to run again, with all after it.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE: another value than in the recipe; repeat it for further keys."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Open the inputs, and show what would run, its time and memory; nothing is written.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Run the stages of a recipe.

    Stages that are up to date are skipped, interrupted ones are resumed. Keys are set as in the file, with dots for
    sections and names for entries of lists: --set training.epochs=5 --set scenes.april.invalid=nodata

    Example: tesela run corine.toml --until train
    """
    if dry_run:
        show_plan(recipe, start=start, until=until, changes=changes or (), as_json=as_json)
        return
    run_file(recipe, start=start, until=until, changes=changes or (), quiet=quiet, as_json=as_json)


def show_plan(
    recipe: str, *, start: str | None, until: str | None, changes: Sequence[str], as_json: bool
) -> None:
    """Print what a run would do, from what, and about what it takes."""
    from tesela.chains.run import RecipePlan
    from tesela.verbs import chains

    planned = chains.run(recipe, start=start, until=until, changes=changes, dry_run=True)
    assert isinstance(planned, RecipePlan)
    if as_json:
        print_json(planned.document)
        return
    print(*planned.preview.lines, "", sep="\n")
    seconds = planned.preview.seconds
    rows = [
        [
            plan.name,
            plan.state,
            "" if plan.inputs_bytes is None else f"{plan.inputs_bytes / 1e6:,.1f} MB",
            "" if plan.last_seconds is None else f"{plan.last_seconds:,.0f} s",
            f"{seconds[plan.name]:,.0f} s" if plan.name in seconds and plan.state != "up to date" else "",
            _from_here(plan.folder),
        ]
        for plan in planned.stages
    ]
    header = ["stage", "state", "inputs", "last time", "processor", "folder"]
    print_table(rows, header=header, right=(2, 3, 4))


def _from_here(folder: Path) -> str:
    """A folder as seen from the working directory, where it lies below."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def run_file(
    recipe: str,
    *,
    start: str | None,
    until: str | None,
    changes: Sequence[str] = (),
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a recipe and print its scores and files."""
    from tesela.chains.run import Outcome
    from tesela.verbs import chains

    silent = quiet or as_json
    result = chains.run(
        recipe, start=start, until=until, changes=changes, quiet=silent, report=Reporter(silent)
    )
    assert isinstance(result, Outcome)
    if as_json:
        print_json(result.document)
    else:
        print(*result.lines, sep="\n")


def compare(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file; see `tesela init`.")],
    vary: Annotated[
        list[str],
        typer.Option(help="KEY=A,B: a key of the recipe and its values; repeat it for further keys."),
    ],
    seeds: Annotated[int, typer.Option(help="Runs of each combination, each with another seed.")] = 1,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder; default: compare in the recipe's output folder."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Run a recipe with all combinations of some settings.

    Writes scores, their spread and significance, and the cost, as tables, a chart and a page. A value may be a list,
    A+B, and have a name, NAME:VALUE; scenes are selected by their names. An interrupted comparison is resumed.

    Example: tesela compare corine.toml --vary scenes=april,july --vary training.encoder=resnet50,resnet101
    """
    from tesela.verbs import chains

    made = chains.compare(
        recipe, vary=vary, seeds=seeds, out=out, quiet=quiet or as_json, report=Reporter(quiet or as_json)
    )
    if as_json:
        print_json(made.comparison.to_dict() | {"files": made.files})
        return
    for level in made.comparison.levels:
        if level is not None:
            print(f"level {level}")
        head, rows = made.comparison.to_table(level)
        print_table(rows, header=head, right=range(len(made.comparison.axes), len(head)))
        if level is not None:
            print()
    print(
        f"* best {made.comparison.headline.name}; p by {made.comparison.best.blocks} blocks of the test area"
    )
    for kind, path in made.files.items():
        print(f"{kind:5} {path}")


def figures(
    run_folder: Annotated[
        str, typer.Argument(metavar="RUN", help="Output folder of a finished run, or its recipe.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder; default: figures in the output folder.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Numbers in the paper, such as 4,5 or 1a; default: all that can be drawn."),
    ] = None,
    scene: Annotated[
        str | None, typer.Option(help="Mapped scene to draw; default: the first one with labels.")
    ] = None,
    dpi: Annotated[int, typer.Option(help="Pixels per inch of the PNG, and of pictures in the PDF.")] = 300,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Draw the figures of the paper behind a chain.

    From a finished run, as PNG and PDF with captions. corine: 4, 5, 6; lulucf: 1a, 1b, 2; unmixing: 8, 11 to 16. See
    docs/figures.md for what each one shows.

    Example: tesela figures runs/corine --only 4,5
    """
    from tesela.verbs import chains

    drawn = chains.figures(
        run_folder, out, only=split_names(only), scene=scene, dpi=dpi, report=Reporter(quiet or as_json)
    )
    if as_json:
        print_json(drawn.document)
    else:
        print(*drawn.lines, sep="\n")


@dataclass(frozen=True)
class Reporter:
    """Prints on stderr which stage begins and ends."""

    quiet: bool

    def __call__(self, stage: str, text: str) -> None:
        """Print a line about a stage, which begins where there is no text."""
        from tesela.core.progress import progress_event  # the package loads numpy

        if not progress_event(stage=stage, text=text) and not self.quiet:
            print(f"[{stage}] {text or '...'}", file=sys.stderr, flush=True)
