"""The unmixing chain: MODIS files and a reference become a cube, shares, pixels, an expert, an abundance map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.report import is_abundance, write_abundance_report
from tesela.assessment.abundance.scores import score_lines
from tesela.chains.metrics import Blocks, Metric
from tesela.chains.preview import BASE_BYTES, Preview, grid_facts, reference_facts
from tesela.chains.unmixing.recipe import StackSection, UnmixingRecipe
from tesela.chains.unmixing.scores import describe_run, level_metrics, mflops_of, rmse_blocks
from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.core.units import parse_duration_s, parse_memory_bytes
from tesela.io.abundance import AbundanceMap, open_abundance
from tesela.io.addresses import in_folder, is_address
from tesela.io.cube import Cube, open_cube, open_grid
from tesela.io.manifest import write_text, write_whole
from tesela.io.msmtu import PublishedPixels, read_msmtu, write_msmtu_cube, write_msmtu_shares
from tesela.io.outputs import temporary_folder
from tesela.io.series_table import read_series_table
from tesela.io.timespec import read_timespec
from tesela.labels.fractions import shift_of, write_fractions
from tesela.labels.registration import Shift
from tesela.models.expert import open_expert
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import (
    PixelTable,
    read_pixel_table,
    read_pixels,
    table_of_msmtu,
    table_of_series,
    table_of_timespec,
)
from tesela.recipes.sections import HOW_ONLY, legend_file
from tesela.recipes.stages import Stage
from tesela.sources.ancillary import Ancillary
from tesela.sources.modis.cube import write_modis_cube
from tesela.sources.stack.cube import write_stack_cube
from tesela.sources.stack.dates import parse_dates
from tesela.sources.stack.planes import find_planes
from tesela.sources.stack.reading import Unit, parse_mask
from tesela.training.unmixing.settings import UnmixingSettings


class UnmixingChain:
    """Stages of one recipe; each reads the files of the stages before it."""

    def __init__(self, recipe: UnmixingRecipe, folder: Path, *, quiet: bool) -> None:
        self.recipe = recipe
        self.folder = folder
        self.out = folder / recipe.out
        self.quiet = quiet
        made = recipe.cube.path is None
        self.cube_file = self.out / "cube" / "cube.zarr" if made else folder / str(recipe.cube.path)
        self.label_file = self.out / "labels" / "shares.tif"
        self.shift_file = self.label_file.with_name("shift.json")
        self.pixel_file = self.out / "pixels" / "pixels.safetensors"
        self.expert_file = self.out / "experts" / f"{recipe.name}.safetensors"
        self.map_file = self.out / "maps" / "abundances.tif"
        self.report_folder = self.out / "report"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order: cube (where it is not given), label, pixels, train, map, assess."""
        recipe = self.recipe
        cube, address, legend = self.cube_file, self.legend.address, {"legend": self.legend.to_rows()}
        section = recipe.pretraining
        pretraining = None if section is None or section.kind == "none" else section.model_dump()
        build = Stage(
            "cube",
            self.out / "cube",
            {"cube": recipe.cube.model_dump(exclude=HOW_ONLY)},
            self._cube_sources,
            self.build,
        )
        others = (
            Stage(
                "label",
                self.out / "labels",
                {"reference": None if recipe.reference is None else recipe.reference.model_dump(), **legend},
                lambda: [cube, *self._reference_files()],
                self.label,
                address,
            ),
            Stage(
                "pixels",
                self.out / "pixels",
                {"split": recipe.split.model_dump(), "ancillary": recipe.ancillary, **legend},
                lambda: [cube, self.label_file],
                self.pixels,
                address,
                recipe.seed,
            ),
            Stage(
                "train",
                self.out / "experts",
                {
                    "training": self._settings.to_dict(),
                    "pretraining": pretraining,
                    "name": recipe.name,
                    **legend,
                },
                lambda: [self.pixel_file, *self._pretraining_files()],
                self.train,
                address,
                recipe.seed,
            ),
            Stage(
                "map",
                self.out / "maps",
                {"mapping": recipe.mapping.model_dump(exclude=HOW_ONLY), **legend},
                lambda: [self.expert_file, cube],
                self.map,
                address,
            ),
            Stage(
                "assess",
                self.report_folder,
                {
                    "name": recipe.name,
                    "assessment": recipe.assessment.model_dump(),
                    "block": recipe.split.block,
                    "reference": None if recipe.reference is None else recipe.reference.path,
                    **legend,
                },
                lambda: [
                    self.map_file,
                    self.label_file,
                    self.pixel_file,
                    self.expert_file,
                    *self._uncertainty_files(),
                ],
                self.assess,
                address,
            ),
        )
        return (build, *others) if recipe.cube.path is None else others

    @cached_property
    def legend(self) -> Legend:
        """Legend of the shares."""
        return self.recipe.open_legend(self.folder)

    @property
    def cube(self) -> Cube:
        """The cube."""
        return open_cube(self.cube_file)

    def preview(self) -> Preview:
        """Open images or cube and reference, and estimate the training and the memory."""
        section, reference = self.recipe.cube, self.recipe.reference
        inputs: list[tuple[str, str]] = []
        cells, values = 0, 0
        if section.path is not None:
            cube = self.cube
            inputs.append(
                ("cube", f"{grid_facts(cube.grid)}, {len(cube.times)} times of {len(cube.bands)} bands")
            )
            cells, values = (
                int(cube.grid.shape[0]) * int(cube.grid.shape[1]),
                len(cube.times) * len(cube.bands),
            )
        elif section.stack is not None:
            stack = section.stack
            planes = find_planes(
                [str(self.folder / path) for path in stack.files], dates=parse_dates(stack.dates)
            )
            dates = sorted({plane.date for plane in planes})
            inputs.append(
                ("images", f"{len(planes):,} bands of {len(dates)} dates, {dates[0]} to {dates[-1]}")
            )
        else:
            inputs.append(("cube", "made from MODIS" if section.modis else "made from Andalusia-MSMTU"))
        if reference is not None:
            path = in_folder(self.folder, reference.path)
            ready = _ready_shares(path)
            facts = (
                reference_facts(str(path), field=reference.field, layer=reference.layer)
                if ready is None
                else f"shares, {grid_facts(ready.grid)}"
            )
            inputs.append((f"reference {Path(path).name}", facts))
        budget = self._settings.budget
        return Preview(
            tuple(inputs),
            {"train": parse_duration_s(budget)} if budget else {},
            BASE_BYTES + max(4 * cells * values, parse_memory_bytes(section.memory)),
        )

    def build(self) -> Sequence[Path]:
        """Make the cube from MODIS composites and layers, or from the published pixels."""
        section = self.recipe.cube
        if section.msmtu is not None:
            write_msmtu_cube(self._published, self.cube_file)
            return [self.cube_file]
        if section.stack is not None:
            self._build_of_stack(section.stack)
            return [self.cube_file]
        write_modis_cube(
            [self.folder / path for path in section.modis],
            self.cube_file,
            months=section.months,
            climatology=section.climatology,
            rule=section.quality,
            merge=section.merge,
            ancillary=self._ancillary,
            memory_bytes=parse_memory_bytes(section.memory),
            cluster=section.cluster,
        )
        return [self.cube_file]

    def _build_of_stack(self, stack: StackSection) -> None:
        section = self.recipe.cube
        write_stack_cube(
            [self.folder / path for path in stack.files],
            self.cube_file,
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

    def label(self) -> Sequence[Path]:
        """Shares of the reference's classes on the cube's pixels; a reference of shares is checked and copied."""
        reference = self.recipe.reference
        if reference is None:
            write_msmtu_shares(self._published, self.label_file, level=self.legend.depth)
            return [self.label_file]
        path = in_folder(self.folder, reference.path)
        ready = _ready_shares(path)
        if ready is not None:
            if ready.legend != self.legend:
                raise InputError(
                    f"{path} holds shares of legend '{ready.legend.address}', but the recipe has legend = "
                    f"'{self.legend.address}'. Name the same legend."
                )
            given = (reference.count, reference.psf, reference.shift)
            if given != (None, "none", (0.0, 0.0)):
                raise InputError(
                    f"{path} holds shares already, so nothing is counted; leave reference.count, psf and shift out."
                )
            with write_whole(self.label_file) as part:
                part.write_bytes(Path(path).read_bytes())
            return [self.label_file]
        how: dict[str, Any] = {
            "legend": self.legend,
            "source": reference.source_in(self.folder),
            "field": reference.field,
            "crosswalk": reference.open_crosswalk(self.legend, self.folder),
            "layer": reference.layer,
            "psf": reference.psf,
        }
        shift, made = reference.shift, [self.label_file]
        if shift == "auto":
            found = shift_of(self.cube, path, **how)
            write_text(self.shift_file, json.dumps(asdict(found), indent=2))
            shift, made = (found.rows, found.cols), [*made, self.shift_file]
        write_fractions(
            path, self.label_file, like=self.cube.grid, count_m=reference.count, shift=shift, **how
        )
        return made

    def pixels(self) -> Sequence[Path]:
        """Read the pixels by way of the disk, and split them by blocks."""
        with temporary_folder(self.pixel_file) as scratch:
            table = read_pixels(
                self.cube,
                open_abundance(self.label_file),
                min_observed=self.recipe.split.min_observed,
                scratch=scratch,
            )
            layers = self.recipe.layers_of(self.cube.layers)
            return [self._split(table).select_layers(layers).write(self.pixel_file)]

    def _split(self, table: PixelTable) -> PixelTable:
        if self.recipe.uses_partitions:
            return table.with_splits_of(table_of_msmtu(self._published, level=self.legend.depth))
        split = self.recipe.split
        return split_pixels(
            table,
            block_m=split.block,
            fractions=split.fractions,
            buffer_m=split.buffer,
            balanced=split.balanced,
            seed=self.recipe.seed,
        )

    def train(self) -> Sequence[Path]:
        """Train the expert, after pretraining where the recipe has that section."""
        from tesela.training.unmixing.train import train_unmixing  # loads torch, seconds

        table = read_pixel_table(self.pixel_file)
        start = None
        section = self.recipe.pretraining
        if section is not None and section.kind != "none":
            from tesela.training.unmixing.pretraining import pretrain, read_start

            if section.weights is not None:
                start = read_start(self.folder / section.weights, self._settings)
            else:
                with temporary_folder(self.expert_file) as scratch:
                    start = pretrain(
                        read_series(self._pretraining_series or self.cube_file, scratch=scratch),
                        self._settings,
                        kind=section.kind,
                        like=table,
                        epochs=section.epochs,
                        purity=section.purity,
                        out=self.expert_file,
                        quiet=self.quiet,
                    )
        train_unmixing(table, self._settings, out=self.expert_file, start=start, quiet=self.quiet)
        return [self.expert_file]

    def map(self) -> Sequence[Path]:
        """Unmix the whole cube."""
        from tesela.mapping.abundance.unmix import unmix_cube  # loads torch, seconds

        settings = self.recipe.mapping
        classes = self.map_file.with_name("largest.tif") if settings.classes else None
        prior = self.map_file.with_name("prior.tif") if settings.prior else None
        unmix_cube(
            open_expert(self.expert_file),
            self.cube,
            self.map_file,
            classes=classes,
            uncertainty=self._uncertainty_file if settings.uncertainty else None,
            prior=prior,
            engine=settings.engine,
            memory=settings.memory,
            cluster=settings.cluster,
        )
        others = [file for file in (classes, prior) if file is not None]
        return [self.map_file, *others, *self._uncertainty_files()]

    def assess(self) -> Sequence[Path]:
        """Assess the map on pixels that the expert never saw."""
        assessment = self.assess_map(errors=self.report_folder / "errors.tif")
        table = read_pixel_table(self.pixel_file)
        facts = describe_run(self.recipe, self.cube, expert_file=self.expert_file, table=table)
        report = write_abundance_report(
            self.report_folder,
            assessment,
            title=f"{self.recipe.name}: abundances",
            facts=facts,
            splits=table.split_map(self.cube.grid.shape.yx),
        )
        return [report, self.report_folder / "assessment.json", self.report_folder / "errors.tif"]

    def products(self) -> dict[str, str]:
        """Path of the expert, once it is trained."""
        return {"expert": str(self.expert_file)} if self.expert_file.exists() else {}

    def summary(self) -> dict[str, object]:
        """Mean scores and the paths of expert, map and report."""
        return {
            **self._document()["mean"],
            "expert": str(self.expert_file),
            "map": str(self.map_file),
            "report": str(self.report_folder / "report.html"),
        }

    def lines(self) -> tuple[str, ...]:
        """Scores, map and report."""
        return (
            *score_lines(self._document()["mean"]),
            *self._shift_lines(),
            f"map       {self.map_file}",
            f"report    {self.report_folder / 'report.html'}",
        )

    def metrics(self) -> tuple[Metric, ...]:
        """RMSE, MAE, RRMSE, CC and F1 on the evaluated pixels at every level, as the paper's Tables II and III."""
        return level_metrics(self._document(), depth=self.legend.depth)

    def blocks(self) -> Blocks:
        """Sums by block of the split; scored by mean RMSE."""
        return rmse_blocks(self.assess_map())

    def mflops_per_px(self) -> float:
        """Million floating-point operations to unmix one pixel; 0 for models that are fitted."""
        return mflops_of(open_expert(self.expert_file))

    def _shift_lines(self) -> tuple[str, ...]:
        reference = self.recipe.reference
        if reference is None or reference.shift != "auto" or not self.shift_file.exists():
            return ()
        return (Shift(**json.loads(self.shift_file.read_text(encoding="utf-8"))).line,)

    def assess_map(self, *, errors: Path | None = None, level: int | None = None) -> AbundanceAssessment:
        """
        Assess the map on the evaluated pixels.

        Parameters
        ----------
        errors : Path, optional
            Raster to write, see `assess_abundance`.
        level : int, optional
            Coarser level of the legend; default: that of the map.
        """
        chosen = None
        if self.recipe.assessment.area == "test":
            chosen = read_pixel_table(self.pixel_file).split_mask("test", self.cube.grid.shape.yx)
        uncertainty = self._uncertainty_files()
        return assess_abundance(
            open_abundance(self.map_file),
            open_abundance(self.label_file),
            chosen=chosen,
            block_m=self.recipe.split.block,
            uncertainty=uncertainty[0] if uncertainty else None,
            errors=errors,
            level=level,
        )

    @cached_property
    def _published(self) -> PublishedPixels:
        return read_msmtu(self.folder / str(self.recipe.cube.msmtu))

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.report_folder / "assessment.json").read_text(encoding="utf-8")
        )
        return document

    @property
    def _settings(self) -> UnmixingSettings:
        return replace(self.recipe.training, seed=self.recipe.seed)

    @property
    def _ancillary(self) -> Ancillary:
        section = self.recipe.cube
        return Ancillary(
            dem=None if section.dem is None else self.folder / section.dem,
            rasters={name: self.folder / path for name, path in section.layers.items()},
        )

    @property
    def _uncertainty_file(self) -> Path:
        return self.map_file.with_name("uncertainty.tif")

    def _uncertainty_files(self) -> list[Path]:
        return [self._uncertainty_file] if self.recipe.mapping.uncertainty else []

    @property
    def _pretraining_series(self) -> Path | None:
        section = self.recipe.pretraining
        return None if section is None or section.series is None else self.folder / section.series

    def _pretraining_files(self) -> list[Path]:
        section = self.recipe.pretraining
        if section is None or section.kind == "none":
            return []
        return [self.folder / path for path in (section.series, section.weights) if path is not None]

    def _cube_sources(self) -> list[Path]:
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

    def _reference_files(self) -> list[str | Path]:
        name, reference = legend_file(self.recipe.legend), self.recipe.reference
        files = [] if reference is None else reference.files(self.folder)
        return [*files, *([] if name is None else [self.folder / name])]


