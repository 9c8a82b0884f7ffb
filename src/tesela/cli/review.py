"""`tesela review` and `tesela view`: the local pages, and the results of a review."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.data import BandNames, Nodata
from tesela.cli.interrupts import ended_on_request
from tesela.cli.output import Json, Quiet, print_json, print_table, split_names

FORMER = {
    "review": {
        "--export": "tesela review export TABLE -o FILE",
        "--agreement": "tesela review agreement TABLE",
        "--rank": "tesela review rank TABLE",
        "": "tesela review serve TABLE",
    }
}

Reviewed = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="Patch table (.parquet), sample of points or queue of changes or areas (.gpkg)."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(
        name="review",
        help="Rate patches, interpret points or decide on changes.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("serve")(serve)
    group.command("export")(export)
    group.command("agreement")(agreement)
    group.command("rank")(rank)
    app.add_typer(group)
    app.command()(view)


def serve(
    table: Reviewed,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Scene in which to interpret points or see changes; repeatable: other dates, other sheets."
        ),
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="Classes of the points, if the sample has no list of classes.")
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Name of the reviewer; default: the name of the account.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="Order of patches: random (default); class: classes take turns; disagreement: likely errors first."
        ),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share that all reviewers rate, 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of order and overlap; the same for all reviewers.")] = 0,
    port: Annotated[int, typer.Option(help="Port of the page; 0 for any free port.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address of the page; 0.0.0.0 opens it to the whole network.")
    ] = "127.0.0.1",
    quiet: Quiet = False,
) -> None:
    """
    Open a local page to rate, interpret or decide.

    Rate the labels of patches, interpret the points of a sample, or decide on changes.

    Example: tesela review serve patches.parquet --reviewer ana

    Example: tesela review serve sample.gpkg --image april.tif --image september.tif

    Example: tesela review serve queue.gpkg --image 2012.tif --image 2018.tif
    """
    from tesela.verbs import pages
    from tesela.web.server import is_loopback

    def announce(address: str) -> None:
        print(f"page  {address}", flush=True)
        if not quiet:
            print("Stop with Ctrl+C; every verdict is saved at once.", flush=True)
            if not is_loopback(host):
                print("warning: everybody on this network can see the imagery and add verdicts.", flush=True)

    pages.review_serve(
        table,
        image=image or (),
        legend=legend,
        reviewer=reviewer,
        order=order,
        overlap=overlap,
        seed=seed,
        port=port,
        host=host,
        announce=announce,
    )
    ended_on_request()


def export(
    table: Reviewed,
    out: Annotated[
        list[str],
        typer.Option("--out", "-o", help="File to write: .parquet (patch table), .csv or .gpkg; repeatable."),
    ],
    quiet: Quiet = False,
) -> None:
    """
    Write the verdicts of all reviewers.

    A patch table gets the columns quality and quality_source; a GeoPackage of points or changes gets the answers.

    Example: tesela review export patches.parquet -o reviewed.parquet -o verdicts.csv
    """
    from tesela.verbs import pages

    for target in out:
        path = pages.review_export(table, target)
        if not quiet:
            print(f"verdicts  {path}")


def agreement(table: Reviewed, quiet: Quiet = False, as_json: Json = False) -> None:
    """
    Print the agreement of the reviewers.

    The measures are the share of equal answers, kappa and Krippendorff's alpha, with 95 % intervals.

    Example: tesela review agreement patches.parquet
    """
    from tesela.verbs import pages

    results = pages.open_review(table)
    if as_json:
        print_json(results.to_dict())
        return
    measured = {question: results.agreement(question) for question in results.questions}
    rows = [
        (question, item.items, *(_with_interval(part) for part in (item.percent, item.kappa, item.alpha)))
        for question, item in measured.items()
        if item is not None
    ]
    if not quiet:
        names = f" by {', '.join(results.reviewers)}" if results.reviewers else ""
        print(f"{len(results.verdicts)} of {results.total} {results.noun} reviewed{names}")
    if rows:
        kappa = "weighted kappa" if results.level == "ordinal" else "kappa"
        header = ("", results.noun, "same answer", kappa, "Krippendorff's alpha")
        print_table(rows, header=header, right=[1])
    else:
        print(f"No agreement: none of the {results.noun} has verdicts of two reviewers.")


def rank(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="Patch table (.parquet), or class map (GeoTIFF).")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Map: queue of areas to write (.gpkg), for `tesela review serve`."),
    ] = None,
    confidence: Annotated[str | None, typer.Option(help="Map: its confidence raster.")] = None,
    entropy: Annotated[str | None, typer.Option(help="Map: its entropy raster.")] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="Map: its probabilities; ranks by the margin of the two highest.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Map: one of another expert; ranks by disagreement.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Map: labels of the training; labelled pixels are left out.")
    ] = None,
    block: Annotated[int | None, typer.Option(help="Map: side of the blocks in pixels; default 32.")] = None,
    most: Annotated[int | None, typer.Option(help="Map: areas to write; default 200.")] = None,
    model: Annotated[
        str, typer.Option(help="Table: forest, a random forest, in seconds; or network, a U-Net.")
    ] = "forest",
    folds: Annotated[int, typer.Option(help="Table: folds for cross-prediction, at least 3.")] = 4,
    seed: Annotated[int, typer.Option(help="Table: seed of folds and training.")] = 0,
    automatic_quality: Annotated[
        bool,
        typer.Option(
            "--automatic-quality",
            help="Table: give patches without a review a quality class by likelihood of error, marked as automatic.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Rank patches, or areas of a map, to review first.

    Patches by the likelihood that their labels are wrong: for each fold a model trains on the others and predicts it;
    the table gets the column error_likelihood, 0 to 1. Areas by the uncertainty of the map, also where there are no
    labels: the queue holds the most uncertain area of one class of each block.

    Example: tesela review rank patches.parquet --automatic-quality

    Example: tesela review rank map.tif --probabilities probabilities.tif -o queue.gpkg
    """
    from tesela.chains.label_ranking import Ranking
    from tesela.patches import label_quality
    from tesela.verbs import pages

    column = label_quality.ERROR_LIKELIHOOD
    ranking = pages.review_rank(
        table,
        out,
        model=model,
        folds=folds,
        seed=seed,
        automatic_quality=automatic_quality,
        confidence=confidence,
        entropy=entropy,
        probabilities=probabilities,
        against=against,
        labels=labels,
        block=block,
        most=most,
        quiet=quiet,
    )
    if not isinstance(ranking, Ranking):
        facts = ranking.to_dict()
        if as_json:
            print_json(facts)
            return
        if not quiet:
            print_table(
                [(code, f"{count:,}", f"{ha:,.2f}") for code, count, ha in ranking.classes],
                header=("class", "areas", "ha"),
                right=[1, 2],
            )
        print(f"queue  {ranking.path}")
        return
    first = ranking.table.frame.nlargest(10, column)[["patch_id", column]]
    if as_json:
        print_json(
            {"patches": table, "models_trained": ranking.trained, "likely_errors": first.to_dict("records")}
        )
        return
    if not quiet:
        print_table(
            [(patch, f"{likelihood:.3f}") for patch, likelihood in first.itertuples(index=False)],
            header=("likely errors", column),
            right=[1],
        )
    print(f"patches  {table}")


