"""What a recipe starts from and what it takes: inputs are opened, nothing is read through or written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError
from tesela.core.grid import crs_text, pixel_size_m
from tesela.core.machine import memory_bytes
from tesela.core.scene import Scene
from tesela.core.units import parse_duration_s, parse_memory_bytes
from tesela.io.raster import grid_of, open_dataset
from tesela.io.vector import is_vector, open_layer
from tesela.labels.polygons import choose_field
from tesela.recipes.first_recipe import fitting_patches
from tesela.recipes.sections import PatchSection

CPU_S = {
    "label": (1.0, 0.1),
    "patches": (1.0, 0.3),
    "map": (1.0, 2.1),
    "assess": (1.0, 0.7),
}
"""Processor seconds of a stage: of its start, and of a million pixels with trees and a network joined; measured by
`benchmarks/dry_run.py`."""

BASE_BYTES = 1_500_000_000
"""Memory of a run of a small scene: libraries and a network."""

_SHOWN = 10
"""Inputs that are listed where there are many."""

_FEW = 20
"""Fewer patches to train on are noted."""


@dataclass(frozen=True)
class Preview:
    """What a run starts from, and what its stages will take."""

    inputs: tuple[tuple[str, str], ...]
    """Name and facts of each input, and the patches expected."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor seconds by stage, roughly; a stage without an estimate is not in it."""
    memory_bytes: int | None = None
    """Memory of the largest stage, roughly."""

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each input, and the memory."""
        rows = [*self.inputs[:_SHOWN], *self.inputs[-1:]] if len(self.inputs) > 2 * _SHOWN else [*self.inputs]
        if len(rows) < len(self.inputs):
            rows.insert(_SHOWN, ("...", f"{len(self.inputs) - _SHOWN - 1} more scenes and references"))
        if self.memory_bytes is not None:
            there = memory_bytes() / 2**30
            rows.append(("memory", f"about {self.memory_bytes / 2**30:.1f} of {there:.1f} GiB"))
        wide = max((len(name) for name, _ in rows), default=0)
        return tuple(f"{name:<{wide}}  {text}" for name, text in rows)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"inputs": [list(row) for row in self.inputs], "memory_bytes": self.memory_bytes}


def scene_facts(scene: Scene) -> str:
    """Size, bands and coordinate system of a scene in one line."""
    return f"{grid_facts(scene.grid)}, {len(scene.bands)} band{'s' if len(scene.bands) > 1 else ''}"


def grid_facts(grid: GeoBox) -> str:
    """Size, pixels and coordinate system of a grid in one line."""
    rows, cols = (int(side) for side in grid.shape)
    return f"{cols:,} x {rows:,} px of {pixel_size_m(grid)[0]:.4g} m, {crs_text(grid)}"


def reference_facts(path: str, *, field: str | None, layer: str | None) -> str:
    """
    Kind and size of a reference in one line.

    Raises
    ------
    GridError, InputError
        If it cannot be opened, or has no such layer or field.
    """
    if is_vector(path):
        opened = open_layer(path, layer=layer, field=field)
        opened.require_features()
        where = f" of the layer {opened.layer}" if opened.layer else ""
        return f"{opened.count:,} polygon{'' if opened.count == 1 else 's'}{where}, field {choose_field(opened, field)}"
    with open_dataset(path) as data:
        return f"raster, {grid_facts(grid_of(data))}"


def preview_scenes(
    scenes: Mapping[str, Scene],
    references: Mapping[str, str],
    *,
    trained: Iterable[str],
    mapped: Iterable[str],
    patches: PatchSection,
    budgets: Mapping[str, str],
    experts: int = 1,
    memory: str | int = "256 MiB",
) -> Preview:
    """
    Preview of a chain that maps scenes.

    Parameters
    ----------
    scenes : mapping of Scene
        By name.
    references : mapping of str
        Facts of each reference, by its name.
    trained, mapped : names of scenes
    budgets : mapping of str
        Budget of each training stage; empty for none.
    experts : int
        Trained for the map.
    memory : str or int
        Of the mapping.
    """
    used, shown = list(trained), list(mapped)
    counts = {name: most_patches(scenes[name].grid, patches) for name in used}
    most, train = sum(counts.values()), math.floor(sum(counts.values()) * patches.fractions[0])
    text = f"at most {most:,} of {patches.size_px} px, about {train:,} to train"
    if train < _FEW:
        text += f"; few: {_smaller(scenes, used, patches)}"
    million = {name: scene.grid.shape[0] * scene.grid.shape[1] / 1e6 for name, scene in scenes.items()}
    inside = {
        "label": sum(million.values()),
        "patches": sum(million[name] for name in used),
        "map": experts * sum(million[name] for name in shown),
        "assess": sum(million[name] for name in shown),
    }
    seconds = {stage: CPU_S[stage][0] + CPU_S[stage][1] * size for stage, size in inside.items()}
    seconds |= {stage: parse_duration_s(text) for stage, text in budgets.items() if text}
    bands = max((len(scenes[name].bands) for name in used), default=0)
    kept = most * patches.size_px**2 * (4 * bands + 1)
    kept = kept if kept <= memory_bytes() / 3 else 0  # else they are read from the disk as they are needed
    largest = BASE_BYTES + max(kept, parse_memory_bytes(memory))
    inputs = (*((f"scene {name}", scene_facts(scene)) for name, scene in scenes.items()), *references.items())
    return Preview((*inputs, ("patches", text)), seconds, largest)


def most_patches(grid: GeoBox, patches: PatchSection) -> int:
    """
    Patches of a scene if all of them are labelled.

    Raises
    ------
    GridError
        If the scene is smaller than a patch.
    """
    rows, cols = (int(side) for side in grid.shape)
    size, stride = patches.size_px, patches.stride_px or patches.size_px
    if min(rows, cols) < size:
        raise GridError(
            f"A scene of {cols} x {rows} px is smaller than a patch of {size} px; take smaller patches (size_px)."
        )
    return ((rows - size) // stride + 1) * ((cols - size) // stride + 1)


def _smaller(scenes: Mapping[str, Scene], used: Sequence[str], patches: PatchSection) -> str:
    size, block_m = fitting_patches([scenes[name].grid for name in used])
    if size >= patches.size_px:
        return "more scenes, or a smaller stride_px, give more"
    return f'size_px = {size} and block = "{block_m} m" give more'
