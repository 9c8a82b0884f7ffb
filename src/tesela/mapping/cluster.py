"""Strips of a map as tasks for Dask workers that share a file system."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from tesela.core.scene import Scene
from tesela.io.parts import PartStore, run_tasks, worker_threads
from tesela.mapping.augmentation import TestTimeAugmentation
from tesela.mapping.engines import Engine, make_engine
from tesela.mapping.pipeline import MapJob, run_strips
from tesela.mapping.windows import Strip
from tesela.models.expert import Expert, open_expert, save_expert


@dataclass(frozen=True)
class ClusterJob:
    """What each task carries: some kilobytes, because the model and the image are read from files."""

    job: MapJob
    expert: str
    """The expert's file, beside the parts."""
    engine: str
    augmentation: TestTimeAugmentation


def run_on_cluster(
    address: str,
    job: MapJob,
    strips: Sequence[Strip],
    *,
    store: PartStore,
    expert: Expert,
    engine: str,
    augmentation: TestTimeAugmentation,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips on the workers of a Dask scheduler.

    The expert is written once beside the parts. Each worker process loads it for its first strip, and keeps it. A
    task is a strip: its worker reads the strip's windows with their margins, and writes the part whole. Address,
    errors and lost workers: see `tesela.io.parts.run_tasks`.
    """
    if not strips:
        return
    model = save_expert(store.folder / "expert.safetensors", expert)
    cluster_job = ClusterJob(
        replace(job, scene=absolute_scene(job.scene)),
        str(model.resolve()),
        engine,
        augmentation,
    )
    by_number = {strip.number: strip for strip in strips}
    # sent with each task: scattered data would be lost with the workers that hold it
    work = partial(_map_strip, job=cluster_job)
    run_tasks(address, strips, work, store=store, advance=lambda number: advance(len(by_number[number].cols)))


def _map_strip(strip: Strip, store: PartStore, *, job: ClusterJob) -> None:
    """Make one part on a worker; see `run_tasks`."""
    engine = _engine(job)
    with _one_at_a_time:
        run_strips(job.job, [strip], store, engine=engine, advance=lambda _: None)


_engines: dict[tuple[str, str], Engine] = {}
_one_at_a_time = threading.Lock()
"""A network uses all threads of its worker, so its strips run one after the other."""


def _engine(job: ClusterJob) -> Engine:
    """The engine of this process, built for its first strip."""
    key = (job.expert, job.engine)
    with _one_at_a_time:
        if key not in _engines:
            torch.set_num_threads(worker_threads())
            _engines.clear()
            _engines[key] = make_engine(open_expert(job.expert).network, job.engine)
        engine = _engines[key]
    return job.augmentation.of(engine)


def absolute_scene(scene: Scene) -> Scene:
    """The scene with absolute paths, because workers run in other folders."""
    bands = tuple(
        band
        if "://" in band.path or band.path.startswith("/vsi")
        else replace(band, path=str(Path(band.path).resolve()))
        for band in scene.bands
    )
    return replace(scene, bands=bands)