def view(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map, or abundance map.")],
    image: Annotated[
        str | None, typer.Option(help="Scene to show beside it; files of one scene joined by commas.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Class raster to compare with, in any legend.")
    ] = None,
    confidence: Annotated[str | None, typer.Option(help="Confidence raster, see `tesela predict`.")] = None,
    uncertainty: Annotated[
        str | None, typer.Option(help="Abundance map: the standard deviation of each share.")
    ] = None,
    cube: Annotated[
        str | None, typer.Option(help="Abundance map: its cube; draws the series of a clicked pixel.")
    ] = None,
    endmembers: Annotated[
        str | None,
        typer.Option(help="With --cube: spectra of the classes, see `tesela unmix --endmembers`."),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(help="Map of another year, with the year in its file name; repeatable."),
    ] = None,
    bands: BandNames = None,
    nodata: Nodata = None,
    legend: Annotated[
        str | None, typer.Option(help="Legend of class rasters without their own, such as corine-2.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page; 0 for any free port.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address of the page; the default is for this machine only.")
    ] = "127.0.0.1",
    quiet: Quiet = False,
) -> None:
    """
    Show a map of any size in the browser.

    The page is local and needs no network.

    Example: tesela view map.tif --image scene.tif --reference clc.tif --confidence confidence.tif --history map2018.tif
    """
    from tesela.verbs import pages
    from tesela.web.view import slow_files

    files = [
        map_file,
        reference,
        confidence,
        uncertainty,
        *(history or ()),
        *(image.split(",") if image else ()),
    ]
    for path in [] if quiet else slow_files([path for path in files if path]):
        print(f"note: {path} has no overviews, so it is slow to display as a whole (gdaladdo adds them)")

    def announce(address: str) -> None:
        print(f"page  {address}", flush=True)
        if not quiet:
            print("Stop with Ctrl+C.", flush=True)

    pages.view(
        map_file,
        image=image,
        reference=reference,
        confidence=confidence,
        uncertainty=uncertainty,
        cube=cube,
        endmembers=endmembers,
        history=history or (),
        bands=split_names(bands),
        nodata=nodata,
        legend=legend,
        port=port,
        host=host,
        announce=announce,
    )
    ended_on_request()


def _with_interval(estimate: object) -> str:
    """Value and 95 % interval."""
    value, low, high = (getattr(estimate, name) for name in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
