"""SIOSE AR: layers, columns and labels of the GeoPackage of IGN."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.io.vector import VectorLayer, open_layer

_TABLES = {"polygons": "T_POLIGONOS", "combined": "T_COMBINADA", "values": "T_VALORES", "uses": "T_USOS"}

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "polygon": ("ID_POLYGON", "ID_POLIGONO"),
    "label": ("ROTULO", "ROTULO_COBERTURA"),
    "cover": ("ID_COBERTURA_MAX", "ID_COBERTURA", "ID_COBERTURAS"),
    "canopy": ("FCCARB",),
    "lidar": ("LIDAR_POR_ARB",),
    "date": ("FECHA_REF", "ANO_REF"),
    "use": ("HILUCS",),
    "parcel": ("ID_PARCELA",),
    "improved": ("MEJORADO",),
    "area": ("SUPERF_M2",),
    "share": ("SUPERF_POR_SINREDONDEO", "SUPERF_POR"),
    "species": ("FF_SP",),
}
"""Names of each column, newest first; they differ between years and documents."""

_OF_POLYGONS = ("polygon", "label", "cover", "canopy", "lidar", "date", "use", "parcel", "improved")

_LABEL = re.compile(r"(\d{1,3})?\(?([A-Z]{3})((?:[a-z]{2})*)\)?")

COVERS: Mapping[str, str] = dict(
    re.findall(
        r"([A-Z]{3}):(\d{3})",
        "EDF:101 ZAU:102 PAV:104 PSC:105 BET:106 OCT:111 DEP:112 SNE:121 ZAB:122 ZEX:132 ZEV:133 RTT:140 AUT:141 "
        "CAR:142 VIU:143 CAM:144 VFC:145 CUL:200 CHE:210 LFC:222 LFN:223 LFS:224 LVI:231 LOL:232 LOP:241 LVO:251 "
        "LVF:252 LFV:253 LCV:254 LFL:255 LOF:256 LOC:257 LCF:258 LCS:259 LFF:260 HUE:280 PRD:290 PST:300 PMT:301 "
        "PPA:302 ARB:310 FDC:312 FDP:313 CNF:316 MTR:320 TEV:330 PDA:331 GNP:335 ACM:351 COL:354 HUM:400 HTU:412 "
        "HMA:421 HSA:423 AGU:500 ACU:511 ALG:513 AEM:514 ACA:515 AES:522 AMO:523 DSC:999",
    )
)
"""ID_COBERTURA by label, from the tables of uses, covers and attributes, version 1.0."""


@dataclass(frozen=True)
class Cover:
    """One part of a ROTULO."""

    percent: float
    """Share of the polygon; 100 if it is the only part."""
    label: str
    """Three capitals."""
    attributes: tuple[str, ...] = ()
    """Pairs of small letters."""


def parse_rotulo(text: str) -> tuple[Cover, ...]:
    """
    Read a ROTULO: parts ``[percent]LABEL[attributes]`` joined by ``_``, the largest first.

    Raises
    ------
    InputError
        If it is not one.

    Examples
    --------
    >>> [(cover.percent, cover.label, cover.attributes) for cover in parse_rotulo("70FDPpl_30CNFfrpl")]
    [(70.0, 'FDP', ('pl',)), (30.0, 'CNF', ('fr', 'pl'))]
    """
    matches = [_LABEL.fullmatch(part.strip()) for part in text.split("_")]
    if not all(matches):
        raise InputError(f"ROTULO '{text}' is not of the form 70FDPpl_30CNF.")
    parts = [match for match in matches if match is not None]
    rest = 100.0 - sum(float(match[1]) for match in parts if match[1])
    unstated = sum(not match[1] for match in parts)
    return tuple(
        Cover(
            float(match[1]) if match[1] else rest / unstated,
            match[2],
            tuple(match[3][start : start + 2] for start in range(0, len(match[3]), 2)),
        )
        for match in parts
    )


@dataclass(frozen=True)
class SioseFile:
    """A SIOSE AR GeoPackage; its contents are read later."""

    path: Path
    polygons: VectorLayer
    """T_POLIGONOS, or T_COMBINADA if the file has no other."""
    columns: Mapping[str, str]
    """Columns of the polygons by content: polygon, label, cover, canopy, lidar, date, use, parcel, improved."""
    values: str | None
    """Name of T_VALORES, the composition of each polygon."""
    value_columns: Mapping[str, str]
    """Its columns: polygon, cover, share, species."""
    uses: str | None = None
    """Name of T_USOS, the land use of each parcel, where the polygons name the parcel but not the use."""
    use_columns: Mapping[str, str] = field(default_factory=dict)
    """Its columns: parcel, use, area."""

    @property
    def cover_field(self) -> str:
        """
        Field of the polygons that holds the cover of their largest part, ID_COBERTURA_MAX.

        Raises
        ------
        InputError
            If they have the label (ROTULO) alone.
        """
        if "cover" not in self.columns:
            raise InputError(
                f"{self.path}: layer {self.polygons.layer} has no ID_COBERTURA_MAX. Draw its polygons with one code "
                f"each: tesela label {self.path.name} --like MAP --legend MAP -o classes.gpkg."
            )
        return self.columns["cover"]


def is_siose(path: str | Path) -> bool:
    """Whether a file is a GeoPackage with the layers of SIOSE AR."""
    return bool(_tables(Path(path)))


def open_siose(path: str | Path) -> SioseFile:
    """
    Describe a SIOSE AR GeoPackage.

    Layers are called ``SAR_[prov]_T_POLIGONOS``, ``SAR_[prov]_T_COMBINADA`` and ``SAR_[prov]_T_VALORES``; names of
    layers and columns are matched without case.

    Raises
    ------
    InputError
        If the file has no such layers, or a layer lacks what it needs.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such file.")
    tables = _tables(file)
    name = tables.get("polygons") or tables.get("combined")
    if name is None:
        raise InputError(
            f"{path}: has no layer that ends in T_POLIGONOS or T_COMBINADA: it is not a SIOSE AR GeoPackage. Unpack "
            f"the zip of IGN's GeoPackage format and give the .gpkg."
        )
    layer = open_layer(file, layer=name)
    columns = _columns(layer.fields, _OF_POLYGONS)
    if not columns.keys() & {"cover", "label"}:
        raise InputError(
            f"{path}: layer {name} has neither ID_COBERTURA_MAX nor ROTULO "
            f"(it has {join_words(layer.fields, most=30)})."
        )
    values = tables.get("values") if "polygon" in columns else None
    inner: Mapping[str, str] = {}
    if values is not None:
        inner = _columns(_fields(file, values), ("polygon", "cover", "share", "species"))
        lacking = [key for key in ("polygon", "cover", "share") if key not in inner]
        if lacking:
            needed = join_words(_COLUMNS[key][0] for key in lacking)
            raise InputError(
                f"{path}: table {values} has no {needed}, which the composition of a polygon needs."
            )
    uses, of_uses = tables.get("uses"), {}
    if uses is not None and "parcel" in columns and "use" not in columns:
        of_uses = _columns(_fields(file, uses), ("parcel", "use", "area"))
    uses = uses if {"parcel", "use"} <= of_uses.keys() else None
    return SioseFile(file, layer, columns, values, inner, uses, of_uses)


