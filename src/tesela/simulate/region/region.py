"""A virtual region on disk: scenes, classifications, truth, elevation and reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tesela.core.errors import InputError, unknown_name
from tesela.io.images import write_bands
from tesela.io.layers import write_layer
from tesela.io.legends import open_legend
from tesela.io.manifest import write_whole
from tesela.io.maps import write_map
from tesela.simulate.region.landscape import make_landscape
from tesela.simulate.region.references import WrongPolygon, make_reference
from tesela.simulate.region.sensors import CloudRule, simulate_image, write_image
from tesela.simulate.region.spectra import BANDS, SEASONS
from tesela.simulate.region.surface import lay_surface


@dataclass(frozen=True)
class Region:
    """Paths of a virtual region."""

    scenes: tuple[Path, ...]
    """One GeoTIFF per season: reflectance times 10,000 as uint16, scale in the file, 0 nodata."""
    scl: tuple[Path, ...]
    """Scene classification of each scene, uint8, Sentinel-2 values."""
    truth: Path
    """CORINE level 3 as grid codes, a class map."""
    altitude: Path
    """Metres above the sea, float32."""
    reference: Path
    """GeoPackage, layer "reference": ID, CODE_18, AREA_HA; EPSG:3035."""
    mistakes: Path
    """CSV of the known mistakes of the reference; for assessment, never for training."""


def write_region(
    out_dir: str | Path,
    *,
    size_px: int = 2000,
    pixel_m: float = 10.0,
    seed: int = 0,
    seasons: Sequence[str] = SEASONS,
    bands: Sequence[str] = BANDS,
    clouds: CloudRule = "gaps",
    min_area_ha: float | None = None,
) -> Region:
    """
    Make a landscape, its image in each season and its reference, and write everything to a folder.

    Parameters
    ----------
    out_dir : path
        Created if needed; files of these names are replaced.
    size_px, pixel_m, seed
        As in `make_landscape`; 640 to 800 pixels of 10 m suit a demo.
    seasons : sequence of {"april", "july", "september"}
    bands : sequence of str
        Which of the ten bands to write, in this order.
    clouds : {"gaps", "keep", "none"}
        How clouds appear in the scenes; the scene classification always marks them.
    min_area_ha : float, optional
        Minimum area of the reference; default: 25, or 3 in a region smaller than 12 km.

    Raises
    ------
    TeselaError
        If a parameter is out of range or a file cannot be written.
    """
    folder = Path(out_dir)
    for season in seasons:
        if season not in SEASONS:
            raise InputError(unknown_name("season", season, SEASONS))
    for band in bands:
        if band not in BANDS:
            raise InputError(unknown_name("band", band, BANDS))
    if min_area_ha is None:
        min_area_ha = 25.0 if size_px * pixel_m >= 12_000 else 3.0
    landscape = make_landscape(size_px=size_px, pixel_m=pixel_m, seed=seed)
    reference = make_reference(landscape, min_area_ha=min_area_ha)
    surface = lay_surface(landscape)
    scenes, classified = [], []
    for season in seasons:
        image = simulate_image(landscape, season, surface=surface, clouds=clouds)
        scenes.append(write_image(image, folder / f"scene_{season}.tif", bands=bands))
        classified.append(
            write_bands(
                folder / f"scl_{season}.tif",
                image.scl[np.newaxis],
                landscape.grid,
                names=("SCL",),
                nodata=0,
                date=image.season.date,
            )
        )
    truth = folder / "truth.tif"
    write_map(truth, landscape.truth, landscape.grid, legend=open_legend("corine-3"))
    return Region(
        scenes=tuple(scenes),
        scl=tuple(classified),
        truth=truth,
        altitude=write_bands(
            folder / "altitude.tif", landscape.altitude_m[np.newaxis], landscape.grid, names=("altitude_m",)
        ),
        reference=Path(write_layer(folder / "reference.gpkg", reference.polygons, layer="reference")),
        mistakes=write_mistakes(folder / "reference_mistakes.csv", reference.wrong),
    )


def write_mistakes(path: Path, wrong: Sequence[WrongPolygon]) -> Path:
    """Write the known mistakes of a reference as a CSV."""
    import csv

    names = [field.name for field in fields(WrongPolygon)]
    with write_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows([getattr(mistake, name) for name in names] for mistake in wrong)
    return path
