"""Verbs on products and installations: publish, published data sets, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.legend import Legend

if TYPE_CHECKING:
    from tesela.io.abundance import AbundanceMap
    from tesela.io.cube import Cube
    from tesela.io.installation import Check
    from tesela.io.maps import ClassMap
    from tesela.io.timespec import LabelledSeries
    from tesela.patches.pixels import PixelTable
    from tesela.publishing.products import Product
    from tesela.verbs.experts import Expert


def publish(
    product: str | Path | ClassMap | AbundanceMap,
    out: str | Path,
    *,
    title: str | None = None,
    date: str | None = None,
    description: str = "",
    license: str = "other",
    provider: str = "",
    contact: str = "",
    keywords: Sequence[str] = (),
    include: Sequence[str | Path] = (),
) -> Product:
    """
    Publish a map, an expert or a cascade as a folder for a catalogue; see `tesela.publishing.products.publish`.

    Parameters
    ----------
    product : path, ClassMap or AbundanceMap
        A COG, an expert (``.safetensors``), or a cascade (``.toml``, or its folder).
    out : path
        Folder of the product.
    title : str, optional
        Default: the file's name.
    date : str, optional
        What time it shows: "2018", "2018-07", "2018-07-15" or "2018-04/2018-09".
    license : str
        SPDX identifier, such as "CC-BY-4.0".
    include : sequence of paths
        Further files: confidence, polygons, report.

    Raises
    ------
    InputError
        If the raster is no valid COG, a file is missing, or there is no date.
    """
    from tesela.core.publication import Publication
    from tesela.publishing.products import publish as write_product

    path = product if isinstance(product, str | Path) else product.path
    publication = Publication(
        title if title is not None else Path(path).stem.replace("_", " "),
        date=date or "",
        description=description,
        license=license,
        provider=provider,
        contact=contact,
        keywords=tuple(keywords),
    )
    return write_product(path, out, publication, beside=include)


@dataclass(frozen=True)
class PublishedPixels:
    """Andalusia-MSMTU as files."""

    cube: Cube
    shares: AbundanceMap
    table: PixelTable
    file: Path
    """The pixel table."""


def published_msmtu(folder: str | Path, out: str | Path, *, level: int = 2) -> PublishedPixels:
    """
    Write Andalusia-MSMTU as a cube, an abundance map and a pixel table with the published partitions.

    Parameters
    ----------
    folder : path
        The unpacked data set.
    out : path
        Folder to write to.
    level : {1, 2}
        Level of the shares and partitions.
    """
    from tesela.io.msmtu import read_msmtu, write_msmtu_cube, write_msmtu_shares
    from tesela.patches.pixels import table_of_msmtu

    pixels, target = read_msmtu(folder), Path(out)
    cube = write_msmtu_cube(pixels, target / "cube.zarr")
    shares = write_msmtu_shares(pixels, target / "shares.tif", level=level)
    table = table_of_msmtu(pixels, level=level)
    return PublishedPixels(cube, shares, table, table.write(target / "pixels.safetensors"))


def published_timespec(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    shares: Sequence[float] = (0.64, 0.16, 0.2),
    seed: int = 0,
) -> tuple[PixelTable, LabelledSeries]:
    """
    Read TimeSpec4LULC as a pixel table: one row a pixel and year, split by pixel.

    Parameters
    ----------
    folder : path
        The unpacked data set, JSON or CSV.
    out : path, optional
        The table (``.safetensors``); default: it comes back in memory.
    shares : three floats
        Train, validation and test.
    """
    from tesela.io.timespec import read_timespec
    from tesela.patches.pixel_split import split_by_pixel
    from tesela.patches.pixels import table_of_timespec

    series = read_timespec(folder)
    table = split_by_pixel(table_of_timespec(series), fractions=tuple(shares), seed=seed)
    if out is not None:
        table.write(out)
    return table, series


def published_checkpoint(
    file: str | Path, out: str | Path | None = None, *, legend: Legend | str | Path, legacy: str = ""
) -> Expert:
    """
    Open a published checkpoint of BRITS as an expert; no code in it is run.

    Parameters
    ----------
    file : path
        model.ckpt of Rodriguez-Ortega et al. (2024).
    out : path, optional
        The expert (``.safetensors``); default: it comes back in memory.
    legend : Legend, name or path
        Its classes: "sipna-1", "sipna-2".
    legacy : {"", "deltas", "order"}
        Repeat mistakes of the published code.

    Raises
    ------
    RecipeError, ExpertError
        If there is no such mistake, or the file is no such checkpoint.
    """
    from tesela.core.errors import RecipeError, unknown_name
    from tesela.io.legends import open_legend
    from tesela.models.expert import save_expert
    from tesela.models.published_checkpoints import open_published_checkpoint
    from tesela.verbs.experts import open_expert

    if legacy not in ("", "deltas", "order"):
        raise RecipeError(unknown_name("mistake", legacy, ("deltas", "order")))
    expert = open_published_checkpoint(file, legend=open_legend(legend), legacy=legacy)
    if out is not None:
        save_expert(out, expert)
    return open_expert(expert)


def doctor() -> list[Check]:
    """What is installed, which drivers and devices work, and what to do where something is missing."""
    from tesela.io.installation import check_installation

    return check_installation()
