"""A SIOSE-like map of a virtual sheet: its parcels, some of them wrong, outdated or shifted, all known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.generalise.labelling import label_regions
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.simulate.region.references import WrongPolygon
from tesela.simulate.sheet.covers import CONFUSED, COVER_TYPES, FORMER, LABELS, NUMBER, CoverType
from tesela.simulate.sheet.crowns import ROOF, Relief
from tesela.simulate.sheet.sheet import Sheet

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import shapely


_LARGEST = 0.03
"""Largest share of the sheet of one wrong or shifted polygon."""


@dataclass(frozen=True, eq=False)
class SioseMap:
    """The map of a sheet; polygon numbers are those of the parcels of the sheet."""

    polygon: NDArray[np.int32]
    """(rows, cols) polygon of each pixel; differs from the sheet's where polygons are shifted."""
    kind: NDArray[np.uint8]
    """(polygons,) position in `covers.COVER_TYPES` that the map gives."""
    canopy: NDArray[np.float64]
    """(polygons,) FCCARB in per cent, in steps of 5; nan where there are no trees."""
    year: NDArray[np.int16]
    """(polygons,) year that the map shows."""
    wrong: tuple[WrongPolygon, ...]
    """Known mistakes; `code` and `true_code` are the ID_COBERTURA of the largest cover."""


def draw_siose(
    sheet: Sheet,
    *,
    label_errors: float = 0.06,
    outdated: float = 0.05,
    shifted: float = 0.10,
    year: int = 2017,
) -> SioseMap:
    """
    Draw the existing map of a sheet, as a national agency would have it.

    Parameters
    ----------
    label_errors, outdated : float
        Share of the area with a confused cover, or with a former one, 0 to 0.5.
    shifted : float
        Share of the polygons that are moved by 4 to 12 metres, 0 to 0.5.
    year : int
        Year of the image, and of the polygons that are up to date.

    Raises
    ------
    InputError
        If a share is out of range.
    """
    for name, share in (("label_errors", label_errors), ("outdated", outdated), ("shifted", shifted)):
        if not 0 <= share <= 0.5:
            raise InputError(f"{name} is {share:g}; give a share from 0 to 0.5.")
    rng = np.random.default_rng([sheet.seed, 53])
    kind, years = sheet.kind.copy(), np.full(len(sheet.kind), year, np.int16)
    size = np.bincount(sheet.parcel.ravel(), minlength=len(kind))
    free = size < _LARGEST * sheet.parcel.size
    kinds: dict[int, str] = {}
    for name, table, share in (("outdated", FORMER, outdated), ("label", CONFUSED, label_errors)):
        left = share * sheet.parcel.size
        for index in rng.permutation(len(kind)).tolist():
            choices = table.get(COVER_TYPES[kind[index]].name, ())
            if index in kinds or not choices or not free[index] or size[index] > 1.3 * left:
                continue
            kind[index] = NUMBER[choices[int(rng.integers(len(choices)) * rng.integers(0, 2))]]
            kinds[index] = name
            left -= size[index]
            if name == "outdated":
                years[index] = year - int(rng.integers(6, 12))
    lines = np.asarray(
        [cover_type.name in ("road", "street", "track", "stream") for cover_type in COVER_TYPES]
    )
    polygon, moves = _shift(rng, sheet, np.flatnonzero(free & ~lines[sheet.kind]), share=shifted)
    middle = _inner_points(polygon, len(kind))
    wrong = []
    for index in sorted({*kinds, *moves}):
        south, east = moves.get(index, (0.0, 0.0))
        x, y = sheet.grid.affine * (middle[index, 1] + 0.5, middle[index, 0] + 0.5)
        wrong.append(
            WrongPolygon(
                polygon=index,
                kind=kinds.get(index, "shifted"),
                code=COVER_TYPES[kind[index]].parts[0].cover,
                true_code=COVER_TYPES[sheet.kind[index]].parts[0].cover,
                east_m=east,
                south_m=south,
                x_m=round(x, 2),
                y_m=round(y, 2),
            )
        )
    return SioseMap(polygon, kind, stand_canopy(sheet, kind), years, tuple(wrong))


