"""Predict: one expert and one scene make one class map."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from tesela.core.errors import ExpertError, GridError, InputError, RecipeError, unknown_name
from tesela.core.grid import pixel_size_m
from tesela.core.legend import Legend
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
from tesela.mapping.augmentation import AUGMENTATIONS, BLENDS, Blend, TestTimeAugmentation
from tesela.mapping.cluster import run_on_cluster
from tesela.mapping.engine_benchmark import EngineBenchmark, choose_engine
from tesela.mapping.engines import Engine, make_engine
from tesela.mapping.missing_dates import select_bands
from tesela.mapping.pipeline import Layers, MapJob, run_strips
from tesela.mapping.reading import read_trial
from tesela.mapping.scene_distance import SceneDistance, check_imagery
from tesela.mapping.surroundings import Surroundings, surround
from tesela.mapping.windows import Footprint, Strip, WindowPlan, make_strips
from tesela.models.expert import Expert, with_prior

Progress = Callable[[int, int], None]
"""Called with the windows done and the windows in total."""

PIXEL_RATIO = 1.5
"""Largest ratio between the pixel sizes of a scene and of an expert's training."""


@dataclass(frozen=True)
class Prediction:
    """A map, and how it was made."""

    map: ClassMap
    engine: str
    """Engine that ran the network."""
    windows: int
    pixels: int
    """Pixels that got a class."""
    seconds: float
    resumed: int
    """Parts that an earlier run left."""
    trial: EngineBenchmark = field(default_factory=EngineBenchmark)
    """Measurements behind the choice of the engine; empty where none were made."""
    mapping_seconds: float = 0.0
    """Seconds after the engine was chosen."""
    distance: SceneDistance | None = None
    """How far the scene lies from the training imagery; None where the expert does not describe it."""


