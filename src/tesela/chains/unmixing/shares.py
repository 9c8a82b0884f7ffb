"""The shares of a recipe: those of the reference's classes on the pixels of the cube."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tesela.assessment.abundance.report import is_abundance
from tesela.chains.preview import grid_facts, reference_facts
from tesela.chains.unmixing.cube import RecipeCube
from tesela.chains.unmixing.recipe import SharesSection
from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.io.abundance import AbundanceMap, open_abundance
from tesela.io.addresses import in_folder, is_address
from tesela.io.manifest import write_text, write_whole
from tesela.io.msmtu import write_msmtu_shares
from tesela.labels.fractions import shift_of, write_fractions
from tesela.labels.registration import Shift
from tesela.recipes.sections import legend_file
from tesela.recipes.stages import Stage


@dataclass(frozen=True, eq=False)
class RecipeShares:
    """The shares of ``[reference]``, or the published ones: their file, and the stage that writes it."""

    cube: RecipeCube
    legend: Legend

    @property
    def file(self) -> Path:
        """The shares."""
        return self.cube.out / "labels" / "shares.tif"

    @property
    def shift_file(self) -> Path:
        """By how much the image lies beside the reference, where that was estimated."""
        return self.file.with_name("shift.json")

    def open(self) -> AbundanceMap:
        """The shares, opened."""
        return open_abundance(self.file)

    def stage(self) -> Stage:
        """The stage that counts them."""
        reference = self.cube.recipe.reference
        return Stage(
            "label",
            self.file.parent,
            {
                "reference": None if reference is None else reference.model_dump(),
                "legend": self.legend.to_rows(),
            },
            lambda: [self.cube.file, *self._sources()],
            self._write,
            self.legend.address,
        )

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Name and facts of the reference, which is opened; nothing where the shares are the published ones."""
        reference = self.cube.recipe.reference
        if reference is None:
            return ()
        path = in_folder(self.cube.folder, reference.path)
        ready = _ready_shares(path)
        facts = (
            reference_facts(str(path), field=reference.field, layer=reference.layer)
            if ready is None
            else f"shares, {grid_facts(ready.grid)}"
        )
        return ((f"reference {Path(path).name}", facts),)

    def shift_lines(self) -> tuple[str, ...]:
        """The estimated shift, for a person."""
        reference = self.cube.recipe.reference
        if reference is None or reference.shift != "auto" or not self.shift_file.exists():
            return ()
        return (Shift(**json.loads(self.shift_file.read_text(encoding="utf-8"))).line,)

    def _sources(self) -> list[str | Path]:
        recipe, folder = self.cube.recipe, self.cube.folder
        name = legend_file(recipe.legend)
        files = [] if recipe.reference is None else recipe.reference.files(folder)
        return [*files, *([] if name is None else [folder / name])]

    def _write(self) -> Sequence[Path]:
        """Shares of the reference's classes on the cube's pixels; a reference of shares is checked and copied."""
        reference = self.cube.recipe.reference
        if reference is None:
            write_msmtu_shares(self.cube.published, self.file, level=self.legend.depth)
            return [self.file]
        path = in_folder(self.cube.folder, reference.path)
        ready = _ready_shares(path)
        if ready is None:
            return self._count(reference, path)
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
        with write_whole(self.file) as part:
            part.write_bytes(Path(path).read_bytes())
        return [self.file]

    def _count(self, reference: SharesSection, path: str | Path) -> Sequence[Path]:
        """Count the classes of a map, after estimating its shift where the recipe says so."""
        cube, folder = self.cube.open(), self.cube.folder
        how: dict[str, Any] = {
            "legend": self.legend,
            "source": reference.source_in(folder),
            "field": reference.field,
            "crosswalk": reference.open_crosswalk(self.legend, folder),
            "layer": reference.layer,
            "psf": reference.psf,
        }
        shift, made = reference.shift, [self.file]
        if shift == "auto":
            estimated = shift_of(cube, path, **how)
            write_text(self.shift_file, json.dumps(asdict(estimated), indent=2))
            shift, made = (estimated.rows, estimated.cols), [*made, self.shift_file]
        write_fractions(path, self.file, like=cube.grid, count_m=reference.count, shift=shift, **how)
        return made


def _ready_shares(path: str | Path) -> AbundanceMap | None:
    """The reference as an abundance map, if it is a file of one."""
    named = not is_address(path) and Path(path).suffix.lower() in (".tif", ".tiff")
    return open_abundance(path) if named and is_abundance(path) else None
