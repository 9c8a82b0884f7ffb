"""Sections that the recipes of several chains share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from odc.geo.crs import CRS
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import TeselaError, join_words
from tesela.core.file_names import check_file_name
from tesela.core.legend import Legend
from tesela.core.units import parse_area_m2, parse_length_m, parse_memory_bytes
from tesela.io.addresses import archive_of, check_no_secret, in_folder, is_address
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.vector.address import DATABASE, local_file, parse_address


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


def _memory(value: Any) -> Any:
    try:
        parse_memory_bytes(value)
    except TeselaError as error:
        raise ValueError(str(error)) from None
    return value


def recipe_folder(info: ValidationInfo) -> Path | None:
    """Folder of the recipe that is validated; None where it is checked without one."""
    return info.context["folder"] if info.context else None


def _existing(path: str, info: ValidationInfo) -> str:
    folder = recipe_folder(info)
    if is_address(path):
        raise ValueError(f"{path} is not a local file; this key reads local files, copy it first")
    if folder is not None and not (folder / path).exists():
        raise ValueError(f"no file {path}")
    return path


def _existing_or_address(path: str, info: ValidationInfo) -> str:
    folder = recipe_folder(info)
    try:
        check_no_secret(path, kept=True)
        if path.startswith((*DATABASE, "PG:")):
            parse_address(path)
    except TeselaError as error:
        raise ValueError(str(error).rstrip(".")) from None
    found = in_folder(folder or Path(), path)
    if folder is not None and (not is_address(path) or archive_of(found)) and not local_file(found).exists():
        raise ValueError(f"no file {local_file(path)}")
    return path


def input_content(name: str, folder: Path, *, layer: str | None = None) -> str | Path:
    """What counts as the content of an input: a file, also one of a server, or a table of a database."""
    found = in_folder(folder, name)
    if not is_address(name):
        return local_file(found)  # without |layername=
    named = layer is not None and name.startswith(DATABASE) and "|layername=" not in name
    return f"{found}|layername={layer}" if named else found


def legend_file(name: str) -> str | None:
    """
    Path of the CSV that a legend's name gives, without its level; None for a shipped legend.

    Examples
    --------
    >>> legend_file("mine.csv-2"), legend_file("corine-2")
    ('mine.csv', None)
    """
    match = re.fullmatch(r"(.+\.csv)(-[1-9])?", name)
    return match[1] if match else None


def read_legend(name: str, folder: Path | None) -> Legend:
    """
    Legend that a recipe names: a shipped one, or a CSV whose path is relative to the recipe's folder.

    Raises
    ------
    LegendError
        If there is no such legend.
    """
    return open_legend(_in_folder(name, folder))


def _in_folder(name: str, folder: Path | None) -> str:
    return str(folder / name) if folder is not None and legend_file(name) else name


def _known_legend(name: str, info: ValidationInfo) -> str:
    folder, file = recipe_folder(info), legend_file(name)
    if file is not None:
        _existing(file, info)
    if file is None or folder is not None:
        try:
            read_legend(name, folder)
        except TeselaError as error:
            raise ValueError(str(error)) from None
    return name


def _file_name(name: str) -> str:
    try:
        return check_file_name(name, what="The name")
    except TeselaError as error:
        raise ValueError(str(error)) from None


def _joined_crs(name: str) -> str:
    if name not in ("none", "auto"):
        try:
            CRS(name)
        except Exception:  # noqa: BLE001 - odc and pyproj raise several kinds
            raise ValueError(f"'{name}' is neither none, auto nor a CRS such as \"EPSG:25830\"") from None
    return name


def _source(name: str, info: ValidationInfo) -> str:
    return _known_legend(name, info) if legend_file(name) else name


def _without_seed(value: Any) -> Any:
    if isinstance(value, dict) and "seed" in value:
        raise ValueError(
            "seed: the seed of the training is that of the recipe; set it at the top of the file"
        )
    return value


FileName = Annotated[str, AfterValidator(_file_name)]
"""A name that becomes the name of files and folders."""
Metres = Annotated[float, BeforeValidator(_length)]
"""A length with its unit, such as "5 km"."""
SquareMetres = Annotated[float, BeforeValidator(_area)]
"""An area with its unit, such as "25 ha"."""
LegendName = Annotated[str, AfterValidator(_known_legend)]
"""A shipped legend, or a CSV in the recipe's folder."""
SourceName = Annotated[str, AfterValidator(_source)]
"""Legend of a reference's codes: a shipped one, a CSV, or any text where a crosswalk is given."""
Memory = Annotated[str | int, AfterValidator(_memory)]
"""An amount of memory with its unit, such as "256 MiB"."""
InputFile = Annotated[str, AfterValidator(_existing)]
"""A local file or folder, relative to the recipe's folder. A missing one is a mistake where that folder is given."""
InputAddress = Annotated[str, AfterValidator(_existing_or_address)]
"""A local file, or an address: https://..., a file of a zip or another one of GDAL's file systems, and for polygons a
database. What is local is relative to the recipe's folder; no address holds a password or key."""
JoinedCrs = Annotated[str, AfterValidator(_joined_crs)]
"""CRS of a joined map, or "none" or "auto"."""
NoSeed = BeforeValidator(_without_seed)
"""For settings of a training, whose seed is that of the recipe."""


