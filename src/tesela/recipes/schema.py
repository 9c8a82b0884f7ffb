"""The recipe file: its keys, their types and defaults, and how mistakes in it are reported."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tesela.core.errors import RecipeError, TeselaError
from tesela.core.legend import Legend
from tesela.core.units import parse_length_m, parse_memory_bytes
from tesela.io.legends import load_legend
from tesela.training.settings import SegmentationSettings


def _length(value: Any) -> float:
    try:
        return parse_length_m(value)
    except TeselaError as error:
        raise ValueError(str(error)) from None


def _known_legend(name: str) -> str:
    if not name.endswith(".csv") and ".csv-" not in name:
        try:
            load_legend(name)
        except TeselaError as error:
            raise ValueError(str(error)) from None
    return name


def _memory(value: Any) -> Any:
    try:
        parse_memory_bytes(value)
    except TeselaError as error:
        raise ValueError(str(error)) from None
    return value


Metres = Annotated[float, BeforeValidator(_length)]
LegendName = Annotated[str, AfterValidator(_known_legend)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneSection(_Section):
    """One ``[[scenes]]`` entry."""

    name: str
    """Short name, used for files and tables."""
    paths: list[str]
    """GeoTIFFs of the same ground whose bands follow each other."""
    bands: list[str] | None = None
    """Names of all bands in the order of the files; default: the names in the files."""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    date: str = ""
    nonfinite: Literal["error", "nodata"] = "error"
    use: Literal["train", "map", "both"] = "both"
    """Scenes to train on need reference ground; scenes to map need not."""


class ReferenceSection(_Section):
    """``[reference]``: the existing map that teaches and judges."""

    path: str
    layer: str | None = None
    field: str | None = None
    """Field with the class codes, for polygons."""
    source: str = "corine"
    """Legend in which the codes are drawn."""
    crosswalk: str | None = None
    """CSV (from, to, share), if the shipped one does not fit."""


class PatchSection(_Section):
    """``[patches]``."""

    size_px: int = Field(256, ge=32, le=4096, multiple_of=32)
    stride_px: int | None = Field(None, ge=1)
    """Step between patches; default: the size."""
    min_labelled: float = Field(0.5, ge=0, le=1)
    split: Literal["random", "region", "block", "quality"] = "block"
    block: Metres = 2000.0
    """Side of the blocks of the `block` split."""
    buffer: Metres = 0.0
    """Ground left out between blocks of different splits."""
    regions: str | None = None
    """Polygon layer of the `region` split; default: each scene is a region."""
    region_field: str | None = None
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of train, validation and test."""

    @model_validator(mode="after")
    def _fractions_add_up(self) -> PatchSection:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"fractions {list(self.fractions)} must not be negative and must sum to 1")
        return self


class MappingSection(_Section):
    """``[mapping]``."""

    window_px: int = Field(1088, ge=64)
    overlap_px: int = Field(64, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory: Annotated[str | int, AfterValidator(_memory)] = "256 MiB"
    confidence: bool = False
    entropy: bool = False
    probabilities: bool = False


class AssessmentSection(_Section):
    """``[assessment]``."""

    tiles_px: int = Field(2048, ge=64)
    ground: Literal["test", "all"] = "test"
    """Judge on the test patches only (ground that the model never saw), or on the whole map."""


class Recipe(_Section):
    """A whole recipe of the corine chain."""

    chain: Literal["corine"]
    name: str = "corine"
    out: str = "runs/corine"
    """Folder of all outputs, relative to the recipe."""
    seed: int = 0
    legend: LegendName = "corine-2"
    bands: list[str] | None = None
    """Bands that the network uses, in its order; default: all bands of the first scene."""
    scenes: list[SceneSection] = Field(min_length=1)
    reference: ReferenceSection
    patches: PatchSection = PatchSection()
    training: SegmentationSettings = SegmentationSettings()
    mapping: MappingSection = MappingSection()
    assessment: AssessmentSection = AssessmentSection()

    @model_validator(mode="after")
    def _scene_names_differ(self) -> Recipe:
        names = [scene.name for scene in self.scenes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"scene name {', '.join(twice)} stands twice; names must differ")
        return self

    def load_legend(self) -> Legend:
        """Legend of the labels and the map."""
        return load_legend(self.legend)


def load_recipe(path: str | Path) -> tuple[Recipe, Path]:
    """
    Read and check a recipe; relative paths in it are meant from its folder.

    Returns
    -------
    Recipe, Path
        The recipe and its folder.

    Raises
    ------
    RecipeError
        Lists all mistakes at once, with the nearest known key for an unknown one.
    """
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. Write one with `tesela init corine -o {path}`.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file ({error}).") from None
    return check_recipe(document, where=str(path), folder=file.resolve().parent), file.resolve().parent


def check_recipe(document: dict[str, Any], *, where: str, folder: Path | None = None) -> Recipe:
    """
    Check a recipe that was read already.

    Parameters
    ----------
    where : str
        Name of the file, for the message.
    folder : Path, optional
        Folder from which relative paths are meant; with it, files that are missing are mistakes too.

    Raises
    ------
    RecipeError
        See `load_recipe`.
    """
    mistakes: list[str] = []
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        mistakes += [_explain(dict(problem), document) for problem in error.errors()]
    if folder is not None:
        mistakes += _missing_files(document, folder)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise RecipeError(f"{where} has {count}: " + "; ".join(dict.fromkeys(mistakes)) + ".")
    return recipe


def _explain(problem: dict[str, Any], document: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    kind = str(problem["type"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"unknown key {key}" + (
            f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"
        )
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} = {problem.get('input')!r}: {message[0].lower()}{message[1:]}"


def _known_keys(location: Sequence[Any]) -> list[str]:
    """Names of the keys of the section at a location."""
    section: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(section, "model_fields", None)
        if fields is None or part not in fields:
            return []
        annotation = fields[part].annotation
        inner = [kind for kind in get_args(annotation) if isinstance(kind, type)]
        section = inner[0] if inner and not hasattr(annotation, "model_fields") else annotation
    names = getattr(section, "model_fields", None) or getattr(section, "__dataclass_fields__", {})
    return list(names)


def _missing_files(document: dict[str, Any], folder: Path) -> list[str]:
    found: list[str] = []
    scenes = document.get("scenes")
    for number, scene in enumerate(scenes if isinstance(scenes, list) else []):
        for path in scene.get("paths", []) if isinstance(scene, dict) else []:
            if (
                isinstance(path, str)
                and "://" not in path
                and not path.startswith("/vsi")
                and not (folder / path).exists()
            ):
                found.append(f"scenes.{number}.paths: no file {path}")
    reference = document.get("reference")
    if isinstance(reference, dict):
        for key in ("path", "crosswalk"):
            path = reference.get(key)
            if isinstance(path, str) and not (folder / path).exists():
                found.append(f"reference.{key}: no file {path}")
    return found