def _ready_shares(path: str | Path) -> AbundanceMap | None:
    """The reference as an abundance map, if it is a file of one."""
    named = not is_address(path) and Path(path).suffix.lower() in (".tif", ".tiff")
    return open_abundance(path) if named and is_abundance(path) else None


def read_series(path: Path, *, scratch: Path | None = None) -> PixelTable:
    """
    Read pixels with series to pretrain on.

    Parameters
    ----------
    path : Path
        A folder with the files of TimeSpec4LULC, a table of series (.csv), a pixel table (.safetensors), or a cube
        (Zarr folder), which has no classes.
    scratch : Path, optional
        Folder for the pixels of a cube, as in `read_pixels`.

    Raises
    ------
    InputError
        If it is none of these, or broken.
    """
    if path.suffix == ".safetensors":
        return read_pixel_table(path)
    if path.suffix.lower() == ".csv":
        return table_of_series(read_series_table(path))
    if (path / "zarr.json").exists():
        return read_pixels(open_cube(path), scratch=scratch)
    if path.is_dir():
        return table_of_timespec(read_timespec(path))
    raise InputError(
        f"{path} holds no series to pretrain on; give a folder of TimeSpec4LULC, a table of series (.csv), a pixel "
        f"table (.safetensors), or a cube."
    )
