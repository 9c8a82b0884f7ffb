"""Scores of the lulucf chain: each expert on its own patches, the system on its map, and the reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tesela import __version__
from tesela.assessment.assessment import assess
from tesela.assessment.confusion import Confusion, count_confusion
from tesela.assessment.report import write_report
from tesela.assessment.scores import score
from tesela.chains.evaluation import AREAS, area_of
from tesela.chains.lulucf.table import Row, Table
from tesela.chains.scene_scores import SceneScore
from tesela.chains.scenes import MAPPED
from tesela.core.errors import InputError
from tesela.core.grid import windows
from tesela.core.legend import IGNORE, NODATA, Legend
from tesela.io.manifest import write_text
from tesela.io.maps import ClassMap, MapReader, MapWriter, open_map
from tesela.mapping.cascade import Cascade, open_cascade
from tesela.models.expert import Expert, open_expert, read_header
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable, open_patches

if TYPE_CHECKING:
    import geopandas as gpd

    from tesela.chains.lulucf.chain import LulucfChain
    from tesela.recipes.sections import SceneSection

_BATCH = 8
_WINDOW_PX = 2048


def assess_chain(chain: LulucfChain) -> list[Path]:
    """Assess experts and cascades of a chain that has mapped its scenes; returns the files written."""
    recipe = chain.recipe
    rows: list[Row] = []
    reports: list[Path] = []
    references: dict[str, ClassMap] = {}
    first = open_patches(chain.targets[0].patch_file)
    splits = [split for split in AREAS if split in first.counts]
    for strategy in recipe.strategies:
        for training in chain.trainings.items:
            if training.settings.imbalance_strategy != strategy:
                continue
            target = training.target
            expert = open_expert(training.file)
            patches = chain.trainings.patches(training)
            for split in splits:
                if split in patches.counts:
                    counts = evaluate_expert(expert, patches, split)
                    rows.append(Row.of(target.name, strategy, AREAS[split], score(counts)))
        cascade = open_cascade(chain.cascade_file(strategy))
        if not references:
            references = {
                item.name: draw_reference(chain, cascade, item) for item in chain.evaluated.sections()
            }
        for split in splits:
            total = Confusion.empty(cascade.legend)
            for section in chain.evaluated.sections():
                area = area_of(first, split, section)
                part = _count(chain, section, strategy, references[section.name], area)
                total += Confusion.empty(cascade.legend) if part is None else part
            if total.evaluated_px:
                rows.append(Row.of("cascade", strategy, AREAS[split], score(total)))
        for section in chain.evaluated.sections():
            if section.use == "map":
                where = chain.evaluated.area(first, section)
                part = _count(chain, section, strategy, references[section.name], where.within)
                if part is not None:
                    rows.append(Row.of("cascade", strategy, f"{section.name}, {where.words}", score(part)))
    scenes = [
        SceneScore(item.name, item.date, "no reference there") for item in chain.evaluated.without_labels()
    ]
    for section in chain.evaluated.sections():
        scene, report = _assess_scene(chain, section, references[section.name], first)
        scenes.append(scene)
        reports += [] if report is None else [report]
    order = [section.name for section in chain.scenes.sections(MAPPED)]
    scenes.sort(key=lambda item: order.index(item.name))
    table = Table(tuple(rows), tuple(recipe.strategies), tuple(scenes))
    pages = table.write(chain.out / "report", title=recipe.name, facts=_facts(chain, first))
    maps = [chain.map_file(item) for item in chain.scenes.sections(MAPPED)]
    document = {
        "table": table.to_dict(),
        "cascade": str(chain.cascade_file(recipe.strategies[0])),
        "maps": [str(path) for path in maps],
        **({} if chain.whole_map_file is None else {"joined": str(chain.whole_map_file)}),
        "reports": [str(path) for path in (*pages[:1], *reports)],
        **({"corrected": chain.labels.corrected} if chain.labels.corrections else {}),
    }
    write_text(chain.summary_file, json.dumps(document, indent=2) + "\n")
    return [*pages, *reports, *(Path(item.path) for item in references.values()), chain.summary_file]


def evaluate_expert(expert: Expert, table: PatchTable, split: str) -> Confusion:
    """Confusion of an expert on the patches of a split, each seen by itself, as in the training."""
    header = expert.header
    data = PatchDataset(table, split, bands=header.bands, mean=header.mean, std=header.std)
    total = Confusion.empty(table.legend)
    values = np.asarray([*table.legend.values, NODATA], np.uint8)
    expert.network.eval()
    with torch.inference_mode():
        for start in range(0, len(data), _BATCH):
            patches = [data[index] for index in range(start, min(start + _BATCH, len(data)))]
            predicted = expert.network(torch.stack([patch.image for patch in patches])).argmax(dim=1).numpy()
            labels = torch.stack([patch.labels for patch in patches]).numpy()
            labels = np.where(labels == IGNORE, len(table.legend), labels)
            flat = (values[labels].reshape(len(labels), -1), values[predicted].reshape(len(labels), -1))
            total += count_confusion(*flat, table.legend)
    return total


def draw_reference(chain: LulucfChain, cascade: Cascade, section: SceneSection) -> ClassMap:
    """
    The labels of all experts as one map in the cascade's legend.

    A pixel whose gate is open, but that has no label of the expert behind it, has no class at the finest level: nodata.
    """
    grid = chain.scenes.open(section).grid
    out = chain.joined_file(section)
    out.parent.mkdir(parents=True, exist_ok=True)
    files = {item.name: item.label_file(section) for item in chain.targets}
    readers = {name: MapReader(open_map(file)) for name, file in files.items() if file.exists()}
    try:
        with MapWriter(out, grid, cascade.legend) as writer:
            for row, col, window in windows(grid, _WINDOW_PX):
                labels = {name: reader.read(window) for name, reader in readers.items()}
                nothing = np.zeros(tuple(window.shape), np.uint8)  # no class of an expert in the whole scene
                labels |= {name: nothing for name in files if name not in readers}
                writer.write(row, col, join_labels(cascade, labels))
    finally:
        for reader in readers.values():
            reader.close()
    return ClassMap(str(out), grid, cascade.legend)


def join_labels(cascade: Cascade, labels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """
    Join the labels of all experts as values of the cascade.

    Parameters
    ----------
    labels : mapping
        By expert, (rows, cols) values of its own legend, 0 for none.
    """
    joined = np.zeros(next(iter(labels.values())).shape, np.uint8)
    for member in cascade.members:
        legend: Legend = member.expert.header.legend
        positions = legend.index_table[labels[member.name]]
        table = np.concatenate([cascade.values(member), np.zeros((256, 1), np.uint8)], axis=1)
        column = np.where(positions == 255, len(legend), positions)
        if member.gate is None:
            joined = table[0][column]
        else:
            below = np.isin(joined, cascade.gate_values(member))
            joined = np.where(below, table[joined, column], joined)
    return np.asarray(joined, np.uint8)


def _count(
    chain: LulucfChain,
    section: SceneSection,
    strategy: str,
    reference: ClassMap,
    within: gpd.GeoDataFrame | None,
) -> Confusion | None:
    """Confusion of a scene's map; None where there is nothing to evaluate on."""
    if within is not None and within.empty:
        return None
    try:
        predicted = open_map(chain.map_of(section, strategy))
        return assess(predicted, reference, within=within, edges_px=()).confusion
    except InputError:  # no pixel with a class on both sides
        return None


