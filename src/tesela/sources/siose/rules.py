"""Rules of SIOSE AR: the class of a legend for each polygon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, LegendError, RecipeError
from tesela.core.legend import Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.vector import NO_CODE, code_texts
from tesela.sources.siose.geopackage import COVERS, parse_rotulo
from tesela.sources.siose.land_use import decided_by_use, uses_of

if TYPE_CHECKING:
    import pandas as pd

LEAF_TYPES: Mapping[str, str] = {"316": "CNF", "312": "FDC", "313": "FDP", "310": "ARB", "302": "ARB"}
"""Class of a tree cover whose species is not stated or not in the legend."""

_UNASSIGNED = ("", "10", NO_CODE)
"""FF_SP that names no species; 10 is "Sin asignar"."""

_DEHESA = "302"


@dataclass(frozen=True)
class SioseRules:
    """How polygons get their class."""

    mode: Literal["majority", "composite"] = "majority"
    """The class of the largest cover, or the class with the largest sum of covers."""
    min_share: float = 0.0
    """In composite mode, and for species, the minimum share of the class, 0 to 1; below it a polygon gets none."""
    min_area_m2: float = 0.0
    """Smaller polygons get no class; Garcia Martin et al. state 1 ha, IGN's documents no minimum."""
    trees: Literal["covers", "fccarb", "lidar"] = "covers"
    """What makes a polygon tree cover: its covers, or a canopy (FCCARB, or LIDAR_POR_ARB) of `canopy_percent`."""
    canopy_percent: float = 20.0
    """Minimum canopy of tree cover, and of wooded pasture (302) as forest; 20 % is Spain's forest definition."""
    land_use: bool = True
    """For the legend "lulucf": land use (HILUCS) decides where cover does not tell, `sources.siose.land_use`."""
    interpreted: bool = False
    """Only polygons that were photo-interpreted (MEJORADO = REV_VISUAL); by default all."""
    years: tuple[int, int] | None = None
    """Only polygons whose reference date (FECHA_REF) is in these years, the first and the last."""
    open_percent: float | None = None
    """For trees by fccarb or lidar: polygons with this canopy and less than `canopy_percent` have no class, since a
    share does not tell which pixels are trees; below it they are open. Default: `canopy_percent`."""

    def __post_init__(self) -> None:
        problems = []
        if self.mode not in ("majority", "composite"):
            problems.append(f"mode is '{self.mode}', but must be majority or composite")
        if self.trees not in ("covers", "fccarb", "lidar"):
            problems.append(f"trees is '{self.trees}', but must be covers, fccarb or lidar")
        if not 0 <= self.min_share <= 1:
            problems.append(f"min_share is {self.min_share:g}, but must be from 0 to 1")
        if not 0 <= self.canopy_percent <= 100:
            problems.append(f"canopy_percent is {self.canopy_percent:g}, but must be from 0 to 100")
        if self.open_percent is not None and not 0 <= self.open_percent <= self.canopy_percent:
            problems.append(
                f"open_percent is {self.open_percent:g}, but must be from 0 to canopy_percent ({self.canopy_percent:g})"
            )
        if self.years is not None and self.years[0] > self.years[1]:
            problems.append(
                f"years are {self.years[0]} to {self.years[1]}, but must be the first and the last"
            )
        if problems:
            raise RecipeError(f"SIOSE rules: {'; '.join(problems)}.")


def make_rules(
    *,
    mode: str,
    min_share: float,
    min_area_m2: float,
    trees: str,
    canopy_percent: float,
    land_use: bool = True,
    interpreted: bool = False,
    years: str | None = None,
) -> SioseRules:
    """
    Make rules from the values of a command line.

    Raises
    ------
    RecipeError
        Lists all values that are out of range.
    """
    span: tuple[int, int] | None = None
    if years is not None:
        match = re.fullmatch(r"(\d{4})(?:-(\d{4}))?", years.strip())
        if match is None:
            raise RecipeError(f"'{years}' are no years; write the first and the last, 2016-2018.")
        span = (int(match[1]), int(match[2] or match[1]))
    return SioseRules(
        mode,  # type: ignore[arg-type]  # checked there
        min_share,
        min_area_m2,
        trees,  # type: ignore[arg-type]  # checked there
        canopy_percent,
        land_use,
        interpreted,
        span,
    )


