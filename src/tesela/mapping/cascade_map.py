"""The map of a cascade: one scene becomes one class map in a legend of several levels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import RecipeError, unknown_name
from tesela.core.machine import steady_memory
from tesela.core.scene import Scene
from tesela.core.units import parse_memory_bytes
from tesela.io.cog import CogWriter
from tesela.io.fingerprints import file_state
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapWriter, ScoreWriter
from tesela.io.outputs import check_file_outputs, check_raster_names
from tesela.io.parts import PartStore
from tesela.io.scene_fills import declare_fills
from tesela.io.scenes import SceneReader
from tesela.mapping.augmentation import AUGMENTATIONS, TestTimeAugmentation
from tesela.mapping.cascade import Cascade
from tesela.mapping.cascade_groups import GroupChoice
from tesela.mapping.cascade_job import CascadeJob, map_on_cluster, map_strips
from tesela.mapping.cascade_runner import CascadeLayers, CascadeRules, CascadeRunner, Tally
from tesela.mapping.context_shares import scene_part
from tesela.mapping.missing_dates import select_bands
from tesela.mapping.predict import (
    Counter,
    Progress,
    by_rows,
    check_filled,
    check_pixel_size,
    fingerprint_network,
    margin_px,
    stride_px,
)
from tesela.mapping.scene_distance import check_imagery
from tesela.mapping.surroundings import Surroundings, surround
from tesela.mapping.window_cover import WindowSizes
from tesela.mapping.windows import Footprint, Strip, WindowPlan, make_strips


@dataclass(frozen=True)
class CascadePrediction:
    """A map of a cascade, and how it was made."""

    map: ClassMap
    levels: tuple[ClassMap, ...]
    """Maps of the coarser levels, coarsest first, with `levels`."""
    engines: Mapping[str, str]
    """Engine of each member; members on a shared backbone have one entry: "a+b"."""
    tally: Tally
    pixels: int
    """Pixels that got a class."""
    seconds: float
    resumed: int
    """Parts that an earlier run left."""


def predict_cascade(
    cascade: Cascade,
    scene: Scene,
    out: str | Path,
    *,
    window_px: int = 1088,
    overlap_px: int = 64,
    engine: str = "auto",
    precision: str = "auto",
    memory: str | int = "512 MiB",
    tta: str = "none",
    rules: CascadeRules | None = None,
    confidence: str | Path | None = None,
    entropy: str | Path | None = None,
    probabilities: str | Path | None = None,
    missing_dates: str = "error",
    levels: bool = False,
    any_scene: bool = False,
    cluster: str | None = None,
    neighbours: Sequence[Scene] = (),
    progress: Progress | None = None,
) -> CascadePrediction:
    """
    Apply a cascade to a scene of any size.

    Each strip goes through the whole tree before the next, so memory does not grow with the scene, and a crash costs
    one strip. The first expert maps the whole scene. Each other expert maps only pixels where its gate is open, on
    the cheapest cover of them by windows of several sizes (`tesela.mapping.window_cover.cover_mask`). Experts whose
    backbone equals that of the expert above, tensor for tensor, run on its windows and features
    (`tesela.mapping.shared_backbone.shared_stages`).

    Parameters
    ----------
    cascade : Cascade
        See `tesela.mapping.cascade.open_cascade`.
    window_px, overlap_px, engine, precision, tta, memory, any_scene, cluster, neighbours
        As for `tesela.mapping.predict.predict_map`. With `tta` each expert runs by itself, on a shared backbone too.
    rules : CascadeRules, optional
        Hard gates, or probabilities multiplied down the tree; treatment of isolated pixels.
    confidence : path, optional
        Raster of the product of probabilities down to the class, in per cent.
    entropy, probabilities : path, optional
        Rasters of the normalised entropy in per cent, and of the probability of each class of the finest level in
        steps of 1/254. An expert divides the probability of the class above among its own where its gate is open;
        elsewhere that class keeps it, so they sum to 1.
    missing_dates : {"error", "gap"}
        As for `tesela.mapping.predict.predict_map`.
    levels : bool
        Also write the coarser levels of the legend, as separate maps beside `out` (``map_level1.tif``).

    Raises
    ------
    InputError, GridError, RecipeError
        As `tesela.mapping.predict.predict_map`.
    """
    started = time.perf_counter()
    rules = rules or CascadeRules()
    if overlap_px < 0:
        raise RecipeError(f"The overlap is {overlap_px} px; it is at least 0.")
    if tta not in AUGMENTATIONS:
        raise RecipeError(unknown_name("augmentation", tta, AUGMENTATIONS))
    augmentation = TestTimeAugmentation(flips=tta == "d4")
    spread = CascadeLayers(entropy is not None, probabilities is not None)
    networks = [scene_part(member.expert.header.standardisation) for member in cascade.members]
    scene = declare_fills(select_bands(scene, networks, missing_dates=missing_dates))
    outputs = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
    check_file_outputs([out, *outputs.values()], inputs=[band.path for band in scene.bands])
    check_raster_names([out, *outputs.values()])
    for member in cascade.members:
        check_pixel_size(member.expert, scene)
    for number, member in enumerate(cascade.members):
        check_imagery(member.expert.header, scene, any_scene=any_scene, advise=number == 0)
    stride = math.lcm(*(stride_px(member.expert.network) for member in cascade.members))
    margin = max(overlap_px // 2, *(margin_px(member.expert.network) for member in cascade.members))
    around = surround(scene, neighbours, margin_px=margin, out=out)
    shape = (int(around.scene.grid.shape[0]), int(around.scene.grid.shape[1]))
    plan = WindowPlan.fit(
        shape, window_px=window_px, margin_px=margin, multiple_px=stride, square=tta != "none"
    )
    sizes = WindowSizes.of(plan, multiple_px=stride)
    footprint = _footprint(cascade, around.scene, rules, spread)
    panels = make_strips(plan, footprint, memory=parse_memory_bytes(memory))
    with PartStore(out) as store, steady_memory():
        saved = store.saved_plan()
        wanted: dict[str, object] = {
            **_describe(cascade, around.scene, plan),
            "panels": [panel[0].corner[1] for panel in panels],
            "rules": [rules.soft, rules.isolated_px],
            "layers": [spread.entropy, spread.probabilities],
            "augmentation": augmentation.to_dict(),
            "options": [engine, precision],
        }
        choice = GroupChoice(cascade, around.scene, plan=plan, sizes=sizes, augmentation=augmentation)
        chosen = choice.make(saved if _same(saved, wanted) else None, engine, precision)
        made: dict[str, object] = {
            "engines": [group.engine.name for group in chosen],
            "costs": [group.costs for group in chosen],
        }
        store.start(wanted | made)
        waiting = [[strip for strip in panel if not store.has(strip.number)] for panel in panels]
        strips = [strip for panel in waiting for strip in panel]
        count = Counter(len(plan), sum(len(strip.cols) for strip in strips), progress)
        if cluster is None:
            runner = CascadeRunner(cascade, chosen, sizes=sizes, rules=rules, layers=spread)
            for panel in waiting:
                map_strips(runner, around.scene, panel, store=store, advance=count.advance)
        else:
            job = CascadeJob(around.scene, sizes, rules, spread, augmentation, (engine, precision), made)
            map_on_cluster(cluster, job, strips, cascade=cascade, store=store, advance=count.advance)
        tally = Tally()
        for document in store.notes():
            tally.add(document)
        pixels, coarser = _assemble(
            store, panels, out, cascade=cascade, around=around, outputs=outputs, levels=levels
        )
        store.remove()
        around.remove()
    record_step(
        "predict",
        [out, *outputs.values(), *(item.path for item in coarser)],
        inputs=[
            *(member.expert.path for member in cascade.members),
            *(band.path for band in scene.bands),
        ],
        settings={
            "cascade": cascade.name,
            "date": scene.date,
            "soft": rules.soft,
            "isolated_px": rules.isolated_px,
            "tta": tta,
            "missing_dates": missing_dates,
        },
        legend=cascade.legend.address,
    )
    return CascadePrediction(
        map=ClassMap(str(out), scene.grid, cascade.legend),
        levels=coarser,
        engines={"+".join(member.name for member in group.members): group.engine.name for group in chosen},
        tally=tally,
        pixels=pixels,
        seconds=time.perf_counter() - started,
        resumed=sum(map(len, panels)) - sum(map(len, waiting)),
    )


def _footprint(cascade: Cascade, scene: Scene, rules: CascadeRules, spread: CascadeLayers) -> Footprint:
    """Whole strips are read ahead, with probabilities in float32."""
    classes = len(cascade.legend) if spread.distributed else 0
    gates = sum(len(cascade.gate_values(member)) for member in cascade.members) if rules.soft else 0
    context = 4 * len(cascade.members[0].expert.header.legend) if cascade.has_context else 0
    with SceneReader(scene) as reader:
        return Footprint(
            bands=len(scene.bands),
            stored_bytes=2 * reader.stored_bytes,
            classes=max(len(member.expert.header.legend) for member in cascade.members),
            layers=5 + 3 * gates + 3 * classes + context,
            block_rows=reader.block_rows,
        )


def _describe(cascade: Cascade, scene: Scene, plan: WindowPlan) -> dict[str, object]:
    return {
        "members": [
            [
                member.name,
                fingerprint_network(member.expert.network),
                list(member.expert.header.mean),
                list(member.expert.header.std),
                str(member.gate),
            ]
            for member in cascade.members
        ],
        "legend": cascade.legend.to_rows(),
        "scene": scene.to_dict(),
        "files": {path: file_state(path) for path in sorted({band.path for band in scene.bands})},
        "windows": [plan.height_px, plan.width_px, plan.margin_px],
    }


def _same(saved: Mapping[str, object] | None, wanted: Mapping[str, object]) -> bool:
    plain = json.loads(json.dumps(wanted))
    return saved is not None and all(saved.get(key) == value for key, value in plain.items())


def _assemble(
    store: PartStore,
    panels: Sequence[Sequence[Strip]],
    out: str | Path,
    *,
    cascade: Cascade,
    around: Surroundings,
    outputs: Mapping[str, str | Path | None],
    levels: bool,
) -> tuple[int, tuple[ClassMap, ...]]:
    """Write the parts into the output rasters; return the number of pixels with a class and the coarser maps."""
    legend, grid = cascade.legend, around.inner.grid
    coarser: list[ClassMap] = []
    with ExitStack() as stack:
        finest = stack.enter_context(MapWriter(out, grid, legend))
        tables: list[tuple[MapWriter, NDArray[np.uint8]]] = []
        if levels:
            for depth in range(1, legend.depth):
                path = Path(out).with_name(f"{Path(out).stem}_level{depth}{Path(out).suffix}")
                writer = stack.enter_context(MapWriter(path, grid, legend.level(depth)))
                tables.append((writer, legend.level_table(depth)))
                coarser.append(ClassMap(str(path), grid, legend.level(depth)))
        scores: list[tuple[CogWriter, slice]] = []
        for name, chosen in (("confidence", slice(1, 2)), ("entropy", slice(2, 3))):
            if (target := outputs[name]) is not None:
                one = ScoreWriter(target, grid, [name], scale=1.0, unit="%")
                scores.append((stack.enter_context(one), chosen))
        if (target := outputs["probabilities"]) is not None:
            many = ScoreWriter(target, grid, legend.codes, scale=1 / 254, unit="1")
            scores.append((stack.enter_context(many), slice(3, 3 + len(legend))))
        for strip in by_rows(panels):
            kept = around.cut(strip.corner, store.read(strip.number))
            if kept is None:
                continue
            corner, part = kept
            finest.write(*corner, part[0])
            for level, table in tables:
                level.write(*corner, table[part[0]])
            for each, layers in scores:
                each.write(*corner, part[layers])
        check_filled(finest, around.inner, store)
        return int(finest.counts[1:].sum()), tuple(coarser)
