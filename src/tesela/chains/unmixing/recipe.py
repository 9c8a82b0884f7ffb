"""The recipe of the unmixing chain: MODIS files or a cube, and a reference, to an abundance map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AllowInfNan, Field, ValidationInfo, model_validator

from tesela.core.legend import Legend
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import (
    FileName,
    InputFile,
    LegendName,
    Memory,
    Metres,
    NoSeed,
    ReferenceSection,
    Section,
    read_legend,
    recipe_folder,
)
from tesela.sources.ancillary import PUBLISHED
from tesela.sources.modis.months import Merge
from tesela.sources.modis.quality import QualityRule
from tesela.training.unmixing.settings import CLASSIC, UnmixingSettings

ANCILLARY = {
    "none": (),
    "topographic": PUBLISHED[:4],
    "climatic": PUBLISHED[4:],
    "all": PUBLISHED,
}
"""The sets of the published ablation: none, the four of position and terrain, the five of climate, all nine."""


class StackSection(Section):
    """``[cube.stack]``: images of any sensor with dates, see `tesela.sources.stack`."""

    files: list[InputFile] = Field(min_length=1)
    """Rasters with dates in their names or in those of their bands, folders of such, NetCDF or Zarr."""
    bands: list[str] | None = None
    """Bands to take, or new names for all of them."""
    dates: list[str] = Field(default_factory=list)
    """Dates in order, where no name has one; "2010-01..2010-12" for months."""
    period: Literal["month", "image"] = "month"
    """Times of the cube: the mean of each month's images, or every date."""
    mask: list[str] = Field(default_factory=list)
    """Pixels to leave out: "SCL=0,1,3,8,9,10" by value, "QA_PIXEL:1,3,4" by bit."""
    scale: float | None = None
    offset: float | None = None
    """Quantity = pixel value x scale + offset; default: as the files declare."""
    nodata: Annotated[float, AllowInfNan(True)] | None = None
    grid: InputFile | None = None
    """Raster or cube that gives the cells; default: the pixels of the first image."""


class CubeSection(Section):
    """``[cube]``: the series and layers, from MODIS files, from a stack, or from a cube."""

    path: InputFile | None = None
    """A cube that exists; all other keys of the section are left out."""
    msmtu: InputFile | None = None
    """Unpacked folder of Andalusia-MSMTU, which holds the reference and the split, too."""
    modis: list[InputFile] = Field(default_factory=list)
    """Folders or files of MOD09A1 and MYD09A1."""
    stack: StackSection | None = None
    """Images of any other sensor, or an index."""
    months: tuple[str, str] | None = None
    """First and last month; default: those of the files."""
    climatology: bool = False
    """Average equal months of all years into twelve."""
    merge: Merge = "satellites"
    """Mean of the monthly means of both satellites, or of all observations."""
    quality: QualityRule = QualityRule()
    """Which observations count."""
    dem: InputFile | None = None
    """Elevation in metres; gives altitude and slope."""
    layers: dict[str, InputFile] = Field(default_factory=dict)
    """Further rasters by name of the layer."""
    memory: Memory = "256 MiB"
    cluster: str | None = None
    """"local", or the address of a Dask scheduler whose workers make the blocks."""

    @model_validator(mode="after")
    def _one_source(self) -> CubeSection:
        given = (
            (self.path is not None) + bool(self.modis) + (self.stack is not None) + (self.msmtu is not None)
        )
        if given != 1:
            raise ValueError(
                "give either path, of a cube, or modis or stack, the files to build one from, or msmtu, the published "
                "folder"
            )
        made = bool(self.modis) or self.stack is not None
        if not made and (self.dem or self.layers or self.months or self.climatology):
            raise ValueError(
                "a cube has its months and layers; leave dem, layers, months and climatology out"
            )
        if self.stack is not None and self.months:
            raise ValueError("months are of modis; a stack has those of its images")
        return self


class SharesSection(ReferenceSection):
    """``[reference]``: the existing map whose shares are trained on and compared with."""

    count: Metres | None = Field(None, gt=0)
    """Side of pixels to draw it in and count, "10 m" as published; default: exact areas."""
    psf: Literal["none", "modis"] = "none"
    """Weigh the ground of a cell as the sensor does: "modis" is a triangle two cells wide along the rows."""
    shift: Literal["auto"] | tuple[float, float] = (0.0, 0.0)
    """Rows and columns by which the image lies beside the reference, in cells; "auto": estimated from the series."""


class SplitSection(Section):
    """``[split]``: which pixels are for training, validation and testing."""

    block: tuple[Metres, Metres] = (18_000.0, 15_000.0)
    """Width and height of the blocks."""
    fractions: tuple[float, float, float] = (0.64, 0.16, 0.2)
    """Shares of train, validation and test."""
    buffer: Metres = 0.0
    """Least distance between pixels of different splits."""
    balanced: bool = True
    """Give each split its part of every class; otherwise blocks are drawn at random, as published."""
    min_observed: float = Field(0.0, ge=0, le=1)
    """Least share of the values of a pixel that are not gaps."""
    published: bool | None = None
    """Use the published partitions of `cube.msmtu`; default: where that is given. False: blocks, as above."""


