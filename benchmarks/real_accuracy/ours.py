"""
Our rows: `train_segmentation` on patches of the split, `open_expert` and `predict_map` on the scenes that test.

A fused expert is mapped by each of its parts alone, too, and all of ours without adjustment by class frequencies.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

import tesela
from real_accuracy.sets import DataSet, LabelledScene
from real_accuracy.task import TRAIN, VAL, Clock, NotApplicable, Task, Trained
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert, open_expert, with_prior
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.patches.table import PatchTable, make_patches

MODELS = ("unet", "forest", "boosting", "auto")


Prepare = Callable[[PatchTable], PatchTable]


def our_rows(
    extra: Mapping[str, object], *, prepare: Prepare = lambda table: table
) -> dict[str, Callable[[Task, Clock], Trained]]:
    """Rows by name; `extra` are further fields of `SegmentationSettings`, `prepare` changes the patches."""
    return {f"tesela-{model}": partial(_train, model=model, extra=extra, prepare=prepare) for model in MODELS}


def _train(task: Task, clock: Clock, *, model: str, extra: Mapping[str, object], prepare: Prepare) -> Trained:
    if task.data.pixels_only and model == "unet":
        raise NotApplicable(
            "the set holds pixels without neighbours: no network of windows can learn from it"
        )
    settings = _settings(task, clock, model, extra)
    folder = tempfile.TemporaryDirectory()  # lives as long as the closure below, which maps into it
    try:
        table = prepare(make_table(task, Path(folder.name)))
        out = Path(folder.name) / "expert.safetensors"
        expert = tesela.train_segmentation(table, settings, out, quiet=True)
    except tesela.TeselaError as error:
        raise NotApplicable(f"training failed: {error}") from None

    def classify(scene: LabelledScene) -> dict[str, NDArray[np.uint8]]:
        opened, found = _open(task.data, scene, Path(folder.name)), {}
        for variant, item in variants(open_expert(out)).items():
            path = Path(folder.name) / f"{scene.name}{variant}-map.tif"
            predict_map(item, opened, path, engine="torch")
            with rasterio.open(path) as data:
                found[variant] = data.read(1)
        return found

    return Trained(
        classify, {"model": expert.header.architecture.summary, "scores": dict(expert.header.scores)}
    )


def variants(expert: Expert) -> dict[str, Expert]:
    """The expert, without its adjustment by class frequencies, and each member of a fused one by itself."""
    found = {"": expert}
    if expert.header.prior:
        found["+no prior"] = with_prior(expert, 0.0)
    if isinstance(expert.network, FusedNetwork):
        for number, plan in enumerate(expert.network.members):
            network = copy.deepcopy(expert.network)
            network.weight.zero_()[number] = 1.0
            found[f"+{'trees' if isinstance(plan, ClassTrees) else 'network'}"] = replace(
                expert, network=network
            )
    return found


def _settings(
    task: Task, clock: Clock, model: str, extra: Mapping[str, object]
) -> tesela.SegmentationSettings:
    wanted: dict[str, object] = {"model": model, "budget": f"{clock.budget_s:.0f} s", "seed": task.seed}
    if task.data.pixels_only:  # nothing for the network of "auto" to learn from
        wanted |= {"model": "boosting" if model == "auto" else model, "window_sides_px": ()}
    wanted |= extra
    missing = sorted(set(wanted) - {item.name for item in fields(tesela.SegmentationSettings)})
    if missing:
        raise NotApplicable(f"this Tesela has no training setting {', '.join(missing)}")
    try:
        return tesela.SegmentationSettings(**wanted)  # type: ignore[arg-type]
    except tesela.TeselaError as error:
        raise NotApplicable(str(error)) from None


def make_table(task: Task, folder: Path) -> tesela.patches.table.PatchTable:
    """
    Patches of train and val: each scene twice, with the labels of that split only.

    Blocks may so be smaller than patches. Patches overlap by half.
    """
    import pandas as pd

    data, tables = task.data, []
    legend = tesela.Legend(
        data.name,
        tuple(
            tesela.LandClass(value, f"c{value}", str(name), f"#{value * 9:02x}{255 - value * 9:02x}80")
            for value, name in enumerate(data.classes, 1)
        ),
    )
    for split, name in ((TRAIN, "train"), (VAL, "val")):
        scenes, labels = [], []
        for scene in data.scenes:
            mask = task.mask(scene, split)
            if mask.any():
                opened = _open(data, scene, folder)
                scenes.append(replace(opened, name=f"{scene.name}-{name}"))
                values = np.where(mask, scene.labels, 0).astype(np.uint8)
                path = folder / f"{scene.name}-{name}-labels.tif"
                labels.append(tesela.write_map(path, values, opened.grid, legend=legend))
        table = make_patches(
            scenes,
            labels,
            size_px=data.patch_px,
            stride_px=data.patch_px // 2,
            min_labelled=0.02 if data.pixels_only else 0.2,
        )
        tables.append(table.with_splits([name] * len(table)))
    first, second = tables
    frames = [first.frame, second.frame.to_crs(first.frame.crs)]
    return replace(
        first,
        frame=pd.concat(frames, ignore_index=True),
        scenes={**first.scenes, **second.scenes},
        labels={**first.labels, **second.labels},
    )


def _open(data: DataSet, scene: LabelledScene, folder: Path) -> tesela.Scene:
    """The scene as a GeoTIFF with named bands."""
    path = folder / f"{scene.name}.tif"
    if not path.exists():
        bands, rows, cols = scene.image.shape
        profile = {"driver": "GTiff", "dtype": "float32", "count": bands, "height": rows, "width": cols}
        with rasterio.open(path, "w", crs=scene.crs, transform=scene.transform, **profile) as target:
            target.write(scene.image)
            target.descriptions = data.bands
    opened = tesela.open_scene(path)
    assert isinstance(opened.grid, GeoBox)
    return opened
