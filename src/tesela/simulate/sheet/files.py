"""A virtual sheet on disk: orthophoto, SIOSE AR file, truth and the mistakes of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import write_map
from tesela.simulate.region.region import write_mistakes
from tesela.simulate.sheet.covers import COVER_TYPES, TREES
from tesela.simulate.sheet.crowns import ROOF, raise_relief
from tesela.simulate.sheet.orthophoto import draw_orthophoto
from tesela.simulate.sheet.sheet import make_sheet
from tesela.simulate.sheet.siose import draw_siose, stand_canopy, write_siose


@dataclass(frozen=True)
class SheetFiles:
    """Paths of a virtual sheet."""

    image: Path
    """RGB orthophoto, uint8, named as PNOA names them."""
    reference: Path
    """SIOSE AR GeoPackage, with mistakes."""
    truth: Path
    """True classes, in lulucf-context."""
    canopy: Path
    """True tree cover, in tree-cover."""
    species: Path
    """Species of the crowns, in mfe-species-2; nodata elsewhere."""
    heights: Path
    """Heights of crowns and roofs above the ground (nDSM), metres, on the pixels of the image."""
    mistakes: Path
    """CSV of the known mistakes of the reference; for assessment, never for training."""
    wrong: Path
    """Pixels where the reference's context class is wrong (1) or right (2), uint8."""


def write_sheet(
    out_dir: str | Path,
    *,
    size_px: int = 2048,
    pixel_m: float = 0.5,
    seed: int = 0,
    zone: int = 30,
    number: str = "0557",
    label_errors: float = 0.06,
    outdated: float = 0.05,
    shifted: float = 0.10,
) -> SheetFiles:
    """
    Make a virtual sheet, its orthophoto and its map in SIOSE AR, and write everything to a folder.

    Parameters
    ----------
    out_dir : path
        Created if needed; files of these names are replaced.
    size_px, pixel_m, seed, zone
        As in `make_sheet`.
    number : str
        Number of the sheet, for the name of the image.
    label_errors, outdated, shifted
        As in `draw_siose`.

    Raises
    ------
    TeselaError
        If a parameter is out of range or a file cannot be written.
    """
    folder = Path(out_dir)
    sheet = make_sheet(size_px=size_px, pixel_m=pixel_m, seed=seed, zone=zone)
    relief = raise_relief(sheet)
    reference = draw_siose(sheet, label_errors=label_errors, outdated=outdated, shifted=shifted)
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"PNOA_MA_OF_ETRS89_HU{zone}_h25_{number}_1.tif"
    write_bands(
        image,
        draw_orthophoto(sheet, relief),
        sheet.grid,
        names=("red", "green", "blue"),
        nodata=0,
        date="2017-07-01",
    )
    truth = _context(sheet.kind, stand_canopy(sheet, sheet.kind))[sheet.parcel]
    mapped = _context(reference.kind, reference.canopy)[reference.polygon]
    crown = (relief.what > 0) & (relief.what < ROOF) & (relief.height_m > 2)
    legends = {name: open_legend(name) for name in ("lulucf-context", "tree-cover", "mfe-species-2")}
    paths = {name: folder / f"truth_{name}.tif" for name in legends}
    write_map(paths["lulucf-context"], truth, sheet.grid, legend=legends["lulucf-context"])
    tree = legends["tree-cover"]
    under = np.where(crown, tree["tree"].value, tree["open"].value).astype(np.uint8)
    write_map(paths["tree-cover"], under, sheet.grid, legend=tree)
    write_map(
        paths["mfe-species-2"],
        _species(relief.what, legends["mfe-species-2"]),
        sheet.grid,
        legend=legends["mfe-species-2"],
    )
    return SheetFiles(
        image=image,
        reference=write_siose(folder / "SAR2017_99_VIRTUAL.gpkg", sheet, reference, relief),
        truth=paths["lulucf-context"],
        canopy=paths["tree-cover"],
        species=paths["mfe-species-2"],
        heights=write_bands(
            folder / "ndsm.tif",
            np.rint(relief.height_m * 64)[np.newaxis].astype(np.float32) / 64,
            sheet.grid,
            names=("height",),
            nodata=-1,
        ),
        mistakes=write_mistakes(folder / "reference_mistakes.csv", reference.wrong),
        wrong=write_bands(
            folder / "reference_wrong.tif",
            np.where(mapped != truth, 1, 2).astype(np.uint8)[np.newaxis],
            sheet.grid,
            names=("wrong",),
            nodata=0,
        ),
    )


def _context(kind: NDArray[np.uint8], canopy: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Context class of each polygon: of its largest cover; wooded pasture from 20 % canopy on is forest."""
    legend = open_legend("lulucf-context")
    targets = open_crosswalk("siose-ar", legend).main_target
    values = np.asarray([targets[cover_type.parts[0].cover] for cover_type in COVER_TYPES], np.uint8)[kind]
    dehesa = np.asarray([cover_type.parts[0].cover == "302" for cover_type in COVER_TYPES])[kind]
    values[dehesa & (canopy >= 20)] = legend["forest"].value
    return values


def _species(what: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for number, tree in enumerate(TREES, start=1):
        if tree.species in legend:
            table[number] = legend[tree.species].value
    return table[what]
