"""Endmember files: what an expert thinks classes look like, as a table and a picture, beside a library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tesela.core.spectra import Match, Spectra
from tesela.evaluation.spectra_figure import draw_spectra
from tesela.io.manifest import write_whole
from tesela.io.spectra import read_spectra, write_spectra
from tesela.models.endmembers import endmembers_of
from tesela.models.expert import Expert


@dataclass(frozen=True)
class EndmemberFiles:
    """Endmembers that were written."""

    spectra: Spectra
    table: Path
    picture: Path
    matches: tuple[Match, ...]
    """Nearest spectra of the library; empty without one."""


def write_endmembers(expert: Expert, out: str | Path, *, library: str | Path | None = None) -> EndmemberFiles:
    """
    Write the monthly endmember spectra of an expert as CSV, and beside it as PNG.

    Parameters
    ----------
    library : path, optional
        CSV of the same columns (class, month, band, value) with other spectra; an empty month holds all year. Both must
        have the same unit.

    Raises
    ------
    ExpertError
        If the expert has no endmembers.
    InputError
        If the library cannot be read or shares no band.
    """
    spectra = endmembers_of(expert)
    matches = () if library is None else spectra.nearest(read_spectra(library))
    names = dict(zip(expert.header.legend.codes, expert.header.legend.names, strict=True))
    table, picture = Path(out), Path(out).with_suffix(".png")
    content = draw_spectra(spectra, titles=[names[code] for code in spectra.names])
    with write_whole(picture) as part:
        part.write_bytes(content)
    return EndmemberFiles(spectra, write_spectra(table, spectra), picture, matches)