def stand_canopy(sheet: Sheet, kind: NDArray[np.uint8]) -> NDArray[np.float64]:
    """FCCARB: that of the stand, or the usual one where there is no such stand."""
    wooded = np.asarray([any(part.species for part in cover_type.parts) for cover_type in COVER_TYPES])[kind]
    usual = np.asarray([sum(cover_type.canopy) / 2 for cover_type in COVER_TYPES])[kind]
    share = np.where(kind == sheet.kind, sheet.canopy, usual)
    return np.where(wooded, 5 * np.rint(20 * share), np.nan)


def _shift(
    rng: np.random.Generator, sheet: Sheet, among: NDArray[np.intp], *, share: float
) -> tuple[NDArray[np.int32], dict[int, tuple[float, float]]]:
    """Move some polygons; the area they leave goes to the nearest other one."""
    from scipy.ndimage import distance_transform_edt, find_objects

    moved = sheet.parcel.copy()
    rows, cols = moved.shape
    boxes = find_objects(sheet.parcel + 1)
    most = int(np.ceil(12 / sheet.pixel_m))
    moves: dict[int, tuple[float, float]] = {}
    for index in rng.permutation(among)[: round(share * len(among))].tolist():
        far, turn = rng.uniform(4, 12) / sheet.pixel_m, rng.uniform(0, 2 * np.pi)
        south, east = round(far * np.sin(turn)), round(far * np.cos(turn))
        box = boxes[index]
        view = tuple(
            slice(max(0, side.start - most - 1), min(end, side.stop + most + 1))
            for side, end in zip(box, (rows, cols), strict=True)
        )
        old = moved[view] == index
        at = np.argwhere(old) + np.asarray((south, east))
        at = at[(at >= 0).all(axis=1) & (at[:, 0] < old.shape[0]) & (at[:, 1] < old.shape[1])]
        if not len(at) or old.all():
            continue
        _, nearest = distance_transform_edt(old, return_indices=True)
        part = np.where(old, moved[view][tuple(nearest)], moved[view])
        part[at[:, 0], at[:, 1]] = index
        moved[view] = part
        moves[index] = (south * sheet.pixel_m, east * sheet.pixel_m)
    alive = np.bincount(moved.ravel(), minlength=len(sheet.kind)) > 0
    return moved, {index: move for index, move in moves.items() if alive[index]}