class Section(BaseModel):
    """Keys of one table of a recipe; an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SceneSection(Section):
    """One ``[[scenes]]`` entry."""

    name: FileName
    """Short name, used for files and tables."""
    paths: list[InputAddress] = Field(min_length=1)
    """GeoTIFFs of the same area, or their addresses. The bands of the files follow each other."""
    bands: list[str] | None = None
    """Names of all bands in the order of the files; default: the names in the files. With `dates` those of one file."""
    dates: list[str] | None = Field(None, min_length=1)
    """Date of each file, such as "2018-04-11" or "april", which is put behind the names of its bands."""
    scale: float | None = None
    offset: float | None = None
    nodata: Annotated[float, AllowInfNan(True)] | None = None
    date: str = ""
    invalid: Literal["error", "nodata"] = "error"
    use: Literal["train", "map", "both"] = "both"
    """Scenes to train on need a reference; scenes to map do not."""
    reference: InputAddress | None = None
    """Reference of this scene, where it is another file than that of ``[reference]``."""
    outline: InputAddress | None = None
    """Polygon of the scene's own area, which ends its part of the joined map; of several, the one with its name."""
    zone: int | None = Field(None, ge=1, le=60)
    """UTM zone in which its files must be."""


class LayerSection(Section):
    """One ``[[layers]]`` entry: further bands of all scenes."""

    name: str
    """Short name, for messages; of heights and of a raster of one band also the name of the band."""
    paths: list[InputFile] = Field(min_length=1)
    """Rasters in any CRS that together cover the scenes, such as the sheets of an elevation model."""
    kind: Literal["elevation", "height", "raster"]
    """Elevation, heights above the ground (nDSM), or any other raster."""
    derive: list[Literal["altitude", "slope", "aspect", "position"]] = Field(
        ["altitude", "slope", "aspect", "position"], min_length=1
    )
    """Bands that are derived from elevation; the aspect as sine and cosine."""
    neighbourhood: Metres = 1000.0
    """Side of the square with whose mean elevation "position" compares."""
    bands: list[str] | None = Field(None, min_length=1)
    """Names of the bands of a raster, in the order of the file; default: one band with the name of the layer."""
    resampling: Literal["average", "nearest"] = "average"
    """Average the pixels of a raster, or interpolate larger ones; or take the nearest one, for classes."""

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> LayerSection:
        kinds = {
            "derive": "elevation",
            "neighbourhood": "elevation",
            "bands": "raster",
            "resampling": "raster",
        }
        given = self.model_fields_set
        strange = [key for key, kind in kinds.items() if key in given and kind != self.kind]
        if strange:
            raise ValueError(f"{join_words(strange)}: not for kind = '{self.kind}'; leave it out")
        if "neighbourhood" in given and "position" not in self.derive:
            raise ValueError("neighbourhood: only position has one, and derive lacks it; leave it out")
        if self.neighbourhood <= 0:
            raise ValueError("neighbourhood: must be more than 0 m")
        if len(set(self.derive)) < len(self.derive):
            raise ValueError(f"derive: names {join_words(self.derive)}, each one may stand once")
        return self


class ReferenceSection(Section):
    """``[reference]``: the existing map to train on and to compare with."""

    path: InputAddress
    layer: str | None = None
    field: str | None = None
    """Field with the class codes, for polygons."""
    source: SourceName = "corine"
    """Legend of the codes."""
    crosswalk: InputFile | None = None
    """CSV (from, to, share), if the shipped one does not fit."""

    @model_validator(mode="after")
    def _source_has_a_crosswalk(self) -> ReferenceSection:
        if self.crosswalk is None and legend_file(self.source) is None:
            try:
                open_legend(self.source)
            except TeselaError as error:
                raise ValueError(f"source: {error} Or name a crosswalk.") from None
        return self

    def open_crosswalk(self, legend: Legend, folder: Path | None) -> Crosswalk | None:
        """
        Crosswalk from the codes to a legend, where the recipe names a CSV.

        Raises
        ------
        LegendError
            If the CSV is wrong, or does not lead to this legend.
        """
        if self.crosswalk is None:
            return None
        path = self.crosswalk if folder is None else folder / self.crosswalk
        return open_crosswalk(self.source, legend, path=path)

    def check_crosswalk(self, legend: str, folder: Path | None) -> None:
        """
        Check that the crosswalk leads to a legend, if the folder of the recipe is given.

        Raises
        ------
        ValueError
            If it does not, or there is no such legend.
        """
        if folder is not None:
            try:
                self.open_crosswalk(read_legend(legend, folder), folder)
            except TeselaError as error:
                raise ValueError(f"reference.crosswalk: {error}") from None

    def source_in(self, folder: Path) -> str:
        """Legend of the codes; a CSV with its whole path."""
        return _in_folder(self.source, folder)

    def files(self, folder: Path) -> list[str | Path]:
        """Files and addresses that the labels depend on."""
        tables = (self.crosswalk, legend_file(self.source))
        return [
            input_content(self.path, folder, layer=self.layer),
            *(folder / name for name in tables if name is not None),
        ]


