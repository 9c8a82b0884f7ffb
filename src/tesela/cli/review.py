"""`tesela review`: the photointerpreter's page, what came of it, and what to look at first."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Quiet


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(review)


def review(
    patches: Annotated[str, typer.Argument(help="Patch table.")],
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets all of the network in.")
    ] = "127.0.0.1",
    reviewer: Annotated[
        str | None, typer.Option(help="Whose verdicts; default: the name of the account.")
    ] = None,
    order: Annotated[str, typer.Option(help="random, class or disagreement.")] = "random",
    overlap: Annotated[float, typer.Option(help="Share of the patches that all reviewers judge, 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of order and overlap; the same for all reviewers.")] = 0,
    quiet: Quiet = False,
) -> None:
    """
    Judge the labels of patches in a local page.

    Example: tesela review patches.parquet --reviewer ana
    """
    from tesela.web.review import review_app
    from tesela.web.server import is_loopback, serve

    app = review_app(patches, reviewer=reviewer, order=order, overlap=overlap, seed=seed, host=host)

    def announce(address: str) -> None:
        print(address, flush=True)
        if not quiet:
            print("Ctrl+C ends it; verdicts are saved as they are given.", flush=True)
            if not is_loopback(host):
                print("warning: everybody on this network can review and see the patches.", flush=True)

    serve(app, host=host, port=port, announce=announce)