def _inner_points(polygon: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Row and column of one pixel of each polygon: the middle one in the order of the rows."""
    order = np.argsort(polygon.ravel(), kind="stable")
    size = np.bincount(polygon.ravel(), minlength=count)
    start = np.cumsum(size) - size
    middle = order[np.minimum(start + size // 2, polygon.size - 1)]
    return np.stack(np.unravel_index(middle, polygon.shape), axis=1)


PROVINCE = "99"
"""No province of Spain has this number."""

_USES = {
    "1": ("5000", "Uso residencial", "500"),
    "2": ("1110", "Producción agrícola comercial", "111"),
    "3": ("6310", "Áreas naturales terrestres", "631"),
    "5": ("6320", "Áreas de agua", "632"),
}
"""ID_USO, its name and HILUCS, by the first digit of the cover; roads, forest and dehesa follow below."""

_OWN_USES = {
    "142": ("4111", "Vías", "411"),
    "143": ("4111", "Vías", "411"),
    "144": ("4111", "Vías", "411"),
    "302": ("1600", "Dehesa", "150"),
    "312": ("1200", "Silvicultura", "120"),
    "313": ("1200", "Silvicultura", "120"),
    "316": ("1200", "Silvicultura", "120"),
}


def write_siose(path: str | Path, sheet: Sheet, siose: SioseMap, relief: Relief) -> Path:
    """
    Write a map in the format of SIOSE AR: T_POLIGONOS, T_USOS, T_COMBINADA, T_VALORES and the lists of codes.

    FCCARB is the canopy of the stand in the forest map; LIDAR_POR_ARB and LIDAR_POR_EDF are measured on the polygon.
    """
    polygons = _polygons(sheet, siose, relief)
    prefix = f"SAR_{PROVINCE}_T_"
    return write_layers(
        path,
        {
            f"{prefix}POLIGONOS": polygons,
            f"{prefix}USOS": _uses(polygons),
            f"{prefix}COMBINADA": _combined(sheet, siose),
            f"{prefix}VALORES": _values(polygons, siose),
            "LISTADO_COBERTURAS": _covers(),
        },
    )


def rotulo(cover_type: CoverType) -> str:
    """ROTULO of a cover type, such as ``60CNF_40FDP``."""
    single = len(cover_type.parts) == 1
    return "_".join(
        ("" if single else f"{part.percent:.0f}") + LABELS[part.cover] + part.attributes
        for part in cover_type.parts
    )


def polygon_id(number: int) -> str:
    """ID_POLYGON of a polygon of the sheet."""
    return f"{PROVINCE}{number:08d}"


def _polygons(sheet: Sheet, siose: SioseMap, relief: Relief) -> gpd.GeoDataFrame:
    import geopandas as gpd

    numbers, shapes = _outlines(siose.polygon, sheet)
    cover_types = [COVER_TYPES[kind] for kind in siose.kind[numbers]]
    covers = [cover_type.parts[0].cover for cover_type in cover_types]
    uses = [_use(cover) for cover in covers]
    trees = _share(siose.polygon, (relief.what > 0) & (relief.what < ROOF) & (relief.height_m > 2))
    roofs = _share(siose.polygon, relief.what == ROOF)
    names = {item.code: item.name for item in open_legend("siose-ar").classes}
    count = len(numbers)
    frame = gpd.GeoDataFrame(
        {
            "PROVINCIA": [PROVINCE] * count,
            "MUNICIPIO": [f"{PROVINCE}001"] * count,
            "MUNICIPIO_NOMBRE": ["Villa Virtual"] * count,
            "REFCAT": [f"{number:014d}" for number in numbers],
            "TIPO": ["U" if cover[0] == "1" else "R" for cover in covers],
            "ID_PARCELA": [f"P{number:08d}" for number in numbers],
            "ID_POLYGON": [polygon_id(int(number)) for number in numbers],
            "ROTULO": [rotulo(cover_type) for cover_type in cover_types],
            "ID_COBERTURA_MAX": np.asarray(covers, np.int32),
            "COBERTURA_DESC": [names[cover] for cover in covers],
            "ID_USO_MAX": [int(use[0]) for use in uses],
            "USO_DESC": [use[1] for use in uses],
            "HILUCS": [int(use[2]) for use in uses],
            "FCCARB": siose.canopy[numbers],
            "LIDAR_POR_EDF": roofs[numbers],
            "LIDAR_POR_ARB": trees[numbers],
            "MEJORADO": [None] * count,
            "FECHA_REF": [f"{year}-07-01" for year in siose.year[numbers]],
        },
        geometry=list(shapes),
        crs=str(sheet.grid.crs),
    )
    frame["SUPERF_M2"] = frame.geometry.area.round(2)
    return frame


def _uses(polygons: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    kept = ["PROVINCIA", "MUNICIPIO", "REFCAT", "ID_PARCELA", "ID_USO_MAX", "USO_DESC", "HILUCS", "FECHA_REF"]
    return polygons[[*kept, "SUPERF_M2", "geometry"]]


def _combined(sheet: Sheet, siose: SioseMap) -> gpd.GeoDataFrame:
    """Neighbours of one cover and use as one polygon."""
    import geopandas as gpd

    cover = np.asarray([int(cover_type.parts[0].cover) for cover_type in COVER_TYPES], np.uint32)
    values = cover[siose.kind][siose.polygon]
    number, count = label_regions(values)
    first = np.zeros(count, np.uint32)
    first[number.ravel()] = values.ravel()
    numbers, shapes = _outlines(number, sheet)
    names = {item.code: item.name for item in open_legend("siose-ar").classes}
    codes = [str(code) for code in first[numbers]]
    frame = gpd.GeoDataFrame(
        {
            "PROVINCIA": [PROVINCE] * len(codes),
            "ID_COMBI": np.arange(1, len(codes) + 1),
            "ID_COBERTURA_MAX": np.asarray(codes, np.int32),
            "COBERTURA_DESC": [names[code] for code in codes],
            "ID_USO_MAX": [int(_use(code)[0]) for code in codes],
            "USO_DESC": [_use(code)[1] for code in codes],
            "HILUCS": [int(_use(code)[2]) for code in codes],
        },
        geometry=list(shapes),
        crs=str(sheet.grid.crs),
    )
    frame["SUPERF_M2"] = frame.geometry.area.round(2)
    return frame


def _values(polygons: gpd.GeoDataFrame, siose: SioseMap) -> pd.DataFrame:
    import pandas as pd

    species = {item.code: item.name for item in open_legend("mfe-species-2").classes}
    columns = ("ID_POLYGON", "ROTULO", "FCCARB", "SUPERF_M2", "FECHA_REF")
    rows = []
    for polygon, label, canopy, area, date in polygons[list(columns)].itertuples(index=False):
        cover_type = COVER_TYPES[siose.kind[int(polygon[len(PROVINCE) :])]]
        for part in cover_type.parts:
            rows.append(
                {
                    "ID_POLYGON": polygon,
                    "ROTULO": label,
                    "CODE_ABREV": LABELS[part.cover] + part.attributes,
                    "ID_COBERTURA": int(part.cover),
                    "SUPERF_POR_SINREDONDEO": float(part.percent),
                    "SUPERF_M2": round(area * part.percent / 100, 2),
                    "FF_FCCARB": canopy if part.species else None,
                    "FF_SP": int(part.species) if part.species else None,
                    "FF_ESPECIE_NOM": species.get(part.species),
                    "ANO_REF": int(date[:4]),
                }
            )
    return pd.DataFrame(rows).astype({"FF_SP": "Int32"})


def _covers() -> pd.DataFrame:
    import pandas as pd

    rows = [(int(item.code), item.name) for item in open_legend("siose-ar").classes]
    return pd.DataFrame(rows, columns=["ID_COBERTURA", "COBERTURA_DESC"])


def _use(cover: str) -> tuple[str, str, str]:
    return _OWN_USES.get(cover, _USES[cover[0]])


def _share(polygon: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Per cent of each polygon under a mask, to a decimal."""
    count = int(polygon.max()) + 1
    size = np.bincount(polygon.ravel(), minlength=count)
    covered = np.bincount(polygon[mask], minlength=count)
    return np.asarray(np.round(100 * covered / np.maximum(size, 1), 1))


def _outlines(number: NDArray[np.int32], sheet: Sheet) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Polygons of equal number, their outlines smoothed by a pixel, and those numbers."""
    import shapely
    from rasterio.features import shapes

    outlines: dict[int, list[shapely.Polygon]] = {}
    for outline, value in shapes(number, connectivity=4, transform=sheet.grid.affine):
        ring, *holes = outline["coordinates"]
        outlines.setdefault(int(value), []).append(shapely.Polygon(ring, holes))
    order = sorted(outlines)
    whole: NDArray[np.object_] = np.empty(len(order), np.object_)
    whole[:] = [
        outlines[key][0] if len(outlines[key]) == 1 else shapely.MultiPolygon(outlines[key]) for key in order
    ]
    smoothed = shapely.coverage_simplify(whole, 1.2 * sheet.pixel_m, simplify_boundary=False)
    return np.asarray(order, np.int32), np.asarray(smoothed, object)
