"""Sections that the recipes of several chains share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from tesela.core.errors import TeselaError
from tesela.core.units import parse_area_m2, parse_length_m, parse_memory_bytes
from tesela.io.legends import load_legend


def _length(value: Any) -> float:
    try:
        return parse_length_m(value)
    except TeselaError as error:
        raise ValueError(str(error)) from None


def _area(value: Any) -> float:
    try:
        return parse_area_m2(value)
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


def _existing(path: str, info: ValidationInfo) -> str:
    folder = info.context["folder"] if info.context else None
    remote = "://" in path or path.startswith("/vsi")
    if folder is not None and not remote and not (folder / path).exists():
        raise ValueError(f"no file {path}")
    return path


Metres = Annotated[float, BeforeValidator(_length)]
"""A length with its unit, such as "5 km"."""
SquareMetres = Annotated[float, BeforeValidator(_area)]
"""An area with its unit, such as "25 ha"."""
LegendName = Annotated[str, AfterValidator(_known_legend)]
"""A shipped legend, or a CSV."""
Memory = Annotated[str | int, AfterValidator(_memory)]
"""An amount of memory with its unit, such as "256 MiB"."""
InputFile = Annotated[str, AfterValidator(_existing)]
"""A file or folder, from the recipe's folder; one that is missing is a mistake, where that folder is known."""


class Section(BaseModel):
    """Keys that are all known; an unknown one is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneSection(Section):
    """One ``[[scenes]]`` entry."""

    name: str
    """Short name, used for files and tables."""
    paths: list[InputFile]
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


class ReferenceSection(Section):
    """``[reference]``: the existing map that teaches and judges."""

    path: InputFile
    layer: str | None = None
    field: str | None = None
    """Field with the class codes, for polygons."""
    source: str = "corine"
    """Legend in which the codes are drawn."""
    crosswalk: InputFile | None = None
    """CSV (from, to, share), if the shipped one does not fit."""


class PatchSection(Section):
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
    regions: InputFile | None = None
    """Polygon layer of the `region` split; default: each scene is a region."""
    region_field: str | None = None
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of train, validation and test."""

    @model_validator(mode="after")
    def _fractions_add_up(self) -> PatchSection:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"fractions {list(self.fractions)} must not be negative and must sum to 1")
        return self


class MappingSection(Section):
    """``[mapping]``."""

    window_px: int = Field(1088, ge=64)
    overlap_px: int = Field(64, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory: Memory = "256 MiB"
    confidence: bool = False
    entropy: bool = False
    probabilities: bool = False


class AssessmentSection(Section):
    """``[assessment]``."""

    tiles_px: int = Field(2048, ge=64)
    ground: Literal["test", "all"] = "test"
    """Judge on the test patches only (ground that the model never saw), or on the whole map."""
