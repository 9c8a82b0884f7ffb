"""The scene: a georeferenced image of named bands at a date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tesela.core.errors import InputError, unknown_name

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True)
class Band:
    """One band of a scene: its file, and how stored numbers become quantities."""

    name: str
    """Name by which recipes and experts ask for it: "B04", "red"."""
    path: str
    """File that holds it."""
    index: int
    """Number of the band in the file, from 1."""
    dtype: str
    """Data type in the file, as numpy names it."""
    nodata: float | None = None
    """Number in the file that means no data; None if the file declares none."""
    scale: float = 1.0
    """Quantity = number in the file x scale + offset."""
    offset: float = 0.0
    fills: tuple[float, ...] = ()
    """Numbers that no sensor gives in this band, though the file does not declare them as nodata; see
    `tesela.io.scene_fills`."""
    mask: bool = True
    """Whether a mask or an alpha band of the file, if it has one, marks the valid pixels of the band."""


@dataclass(frozen=True)
class Scene:
    """Bands of one area and date, on one grid; `SceneReader` reads the pixels."""

    name: str
    """Short name, unique in a project: the stem of the first file by default."""
    bands: tuple[Band, ...]
    grid: GeoBox
    """Pixel grid of the scene: CRS, transform and shape (rows, columns)."""
    date: str = ""
    """Date or season as text, for people: "2018-07"."""
    invalid: str = "error"
    """What to do with numbers that no sensor gives and the file does not declare as nodata: "error" or "nodata"; see
    `tesela.io.invalid_numbers`."""
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary files of a scene made from an array; see `tesela.io.held`."""

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return f"<Scene {self.name}: {len(self.bands)} bands, {rows} x {cols} px, {self.grid.crs}>"

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(band.name for band in self.bands)

    @property
    def pixel_size_m(self) -> float:
        """Width of a pixel in metres; see `tesela.core.grid.pixel_size_m`."""
        from tesela.core.grid import pixel_size_m

        return pixel_size_m(self.grid)[0]

    def select(self, names: Sequence[str]) -> Scene:
        """
        The scene with these bands, in this order.

        Raises
        ------
        InputError
            If the scene lacks one of them.
        """
        by_name = {band.name: band for band in self.bands}
        for name in names:
            if name not in by_name:
                remedy = (
                    "Give a file of each date, joined by commas, and the dates (dates = [...] in a recipe, --dates"
                    if name.rpartition("_")[0] in by_name
                    else "Name the bands of the file in their order (bands = [...] in a recipe, --bands"
                )
                raise InputError(
                    f"Scene '{self.name}': {unknown_name('band', name, self.band_names)} {remedy} on the "
                    f"command line)."
                )
        return replace(self, bands=tuple(by_name[name] for name in names))

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same scene, for manifests and patch tables."""
        from tesela.core.grid import crs_text

        system = "" if self.grid.crs is None else crs_text(self.grid)
        return {
            "name": self.name,
            "bands": [asdict(band) for band in self.bands],
            "grid": {"shape": list(self.grid.shape), "transform": list(self.grid.affine)[:6], "crs": system},
            "date": self.date,
            "invalid": self.invalid,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Scene:
        """Build from `to_dict`'s document."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        grid = document["grid"]
        return cls(
            name=document["name"],
            bands=tuple(
                Band(**{**band, "fills": tuple(band.get("fills", ()))}) for band in document["bands"]
            ),
            grid=GeoBox(tuple(grid["shape"]), Affine(*grid["transform"]), grid["crs"] or None),
            date=document["date"],
            invalid=document.get("invalid", document.get("nonfinite", "error")),
        )