def _assess_scene(
    chain: LulucfChain, section: SceneSection, reference: ClassMap, table: PatchTable
) -> tuple[SceneScore, Path | None]:
    """Scores and report of a scene's map; none where there is nothing to evaluate on."""
    predicted = open_map(chain.map_file(section))
    area = chain.evaluated.area(table, section)
    if area.empty:
        return SceneScore(section.name, section.date, "no test patch there"), None
    try:
        assessment = assess(
            predicted, reference, tiles_px=chain.recipe.assessment.tiles_px, within=area.within
        )
    except InputError as error:
        return SceneScore(section.name, section.date, str(error)), None
    many = len(chain.scenes.sections(MAPPED)) > 1
    folder = chain.out / "report"
    report = write_report(
        folder / "map" / (section.name if many else ""),
        assessment,
        map=predicted,
        reference=reference,
        scene=chain.scenes.open_images(section),
        title=f"{chain.recipe.name}: {section.name}",
        facts={
            **_facts(chain, table),
            "Scene": f"{section.name} {section.date}".strip() + f", {chain.scenes.open(section).grid.crs}",
            "Evaluated on": area.words,
        },
        compared=chain.trainings.compared_models(),
    )
    link = report.relative_to(folder).as_posix()
    return SceneScore.of(section.name, section.date, area.words, assessment, link), report


def _facts(chain: LulucfChain, table: PatchTable) -> dict[str, str]:
    recipe = chain.recipe
    split = recipe.patches.split
    models = dict.fromkeys(read_header(item.file).architecture.summary for item in chain.trainings.items)
    return {
        "Experts": ", ".join(item.name for item in recipe.experts),
        "Models": "; ".join(models),
        "Reference": Path(recipe.reference.path).name,
        **({"Corrections": chain.labels.corrected} if chain.labels.corrections else {}),
        "Split": f"{split}, patches of {table.size_px} px: "
        + ", ".join(f"{count} {name}" for name, count in table.counts.items()),
        "Seed": str(recipe.seed),
        "Tesela": __version__,
    }
