"""The job of a cascade: its strips one after the other here, or as tasks for Dask workers that share a file system."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.scene import Scene
from tesela.io.manifest import write_text
from tesela.io.parts import PartStore, run_tasks, worker_threads
from tesela.io.scenes import SceneReader
from tesela.mapping.augmentation import TestTimeAugmentation
from tesela.mapping.cascade import FILE, Cascade, open_cascade
from tesela.mapping.cascade_groups import GroupChoice
from tesela.mapping.cascade_runner import CascadeLayers, CascadeRules, CascadeRunner
from tesela.mapping.cluster import absolute_scene
from tesela.mapping.reading import StripReader, prefetch
from tesela.mapping.window_cover import WindowSizes
from tesela.mapping.windows import Strip
from tesela.models.expert import save_expert


@dataclass(frozen=True)
class CascadeJob:
    """Everything the parts of a cascade's map depend on, except the networks."""

    scene: Scene
    sizes: WindowSizes
    rules: CascadeRules
    layers: CascadeLayers
    augmentation: TestTimeAugmentation
    options: tuple[str, str]
    """Engine and precision that were asked for."""
    made: Mapping[str, object]
    """Engines and costs of the groups, as `GroupChoice.make` takes them."""

    def runner(self, cascade: Cascade) -> CascadeRunner:
        """Runner with the engines and costs of the job."""
        choice = GroupChoice(
            cascade, self.scene, plan=self.sizes.plan, sizes=self.sizes, augmentation=self.augmentation
        )
        groups = choice.make(self.made, *self.options)
        return CascadeRunner(cascade, groups, sizes=self.sizes, rules=self.rules, layers=self.layers)


@dataclass(frozen=True)
class _Task:
    """What each task carries: some kilobytes, because the experts and the image are read from files."""

    job: CascadeJob
    cascade: str
    """Its file, beside the parts of the map."""


def map_strips(
    runner: CascadeRunner,
    scene: Scene,
    strips: Sequence[Strip],
    *,
    store: PartStore,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips, of one panel from the top, and put them into the store with their tallies.

    Parameters
    ----------
    advance : callable of int
        Called with the number of windows that are done.
    """
    with SceneReader(scene) as reader:
        scalers = runner.scalers(reader)
    with closing(prefetch(_read_strips(scene, strips, runner.sizes), depth=1)) as reading:
        for strip, raw in reading:
            layers, tally = runner.run(strip, raw, scalers)
            store.note(strip.number, tally.to_dict())
            store.write(strip.number, layers)
            advance(len(strip.cols))


def map_on_cluster(
    address: str,
    job: CascadeJob,
    strips: Sequence[Strip],
    *,
    cascade: Cascade,
    store: PartStore,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips on the workers of a Dask scheduler; see `tesela.mapping.cluster.run_on_cluster`.

    The cascade is written once beside the parts; each worker process opens it for its first strip, and keeps it.
    """
    if not strips:
        return
    file = save_cascade(store.folder / "cascade", cascade)
    task = _Task(replace(job, scene=absolute_scene(job.scene)), str(file.resolve()))
    by_number = {strip.number: strip for strip in strips}
    run_tasks(
        address,
        strips,
        partial(_map_strip, task=task),
        store=store,
        advance=lambda number: advance(len(by_number[number].cols)),
    )


def save_cascade(folder: Path, cascade: Cascade) -> Path:
    """Write a cascade and its experts into a folder; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"name = {json.dumps(cascade.name)}"]
    for number, member in enumerate(cascade.members):
        path = save_expert(folder / f"expert{number}.safetensors", member.expert)
        lines += ["", "[[experts]]", f"path = {json.dumps(path.name)}", f"name = {json.dumps(member.name)}"]
        if member.gate is not None:
            lines += [
                f"parent = {json.dumps(member.gate.parent)}",
                f"classes = {json.dumps(list(member.gate.classes))}",
                f"min_confidence = {member.gate.min_confidence!r}",
            ]
    return write_text(folder / FILE, "\n".join(lines) + "\n")


def _map_strip(strip: Strip, store: PartStore, *, task: _Task) -> None:
    """Make one part on a worker; see `run_tasks`."""
    with _one_at_a_time:
        map_strips(_runner(task), task.job.scene, [strip], store=store, advance=lambda _: None)


_runners: dict[str, CascadeRunner] = {}
_one_at_a_time = threading.Lock()
"""Networks use all threads of their worker, so its strips run one after the other."""


def _runner(task: _Task) -> CascadeRunner:
    """The runner of this process, built for its first strip of a map."""
    if task.cascade not in _runners:
        torch.set_num_threads(worker_threads())
        _runners.clear()
        _runners[task.cascade] = task.job.runner(open_cascade(task.cascade))
    return _runners[task.cascade]


def _read_strips(
    scene: Scene, strips: Sequence[Strip], sizes: WindowSizes
) -> Generator[tuple[Strip, NDArray[np.generic]], None, None]:
    with SceneReader(scene) as reader:
        rows = StripReader(reader, sizes.plan)
        for strip in strips:
            yield strip, rows.read(strip)
