"""The map of a cascade: one scene becomes one class map in a legend of several levels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import RecipeError
from tesela.core.machine import steady_memory
from tesela.core.scene import Scene
from tesela.core.units import parse_memory_bytes
from tesela.io.cog import CogWriter
from tesela.io.fingerprints import file_state
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapWriter, ScoreWriter
from tesela.io.outputs import check_file_outputs
from tesela.io.parts import PartStore
from tesela.io.scene_fills import declare_fills
from tesela.io.scenes import SceneReader
from tesela.mapping.cascade import Cascade, Member
from tesela.mapping.cascade_runner import CascadeRules, CascadeRunner, Group, Tally
from tesela.mapping.engine_benchmark import choose_engine
from tesela.mapping.engines import Engine, TorchEngine, make_engine
from tesela.mapping.missing_dates import select_bands
from tesela.mapping.predict import (
    Progress,
    by_rows,
    check_filled,
    check_pixel_size,
    fingerprint_network,
    margin_px,
    stride_px,
)
from tesela.mapping.reading import Scaler, StripReader, prefetch, read_trial
from tesela.mapping.scene_distance import check_imagery
from tesela.mapping.shared_backbone import SharedBackboneEngine, can_carry, shared_stages
from tesela.mapping.window_cover import WindowSizes, guess_costs, usual_costs
from tesela.mapping.windows import Footprint, Strip, WindowPlan, make_strips

_MEASURED_FROM = 16
"""From this many windows on, the costs of the sizes are measured."""


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
    rules: CascadeRules | None = None,
    confidence: str | Path | None = None,
    missing_dates: str = "error",
    levels: bool = False,
    any_scene: bool = False,
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
    window_px, overlap_px, engine, precision, memory, any_scene
        As for `tesela.mapping.predict.predict_map`.
    rules : CascadeRules, optional
        Hard gates, or probabilities multiplied down the tree; treatment of isolated pixels.
    confidence : path, optional
        Raster of the product of probabilities down to the class, in per cent.
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
    networks = [member.expert.header.standardisation for member in cascade.members]
    scene = declare_fills(select_bands(scene, networks, missing_dates=missing_dates))
    check_file_outputs([out, confidence], inputs=[band.path for band in scene.bands])
    for member in cascade.members:
        check_pixel_size(member.expert, scene)
    for number, member in enumerate(cascade.members):
        check_imagery(member.expert.header, scene, any_scene=any_scene, advise=number == 0)
    stride = math.lcm(*(stride_px(member.expert.network) for member in cascade.members))
    shape = (int(scene.grid.shape[0]), int(scene.grid.shape[1]))
    margin = max(overlap_px // 2, *(margin_px(member.expert.network) for member in cascade.members))
    plan = WindowPlan.fit(shape, window_px=window_px, margin_px=margin, multiple_px=stride)
    sizes = WindowSizes.of(plan, multiple_px=stride)
    panels = make_strips(plan, _footprint(cascade, scene, rules), memory=parse_memory_bytes(memory))
    with PartStore(out) as store, steady_memory():
        saved = store.saved_plan()
        wanted: dict[str, object] = {
            **_describe(cascade, scene, plan),
            "panels": [panel[0].corner[1] for panel in panels],
            "rules": [rules.soft, rules.isolated_px],
            "options": [engine, precision],
        }
        chosen = _Choice(cascade, scene, plan, sizes).make(
            saved if _same(saved, wanted) else None, engine, precision
        )
        made = {
            "engines": [group.engine.name for group in chosen],
            "costs": [group.costs for group in chosen],
        }
        store.start(wanted | made)
        runner = CascadeRunner(cascade, chosen, sizes=sizes, rules=rules)
        waiting = [[strip for strip in panel if not store.has(strip.number)] for panel in panels]
        total = len(plan)
        done = total - sum(len(strip.cols) for panel in waiting for strip in panel)
        for panel in waiting:
            for strip, layers, tally in _run_strips(runner, scene, panel):
                store.note(strip.number, tally.to_dict())
                store.write(strip.number, layers)
                done += len(strip.cols)
                if progress is not None:
                    progress(done, total)
        tally = Tally()
        for document in store.notes():
            tally.add(document)
        pixels, coarser = _assemble(
            store, panels, out, cascade=cascade, scene=scene, confidence=confidence, levels=levels
        )
        store.remove()
    record_step(
        "predict",
        [out, confidence, *(item.path for item in coarser)],
        inputs=[
            *(member.expert.path for member in cascade.members),
            *(band.path for band in scene.bands),
        ],
        settings={
            "cascade": cascade.name,
            "date": scene.date,
            "soft": rules.soft,
            "isolated_px": rules.isolated_px,
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


class _Choice:
    """Chooses engines, detects shared backbones and measures costs."""

    def __init__(self, cascade: Cascade, scene: Scene, plan: WindowPlan, sizes: WindowSizes) -> None:
        self.cascade, self.scene, self.plan, self.sizes = cascade, scene, plan, sizes

    def make(self, saved: Mapping[str, object] | None, engine: str, precision: str) -> list[Group]:
        """Groups of members with their engines; those of an earlier run, where it left parts."""
        groups: list[Group] = []
        names, costs = (saved or {}).get("engines"), (saved or {}).get("costs")
        for members in share_backbones(self.cascade.members):
            networks = [member.expert.network for member in members]
            # only plain torch returns the results between stages
            kind = engine if len(members) == 1 or engine != "auto" else None
            if isinstance(names, list) and isinstance(costs, list):
                shared = make_engine(networks[0], str(names[len(groups)]))
            else:
                shared = self._choose(members[0], kind, precision)
            if len(members) > 1 and isinstance(shared, TorchEngine) and can_carry(shared):
                shared = SharedBackboneEngine(networks, shared)
            parts = (
                [members] if isinstance(shared, SharedBackboneEngine) else [(member,) for member in members]
            )
            for part in parts:
                own = shared if part[0] is members[0] else make_engine(part[0].expert.network, shared.name)
                cost = tuple(costs[len(groups)]) if isinstance(costs, list) else self._costs(part[0], own)
                groups.append(Group(part, own, cost))
        return groups

    def _choose(self, member: Member, kind: str | None, precision: str) -> Engine:
        if kind is None:
            kind = "cuda" if torch.cuda.is_available() else "torch"
        trial = []
        if "auto" in (kind, precision):
            trial = read_trial(
                self.scene, plan=self.plan, standardisation=member.expert.header.standardisation
            )
        return choose_engine(
            member.expert.network, engine=kind, precision=precision, trial=trial, windows=len(self.plan)
        )[0]

    def _costs(self, member: Member, engine: Engine) -> tuple[float, ...]:
        if member.gate is None:
            return ()
        if len(self.plan) < _MEASURED_FROM:
            return guess_costs(self.sizes)
        return usual_costs(member.expert, engine, self.sizes)


def share_backbones(members: Sequence[Member]) -> list[tuple[Member, ...]]:
    """
    Group members that share a backbone with an expert above them; the order stays that of the tree.

    A member joins the group of its parent where bands and standardisation are the same and at least the encoders are
    equal.
    """
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            first = group[0].expert
            if (
                member.gate is not None
                and member.gate.parent in {item.name for item in group}
                and member.expert.header.standardisation == first.header.standardisation
                and shared_stages(first.network, member.expert.network)
            ):
                group.append(member)
                break
        else:
            groups.append([member])
    return [tuple(group) for group in groups]


def _run_strips(
    runner: CascadeRunner, scene: Scene, strips: Sequence[Strip]
) -> Generator[tuple[Strip, NDArray[np.uint8], Tally], None, None]:
    with SceneReader(scene) as reader:
        scalers = {
            member.name: Scaler(reader, member.expert.header.standardisation)
            for member in runner.cascade.members
        }
    with closing(prefetch(_read_strips(scene, strips, runner.sizes.plan), depth=1)) as reading:
        for strip, raw in reading:
            layers, tally = runner.run(strip, raw, scalers)
            yield strip, layers, tally


def _read_strips(
    scene: Scene, strips: Sequence[Strip], plan: WindowPlan
) -> Generator[tuple[Strip, NDArray[np.generic]], None, None]:
    with SceneReader(scene) as reader:
        rows = StripReader(reader, plan)
        for strip in strips:
            yield strip, rows.read(strip)


def _footprint(cascade: Cascade, scene: Scene, rules: CascadeRules) -> Footprint:
    """Whole strips are read ahead, with probabilities in float32."""
    gates = sum(len(cascade.gate_values(member)) for member in cascade.members) if rules.soft else 0
    with SceneReader(scene) as reader:
        return Footprint(
            bands=len(scene.bands),
            stored_bytes=2 * reader.stored_bytes,
            classes=max(len(member.expert.header.legend) for member in cascade.members),
            layers=5 + 3 * gates,
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
    scene: Scene,
    confidence: str | Path | None,
    levels: bool,
) -> tuple[int, tuple[ClassMap, ...]]:
    """Write the parts into the output rasters; return the number of pixels with a class and the coarser maps."""
    legend = cascade.legend
    coarser: list[ClassMap] = []
    with ExitStack() as stack:
        finest = stack.enter_context(MapWriter(out, scene.grid, legend))
        writers: list[
            tuple[CogWriter, int, NDArray[np.uint8]]
        ] = []  # layer of a part, and the value of each number
        if levels:
            for depth in range(1, legend.depth):
                path = Path(out).with_name(f"{Path(out).stem}_level{depth}{Path(out).suffix}")
                writer = stack.enter_context(MapWriter(path, scene.grid, legend.level(depth)))
                writers.append((writer, 0, legend.level_table(depth)))
                coarser.append(ClassMap(str(path), scene.grid, legend.level(depth)))
        if confidence is not None:
            scores = ScoreWriter(confidence, scene.grid, ["confidence"], scale=1.0, unit="%")
            writers.append((stack.enter_context(scores), 1, np.arange(256, dtype=np.uint8)))
        for strip in by_rows(panels):
            part = store.read(strip.number)
            finest.write(*strip.corner, part[0])
            for each, layer, table in writers:
                each.write(*strip.corner, table[part[layer]])
        check_filled(finest, scene)
        return int(finest.counts[1:].sum()), tuple(coarser)