class CorrectionSection(Section):
    """One ``[[corrections]]`` entry: reviewed polygons whose class replaces that of the labels."""

    path: InputAddress
    """Polygons in any CRS, or a queue with the decisions of its reviewers."""
    layer: str | None = None
    field: str | None = None
    """Field with the class codes; a polygon without one corrects nothing."""
    source: SourceName | None = None
    """Legend of the codes; default: the classes of the map if they have all codes, else the codes of the reference."""

    def source_in(self, folder: Path) -> str:
        """Legend of the codes; a CSV with its whole path."""
        assert self.source is not None
        return _in_folder(self.source, folder)

    def tables(self, folder: Path) -> list[Path]:
        """Legend of the codes, where it is a CSV."""
        table = None if self.source is None else legend_file(self.source)
        return [] if table is None else [folder / table]


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
    """Distance left out between blocks of different splits."""
    regions: InputAddress | None = None
    """Polygon layer of the `region` split; default: each scene is a region."""
    region_field: str | None = None
    assign: dict[str, Literal["train", "val", "test", "none"]] | None = Field(None, min_length=1)
    """Split of each scene, or region, by its name, for the `region` split; those left out are not used."""
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of train, validation and test."""
    reviewed: InputFile | None = None
    """Reviewed patch table, as `tesela review export` writes it."""
    unbiased: float = Field(0.0, ge=0, lt=1)
    """Share of all patches, of any quality, held out for testing beside a split by quality."""

    @model_validator(mode="after")
    def _split_is_complete(self) -> PatchSection:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"fractions {list(self.fractions)} must not be negative and must sum to 1")
        if self.split == "quality" and self.reviewed is None:
            raise ValueError("split is quality, but reviewed names no reviewed patch table")
        if self.assign is not None and self.split != "region":
            raise ValueError(f"assign is for split = 'region'; split is '{self.split}'")
        if self.assign is not None and "train" not in self.assign.values():
            raise ValueError(
                'assign gives nothing to train; write, for instance, {"a" = "train", "b" = "test"}'
            )
        if self.unbiased and self.split != "quality":
            raise ValueError(
                f"unbiased is for split = 'quality'; the test patches of split = '{self.split}' are unbiased"
            )
        return self


class MappingSection(Section):
    """``[mapping]``: the options of `tesela predict`."""

    window_px: int = Field(1088, ge=64)
    overlap_px: int = Field(64, ge=0)
    engine: Literal["auto", "torch", "compile", "openvino", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tta: Literal["none", "d4"] = "none"
    blend: Literal["none", "hann"] = "none"
    transfer: Literal["none", "auto", "shift", "scene", "batch_norm", "self_training"] = "none"
    """How the expert is adapted to scenes of `use = "map"`, without labels; see docs/transfer.md."""
    any_scene: bool = False
    """Map also scenes whose imagery cannot be of the same kind as that of the training."""
    memory: Memory = "256 MiB"
    cluster: str | None = None
    """"local", or the address of a Dask scheduler whose workers map the strips."""
    missing_dates: Literal["error", "gap"] = "error"
    """Whether scenes may lack dates of the expert, which are gaps then."""
    confidence: bool = False
    entropy: bool = False
    probabilities: bool = False
    join: JoinedCrs = "none"
    """Join the maps of all scenes as sheets: "auto" in the CRS of most, or a CRS; "none": one map a scene only."""


class AssessmentSection(Section):
    """``[assessment]``."""

    tiles_px: int = Field(2048, ge=64)
    area: Literal["test", "all"] = "test"
    """Evaluate on the test patches only (pixels that the model never saw), or on the whole map."""


HOW_ONLY = {"memory", "cluster"}
"""Keys of ``[mapping]`` and ``[cube]`` that decide how the work is done; outputs are the same bytes."""
