"""Predict: one expert and one scene make one class map."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tesela.core.errors import ExpertError, GridError, InputError
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.core.units import parse_memory_bytes
from tesela.io.cog import CogWriter
from tesela.io.manifest import fingerprint
from tesela.io.maps import ClassMap, MapWriter, ScoreWriter
from tesela.io.parts import PartStore
from tesela.mapping.engines import Engine, choose_engine, make_engine
from tesela.mapping.pipeline import (
    Layers,
    Scaling,
    Strip,
    make_strips,
    read_trial,
    run_strips,
    weights_fingerprint,
)
from tesela.mapping.windows import WindowPlan
from tesela.models.expert import Expert

Progress = Callable[[int, int], None]
"""Called with the windows done and the windows in all."""


@dataclass(frozen=True)
class Prediction:
    """A map that was made, and how."""

    map: ClassMap
    engine: str
    """Engine that ran the network."""
    windows: int
    pixels: int
    """Pixels that got a class."""
    seconds: float
    resumed: int
    """Parts that a former run had left."""


def predict_map(
    expert: Expert,
    scene: Scene,
    out: str | Path,
    *,
    window_px: int = 1088,
    overlap_px: int = 64,
    precision: str = "auto",
    memory: str | int = "256 MiB",
    confidence: str | Path | None = None,
    entropy: str | Path | None = None,
    probabilities: str | Path | None = None,
    progress: Progress | None = None,
) -> Prediction:
    r"""
    Apply an expert to a scene of any size.

    Memory beside the network is about :math:`M + 3 w^2 (4 B + 4 K)` bytes for windows of side :math:`w`, :math:`B`
    bands and :math:`K` classes, where :math:`M` is `memory`, the budget of one strip of windows: it does not grow
    with the scene. What is done is kept beside the output: after a crash the same call continues, and ends with
    the same bytes.

    Parameters
    ----------
    expert : Expert
        Its bands are taken from the scene by name, in its own order.
    window_px : int
        Largest side of the windows that the network sees.
    overlap_px : int
        Pixels that two neighbouring windows share; half of it is cropped from each.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Number format of the network; see `tesela.mapping.engines.choose_engine`.
    memory : str or int
        Budget of one strip, such as "256 MiB", or bytes.
    confidence, entropy, probabilities : path, optional
        Further rasters to write in the same pass: highest probability and normalised entropy in per cent, and all
        probabilities in steps of 1/254; 255 is nodata.

    Raises
    ------
    InputError
        If the scene lacks a band, is all nodata, or cannot be read or the output cannot be written.
    ExpertError
        If the expert is not one for segmentation.
    """
    started = time.perf_counter()
    header = expert.header
    if header.task != "segmentation":
        raise ExpertError(f"This expert is for {header.task}, not for class maps; use `tesela unmix`.")
    check_pixel_size(expert, scene)
    scene = scene.select(header.bands)
    shape = (int(scene.grid.shape[0]), int(scene.grid.shape[1]))
    plan = WindowPlan.fit(
        shape, window_px=window_px, margin_px=overlap_px // 2, multiple_px=stride_px(expert.network)
    )
    layers = Layers(scores=confidence is not None or entropy is not None, probabilities=probabilities is not None)
    scaling = Scaling(header.mean, header.std)
    bytes_per_px = len(scene.bands) * 4 + 2 * layers.count(header.legend)
    panels = make_strips(plan, bytes_per_px=bytes_per_px, memory=parse_memory_bytes(memory))
    with PartStore(out) as store:
        engine = _resume_engine(store, expert, precision=precision) or choose_engine(
            expert.network, precision=precision, trial=read_trial(scene, plan, scaling=scaling)
        )
        store.start(_plan_document(expert, scene, plan=plan, layers=layers, engine=engine, memory=memory, precision=precision))
        waiting = [tuple(strip for strip in panel if not store.has(strip.number)) for panel in panels]
        done, total = len(plan) - sum(len(s.cols) for panel in waiting for s in panel), len(plan)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        advance(0)
        for panel in waiting:
            run_strips(
                scene, panel, store, plan=plan, engine=engine, scaling=scaling, legend=header.legend, layers=layers, advance=advance
            )
        outputs = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
        pixels = _assemble(store, panels, out, grid_scene=scene, legend=header.legend, outputs=outputs)
        store.remove()
    resumed = sum(len(panel) for panel in panels) - sum(len(panel) for panel in waiting)
    return Prediction(
        map=ClassMap(str(out), scene.grid, header.legend),
        engine=engine.name,
        windows=total,
        pixels=pixels,
        seconds=time.perf_counter() - started,
        resumed=resumed,
    )


def stride_px(network: torch.nn.Module) -> int:
    """Multiple of which the sides of a network's input must be; 1 where the network does not say."""
    return int(getattr(network, "stride", 1))


