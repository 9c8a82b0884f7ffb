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
from tesela.chains.class_map_scores import count_blocks
from tesela.chains.lulucf.table import Row, Table
from tesela.chains.metrics import Blocks
from tesela.core.grid import windows
from tesela.core.legend import IGNORE, NODATA, Legend
from tesela.io.manifest import write_whole
from tesela.io.maps import ClassMap, MapReader, MapWriter, open_map
from tesela.mapping.cascade import Cascade, read_cascade
from tesela.models.expert import Expert, load_expert
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable, read_patches

if TYPE_CHECKING:
    import geopandas as gpd

    from tesela.chains.lulucf.chain import LulucfChain
    from tesela.chains.lulucf.recipe import SheetSection

_BATCH = 8
_WINDOW_PX = 2048

GROUNDS = {"test": "test patches", "unbiased": "unbiased patches"}
"""Splits that judge, and what the table calls them."""


def assess_chain(chain: LulucfChain) -> list[Path]:
    """Judge experts and cascades of a chain that has mapped its scenes; returns the files written."""
    recipe = chain.recipe
    rows: list[Row] = []
    reports: list[Path] = []
    references: dict[str, ClassMap] = {}
    first = read_patches(chain.patch_file(recipe.experts[0]))
    grounds = [split for split in GROUNDS if split in first.counts]
    for measure in recipe.measures:
        for taught in recipe.experts:
            expert = load_expert(chain.expert_file(taught, measure))
            patches = read_patches(chain.patch_file(taught))
            for split in grounds:
                if split in patches.counts:
                    counts = evaluate_expert(expert, patches, split)
                    rows.append(Row.of(taught.name, measure, GROUNDS[split], score(counts)))
        cascade = read_cascade(chain.cascade_file(measure))
        if not references:
            references = {
                item.name: draw_reference(chain, cascade, item) for item in chain.evaluated_sections()
            }
        for split in grounds:
            total = Confusion.empty(cascade.legend)
            for section in chain.evaluated_sections():
                ground = _ground(first, split, section)
                if not ground.empty:
                    found, reference = open_map(chain.map_file(section, measure)), references[section.name]
                    total += assess(found, reference, within=ground, edges_px=()).confusion
            rows.append(Row.of("cascade", measure, GROUNDS[split], score(total)))
    for section in chain.evaluated_sections():
        report = _write_report(chain, section, references[section.name], first)
        reports += [] if report is None else [report]
    table = Table(tuple(rows), tuple(recipe.measures))
    made = table.write(chain.out / "report", title=recipe.name, facts=_facts(chain, first))
    maps = [chain.map_file(item, recipe.measures[0]) for item in recipe.scenes if item.use != "train"]
    document = {
        "table": table.to_dict(),
        "cascade": str(chain.cascade_file(recipe.measures[0])),
        "maps": [str(path) for path in maps],
        "reports": [str(path) for path in (*made[:1], *reports)],
    }
    with write_whole(chain.summary_file) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [*made, *reports, *(Path(item.path) for item in references.values()), chain.summary_file]


def evaluate_expert(expert: Expert, table: PatchTable, split: str) -> Confusion:
    """Confusion of an expert on the patches of a split, each seen by itself, as it was taught."""
    header = expert.header
    data = PatchDataset(table, split, bands=header.bands, mean=header.mean, std=header.std)
    total = Confusion.empty(table.legend)
    values = np.asarray([*table.legend.values, NODATA], np.uint8)
    expert.network.eval()
    with torch.inference_mode():
        for start in range(0, len(data), _BATCH):
            patches = [data[index] for index in range(start, min(start + _BATCH, len(data)))]
            answers = expert.network(torch.stack([patch.image for patch in patches])).argmax(dim=1).numpy()
            labels = torch.stack([patch.labels for patch in patches]).numpy()
            labels = np.where(labels == IGNORE, len(table.legend), labels)
            flat = (values[labels].reshape(len(labels), -1), values[answers].reshape(len(labels), -1))
            total += count_confusion(*flat, table.legend)
    return total


