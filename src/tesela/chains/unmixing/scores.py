"""Scores, facts and cost of an unmixing run, for its report and for `tesela compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesela import __version__
from tesela.assessment.abundance.assessment import AbundanceAssessment
from tesela.assessment.abundance.scores import HIGHER, NAMES, SCORES, Score, flat_scores, mean_of
from tesela.chains.metrics import Blocks, Metric
from tesela.chains.unmixing.recipe import UnmixingRecipe
from tesela.io.cube import Cube
from tesela.models.expert import Expert, read_header
from tesela.patches.pixels import PixelTable

_ORDER: tuple[Score, ...] = ("rmse", "mae", "rrmse", "cc", "f1")
"""The headline first."""


def level_metrics(document: Mapping[str, Any], *, depth: int) -> tuple[Metric, ...]:
    """
    Scores by level of the legend, the finest first.

    Parameters
    ----------
    document : mapping
        That of ``assessment.json``.
    depth : int
        Level of the map itself.
    """
    levels = {depth: document, **{int(level): one for level, one in document["levels"].items()}}
    return tuple(
        Metric(
            NAMES[name],
            _number(one["mean"][name]),
            {row["name"]: _number(row[name]) for row in one["classes"]},
            better="higher" if name in HIGHER else "lower",
            level=level if len(levels) > 1 else None,
            digits=3 if name in HIGHER else 2,
            unit="" if name in HIGHER else "%",
        )
        for level, one in levels.items()
        for name in _ORDER
    )


def rmse_blocks(assessment: AbundanceAssessment) -> Blocks:
    """Sums by block, scored by mean RMSE."""
    count, row = len(assessment.legend), SCORES.index("rmse")
    return Blocks(
        assessment.block_names,
        np.stack([sums.flat for sums in assessment.block_sums]),
        lambda flat: mean_of(flat_scores(flat, count))[..., row],
    )


def describe_run(
    recipe: UnmixingRecipe, cube: Cube, *, expert_file: Path, table: PixelTable
) -> dict[str, str]:
    """Facts of a run for its report."""
    split, (rows, cols) = recipe.split, cube.grid.shape
    return {
        "Cube": f"{len(cube.times)} times x {len(cube.bands)} band{'s' * (len(cube.bands) > 1)}, {rows} x {cols} px",
        "Ancillary": ", ".join(table.layers) or "none",
        "Model": read_header(expert_file).architecture.summary,
        "Reference": Path(recipe.reference.path if recipe.reference else str(recipe.cube.msmtu)).name,
        "Split": (
            "published, "
            if recipe.uses_partitions
            else f"blocks of {split.block[0] / 1000:g} x {split.block[1] / 1000:g} km, "
        )
        + ", ".join(f"{count} {name}" for name, count in table.counts.items() if count)
        + _thinned(recipe.training.thinning),
        "Evaluated on": "test pixels only" if recipe.assessment.area == "test" else "the whole map",
        "Seed": str(recipe.seed),
        "Tesela": __version__,
    }


def _thinned(amount: float) -> str:
    """How many of the pixels a training used, as text; nothing where it used all."""
    if amount == 1:
        return ""
    part = f"{amount:.3g} of the pixels" if amount < 1 else f"at most {amount:.0f} pixels"
    return f"; trained on {part}"


def mflops_of(expert: Expert) -> float:
    """Million floating-point operations to unmix one pixel; 0 for models that are fitted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tesela.models.output import UnmixingNetwork

    network, series = expert.network, expert.header.series
    assert isinstance(network, UnmixingNetwork)
    assert series is not None
    side = 16 + 2 * network.margin_px
    pixels = (1, side, side) if network.margin_px else (256,)
    values = torch.zeros(*pixels, len(series.months), len(expert.header.bands))
    static = torch.zeros(*pixels, len(series.layers))
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(values, torch.ones_like(values), static)
    return float(counter.get_total_flops()) / 256 / 1e6  # 16 x 16 pixels, or 256


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
