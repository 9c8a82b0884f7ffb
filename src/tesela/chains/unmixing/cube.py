"""The cube of a recipe: given, or built from MODIS, from a stack of images or from the published pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tesela.chains.preview import grid_facts
from tesela.chains.unmixing.recipe import StackSection, UnmixingRecipe
from tesela.core.units import parse_memory_bytes
from tesela.io.cube import Cube, open_cube, open_grid
from tesela.io.msmtu import PublishedPixels, read_msmtu, write_msmtu_cube
from tesela.recipes.sections import HOW_ONLY
from tesela.recipes.stages import Stage
from tesela.sources.ancillary import Ancillary
from tesela.sources.modis.cube import write_modis_cube
from tesela.sources.stack.cube import write_stack_cube
from tesela.sources.stack.dates import parse_dates
from tesela.sources.stack.planes import find_planes
from tesela.sources.stack.reading import Unit, parse_mask


@dataclass(frozen=True, eq=False)
class RecipeCube:
    """The cube of ``[cube]``: its file, and the stage that builds it."""

    recipe: UnmixingRecipe
    folder: Path
    """Folder of the recipe, to which its paths are relative."""
    out: Path
    """Folder of the run."""

    @property
    def file(self) -> Path:
        """The Zarr folder."""
        given = self.recipe.cube.path
        return self.out / "cube" / "cube.zarr" if given is None else self.folder / str(given)

    def open(self) -> Cube:
        """The cube, opened."""
        return open_cube(self.file)

    @cached_property
    def published(self) -> PublishedPixels:
        """The published pixels, of which cube, shares and partitions are made where the recipe names them."""
        return read_msmtu(self.folder / str(self.recipe.cube.msmtu))

    def stages(self) -> tuple[Stage, ...]:
        """The stage that builds the cube; none where it is given."""
        if self.recipe.cube.path is not None:
            return ()
        settings = {"cube": self.recipe.cube.model_dump(exclude=HOW_ONLY)}
        return (Stage("cube", self.out / "cube", settings, self._sources, self._build),)

    def facts(self) -> tuple[str, str, int]:
        """Name and facts of what the recipe gives, which is opened, and the bytes of the series of a given cube."""
        section = self.recipe.cube
        if section.path is not None:
            cube = self.open()
            rows, cols = (int(side) for side in cube.grid.shape)
            text = f"{grid_facts(cube.grid)}, {len(cube.times)} times of {len(cube.bands)} bands"
            return "cube", text, 4 * rows * cols * len(cube.times) * len(cube.bands)
        if section.stack is not None:
            stack = section.stack
            planes = find_planes(
                [str(self.folder / path) for path in stack.files], dates=parse_dates(stack.dates)
            )
            dates = sorted({plane.date for plane in planes})
            return "images", f"{len(planes):,} bands of {len(dates)} dates, {dates[0]} to {dates[-1]}", 0
        return "cube", "made from MODIS" if section.modis else "made from Andalusia-MSMTU", 0

    def _build(self) -> Sequence[Path]:
        """Make the cube from MODIS composites and layers, from a stack, or from the published pixels."""
        section = self.recipe.cube
        if section.msmtu is not None:
            write_msmtu_cube(self.published, self.file)
        elif section.stack is not None:
            self._build_of_stack(section.stack)
        else:
            write_modis_cube(
                [self.folder / path for path in section.modis],
                self.file,
                months=section.months,
                climatology=section.climatology,
                rule=section.quality,
                merge=section.merge,
                ancillary=self._ancillary,
                memory_bytes=parse_memory_bytes(section.memory),
                cluster=section.cluster,
            )
        return [self.file]

    def _build_of_stack(self, stack: StackSection) -> None:
        section = self.recipe.cube
        write_stack_cube(
            [self.folder / path for path in stack.files],
            self.file,
            bands=stack.bands,
            dates=parse_dates(stack.dates),
            period=stack.period,
            climatology=section.climatology,
            unit=Unit(stack.scale, stack.offset, stack.nodata),
            masks=[parse_mask(text) for text in stack.mask],
            grid=None if stack.grid is None else open_grid(self.folder / stack.grid),
            ancillary=self._ancillary,
            memory_bytes=parse_memory_bytes(section.memory),
            cluster=section.cluster,
        )

    @property
    def _ancillary(self) -> Ancillary:
        section = self.recipe.cube
        return Ancillary(
            dem=None if section.dem is None else self.folder / section.dem,
            rasters={name: self.folder / path for name, path in section.layers.items()},
        )

    def _sources(self) -> list[Path]:
        files: list[Path] = []
        section = self.recipe.cube
        named = [*section.modis, *([] if section.msmtu is None else [section.msmtu])]
        if section.stack is not None:
            named += [*section.stack.files, *([] if section.stack.grid is None else [section.stack.grid])]
        for path in named:
            source = self.folder / path
            files += (
                sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
            )
        return [*files, *self._ancillary.files]
