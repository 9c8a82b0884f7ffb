"""Verbs that open local pages, and what comes of a review."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError, join_words
from tesela.core.legend import Legend
from tesela.io.abundance import AbundanceMap
from tesela.io.legends import open_legend
from tesela.io.maps import MapSource, open_map
from tesela.io.references import Reference, reference_file
from tesela.io.scenes import SceneSource, open_scene

if TYPE_CHECKING:
    from tesela.chains.label_ranking import Ranking
    from tesela.generalise.uncertain_areas import UncertainAreas
    from tesela.sampling.agreement import Agreement
    from tesela.web.review_results import ReviewResults

Announce = Callable[[str], None]


def _print_address(address: str) -> None:
    print(f"page  {address}  (interrupt to stop)", flush=True)  # noqa: T201 - a page is of no use without it


def view(
    map: MapSource | AbundanceMap,
    *,
    image: SceneSource | None = None,
    reference: Reference | None = None,
    confidence: Reference | None = None,
    uncertainty: str | Path | None = None,
    cube: str | Path | None = None,
    endmembers: str | Path | None = None,
    history: Sequence[str | Path] = (),
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    legend: Legend | str | Path | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    announce: Announce = _print_address,
) -> None:
    """
    Show a map of any size in the browser, on a local page; it runs until it is interrupted.

    Parameters
    ----------
    map : path, ClassMap, AbundanceMap or DataArray of classes
    image : scene, optional
        Imagery to show beside it.
    reference, confidence, uncertainty, cube, endmembers, history, legend
        See `tesela.web.view.view_app`.
    port, host
        See `tesela.web.server.serve`.
    announce : callable of str
        Called with the address when the page is ready; default: print it.

    Raises
    ------
    InputError
        If a file cannot be read or is of another kind, or the port is in use.
    """
    from tesela.web.server import serve
    from tesela.web.view import view_app

    scene = None if image is None else open_scene(image, bands=bands, nodata=nodata, invalid="nodata")
    known = None if legend is None else open_legend(legend)
    with ExitStack() as stack:
        app = view_app(
            map if isinstance(map, str | Path | AbundanceMap) else open_map(map, legend=known),
            scene=scene,
            reference=None if reference is None else stack.enter_context(reference_file(reference)),
            confidence=None if confidence is None else stack.enter_context(reference_file(confidence)),
            uncertainty=uncertainty,
            cube=cube,
            endmembers=endmembers,
            history=history,
            legend=known,
            host=host,
        )
        serve(app, host=host, port=port, announce=announce)


def review_serve(
    table: str | Path,
    *,
    image: Sequence[SceneSource] = (),
    legend: Legend | str | Path | None = None,
    reviewer: str | None = None,
    order: str | None = None,
    overlap: float = 0.1,
    seed: int = 0,
    port: int = 8080,
    host: str = "127.0.0.1",
    announce: Announce = _print_address,
) -> None:
    """
    Open a local page to rate the labels of patches or to interpret points; it runs until it is interrupted.

    Parameters
    ----------
    table : path
        Patch table (``.parquet``), or sample of points (``.gpkg``).
    image : sequence of scenes
        In which to interpret points.
    legend, reviewer, order, overlap, seed
        See `tesela.web.review.review_app`.
    port, host, announce
        As in `view`.
    """
    from tesela.web.review import review_app
    from tesela.web.server import serve

    app = review_app(
        table,
        images=[open_scene(item) for item in image],
        legend=None if legend is None else open_legend(legend),
        reviewer=reviewer,
        order=order,
        overlap=overlap,
        seed=seed,
        host=host,
    )
    serve(app, host=host, port=port, announce=announce)


def open_review(table: str | Path) -> ReviewResults:
    """
    Verdicts of all reviewers of a patch table, or of a sample of points.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    from tesela.web.review import read_results

    return read_results(table)


def review_export(table: str | Path, out: str | Path) -> Path:
    """
    Write the verdicts of all reviewers: ``.parquet`` (patch table), ``.csv`` or ``.gpkg``.

    Raises
    ------
    InputError
        If the file cannot be read or written.
    """
    return open_review(table).export(out)


def review_agreement(table: str | Path) -> dict[str, Agreement | None]:
    """Agreement of the reviewers by question, with 95 % intervals; None where no item has two verdicts."""
    results = open_review(table)
    return {question: results.agreement(question) for question in results.questions}


def review_rank(
    table: MapSource,
    out: str | Path | None = None,
    *,
    model: str = "forest",
    folds: int = 4,
    seed: int = 0,
    automatic_quality: bool = False,
    confidence: Reference | None = None,
    entropy: Reference | None = None,
    probabilities: Reference | None = None,
    against: MapSource | None = None,
    labels: MapSource | None = None,
    block: int | None = None,
    most: int | None = None,
    quiet: bool = False,
) -> Ranking | UncertainAreas:
    """
    Rank patches by the likelihood that their labels are wrong, or the areas of a map by its uncertainty.

    See `tesela.chains.label_ranking.rank_patches` and `tesela.generalise.uncertain_areas.rank_areas`.

    Parameters
    ----------
    table : path, ClassMap or DataArray of classes
        Patch table, which gets the column error_likelihood, 0 to 1; or a map, also of an area without labels.
    out : path, optional
        For a map: the queue, a GeoPackage for `review_serve`.
    model, folds, seed, automatic_quality, quiet
        For a patch table; `automatic_quality` gives patches without a review a quality class, marked as automatic.
    confidence, entropy, probabilities, against, labels, block, most
        For a map, as in `rank_areas`.

    Raises
    ------
    InputError
        If a file is missing or of another kind.
    """
    files = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
    if isinstance(table, str | Path) and Path(table).suffix.lower() == ".parquet":
        from tesela.chains.label_ranking import rank_patches

        options = {**files, "against": against, "labels": labels, "block": block, "most": most, "out": out}
        strange = [name for name, value in options.items() if value is not None]
        if strange:
            raise InputError(
                f"{table} is a patch table, which is ranked by its own labels: leave {join_words(strange)} out, or "
                f"give a class map."
            )
        return rank_patches(table, model=model, folds=folds, seed=seed, rate=automatic_quality, quiet=quiet)
    from tesela.generalise.uncertain_areas import BLOCK_PX, MOST, rank_areas
    from tesela.generalise.uncertainty import UncertaintyFiles

    if out is None:
        raise InputError(f"{table} is a map: name the queue to write (--out queue.gpkg).")
    if automatic_quality:
        raise InputError("automatic_quality is for a patch table; leave it out for a map.")
    with ExitStack() as stack:
        paths = {
            name: None if item is None else stack.enter_context(reference_file(item))
            for name, item in files.items()
        }
        return rank_areas(
            open_map(table),
            out,
            UncertaintyFiles(**paths, against=None if against is None else open_map(against)),
            labels=None if labels is None else open_map(labels),
            block_px=BLOCK_PX if block is None else block,
            most=MOST if most is None else most,
        )
