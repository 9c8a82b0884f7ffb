"""`tesela review`: the photointerpreter's page, what came of it, and what to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.output import Json, Quiet, print_json, print_table

if TYPE_CHECKING:
    from tesela.web.review_results import ReviewResults


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(review)


def review(
    patches: Annotated[
        str, typer.Argument(help="Patch table (.parquet), or sample of points (.gpkg) of tesela assess.")
    ],
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets the whole network in.")
    ] = "127.0.0.1",
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Scene to look at the points of a sample in; repeatable: other dates, other sheets."
        ),
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="Classes to give points, if the sample does not say them.")
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Whose verdicts; default: the name of the account.")
    ] = None,
    order: Annotated[
        str,
        typer.Option(help="Of patches: random; class: classes take turns; disagreement: most doubted first."),
    ] = "random",
    overlap: Annotated[float, typer.Option(help="Share that all reviewers judge, 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of order and overlap; one for all reviewers.")] = 0,
    export: Annotated[
        list[str] | None,
        typer.Option(help="Write the verdicts instead: .parquet (patch table), .csv or .gpkg; repeatable."),
    ] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Print how far the reviewers agree instead.")
    ] = False,
    rank: Annotated[
        bool,
        typer.Option("--rank", help="Train on folds and write how much models doubt each label instead."),
    ] = False,
    model: Annotated[
        str, typer.Option(help="Of --rank: forest, in seconds, or network, a U-Net.")
    ] = "forest",
    folds: Annotated[int, typer.Option(help="Folds of --rank, at least 3.")] = 4,
    automatic_tiers: Annotated[
        bool,
        typer.Option(
            "--automatic-tiers", help="With --rank: tiers by doubt where nobody gave one, marked so."
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Judge the labels of patches, or the points of a sample, in a local page.

    Example: tesela review patches.parquet --reviewer ana

    Example: tesela review sample.gpkg --image april.tif --image september.tif
    """
    if rank:
        _rank(
            patches, model=model, folds=folds, seed=seed, tiers=automatic_tiers, quiet=quiet, as_json=as_json
        )
    elif export:
        _export(patches, export)
    elif agreement:
        _agree(patches, as_json=as_json)
    else:
        _serve(
            patches,
            images=image or [],
            legend=legend,
            port=port,
            host=host,
            reviewer=reviewer,
            order=order,
            overlap=overlap,
            seed=seed,
            quiet=quiet,
        )


def _serve(
    path: str,
    *,
    images: list[str],
    legend: str | None,
    port: int,
    host: str,
    reviewer: str | None,
    order: str,
    overlap: float,
    seed: int,
    quiet: bool,
) -> None:
    from tesela.io.legends import load_legend
    from tesela.io.scenes import open_scene
    from tesela.web.review import review_app
    from tesela.web.server import is_loopback, serve

    app = review_app(
        path,
        images=[open_scene(file) for file in images],
        legend=None if legend is None else load_legend(legend),
        reviewer=reviewer,
        order=order,
        overlap=overlap,
        seed=seed,
        host=host,
    )

    def announce(address: str) -> None:
        print(f"page  {address}", flush=True)
        if not quiet:
            print("Ctrl+C ends it; verdicts are saved as they are given.", flush=True)
            if not is_loopback(host):
                print("warning: everybody on this network can see the imagery and judge.", flush=True)

    serve(app, host=host, port=port, announce=announce)


def _read(path: str) -> ReviewResults:
    from tesela.web.exports import read_review
    from tesela.web.interpretation import read_interpretation
    from tesela.web.review import is_sample

    return read_interpretation(path) if is_sample(path) else read_review(path)


def _export(path: str, targets: list[str]) -> None:
    found = _read(path)
    for target in targets:
        print(f"verdicts  {found.export(target)}")


def _agree(path: str, *, as_json: bool) -> None:
    found = _read(path)
    if as_json:
        print_json(found.to_dict())
        return
    measured = {question: found.agreement(question) for question in found.questions}
    rows = [
        (question, item.things, *(_words(part) for part in (item.percent, item.kappa, item.alpha)))
        for question, item in measured.items()
        if item is not None
    ]
    names = ", ".join(found.reviewers) or "nobody"
    print(f"{len(found.verdicts)} of {found.total} {found.noun} judged by {names}")
    if rows:
        kappa = "weighted kappa" if found.level == "ordinal" else "kappa"
        header = ("", found.noun, "same answer", kappa, "Krippendorff's alpha")
        print_table(rows, header=header, right=[1])
    else:
        print(f"None of the {found.noun} was judged by two; agreement is not known.")


def _words(found: object) -> str:
    """Value and 95 % interval."""
    value, low, high = (getattr(found, name) for name in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _rank(
    patches: str, *, model: str, folds: int, seed: int, tiers: bool, quiet: bool, as_json: bool
) -> None:
    from tesela.chains.label_ranking import rank_patches
    from tesela.patches.quality_classes import automatic_tiers

    made = rank_patches(patches, model=model, folds=folds, seed=seed, quiet=quiet)
    table = made.table
    if tiers:
        table = automatic_tiers(table)
        table.write(patches)
    first = table.frame.nlargest(10, "doubt")[["patch_id", "doubt"]]
    if as_json:
        print_json(
            {"patches": patches, "models_trained": made.trained, "most_doubted": first.to_dict("records")}
        )
        return
    print_table(
        [(patch, f"{doubt:.3f}") for patch, doubt in first.itertuples(index=False)],
        header=("most doubted", "doubt"),
        right=[1],
    )
    print(f"patches  {patches}")
