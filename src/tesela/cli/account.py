"""`tesela account` and `tesela change-layer`: areas and changes of a series of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from tesela.cli.output import Json, OutFolder, Quiet, print_json, split_names

MapFiles: TypeAlias = Annotated[list[str], typer.Argument(metavar="MAP", help="Class maps, oldest first.")]
Years: TypeAlias = Annotated[str, typer.Option(help="Year of each map, comma-separated.")]
MapLegend: TypeAlias = Annotated[str | None, typer.Option(help="Legend of the maps, if the files have none.")]
Crosswalk: TypeAlias = Annotated[
    str | None, typer.Option(help="CSV from the maps' classes to the six categories: from, to, share.")
]

_SAMPLE = "tesela sample changes MAP_A MAP_B --years YEARS --points N -o DIR"
_LAYER = "tesela change-layer MAP_A MAP_B --years YEARS --mmu AREA -o DIR"
FORMER = {
    "account": {
        "--draw-samples": _SAMPLE,
        "--minimum": f"{_SAMPLE} --minimum N",
        "--seed": f"{_SAMPLE} --seed N",
        "--change-layer": _LAYER,
        "--confidence": f"{_LAYER} --probabilities A,B",
        "--min-confidence": f"{_LAYER} --probabilities A,B --min-odds N",
    },
    "change-layer": {
        "--min-area": _LAYER,
        "--confidence": f"{_LAYER} --probabilities A,B",
        "--min-confidence": f"{_LAYER} --probabilities A,B --min-odds N",
    },
}
"""Flags that have moved to other commands."""


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(account)
    app.command("change-layer")(change_layer)


def account(
    maps: MapFiles,
    years: Years,
    out: OutFolder,
    legend: MapLegend = None,
    crosswalk: Crosswalk = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(help="Interpreted sample of change, such as 2018-2024=sample.gpkg; repeatable."),
    ] = None,
    confusion: Annotated[
        str | None,
        typer.Option(help="assessment.json of a map: model-based intervals for changes without a sample."),
    ] = None,
    independent: Annotated[
        float,
        typer.Option(help="With --confusion: effective number of independent observations of the matrix."),
    ] = 300,
    persistence: Annotated[
        float,
        typer.Option(
            help="With --confusion: probability that an unchanged pixel has one error in both maps."
        ),
    ] = 1.0,
    tree_cover: Annotated[
        list[str] | None,
        typer.Option(help="Crown cover in per cent, to check forest, such as 2018=cover.tif; repeatable."),
    ] = None,
    land_area: Annotated[
        str | None, typer.Option(help="Official land area to check the total, such as '87268 km2'.")
    ] = None,
    transition_years: Annotated[int, typer.Option(help="Years for which land counts as converted.")] = 20,
    title: Annotated[str, typer.Option(help="Country or region, for page and workbook.")] = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Account for land use in a series of maps.

    Writes areas, changes and checks as a page, tables and JSON, and Table 4.1 as a workbook.

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account --sample
    2018-2024=samples/sample_2018-2024.gpkg
    """
    from tesela.verbs import accuracy

    accounts = accuracy.account(
        maps,
        out,
        years=parse_years(years),
        legend=legend,
        crosswalk=crosswalk,
        sample={_interval(key): path for key, path in _pairs(sample, "2018-2024=sample.gpkg")},
        confusion=confusion,
        independent=independent,
        persistence=persistence,
        tree_cover={_year(key): path for key, path in _pairs(tree_cover, "2018=cover.tif")},
        land_area=land_area,
        transition_years=transition_years,
        title=title,
    )
    if as_json:
        print_json(accounts.to_dict())
        return
    for line in () if quiet else accounts.to_lines():
        print(line)
    for name, path in accounts.files.items():
        print(f"{name:10}  {path}")


def change_layer(
    maps: MapFiles,
    years: Years,
    out: OutFolder,
    mmu: Annotated[str, typer.Option(help="Least area of a change, with its unit. CORINE: 5 ha.")] = "5 ha",
    legend: MapLegend = None,
    crosswalk: Crosswalk = None,
    probabilities: Annotated[
        str | None,
        typer.Option(
            help="Probabilities of each map (tesela predict --probabilities), comma-separated: flips between like "
            "probabilities are no changes."
        ),
    ] = None,
    min_odds: Annotated[
        float, typer.Option(help="With --probabilities: least odds of a change, 1 or more.")
    ] = 10.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map the changes between each two consecutive maps.

    Changes under a minimum area are left out, as CORINE does.

    Example: tesela change-layer map2018.tif map2024.tif --years 2018,2024 --mmu "5 ha" -o changes
    """
    from tesela.verbs import accuracy

    layers = accuracy.change_layer(
        maps,
        out,
        years=parse_years(years),
        mmu=mmu,
        legend=legend,
        crosswalk=crosswalk,
        probabilities=split_names(probabilities),
        min_odds=min_odds,
    )
    if as_json:
        print_json({layer.map.path: layer.to_dict() for layer in layers.values()})
        return
    for layer in layers.values():
        if not quiet:
            print(
                f"{layer.changed_ha:,.1f} ha changed; left out: {layer.small_ha:,.1f} ha in smaller areas, "
                f"{layer.uncertain_ha:,.1f} ha of unlikely changes"
            )
        print(f"change layer  {layer.map.path}")
        if layer.later is not None:
            print(f"later map     {layer.later.path}")


def parse_years(text: str) -> list[int]:
    """Years of a comma-separated option."""
    return [_year(year) for year in text.split(",")]


def _pairs(items: Sequence[str] | None, example: str) -> list[tuple[str, str]]:
    from tesela.core.errors import RecipeError

    pairs = [item.partition("=") for item in items or ()]
    for key, sign, path in pairs:
        if not (key and sign and path):
            raise RecipeError(f"'{key}' names no file: write it as {example}.")
    keys = [key for key, _, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(f"Two files were given for {', '.join(twice)}: give one for each.")
    return [(key, path) for key, _, path in pairs]


def _interval(text: str) -> tuple[int, int]:
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