class PretrainingSection(Section):
    """``[pretraining]``: other series to learn from first."""

    kind: Literal["classes", "gaps", "both", "none"] = "classes"
    """Learn the classes of pure series, as published; to predict hidden months; both; "none": train from scratch."""
    series: InputFile | None = None
    """A folder of TimeSpec4LULC, a CSV of series, a pixel table, or a cube. Default, with "gaps": the recipe's cube."""
    weights: InputFile | None = None
    """Expert or published checkpoint whose weights the training starts with, in place of series."""
    epochs: int = Field(20, ge=1)
    """Passes over the series."""
    purity: float = Field(0.9, ge=0.5, le=1)
    """Least share of a class in a pixel that counts as one of that class."""

    @model_validator(mode="after")
    def _has_series(self) -> PretrainingSection:
        if self.weights is not None and self.series is not None:
            raise ValueError("give either series to pretrain on, or weights that are pretrained")
        if self.kind in ("classes", "both") and self.series is None and self.weights is None:
            raise ValueError(
                f'kind = "{self.kind}" needs series with classes: name them, or set kind = "gaps" for those of the cube'
            )
        return self


class UnmixSection(Section):
    """``[mapping]``."""

    engine: Literal["auto", "torch", "openvino", "cuda"] = "auto"
    memory: Memory = "512 MiB"
    cluster: str | None = None
    """As in ``[cube]``."""
    classes: bool = True
    """Write a map of the class with the largest share, too."""
    uncertainty: bool = False
    """Write the standard deviation of each share."""
    prior: bool = False
    """Write the mean shares of the training pixels, in pixels without observations only."""


class AbundanceAssessmentSection(Section):
    """``[assessment]``."""

    area: Literal["test", "all"] = "test"
    """Evaluate on the test pixels only, or on the whole map."""


class UnmixingRecipe(Recipe):
    """A whole recipe of the unmixing chain."""

    chain: Literal["unmixing"]
    name: FileName = "unmixing"
    out: str = "runs/unmixing"
    legend: LegendName = "sipna-2"
    cube: CubeSection
    reference: SharesSection | None = None
    """Left out with `cube.msmtu`, which has shares of its own."""
    ancillary: Literal["all", "none", "topographic", "climatic"] | list[str] = "all"
    """Layers that the model reads: all of the cube, a set of the published ablation, or names."""
    split: SplitSection = SplitSection()
    training: Annotated[UnmixingSettings, NoSeed] = UnmixingSettings()
    pretraining: PretrainingSection | None = None
    mapping: UnmixSection = UnmixSection()
    assessment: AbundanceAssessmentSection = AbundanceAssessmentSection()

    @model_validator(mode="after")
    def _can_be_pretrained(self) -> UnmixingRecipe:
        models = self.training.members or (self.training.resolved.model,)
        wanted = self.pretraining is not None and self.pretraining.kind != "none"
        if wanted and all(model in CLASSIC for model in models):
            raise ValueError(
                f"a model '{self.training.model}' is fitted at once and cannot be pretrained: leave [pretraining] out, "
                f"or take brits or an encoder"
            )
        return self

    @model_validator(mode="after")
    def _one_reference(self) -> UnmixingRecipe:
        if self.cube.msmtu is None:
            if self.reference is None:
                raise ValueError("reference is missing: the map or shares to train on")
            if self.split.published:
                raise ValueError("split.published needs cube.msmtu, whose partitions they are")
        elif self.reference is not None:
            raise ValueError("cube.msmtu has shares of its own: leave [reference] out")
        elif self.legend not in ("sipna-1", "sipna-2"):
            raise ValueError(f"cube.msmtu has shares of sipna-1 and sipna-2, but legend is {self.legend}")
        return self

    @model_validator(mode="after")
    def _crosswalk_leads_to_the_legend(self, info: ValidationInfo) -> UnmixingRecipe:
        if self.reference is None:
            return self
        self.reference.check_crosswalk(self.legend, recipe_folder(info))
        return self

    @property
    def uses_partitions(self) -> bool:
        """Whether the published partitions are used."""
        return self.cube.msmtu is not None and self.split.published is not False

    def open_legend(self, folder: Path | None) -> Legend:
        """Legend of the labels and the map."""
        return read_legend(self.legend, folder)

    def layers_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Layers to use of those that a cube has."""
        if self.ancillary == "all":
            return names
        if isinstance(self.ancillary, str):
            return tuple(name for name in ANCILLARY[self.ancillary] if name in names)
        return tuple(self.ancillary)
