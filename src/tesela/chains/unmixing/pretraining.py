"""The series that a recipe pretrains on, and the weights that it starts with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.chains.unmixing.recipe import PretrainingSection
from tesela.core.errors import InputError
from tesela.io.cube import open_cube
from tesela.io.outputs import temporary_folder
from tesela.io.series_table import read_series_table
from tesela.io.timespec import read_timespec
from tesela.patches.pixels import (
    PixelTable,
    read_pixel_table,
    read_pixels,
    table_of_series,
    table_of_timespec,
)
from tesela.training.unmixing.settings import UnmixingSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pretraining:
    """Pretraining of ``[pretraining]``; nothing where the recipe has none, or of kind "none"."""

    section: PretrainingSection | None
    folder: Path
    """Folder of the recipe, to which its paths are relative."""

    @property
    def _used(self) -> PretrainingSection | None:
        return None if self.section is None or self.section.kind == "none" else self.section

    @property
    def settings(self) -> dict[str, object] | None:
        """What a training depends on."""
        return None if self._used is None else self._used.model_dump()

    def files(self) -> list[Path]:
        """Series and weights that the recipe names."""
        section = self._used
        named = () if section is None else (section.series, section.weights)
        return [self.folder / path for path in named if path is not None]

    def start(
        self, settings: UnmixingSettings, table: PixelTable, *, cube_file: Path, out: Path, quiet: bool
    ) -> dict[str, Tensor] | None:
        """
        Weights with which a training starts: those of the recipe, or of a pretraining on its series.

        Parameters
        ----------
        table : PixelTable
            Pixels that will be trained on.
        cube_file : Path
            Series where the recipe names none.
        out : Path
            The expert to be, beside which a pretraining keeps what it resumes from.
        """
        section = self._used
        if section is None:
            return None
        from tesela.training.unmixing.pretraining import pretrain, read_start  # loads torch, seconds

        if section.weights is not None:
            return read_start(self.folder / section.weights, settings)
        assert section.kind != "none"  # see `_used`
        series = cube_file if section.series is None else self.folder / section.series
        with temporary_folder(out) as scratch:
            return pretrain(
                read_series(series, scratch=scratch),
                settings,
                kind=section.kind,
                like=table,
                epochs=section.epochs,
                purity=section.purity,
                out=out,
                quiet=quiet,
            )


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
