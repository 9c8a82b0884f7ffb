"""Cover types of an orthophoto: their SIOSE AR covers and their appearance from above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Zone = Literal["farm", "forest", "pasture", "town", "bare", "line"]


@dataclass(frozen=True)
class CoverShare:
    """One cover of a cover type."""

    percent: float
    cover: str
    """ID_COBERTURA."""
    species: str = ""
    """FF_SP of its trees."""
    attributes: str = ""
    """Pairs of small letters, as a ROTULO has them."""


@dataclass(frozen=True)
class CoverType:
    """A cover type; colours are 0 .. 255 under a high sun, lengths in metres."""

    name: str
    parts: tuple[CoverShare, ...]
    """Largest first."""
    rgb: tuple[int, int, int]
    """Colour between trees, rows and roofs."""
    grain: float
    """Contrast of the texture of some decimetres."""
    patch: float
    """Contrast of the texture of some metres to tens of metres."""
    canopy: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest share under crowns, 0 to 1."""
    planted_m: float = 0.0
    """Distance of trees planted in a grid; 0 if they stand at random."""
    tilled_m: float = 0.0
    """Distance of furrows, or of rows of vines."""
    roof: tuple[float, float] = (0.0, 0.0)
    """Share of a plot under its building, and the height of the building."""


@dataclass(frozen=True)
class Tree:
    """Appearance of a species from above."""

    species: str
    """FF_SP; letters for trees that no forest map lists."""
    rgb: tuple[int, int, int]
    radius_m: tuple[float, float]
    height_m: tuple[float, float]
    point: float
    """How pointed the crown is: 0 a dome, 1 a cone."""
    ragged: float
    """How uneven its outline is."""


TREES = (
    Tree("24", (92, 112, 78), (1.6, 2.9), (7, 12), 0.35, 0.30),  # Aleppo pine: light, thin
    Tree("26", (52, 84, 62), (1.5, 2.7), (10, 18), 0.95, 0.20),  # maritime pine: dark, pointed
    Tree("45", (66, 74, 46), (2.2, 4.0), (5, 9), 0.0, 0.12),  # holm oak: dull, round, compact
    Tree("43", (98, 128, 54), (2.0, 4.2), (8, 15), 0.1, 0.45),  # Pyrenean oak: fresh green, ragged
    Tree("58", (128, 156, 72), (1.3, 2.0), (12, 22), 0.6, 0.15),  # poplar: bright, narrow, in rows
    Tree("olive", (118, 124, 92), (1.5, 2.3), (3, 4.5), 0.0, 0.35),
    Tree("fruit", (80, 116, 52), (1.3, 2.0), (2.5, 4), 0.0, 0.2),
    Tree("garden", (72, 102, 50), (1.2, 3.2), (3, 9), 0.2, 0.35),
    Tree("bush", (92, 100, 60), (0.6, 1.4), (0.8, 2.0), 0.0, 0.5),
)
"""Species, in the order of the numbers of crowns from 1 on."""


def _one(cover: str, species: str = "", attributes: str = "") -> tuple[CoverShare, ...]:
    return (CoverShare(100, cover, species, attributes),)


COVER_TYPES = (
    # farmland
    CoverType("cereal", _one("210", attributes="sc"), (206, 188, 134), 0.05, 0.06, tilled_m=2.2),
    CoverType("green crop", _one("210", attributes="rr"), (104, 142, 62), 0.06, 0.07, tilled_m=1.6),
    CoverType("fallow", _one("210", attributes="ba"), (176, 142, 106), 0.07, 0.09, tilled_m=3.0),
    CoverType("vineyard", _one("231"), (190, 160, 122), 0.06, 0.06, tilled_m=2.8),
    CoverType("olives", _one("232"), (188, 162, 120), 0.06, 0.06, (0.10, 0.2), planted_m=7.5),
    CoverType("orchard", _one("223"), (158, 150, 98), 0.06, 0.07, (0.25, 0.4), planted_m=5.0),
    CoverType("meadow", _one("290"), (128, 156, 78), 0.06, 0.09),
    # forest
    CoverType("Aleppo pines", _one("316", "24"), (150, 132, 96), 0.08, 0.10, (0.50, 0.85)),
    CoverType("maritime pines", _one("316", "26", "pl"), (124, 108, 76), 0.08, 0.10, (0.60, 0.95)),
    CoverType("holm oaks", _one("313", "45"), (152, 136, 92), 0.08, 0.10, (0.45, 0.85)),
    CoverType("Pyrenean oaks", _one("312", "43"), (122, 124, 72), 0.08, 0.10, (0.60, 0.95)),
    CoverType("poplars", _one("312", "58", "pl"), (132, 138, 78), 0.07, 0.08, (0.5, 0.8), planted_m=4.5),
    CoverType(
        "mixed wood",
        (CoverShare(60, "316", "24"), CoverShare(40, "313", "45")),
        (146, 130, 92),
        0.08,
        0.10,
        (0.50, 0.85),
    ),
    # pasture
    CoverType("grassland", _one("300"), (184, 174, 116), 0.08, 0.13),
    CoverType("shrub", _one("320"), (148, 134, 92), 0.11, 0.16),
    CoverType(
        "grass with shrub", (CoverShare(65, "301"), CoverShare(35, "320")), (172, 158, 106), 0.10, 0.14
    ),
    CoverType("dehesa", _one("302", "45"), (190, 176, 116), 0.07, 0.11, (0.08, 0.40)),
    # town
    CoverType(
        "houses",
        (CoverShare(45, "102"), CoverShare(35, "101"), CoverShare(20, "104")),
        (150, 146, 112),
        0.09,
        0.12,
        (0.06, 0.2),
        roof=(0.36, 4.5),
    ),
    CoverType(
        "close houses",
        (CoverShare(62, "101"), CoverShare(38, "104")),
        (172, 168, 160),
        0.05,
        0.06,
        roof=(0.62, 7.5),
    ),
    CoverType(
        "hall", (CoverShare(55, "101"), CoverShare(45, "104")), (158, 156, 152), 0.04, 0.06, roof=(0.55, 9.0)
    ),
    CoverType("park", _one("102"), (116, 140, 74), 0.07, 0.08, (0.2, 0.45)),
    CoverType("plot", _one("121"), (186, 168, 136), 0.08, 0.12),
    # bare
    CoverType("bare ground", _one("330"), (206, 190, 160), 0.09, 0.14),
    CoverType("rock", _one("330"), (176, 170, 158), 0.16, 0.16),
    CoverType("gravel", _one("331"), (204, 198, 184), 0.09, 0.10),
    # lines and water, over all others
    CoverType("road", _one("142"), (118, 116, 116), 0.03, 0.03),
    CoverType("street", _one("143"), (128, 126, 124), 0.04, 0.04),
    CoverType("track", _one("144"), (206, 188, 152), 0.06, 0.07),
    CoverType("reservoir", _one("514"), (58, 84, 84), 0.015, 0.06),
    CoverType("stream", _one("511"), (84, 98, 84), 0.05, 0.10),
)