class Classifier:
    """Classes of polygons in one legend: covers by crosswalk, tree cover, or species."""

    def __init__(self, legend: Legend, rules: SioseRules) -> None:
        self.legend, self.rules = legend, rules
        self.kind = _kind(legend)
        self._code_of: dict[str, str] = {}
        if self.kind != "species":
            crosswalk = open_crosswalk("siose-ar", legend)
            values = {item.value: item.code for item in legend.classes}
            self._code_of = {code: values.get(value, "") for code, value in crosswalk.main_target.items()}

    @property
    def needs_parts(self) -> bool:
        """Whether T_VALORES is needed."""
        by_canopy = self.kind == "trees" and self.rules.trees != "covers"
        return self.kind == "species" or (self.rules.mode == "composite" and not by_canopy)

    @property
    def needs_use(self) -> bool:
        """Whether land use decides some classes."""
        return self.rules.land_use and self.legend.name == "lulucf" and not self.legend.composed

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the polygons that the rules require."""
        if self.kind != "trees":
            return ()
        return {"covers": (), "fccarb": ("canopy",), "lidar": ("lidar",)}[self.rules.trees]

    def classes(
        self, table: pd.DataFrame, parts: pd.DataFrame | None
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """
        Code of each polygon, "" for none, and the share of the polygon that has the class.

        Parameters
        ----------
        table : DataFrame
            One row per polygon: cover, label, canopy and lidar, if the file has them.
        parts : DataFrame, optional
            Composition of the polygons, see `Composition.of`.
        """
        if self.kind == "trees" and self.rules.trees != "covers":
            percent = table["canopy" if self.rules.trees == "fccarb" else "lidar"].astype(float).to_numpy()
            rules = self.rules
            least = rules.canopy_percent if rules.open_percent is None else rules.open_percent
            codes = np.where(percent >= rules.canopy_percent, "tree", "").astype(object)
            codes[percent < least] = "open"
            if (
                rules.trees == "fccarb"
            ):  # a polygon outside the forest map is open where its covers have no trees
                outside = np.isnan(percent)
                by_cover = [self._code_of.get(cover, "") for cover in main_covers(table)[outside]]
                codes[outside] = ["open" if code == "open" else "" for code in by_cover]
            return codes, np.ones(len(table))
        if self.needs_parts:
            assert parts is not None
            return self._composite(table, parts)
        codes = self._translate(main_covers(table), table)
        return codes, np.ones(len(table))

    def _composite(
        self, table: pd.DataFrame, parts: pd.DataFrame
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        parts = parts.copy()
        if self.kind == "species":
            parts["code"] = self._species(parts)
        else:
            rows = table.iloc[parts["number"].to_numpy()].reset_index(drop=True)
            parts["code"] = self._translate(parts["cover"].to_numpy(object), rows)
        coded = parts[parts["code"] != ""]
        sums: pd.DataFrame = coded.groupby(["number", "code"], sort=False)["percent"].sum().reset_index()
        if (
            self.kind == "species" and self.rules.mode == "majority"
        ):  # shares of the trees, not of the polygon
            sums["percent"] /= sums.groupby("number")["percent"].transform("sum") / 100
        best = sums.sort_values("percent", ascending=False, kind="stable").drop_duplicates("number")
        best = best[best["percent"] >= 100 * self.rules.min_share]
        codes = np.full(len(table), "", object)
        shares = np.zeros(len(table))
        codes[best["number"].to_numpy()] = best["code"].to_numpy()
        shares[best["number"].to_numpy()] = best["percent"].to_numpy() / 100
        return codes, shares

    def _species(self, parts: pd.DataFrame) -> NDArray[np.object_]:
        """Code of the species of each part, or its leaf type if the species is not stated or not in the legend."""
        whole = open_legend("mfe-species-2")
        codes = []
        for cover, text in zip(parts["cover"], code_texts(parts["species"]), strict=True):
            leaf = LEAF_TYPES.get(cover, "")
            species = text.lstrip("0")
            if not leaf or species in _UNASSIGNED or species not in whole:
                codes.append(leaf)
            else:
                codes.append(species if species in self.legend else whole[species].parent)
        return np.array([code if code in self.legend else "" for code in codes], object)

    def _translate(self, covers: NDArray[np.object_], table: pd.DataFrame) -> NDArray[np.object_]:
        codes = np.array([self._code_of.get(cover, "") for cover in covers], object)
        if "use" in table and self.needs_use:
            codes = decided_by_use(self.legend.name, codes, covers, uses_of(table["use"]))
        if "canopy" not in table:
            return codes
        canopy = table["canopy"].astype(float).to_numpy()
        dehesa = (covers == _DEHESA) & ~np.isnan(canopy)
        dense = canopy >= self.rules.canopy_percent
        if self.legend.name == "lulucf-context":
            codes[dehesa & dense] = "forest"
        elif self.legend.name == "lulucf" and not self.legend.composed:
            codes[dehesa & dense & (codes == "grassland")] = "forest_land"
        elif self.kind == "trees":
            codes[dehesa & ~dense] = "open"
        return codes


def main_covers(table: pd.DataFrame) -> NDArray[np.object_]:
    """ID_COBERTURA of the largest share of each polygon, as text: the column, else the first part of ROTULO."""
    if "cover" in table:
        return code_texts(table["cover"])
    return np.array([_first_cover(str(text)) for text in table["label"]], object)


def _first_cover(rotulo: str) -> str:
    try:
        parts = parse_rotulo(rotulo)
    except InputError:
        return NO_CODE
    return COVERS.get(max(parts, key=lambda part: part.percent).label, NO_CODE)


def species_legend(codes: tuple[str, ...] = (), *, name: str = "species") -> Legend:
    """
    Make a legend of some species, with a class for the others of each leaf type; unspecified trees have none.

    Parameters
    ----------
    codes : tuple of str
        FF_SP codes of `mfe-species`; none for the leaf types alone.

    Raises
    ------
    LegendError
        If one is unknown.
    """
    whole = open_legend("mfe-species-2")
    chosen = [whole[code] for code in dict.fromkeys((*codes, "CNF", "FDC", "FDP"))]
    rows = [
        {"value": str(number), "code": item.code, "name": item.name, "color": item.color}
        | {"origin": f"{whole.address}:{item.code}"}
        for number, item in enumerate(chosen, start=1)
    ]
    return Legend.from_rows(name, rows)


def _kind(legend: Legend) -> str:
    if legend.name == "tree-cover" and not legend.composed:
        return "trees"
    if set(legend.codes) <= set(open_legend("mfe-species-2").codes):
        return "species"
    try:
        open_crosswalk("siose-ar", legend)
    except LegendError as error:
        raise LegendError(
            f"SIOSE AR goes to tree-cover, mfe-species or the target of a crosswalk from 'siose-ar', not to "
            f"'{legend.address}': {error}"
        ) from None
    return "covers"