def check_pixel_size(expert: Expert, scene: Scene) -> None:
    """
    Check that the scene's pixels are about as large as those the expert was trained on.

    Raises
    ------
    GridError
        If they differ by more than a factor of 1.5: the network would see other textures and shapes.
    """
    trained = expert.header.pixel_size_m
    own = pixel_side_m(scene)
    if trained and not 1 / 1.5 <= own / trained <= 1.5:
        raise GridError(
            f"The pixels of scene '{scene.name}' are {own:.3g} m, those the expert was trained on {trained:.3g} m. "
            f"Resample the scene (gdalwarp -tr {trained:g} {trained:g} -r average), or train an expert for this size."
        )


def pixel_side_m(scene: Scene) -> float:
    """Side of a pixel in metres, in the middle of the scene."""
    grid = scene.grid
    if grid.crs is not None and grid.crs.projected:
        return abs(float(grid.resolution.x))
    middle = np.deg2rad(grid.extent.centroid.coords[0][1])
    return float(abs(grid.resolution.x) * 111_320 * np.cos(middle))


def _resume_engine(store: PartStore, expert: Expert, *, precision: str) -> Engine | None:
    """Engine of the parts that are there: `auto` must not choose another one half-way."""
    saved = store.saved_plan()
    if saved is None or saved.get("precision") != precision:
        return None
    try:
        return make_engine(expert.network, str(saved["engine"]))
    except (KeyError, RuntimeError):
        return None


def _plan_document(
    expert: Expert,
    scene: Scene,
    *,
    plan: WindowPlan,
    layers: Layers,
    engine: Engine,
    memory: str | int,
    precision: str,
) -> dict[str, object]:
    """What the parts depend on; parts of another document are thrown away."""
    return {
        "expert": weights_fingerprint({name: tensor.numpy() for name, tensor in expert.network.state_dict().items()}),
        "legend": [item.value for item in expert.header.legend.classes],
        "scaling": [list(expert.header.mean), list(expert.header.std)],
        "scene": scene.to_dict(),
        "files": {path: fingerprint(path) for path in sorted({band.path for band in scene.bands})},
        "windows": [plan.height_px, plan.width_px, plan.margin_px],
        "layers": [layers.scores, layers.probabilities],
        "engine": engine.name,
        "precision": precision,
        "memory": str(memory),
    }


def _assemble(
    store: PartStore,
    panels: Sequence[Sequence[Strip]],
    out: str | Path,
    *,
    grid_scene: Scene,
    legend: Legend,
    outputs: dict[str, str | Path | None],
) -> int:
    """Write the parts into the output rasters; returns the number of pixels with a class."""
    grid = grid_scene.grid
    with ExitStack() as stack:
        classes = stack.enter_context(MapWriter(out, grid, legend))
        scores: list[tuple[CogWriter, slice]] = []
        for layer, name in ((1, "confidence"), (2, "entropy")):
            path = outputs[name]
            if path is not None:
                writer = ScoreWriter(path, grid, [name], scale=1.0, unit="%")
                scores.append((stack.enter_context(writer), slice(layer, layer + 1)))
        if outputs["probabilities"] is not None:
            many = ScoreWriter(outputs["probabilities"], grid, legend.codes, scale=1 / 254, unit="1")
            scores.append((stack.enter_context(many), slice(3, 3 + len(legend))))
        for strip in _by_rows(panels):
            part = store.read(strip.number)
            row, col = strip.rows.keep_start, strip.cols[0].keep_start
            classes.write(row, col, part[0])
            for writer, chosen in scores:
                writer.write(row, col, part[chosen])
        pixels = int(classes.counts[1:].sum())
        if not pixels:
            raise InputError(
                f"Scene '{grid_scene.name}' holds no pixel with data in all of its bands "
                f"({', '.join(grid_scene.band_names)}), so there is nothing to map. Check its nodata value."
            )
    return pixels


def _by_rows(panels: Sequence[Sequence[Strip]]) -> Iterator[Strip]:
    for row in zip(*panels, strict=True):
        yield from row
