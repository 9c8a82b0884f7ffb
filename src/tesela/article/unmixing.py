"""Figures 8 and 11 to 16 of Rodriguez-Ortega et al. (2024): abundances, scores, scatter plots and error maps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesela.article.drawing import Drawing, Figures, Source
from tesela.assessment.abundance.figures import abundances_figure, density_figure, errors_figure
from tesela.assessment.abundance.scores import Score
from tesela.comparison.class_bars import MOST_SETTINGS, BarPanel, class_bars_figure
from tesela.core.errors import InputError, join_words
from tesela.models.expert import read_header
from tesela.pages.plots import ARTICLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tesela.assessment.abundance.assessment import AbundanceAssessment
    from tesela.chains.unmixing.chain import UnmixingChain

_SCORES: dict[str, Score] = {"RMSE": "rmse", "MAE": "mae"}
"""Scores of the bars."""


def draw_abundances(source: Source) -> Drawing:
    """Shares of each class: the reference above, the map below; one scale."""
    assessment = _assess(source, None)
    return _drawing(
        source,
        abundances_figure(assessment, sizes=ARTICLE),
        f"Share of each pixel by class of {assessment.legend.address}: the reference above, the map below; one scale.",
    )


def draw_bars(source: Source, *, level: int) -> Drawing:
    """Scores by class: the settings of the run's comparison side by side, or the run's model alone."""
    chain: UnmixingChain = source.chain
    _check_level(chain, level)
    compared = chain.out / "compare" / "compare.json"
    if compared.exists():
        panels, labels = _compared_bars(compared, level, levels=chain.legend.depth)
        caption = f"Scores by class at level {level}: {join_words(labels, most=MOST_SETTINGS)}"
        inputs: tuple[str | Path, ...] = (compared,)
    else:
        sums = _assess(source, level).sums
        names = sums.legend.names
        panels = [
            BarPanel(
                f"{name}, %",
                [dict(zip(names, map(float, sums.by_class(key)), strict=True))],
                [sums.mean(key)],
            )
            for name, key in _SCORES.items()
        ]
        labels = [read_header(source.need(chain.expert_file, "train")).architecture.summary]
        caption = (
            f"Scores by class at level {level} (`tesela compare {source.file} --vary training.model=A,B` puts models "
            f"side by side here)"
        )
        inputs = (chain.map_file, chain.shares.file)
    figure = class_bars_figure(panels, labels, sizes=ARTICLE)
    return Drawing(figure, f"{caption}. Dashed: mean over the classes.", inputs)


def draw_scatter(source: Source, *, level: int) -> Drawing:
    """Shares of the map over those of the reference, a panel by class."""
    assessment = _assess(source, level)
    return _drawing(
        source,
        density_figure(assessment, sizes=ARTICLE),
        f"Shares of the map over those of the reference at level {level}, on the evaluated pixels; dashed: equal.",
    )


def draw_errors(source: Source, *, level: int) -> Drawing:
    """Maps of RMSE and RRMSE."""
    assessment = _assess(source, level)
    return _drawing(
        source,
        errors_figure(assessment, sizes=ARTICLE),
        f"Errors over the classes of level {level} in each evaluated pixel: (a) RMSE, (b) RRMSE.",
    )


FIGURES: Figures = {
    "8": draw_abundances,
    "11": partial(draw_bars, level=1),
    "12": partial(draw_scatter, level=1),
    "13": partial(draw_errors, level=1),
    "14": partial(draw_bars, level=2),
    "15": partial(draw_scatter, level=2),
    "16": partial(draw_errors, level=2),
}


def _drawing(source: Source, figure: Figure, caption: str) -> Drawing:
    chain: UnmixingChain = source.chain
    return Drawing(figure, caption, (chain.map_file, chain.shares.file))


def _check_level(chain: UnmixingChain, level: int) -> None:
    if level > chain.legend.depth:
        raise InputError(
            f"Legend '{chain.legend.address}' has no level {level}. Run the recipe with "
            f"legend = 'sipna-2' or another one of that depth."
        )


def _assess(source: Source, level: int | None) -> AbundanceAssessment:
    """The map's assessment at a level of the legend; default: its own."""
    chain: UnmixingChain = source.chain
    if level is not None:
        _check_level(chain, level)
    stages = {
        chain.cube.file: "cube",
        chain.shares.file: "label",
        chain.pixel_file: "pixels",
        chain.map_file: "map",
    }
    for path, stage in stages.items():
        source.need(path, stage)
    depth = chain.legend.depth if level is None else level
    if depth not in source.kept:
        source.kept[depth] = chain.assess_map(level=depth)
    assessment: AbundanceAssessment = source.kept[depth]
    return assessment


def _compared_bars(path: Path, level: int, *, levels: int) -> tuple[list[BarPanel], list[str]]:
    """Bars of a comparison's settings, from its JSON."""
    document = json.loads(path.read_text(encoding="utf-8"))
    settings = document["settings"]
    if len(settings) > MOST_SETTINGS:
        raise InputError(
            f"{path} compares {len(settings)} settings; bars show up to {MOST_SETTINGS}. Compare fewer "
            f"(tesela compare --vary), then try again."
        )
    panels = []
    for name in _SCORES:
        key = name if levels == 1 else f"{name}, level {level}"
        rows: list[Mapping[str, Any]] = [item["metrics"][key] for item in settings if key in item["metrics"]]
        if len(rows) < len(settings):
            known = join_words(settings[0]["metrics"], most=12)
            raise InputError(f"{path} has no {key} of each setting (known: {known}). Compare again.")
        panels.append(
            BarPanel(
                f"{name}, %",
                [{label: _number(value) for label, value in row["classes"].items()} for row in rows],
                [_number(row["mean"]) for row in rows],
            )
        )
    return panels, [" · ".join(map(str, item["setting"].values())) for item in settings]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
