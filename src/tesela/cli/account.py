"""`tesela account`: what a series of maps adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json, split_names

if TYPE_CHECKING:
    from tesela.accounting.files import Series


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(account)


def account(
    maps: Annotated[list[str], typer.Argument(metavar="MAP_A MAP_B...", help="Class maps, oldest first.")],
    years: Annotated[str, typer.Option(help="Year of each map, comma-separated.")],
    out: Out,
    legend: Annotated[
        str | None, typer.Option(help="Legend of the maps, if the files do not say it.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV to the six categories: from, to, share.")] = None,
    draw_samples: Annotated[
        int | None,
        typer.Option(help="Draw so many points of change between each two maps instead, for interpreters."),
    ] = None,
    minimum: Annotated[int, typer.Option(help="With --draw-samples: points of the rarest changes.")] = 30,
    seed: Annotated[int, typer.Option(help="With --draw-samples: seed; others draw other points.")] = 0,
    sample: Annotated[
        list[str] | None,
        typer.Option(help="Interpreted sample of change, such as 2018-2024=sample.gpkg; once for each."),
    ] = None,
    confusion: Annotated[
        str | None,
        typer.Option(help="assessment.json of a map: intervals by a model of its errors where no sample is."),
    ] = None,
    independent: Annotated[
        float, typer.Option(help="With --confusion: independent observations that its matrix is worth.")
    ] = 300,
    persistence: Annotated[
        float, typer.Option(help="With --confusion: chance that unchanged ground errs alike in both maps.")
    ] = 1.0,
    tree_cover: Annotated[
        list[str] | None,
        typer.Option(
            help="Crown cover in percent to check forest by, such as 2018=cover.tif; once for each."
        ),
    ] = None,
    land_area: Annotated[str | None, typer.Option(help="Official land area to check: '87268 km2'.")] = None,
    transition_years: Annotated[int, typer.Option(help="Years that land counts as converted.")] = 20,
    change_layer: Annotated[
        str | None, typer.Option(help="Also map changes of this area and more, as CORINE does: '5 ha'.")
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(help="For --change-layer: confidence raster of each map, comma-separated.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="For --change-layer: per cent below which a class makes no change.")
    ] = 50.0,
    title: Annotated[str, typer.Option(help="Country or region, for page and workbook.")] = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Account for land use in a series of maps.

    Areas, changes and checks as a page, tables and JSON, and Table 4.1 as a workbook.

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account --draw-samples 600

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account --sample
    2018-2024=account/sample_2018-2024.gpkg
    """
    from tesela.accounting.files import account_files, open_series, read_error_model, write_change_layers
    from tesela.core.errors import RecipeError
    from tesela.core.units import parse_area_m2

    if confidence is not None and change_layer is None:
        raise RecipeError("--confidence is for change layers: give --change-layer AREA, too.")
    if sample and draw_samples is not None:
        raise RecipeError(
            "--draw-samples makes new samples, --sample reads interpreted ones: give one of the two."
        )
    when = [_year(text) for text in years.split(",")]
    series = open_series(maps, when, legend=legend, crosswalk=crosswalk)
    if draw_samples is not None:
        _draw(series, out, points=draw_samples, minimum=minimum, seed=seed, quiet=quiet, as_json=as_json)
        return
    model = None
    if confusion is not None:
        model = read_error_model(confusion, series, independent=independent, persistence=persistence)
    layers = {}
    if change_layer is not None:
        layers = write_change_layers(
            series,
            out,
            min_area_m2=parse_area_m2(change_layer),
            confidence=split_names(confidence),
            min_confidence=min_confidence,
        )
    made = account_files(
        series,
        out,
        samples={_years(key): path for key, path in _pairs(sample, "2018-2024=sample.gpkg")},
        error_model=model,
        tree_cover={_year(key): path for key, path in _pairs(tree_cover, "2018=cover.tif")},
        land_area_ha=None if land_area is None else parse_area_m2(land_area) / 10_000,
        transition_years=transition_years,
        title=title,
    )
    if as_json:
        found = {
            path.name: {name: getattr(item, name) for name in ("changed_ha", "doubtful_ha", "small_ha")}
            for path, item in layers.items()
        }
        print_json({**made.to_dict(), "change_layers": found})
        return
    for line in () if quiet else made.to_lines():
        print(line)
    for path, item in layers.items():
        print(
            f"{path}: {item.changed_ha:,.1f} ha changed; left out {item.small_ha:,.1f} ha in smaller areas and "
            f"{item.doubtful_ha:,.1f} ha of doubtful classes"
        )
    for name, path in made.files.items():
        print(f"{name:10}  {path}")


def _draw(
    series: Series, out: str, *, points: int, minimum: int, seed: int, quiet: bool, as_json: bool
) -> None:
    from tesela.accounting.files import draw_change_samples

    made = draw_change_samples(series, out, points=points, minimum=minimum, seed=seed)
    if as_json:
        print_json({str(path): design.to_dict() for path, design in made.items()})
        return
    for path, design in made.items():
        print(f"{design.points} points in {len(design.strata)} strata of change  {path}")
    if not quiet:
        print(
            "Interpreters fill `reference` with the categories before and after, such as cropland>settlements."
        )


def _pairs(given: Sequence[str] | None, example: str) -> list[tuple[str, str]]:
    from tesela.core.errors import RecipeError

    found = [item.partition("=") for item in given or ()]
    for key, sign, path in found:
        if not (key and sign and path):
            raise RecipeError(f"'{key}' names no file: write it as {example}.")
    keys = [key for key, _, _ in found]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(f"Two files came for {', '.join(twice)}: give one for each.")
    return [(key, path) for key, _, path in found]


def _years(text: str) -> tuple[int, int]:
    from tesela.core.errors import RecipeError

    first, sign, last = text.partition("-")
    if not sign:
        raise RecipeError(f"'{text}' is no pair of years: write it as 2018-2024.")
    return _year(first), _year(last)


def _year(text: str) -> int:
    from tesela.core.errors import RecipeError

    try:
        return int(text)
    except ValueError:
        raise RecipeError(f"'{text}' is no year: write years in digits, such as 2018.") from None