def draw_reference(chain: LulucfChain, cascade: Cascade, section: SheetSection) -> ClassMap:
    """
    The labels of all experts as one map in the cascade's legend.

    Where a gate stands open and the expert behind it has no label, nothing is known at the finest level: nodata.
    """
    grid = chain.open_scene(section).grid
    out = reference_file(chain, section)
    out.parent.mkdir(parents=True, exist_ok=True)
    readers = {
        item.name: MapReader(open_map(chain.label_file(item, section))) for item in chain.recipe.experts
    }
    try:
        with MapWriter(out, grid, cascade.legend) as writer:
            for row, col, window in windows(grid, _WINDOW_PX):
                labels = {name: reader.read(window) for name, reader in readers.items()}
                writer.write(row, col, join_labels(cascade, labels))
    finally:
        for reader in readers.values():
            reader.close()
    return ClassMap(str(out), grid, cascade.legend)


def join_labels(cascade: Cascade, labels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """
    Labels of all members as values of the cascade.

    Parameters
    ----------
    labels : mapping
        By member, (rows, cols) values of its own legend, 0 for none.
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


def evaluated_split(table: PatchTable) -> str:
    """Split that stands for all ground: the unbiased patches where there are some, else the test patches."""
    return "unbiased" if "unbiased" in table.counts else "test"


def count_cascade_blocks(chain: LulucfChain) -> Blocks:
    """Confusions of the first measure's map by block of the split, at the finest classes."""
    table = read_patches(chain.patch_file(chain.recipe.experts[0]))
    judged = []
    for section in chain.evaluated_sections():
        found = open_map(chain.map_file(section, chain.recipe.measures[0]))
        ground = _ground(table, evaluated_split(table), section)
        if ground.empty:
            continue
        side = max(1, round(chain.recipe.patches.block / chain.open_scene(section).pixel_size_m))
        reference = open_map(reference_file(chain, section))
        judged.append(assess(found, reference, tiles_px=side, within=ground, edges_px=()))
    return count_blocks(judged)


def reference_file(chain: LulucfChain, section: SheetSection) -> Path:
    """Where the labels of all experts lie as one map."""
    return chain.out / "report" / "reference" / f"{section.name}.tif"


def _ground(table: PatchTable, split: str, section: SheetSection) -> gpd.GeoDataFrame:
    frame = table.frame
    return frame[(frame["split"] == split) & (frame["scene"] == section.name)]


def _write_report(
    chain: LulucfChain, section: SheetSection, reference: ClassMap, table: PatchTable
) -> Path | None:
    """Report of a scene's map; none where it has no patch to judge on."""
    found = open_map(chain.map_file(section, chain.recipe.measures[0]))
    split = evaluated_split(table)
    within = None if chain.recipe.assessment.ground == "all" else _ground(table, split, section)
    if within is not None and within.empty:
        return None
    judged = assess(found, reference, tiles_px=chain.recipe.assessment.tiles_px, within=within)
    many = len(chain.evaluated_sections()) > 1
    folder = chain.out / "report" / "map" / (section.name if many else "")
    return write_report(
        folder,
        judged,
        map=found,
        reference=reference,
        scene=chain.open_scene(section),
        title=f"{chain.recipe.name}: {section.name}",
        facts={
            **_facts(chain, table),
            "Scene": f"{section.name} {section.date}".strip() + f", {chain.open_scene(section).grid.crs}",
            "Judged on": "the whole map" if within is None else GROUNDS[split],
        },
    )


def _facts(chain: LulucfChain, table: PatchTable) -> dict[str, str]:
    recipe = chain.recipe
    training = recipe.training
    split = recipe.patches.split
    return {
        "Experts": ", ".join(item.name for item in recipe.experts),
        "Network": f"U-Net, encoder {training.encoder}, {training.epochs} epochs",
        "Reference": Path(recipe.reference.path).name,
        "Split": f"{split}, patches of {table.size_px} px: "
        + ", ".join(f"{count} {name}" for name, count in table.counts.items()),
        "Seed": str(recipe.seed),
        "Tesela": __version__,
    }