def _columns(fields: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, str]:
    by_name = {field.lower(): field for field in fields}
    columns = {}
    for key in wanted:
        exact = [name for name in _COLUMNS[key] if name in fields]
        names = exact or [by_name[name.lower()] for name in _COLUMNS[key] if name.lower() in by_name]
        if names:
            columns[key] = names[0]
    return columns


def _tables(path: Path) -> dict[str, str]:
    """Names of the layers of a file by content; empty if it is not a GeoPackage of SIOSE AR."""
    if path.suffix.lower() != ".gpkg" or not path.exists():
        return {}
    try:
        with closing(connect(path)) as base:
            names = [str(row[0]) for row in base.execute("SELECT table_name FROM gpkg_contents")]
    except sqlite3.DatabaseError:
        return {}
    tables = {}
    for key, ending in _TABLES.items():
        names_of = [name for name in names if name.upper().endswith(ending)]
        if len(names_of) > 1:
            raise InputError(
                f"{path}: holds {join_words(names_of)}; give a file of one province and one zone."
            )
        if names_of:
            tables[key] = names_of[0]
    return tables if tables.keys() & {"polygons", "combined"} else {}


def _fields(path: Path, table: str) -> tuple[str, ...]:
    with closing(connect(path)) as base:
        return tuple(str(row[1]) for row in base.execute(f'PRAGMA table_info("{table}")'))


def connect(path: Path) -> sqlite3.Connection:
    """Open a GeoPackage for reading only."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
