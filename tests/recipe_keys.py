"""All keys of the recipes, what a change of each changes, and which of them a run reads."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from tesela.chains.run import Chain, build_chain
from tesela.recipes.schema import Recipe, check_recipe
from tesela.recipes.sections import Metres, Section, SquareMetres

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """A key of a recipe; a section of which there are several is a list in the document."""

    path: Path_
    kind: Any
    lists: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        return ".".join(self.path)


def all_keys(model: type, path: Path_ = (), lists: frozenset[str] = frozenset()) -> Iterator[Key]:
    """Keys of a model and of all its sections, dataclasses of settings too."""
    for name, kind in get_type_hints(model, include_extras=True).items():
        if name.startswith("_") or "ClassVar" in str(kind):
            continue
        here = (*path, name)
        section = section_of(kind)
        if section is None:
            yield Key(here, kind, lists)
        else:
            listed = lists | {name} if is_list(kind) else lists
            yield from all_keys(section, here, listed)


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The kinds inside optional, annotated and listed ones."""
    if get_origin(kind) in (Annotated, Union, types.UnionType, list):
        inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
        return tuple(part for item in inner for part in parts_of(item))
    return (kind,)


def section_of(kind: Any) -> type | None:
    """The section that a key holds."""
    for part in parts_of(kind):
        if isinstance(part, type) and (is_dataclass(part) or issubclass(part, Section)):
            return part
    return None


def is_list(kind: Any) -> bool:
    return get_origin(kind) is list


OTHER: dict[str, Any] = {
    "name": "other",
    "out": "elsewhere",
    "date": "2020",
    "layer": "other",
    "field": "OTHER",
    "region_field": "OTHER",
    "source": "esa-worldcover",
    "encoder": "resnet18",
    "budget": "3 min",
    "window_sides_px": [3, 9],
    "prior": 0.5,
    "training.trees": 40,
    "quality_weights": [1.0, 0.5, 0.25],
    "weights": "weights.safetensors",
    "cluster": "local",
    "parent": "middle",
    "ancillary": "none",
    "memory": "100 MiB",
    "devices": 2,
    "legend": "corine-1",
    "experts.legend": "tree-cover",
    "path": "other.gpkg",
    "cube.path": "other.zarr",
    "reference": "other.gpkg",
    "outlines": "other.gpkg",
    "outline": "other.gpkg",
    "zone": 31,
    "regions": "other.gpkg",
    "assign": {"a": "train"},
    "reference.years": [2016, 2018],
    "open_percent": 5.0,
    "canopy.paths": ["other.tif"],
    "canopy.roofs": ["water"],
    "crosswalk": "crosswalk.csv",
    "reviewed": "reviewed.parquet",
    "dem": "other.tif",
    "series": "other.zarr",
    "msmtu": "other.zarr",
    "split.published": False,
    "band_quality": [0, 7],
    "quality.cloud": [0],
    "mapping.prior": True,
    "mapping.join": "EPSG:25830",
    "layers": {"other": "other.tif"},
    "paths": ["other.tif"],
    "scenes.dates": ["april"],
    "derive": ["slope", "position"],
    "modis": ["other.tif"],
    "bands": ["B04"],
    "species": ["24"],
    "experts.classes": ["forest", "water"],
    "imbalance": ["sampling"],
    "fractions": [0.5, 0.25, 0.25],
    "months": ["2012-01", "2012-12"],
    "split.block": ["9 km", "9 km"],
    "pretraining.scenes": ["other.tif"],
    "size_px": 288,
    "stride_px": 64,
    "experts.epochs": 7,
    "scale": 0.5,
    "offset": 0.5,
    "nodata": 7,
    "reference.shift": "auto",
    "training.windows": [3, 7],
    "stack.files": ["other.tif"],
    "stack.dates": ["2010-01..2010-12"],
    "stack.mask": ["SCL=3"],
    "stack.bands": ["red"],
    "stack.grid": "other.tif",
}
"""Another valid value, by the end of the key's path: the longest that fits counts."""


def other_value(key: Key, value: Any) -> Any:
    """Another valid value of a key than its present one: from the table, else by its kind."""
    if key.text == "training.members" and value == ():  # that of class maps is a number
        return ["mlp", "forest"]
    if key.text == "training.model" and value == "auto":
        return "boosting"  # of class maps and of abundances
    for start in range(len(key.path)):
        text = ".".join(key.path[start:])
        if text in OTHER:
            return OTHER[text]
    for part in parts_of(key.kind):
        if get_origin(part) is Literal:
            return next(option for option in get_args(part) if option != value)
    if key.kind in (SquareMetres, SquareMetres | None):
        return "25 ha"
    if key.kind in (Metres, Metres | None):
        return "1234 m"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.1
    raise AssertionError(f"{key.text}: no other value is known; add one to OTHER")


def get(recipe: Any, path: Path_) -> Any:
    """Present value of a key; of the last entry, where there are several."""
    for name in path:
        recipe = recipe[-1] if isinstance(recipe, list) else recipe
        recipe = getattr(recipe, name)
    return recipe


def put(document: Mapping[str, Any], key: Path_, value: Any) -> dict[str, Any]:
    """The document with another value of a key; of the last entry, where there are several."""
    changed: Any = deepcopy(dict(document))
    section = changed
    for name in key[:-1]:
        section = section[-1] if isinstance(section, list) else section
        section = section.setdefault(name, {})
    section = section[-1] if isinstance(section, list) else section
    section[key[-1]] = value
    return changed  # type: ignore[no-any-return]


def work_of(document: Mapping[str, Any], folder: Path) -> list[Any]:
    """All that the stages of a recipe depend on, as their manifests hold it."""
    recipe = check_recipe(dict(document), where="recipe", folder=folder)
    stages = build_chain(recipe, folder, quiet=True).stages
    return [
        [
            stage.name,
            os.path.relpath(stage.folder, folder),
            json.loads(json.dumps(stage.settings, default=str)),
            sorted(os.path.relpath(path, folder) for path in stage.inputs()),
            stage.legend,
            stage.seed,
        ]
        for stage in stages
    ]


@contextmanager
def recorded_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str]]]:
    """Collect which keys of which sections a chain reads inside the block; a read by a check does not count."""
    reads: set[tuple[str, str]] = set()
    recipes: list[Recipe] = []
    plain = Section.__getattribute__

    def record(self: Section, name: str) -> Any:
        if recipes and name in type(self).__pydantic_fields__:
            reads.add((type(self).__name__, name))
        return plain(self, name)

    def build(recipe: Recipe, folder: Path, *, quiet: bool) -> Chain:
        recipes.append(recipe)
        return build_chain(recipe, folder, quiet=quiet)

    with monkeypatch.context() as patch:
        patch.setattr(Section, "__getattribute__", record)
        patch.setattr("tesela.chains.run.build_chain", build)
        yield reads


def keys_by_section(model: type[Recipe]) -> set[tuple[str, str]]:
    """All keys of a recipe by the name of their section; those of settings are not of a section."""
    pairs, waiting = set(), [model]
    while waiting:
        section = waiting.pop()
        for name, kind in get_type_hints(section, include_extras=True).items():
            if name in section.__pydantic_fields__:
                pairs.add((section.__name__, name))
                inner = section_of(kind)
                if inner is not None and issubclass(inner, Section):
                    waiting.append(inner)
    return pairs