def predict_map(
    expert: Expert,
    scene: Scene,
    out: str | Path,
    *,
    window_px: int = 1088,
    overlap_px: int = 64,
    engine: str = "auto",
    precision: str = "auto",
    tta: str = "none",
    blend: str = "none",
    prior: float | None = None,
    missing_dates: str = "error",
    any_scene: bool = False,
    memory: str | int = "512 MiB",
    confidence: str | Path | None = None,
    entropy: str | Path | None = None,
    probabilities: str | Path | None = None,
    cluster: str | None = None,
    neighbours: Sequence[Scene] = (),
    progress: Progress | None = None,
) -> Prediction:
    """
    Apply an expert to a scene of any size.

    Finished parts are kept beside the output. After a crash the same call continues, and writes the same bytes.

    Parameters
    ----------
    expert : Expert
        Its bands are taken from the scene by name, in its own order.
    window_px : int
        Largest side of the windows that the network sees.
    overlap_px : int
        Pixels that two neighbouring windows share; half of it is cropped from each.
    engine : {"auto", "torch", "compile", "openvino", "cuda"}
        What runs the network; see `tesela.mapping.engine_benchmark.choose_engine`.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Number format of the network.
    tta : {"none", "d4"}
        "d4": mean probability over the eight flips and rotations of each window; eight times the work.
    blend : {"none", "hann"}
        "hann": windows that overlap by `overlap_px` are weighted by Hann's window instead of cropped. It costs
        more and is no better, see `docs/mapping.md`.
    prior : float, optional
        Strength of the logit adjustment by class frequencies, 0 for none; default: that of the training.
    any_scene : bool
        Map also a scene whose imagery cannot be of the same kind as that of the training.
    missing_dates : {"error", "gap"}
        Whether the scene may lack dates of the expert, which are gaps then; see `tesela.mapping.missing_dates`.
    memory : str or int
        Memory of the pipeline beside the network, such as "256 MiB", or bytes; see
        `tesela.mapping.windows.Footprint` for its parts.
    confidence, entropy, probabilities : path, optional
        Rasters to write in the same pass: highest probability and normalised entropy in per cent, and all
        probabilities in steps of 1/254; 255 is nodata.
    cluster : str, optional
        "local", or the address of a Dask scheduler ("tcp://host:8786") whose workers share the file system; see
        `tesela.io.parts`.
    neighbours : sequence of Scene
        Scenes beside this one, whose pixels the network sees around it; see `tesela.mapping.surroundings.surround`.
    progress : callable, optional
        Called with the windows done and the windows in total.

    Raises
    ------
    InputError
        If the scene lacks a band, has another scale than the training, cannot be read or has no data at all, or the
        output cannot be written.
    GridError
        If the scene's pixels are more than 1.5 times larger or smaller than those of the training.
    RecipeError
        If the window is too small for its margins, or an option is unknown.
    """
    started = time.perf_counter()
    if tta not in AUGMENTATIONS:
        raise RecipeError(unknown_name("augmentation", tta, AUGMENTATIONS))
    if blend not in BLENDS:
        raise RecipeError(unknown_name("blend", blend, BLENDS))
    header = expert.header
    if header.task != "segmentation":
        raise ExpertError(
            f"The expert is for {header.task}, but an expert for segmentation is needed. Use tesela unmix for it."
        )
    if overlap_px < 0:
        raise RecipeError(f"The overlap is {overlap_px} px; it is at least 0.")
    if prior is not None:
        expert = with_prior(expert, prior)
        header = expert.header
    scene = declare_fills(select_bands(scene, [header.standardisation], missing_dates=missing_dates))
    check_file_outputs([out, confidence, entropy, probabilities], inputs=[band.path for band in scene.bands])
    check_raster_names([out, confidence, entropy, probabilities])
    check_pixel_size(expert, scene)
    distance = check_imagery(header, scene, any_scene=any_scene)
    margin = max(overlap_px // 2, margin_px(expert.network))
    around = surround(scene, neighbours, margin_px=margin, out=out)
    plan = plan_windows(
        expert, around.scene, window_px=window_px, overlap_px=overlap_px, square=tta != "none"
    )
    augmentation = TestTimeAugmentation(flips=tta == "d4")
    if blend == "hann":
        multiple = stride_px(expert.network)
        blended = Blend.fit(window_px=window_px, overlap_px=overlap_px, multiple_px=multiple)
        augmentation, plan = replace(augmentation, blend=blended), blended.plan(plan.shape)
    layers = Layers(confidence is not None or entropy is not None, probabilities is not None)
    job = MapJob(around.scene, plan, header.standardisation, header.legend, layers)
    budget = parse_memory_bytes(memory)
    with PartStore(out) as store:
        chosen, trial = pick_engine(store, expert.network, job, engine=engine, precision=precision)
        chosen_at = time.perf_counter()
        panels = make_strips(plan, measure_footprint(job, batch=chosen.batch), memory=budget)
        document = describe_job(job, expert.network, panels)
        store.start(
            document
            | {"engine": chosen.name, "options": [engine, precision], "augmentation": augmentation.to_dict()}
        )
        waiting = [[strip for strip in panel if not store.has(strip.number)] for panel in panels]
        count = Counter(len(plan), sum(len(strip.cols) for panel in waiting for strip in panel), progress)
        if cluster is None:
            for panel in waiting:
                run_strips(job, panel, store, engine=augmentation.of(chosen), advance=count.advance)
        else:
            strips = [strip for panel in waiting for strip in panel]
            run_on_cluster(
                cluster,
                job,
                strips,
                store=store,
                expert=expert,
                engine=chosen.name,
                augmentation=augmentation,
                advance=count.advance,
            )
        outputs = {"confidence": confidence, "entropy": entropy, "probabilities": probabilities}
        pixels = assemble(store, panels, out, legend=job.legend, around=around, outputs=outputs)
        store.remove()
        around.remove()
    record_step(
        "predict",
        [out, confidence, entropy, probabilities],
        inputs=[expert.path, *(band.path for band in scene.bands)],
        settings={
            "model": header.architecture.summary,
            "date": scene.date,
            "engine": chosen.name,
            "tta": tta,
            "blend": blend,
            "prior": prior,
            "missing_dates": missing_dates,
            "transfer": header.training.get("transfer"),
        },
        legend=header.legend.address,
    )
    return Prediction(
        map=ClassMap(str(out), scene.grid, header.legend),
        engine=chosen.name,
        windows=len(plan),
        pixels=pixels,
        seconds=time.perf_counter() - started,
        resumed=sum(map(len, panels)) - sum(map(len, waiting)),
        trial=trial,
        mapping_seconds=time.perf_counter() - chosen_at,
        distance=distance,
    )


def plan_windows(
    expert: Expert, scene: Scene, *, window_px: int, overlap_px: int, square: bool = False
) -> WindowPlan:
    """Windows of an expert's network over a scene."""
    shape = (int(scene.grid.shape[0]), int(scene.grid.shape[1]))
    stride = stride_px(expert.network)
    margin = max(overlap_px // 2, margin_px(expert.network))
    return WindowPlan.fit(shape, window_px=window_px, margin_px=margin, multiple_px=stride, square=square)


def measure_footprint(job: MapJob, *, batch: int) -> Footprint:
    """Memory that the pipeline needs for this scene; opens its files."""
    with SceneReader(job.scene) as reader:
        return Footprint(
            bands=len(job.scene.bands),
            stored_bytes=reader.stored_bytes,
            classes=len(job.legend),
            layers=job.layers.count(job.legend),
            block_rows=reader.block_rows,
            batch=batch,
        )


def stride_px(network: torch.nn.Module) -> int:
    """The sides of a network's input must be multiples of this; 1 where the network defines none."""
    return int(getattr(network, "stride", 1))


def margin_px(network: torch.nn.Module) -> int:
    """Least margin of a network, such as half a window of trees; 0 where the network does not name one."""
    return int(getattr(network, "margin_px", 0))


def check_pixel_size(expert: Expert, scene: Scene) -> None:
    """
    Check that the scene's pixels are about as large as those of the training.

    Raises
    ------
    GridError
        If they differ by more than a factor of 1.5; the network would see other textures and shapes.
    """
    trained = expert.header.pixel_size_m
    own, height = pixel_size_m(scene.grid)
    projected = scene.grid.crs is not None and scene.grid.crs.projected  # pixels in degrees are not square
    if trained and projected and not 1 / PIXEL_RATIO <= height / own <= PIXEL_RATIO:
        raise GridError(
            f"The pixels of scene '{scene.name}' are {own:.3g} x {height:.3g} m, but the expert was trained on "
            f"{trained:.3g} m. Resample the scene to square pixels (gdalwarp -tr)."
        )
    step = trained * abs(float(scene.grid.resolution.x)) / own
    if trained and not 1 / PIXEL_RATIO <= own / trained <= PIXEL_RATIO:
        raise GridError(
            f"The pixels of scene '{scene.name}' are {own:.3g} m, but the expert was trained on {trained:.3g} m. "
            f"Resample the scene (gdalwarp -tr {step:.6g} {step:.6g} -r average), or train an expert for this "
            f"size."
        )


def pick_engine(
    store: PartStore, network: torch.nn.Module, job: MapJob, *, engine: str, precision: str
) -> tuple[Engine, EngineBenchmark]:
    """Engine of the finished parts, so that `auto` does not change engines half-way; else a new choice."""
    saved = store.saved_plan()
    if saved is not None and saved.get("options") == [engine, precision]:
        try:
            return make_engine(network, str(saved["engine"])), EngineBenchmark()
        except (KeyError, RecipeError):
            pass  # this machine lacks it; the parts of the other engine are deleted
    trial = (
        read_trial(job.scene, plan=job.plan, standardisation=job.standardisation)
        if "auto" in (engine, precision)
        else []
    )
    return choose_engine(network, engine=engine, precision=precision, trial=trial, windows=len(job.plan))


def describe_job(
    job: MapJob, network: torch.nn.Module, panels: Sequence[Sequence[Strip]]
) -> dict[str, object]:
    """Everything the parts depend on; parts made with another document are deleted."""
    return {
        "network": fingerprint_network(network),
        "legend": list(job.legend.values),
        "scaling": [job.standardisation.mean, job.standardisation.std, job.standardisation.dates],
        "scene": job.scene.to_dict(),
        "files": {path: file_state(path) for path in sorted({band.path for band in job.scene.bands})},
        "windows": [job.plan.height_px, job.plan.width_px, job.plan.margin_px],
        "layers": [job.layers.scores, job.layers.probabilities],
        "panels": [panel[0].corner[1] for panel in panels],
    }


def fingerprint_network(network: torch.nn.Module) -> str:
    """SHA-256 of a network's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()[:32]


class Counter:
    """Counts windows and reports progress."""

    def __init__(self, total: int, waiting: int, report: Progress | None) -> None:
        self.total, self.done, self.report = total, total - waiting, report
        self.advance(0)

    def advance(self, count: int) -> None:
        """Count windows that are done."""
        self.done += count
        if self.report is not None:
            self.report(self.done, self.total)


def assemble(
    store: PartStore,
    panels: Sequence[Sequence[Strip]],
    out: str | Path,
    *,
    legend: Legend,
    around: Surroundings,
    outputs: dict[str, str | Path | None],
) -> int:
    """
    Write the parts into the output rasters, without what lies around the scene.

    Returns
    -------
    int
        Pixels with a class.

    Raises
    ------
    InputError
        If there are none, or the disk is full.
    """
    grid = around.inner.grid
    with ExitStack() as stack:
        classes = stack.enter_context(MapWriter(out, grid, legend))
        writers: list[tuple[CogWriter, slice]] = []
        for layer, name in ((1, "confidence"), (2, "entropy")):
            path = outputs[name]
            if path is not None:
                one = ScoreWriter(path, grid, [name], scale=1.0, unit="%")
                writers.append((stack.enter_context(one), slice(layer, layer + 1)))
        if outputs["probabilities"] is not None:
            many = ScoreWriter(outputs["probabilities"], grid, legend.codes, scale=1 / 254, unit="1")
            writers.append((stack.enter_context(many), slice(3, 3 + len(legend))))
        for strip in by_rows(panels):
            kept = around.cut(strip.corner, store.read(strip.number))
            if kept is None:
                continue
            corner, part = kept
            classes.write(*corner, part[0])
            for writer, chosen in writers:
                writer.write(*corner, part[chosen])
        check_filled(classes, around.inner, store)
        return int(classes.counts[1:].sum())


def check_filled(classes: MapWriter, scene: Scene, store: PartStore) -> None:
    """Raise an error if no pixel has a class, and remove the parts: made again, they would be the same."""
    if not classes.counts[1:].any():
        store.remove()
        raise InputError(
            f"Scene '{scene.name}' has no pixel with data in all of its bands "
            f"({', '.join(scene.band_names)}), so there is nothing to map. Check its nodata value."
        )


def by_rows(panels: Sequence[Sequence[Strip]]) -> Iterator[Strip]:
    """Strips of all panels from the top of the scene, the best order to write rasters in."""
    for row in zip(*panels, strict=True):
        yield from row