NUMBER = {cover_type.name: number for number, cover_type in enumerate(COVER_TYPES)}
"""Number of a cover type by its name."""

ZONES: dict[Zone, dict[str, float]] = {
    "farm": {
        "cereal": 0.30,
        "green crop": 0.14,
        "fallow": 0.16,
        "vineyard": 0.12,
        "olives": 0.13,
        "orchard": 0.09,
        "meadow": 0.06,
    },
    "forest": {
        "Aleppo pines": 0.24,
        "maritime pines": 0.20,
        "holm oaks": 0.22,
        "Pyrenean oaks": 0.18,
        "poplars": 0.06,
        "mixed wood": 0.10,
    },
    "pasture": {"grassland": 0.32, "shrub": 0.28, "grass with shrub": 0.18, "dehesa": 0.22},
    "town": {"houses": 0.44, "close houses": 0.24, "hall": 0.14, "park": 0.08, "plot": 0.10},
    "bare": {"bare ground": 0.45, "rock": 0.35, "gravel": 0.20},
}
"""Cover types of the parcels of a zone, with their shares."""

SHARES: dict[Zone, float] = {"farm": 0.33, "forest": 0.33, "pasture": 0.17, "town": 0.10, "bare": 0.07}
"""Share of the area in each zone, before water and roads."""

LABELS = {
    "101": "EDF", "102": "ZAU", "104": "PAV", "121": "SNE", "142": "CAR", "143": "VIU", "144": "CAM", "210": "CHE",
    "223": "LFN", "231": "LVI", "232": "LOL", "290": "PRD", "300": "PST", "301": "PMT", "302": "PPA", "312": "FDC",
    "313": "FDP", "316": "CNF", "320": "MTR", "330": "TEV", "331": "PDA", "511": "ACU", "514": "AEM",
}  # fmt: skip
"""Labels of the covers above, as a ROTULO has them."""

CONFUSED: dict[str, tuple[str, ...]] = {
    "cereal": ("fallow", "grassland", "bare ground"),
    "green crop": ("meadow", "orchard"),
    "fallow": ("bare ground", "cereal", "vineyard"),
    "vineyard": ("olives", "fallow"),
    "olives": ("orchard", "dehesa"),
    "orchard": ("olives", "poplars"),
    "meadow": ("grassland", "green crop"),
    "Aleppo pines": ("maritime pines", "shrub", "holm oaks"),
    "maritime pines": ("Aleppo pines", "Pyrenean oaks"),
    "holm oaks": ("Aleppo pines", "dehesa"),
    "Pyrenean oaks": ("holm oaks", "maritime pines"),
    "poplars": ("orchard", "Pyrenean oaks"),
    "mixed wood": ("holm oaks", "Aleppo pines"),
    "grassland": ("cereal", "shrub"),
    "shrub": ("grassland", "Aleppo pines"),
    "grass with shrub": ("shrub", "fallow"),
    "dehesa": ("holm oaks", "grassland"),
    "houses": ("park", "plot"),
    "park": ("meadow", "Pyrenean oaks"),
    "plot": ("bare ground", "fallow"),
    "bare ground": ("plot", "fallow"),
    "rock": ("bare ground", "shrub"),
    "gravel": ("bare ground", "track"),
}
"""Cover types that a photointerpreter confuses with each cover type."""

FORMER: dict[str, tuple[str, ...]] = {
    "houses": ("cereal", "fallow", "orchard"),
    "close houses": ("fallow", "olives"),
    "hall": ("cereal", "fallow"),
    "plot": ("cereal", "vineyard"),
    "olives": ("cereal", "fallow"),
    "orchard": ("cereal",),
    "vineyard": ("cereal",),
    "fallow": ("vineyard", "olives"),
    "Aleppo pines": ("shrub", "fallow"),
    "maritime pines": ("shrub", "grassland"),
    "shrub": ("Aleppo pines", "cereal"),
    "grassland": ("cereal", "holm oaks"),
    "bare ground": ("maritime pines", "shrub"),
}
"""Cover types that each one often had some years ago and that an outdated map still shows."""
