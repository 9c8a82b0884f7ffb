"""What the reports of a corine run tell beside the scores of each map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tesela import __version__
from tesela.assessment.assessment import Assessment, Generalised
from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import Scores, score
from tesela.chains.class_map_scores import total_scores
from tesela.chains.corine.recipe import CorineRecipe
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.manifest import write_whole
from tesela.models.header import ExpertHeader


def map_facts(recipe: CorineRecipe, scene: Scene, *, expert: ExpertHeader, ground: str) -> dict[str, str]:
    """Where a map comes from, for its report; `ground` says what of it is judged."""
    return {
        "Scene": f"{scene.name} {scene.date}".strip() + f", {len(scene.bands)} bands, {scene.grid.crs}",
        "Network": f"{expert.architecture.summary}, {len(expert.bands)} bands",
        "Legend": expert.legend.address,
        "Reference": Path(recipe.reference.path).name,
        "Judged on": ground,
        "Split": f"{recipe.patches.split}, {recipe.patches.size_px} px patches",
        "Seed": str(recipe.seed),
        "Tesela": __version__,
    }


def write_summary(
    path: Path,
    judged: Mapping[str, Assessment],
    after: Mapping[str, Generalised],
    *,
    legend: Legend,
    maps: Sequence[Path],
    reports: Sequence[Path],
) -> Path:
    """
    Write the scores of all judged maps together, and where maps and reports lie, as JSON.

    Parameters
    ----------
    judged, after : mapping
        Maps by scene, and the same maps generalised; both may be empty.
    """
    document: dict[str, object] = {"judged": list(judged)}
    if judged:
        scores = _together(judged.values(), legend)
        document |= {**total_scores(scores), "absent": list(scores.absent)}
    if after:
        scores = _together((item.assessment for item in after.values()), legend)
        document["generalised"] = {"rule": next(iter(after.values())).rule, **total_scores(scores)}
    document["maps"] = [str(file) for file in maps]
    document["reports"] = [str(file) for file in reports]
    with write_whole(path) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def _together(judged: Iterable[Assessment], legend: Legend) -> Scores:
    return score(sum((item.confusion for item in judged), Confusion.empty(legend)))
