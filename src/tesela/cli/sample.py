"""The sampling side of `tesela assess`: draw a sample for interpreters, and judge by the answers."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tesela.cli.output import print_json, print_table

DrawSample = Annotated[
    str | None,
    typer.Option(
        help="Draw a sample for interpreters into this GeoPackage instead of judging; needs no reference."
    ),
]
SampleFile = Annotated[
    str | None,
    typer.Option(
        help="Judge by this sample, its field `reference` filled in: estimates with 95 % intervals."
    ),
]
Answers = Annotated[
    str | None, typer.Option(help="Table with sample_id and reference, if the answers came in another file.")
]
Design = Annotated[
    Literal["stratified", "simple"],
    typer.Option(help="Draw within the strata, or from all ground alike."),
]
TargetError = Annotated[
    float | None, typer.Option(help="Standard error of overall accuracy wanted of the sample, such as 0.01.")
]
Size = Annotated[int | None, typer.Option(help="Points of the sample, instead of --target-error.")]
Allocation = Annotated[
    Literal["proportional", "equal", "neyman"],
    typer.Option(
        help="How points are shared out to strata: by area, the same for all, or by area and doubt."
    ),
]
Minimum = Annotated[int, typer.Option(help="Points that a stratum gets at least.")]
Expected = Annotated[
    str, typer.Option(help="User's accuracy to be expected: 0.85, or by stratum, such as 1=0.7,2=0.9.")
]
Strata = Annotated[str | None, typer.Option(help="Class map whose classes are the strata; default: MAP.")]
HideStrata = Annotated[
    bool,
    typer.Option(
        "--hide-strata", help="Leave the strata, which may tell the map's class, out of the points."
    ),
]
Seed = Annotated[
    int, typer.Option(help="Seed of the sample; a larger one with the same seed holds the smaller.")
]


def draw(
    map_file: str,
    out: str,
    *,
    design: str,
    target_error: float | None,
    size: int | None,
    allocation: str,
    minimum: int,
    expected: str,
    strata: str | None,
    hide_strata: bool,
    legend: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Draw a sample and print its plan."""
    from tesela.core.errors import InputError
    from tesela.sampling.files import draw_sample_file

    if size is not None and target_error is not None:
        raise InputError("Both --size and --target-error say how large the sample is; give one of the two.")
    made = draw_sample_file(
        map_file,
        out,
        points=size,
        target_se=(0.01 if target_error is None else target_error) if size is None else None,
        rule="simple" if design == "simple" else allocation,  # type: ignore[arg-type]  # typer has checked both
        minimum=minimum,
        expected=parse_expected(expected),
        strata=strata,
        hide_strata=hide_strata,
        legend=legend,
        seed=seed,
    )
    if as_json:
        print_json(made.document)
        return
    total = sum(item.size_px for item in made.design.strata)
    print_table(
        [
            [item.code, item.name, f"{item.size_px:,}", f"{item.size_px / total:.1%}", item.points]
            for item in made.design.strata
        ],
        header=["stratum", "name", "pixels", "share", "points"],
        right=(2, 3, 4),
    )
    print(f"{made.design.points} points, expected standard error of overall accuracy {made.expected_se:.4f}")
    print(f"sample    {made.file}")


def judge(
    map_file: str,
    sample: str,
    out: str,
    *,
    answers: str | None,
    legend: str | None,
    as_json: bool,
) -> None:
    """Judge a map by a sample and print the estimates."""
    from tesela.sampling.files import estimate_sample_file

    made = estimate_sample_file(map_file, sample, out, answers=answers, legend=legend)
    if as_json:
        print_json(made.document)
        return
    for line in made.estimates.to_lines():
        print(line)
    print(f"page      {made.page}")


def parse_expected(text: str) -> float | dict[str, float]:
    """Read ``0.85`` or ``1=0.7,2=0.9``."""
    from tesela.core.errors import InputError

    try:
        if "=" not in text:
            return float(text)
        pairs = (part.split("=", 1) for part in text.split(","))
        return {code.strip(): float(value) for code, value in pairs}
    except ValueError:
        raise InputError(
            f"'{text}' is no expected accuracy: write a number such as 0.85, or CODE=NUMBER,CODE=NUMBER."
        ) from None
