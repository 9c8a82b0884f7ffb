"""
Reflectances of covers in ten Sentinel-2 bands, and the covers of April, July and September.

All values are ours, chosen to be plausible for a Mediterranean summer-dry region, not taken from a spectral
library. They were compared with real images: over the CORINE 2018 polygons of Lanjaron (Granada), one Landsat 8 scene
has medians (red, near infrared, short-wave infrared 1) of 311 (.05, .28, .16), 312 (.04, .24, .12), 323
(.07, .24, .17), 223 (.08, .30, .17) and 111 (.16, .30, .25); images of July here have 311 (.04, .34, .17),
312 (.04, .23, .14), 323 (.08, .25, .22), 223 (.11, .25, .25), 111 (.15, .20, .22): drier, with darker towns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Order of every spectrum and image."""

SEASONS = ("april", "july", "september")
"""The months of the published mosaics (Demir and Musaoglu 2023)."""

STATES = 8
"""A parcel is in one of eight equally likely states of its crop at each date."""

_THOUSANDTHS = {
    "soil_pale": (125, 165, 215, 240, 255, 270, 285, 295, 375, 335),
    "soil_red": (72, 104, 158, 188, 208, 226, 244, 258, 335, 290),
    "soil_dark": (58, 80, 108, 128, 146, 160, 174, 184, 240, 205),
    "crop": (32, 66, 38, 104, 320, 405, 435, 445, 205, 95),
    "grass": (45, 80, 58, 122, 275, 325, 350, 360, 235, 128),
    "straw": (92, 136, 188, 222, 255, 275, 295, 308, 355, 260),
    "stubble": (84, 120, 164, 194, 222, 242, 262, 276, 345, 262),
    "broadleaf": (27, 52, 30, 88, 275, 350, 375, 388, 172, 76),
    "oak": (30, 49, 36, 78, 195, 235, 255, 265, 155, 80),
    "pine": (25, 40, 29, 62, 165, 203, 220, 230, 112, 54),
    "shrub": (36, 53, 47, 85, 172, 205, 226, 236, 170, 98),
    "olive": (40, 62, 54, 96, 198, 232, 252, 262, 175, 105),
    "vine": (36, 66, 46, 102, 268, 335, 360, 370, 192, 98),
    "fruit": (32, 59, 38, 92, 272, 340, 365, 376, 182, 88),
    "citrus": (29, 56, 33, 88, 262, 335, 368, 380, 162, 72),
    "turf": (38, 76, 44, 112, 315, 385, 412, 422, 222, 114),
    "reed": (36, 56, 50, 92, 182, 218, 238, 246, 152, 82),
    "samphire": (62, 82, 88, 112, 152, 168, 182, 190, 172, 122),
    "rock": (132, 156, 180, 190, 197, 204, 212, 218, 255, 230),
    "sand": (185, 232, 282, 305, 320, 332, 345, 355, 415, 380),
    "gravel": (145, 170, 196, 208, 216, 223, 232, 238, 288, 260),
    "ash": (42, 48, 54, 60, 70, 80, 92, 102, 160, 170),
    "tile": (84, 112, 172, 196, 214, 230, 246, 256, 285, 252),
    "concrete": (146, 162, 178, 184, 190, 196, 203, 208, 228, 208),
    "metal": (272, 292, 310, 316, 322, 328, 334, 338, 338, 300),
    "asphalt": (86, 96, 107, 112, 118, 123, 129, 133, 158, 148),
    "marl": (225, 262, 300, 316, 328, 338, 348, 354, 402, 370),
    "sea": (46, 36, 19, 15, 12, 11, 10, 9, 6, 5),
    "lake": (42, 47, 30, 24, 18, 16, 14, 13, 9, 7),
    "stream": (56, 72, 66, 62, 54, 54, 52, 50, 34, 25),
    "brine": (170, 190, 180, 158, 120, 108, 98, 92, 38, 28),
}
MATERIALS = tuple(_THOUSANDTHS)
REFLECTANCE: NDArray[np.float32] = np.asarray(list(_THOUSANDTHS.values()), np.float32) / np.float32(1000)
"""(materials, bands) reflectance."""

CLOUD = np.asarray((0.58, 0.57, 0.56, 0.56, 0.57, 0.57, 0.58, 0.57, 0.42, 0.34), np.float32)
"""(bands,) reflectance of a thick cloud's sunlit top."""

State = tuple[int, str, float, str]
"""Number of the eight states, cover on top, its share of the pixel, background.
``soil`` is the soil of the pixel."""

_SAME = 3
_CALENDAR: dict[str, tuple[tuple[State, ...], ...]] = {
    "cereal": (
        ((5, "crop", 0.82, "soil"), (3, "grass", 0.70, "soil")),
        ((5, "straw", 0.85, "soil"), (3, "stubble", 0.75, "soil")),
        ((4, "stubble", 0.70, "soil"), (3, "stubble", 0.12, "soil"), (1, "grass", 0.35, "soil")),
    ),
    "fallow": (
        ((5, "grass", 0.60, "soil"), (3, "grass", 0.25, "soil")),
        ((5, "stubble", 0.50, "soil"), (3, "stubble", 0.10, "soil")),
        ((4, "stubble", 0.40, "soil"), (4, "stubble", 0.05, "soil")),
    ),
    "sunflower": (
        ((6, "grass", 0.10, "soil"), (2, "grass", 0.30, "soil")),
        ((6, "crop", 0.70, "soil"), (2, "vine", 0.50, "soil")),
        ((5, "stubble", 0.55, "soil"), (3, "stubble", 0.10, "soil")),
    ),
    "maize": (
        ((6, "grass", 0.08, "soil"), (2, "crop", 0.25, "soil")),
        ((6, "crop", 0.92, "soil"), (2, "crop", 0.65, "soil")),
        ((4, "crop", 0.75, "straw"), (4, "stubble", 0.60, "soil")),
    ),
    "alfalfa": (
        ((6, "crop", 0.85, "soil"), (2, "grass", 0.45, "soil")),
        ((5, "crop", 0.88, "soil"), (3, "grass", 0.45, "soil")),
        ((5, "crop", 0.80, "soil"), (3, "grass", 0.45, "soil")),
    ),
    "vegetables": (
        ((4, "crop", 0.45, "soil"), (4, "grass", 0.15, "soil")),
        ((4, "crop", 0.70, "soil"), (4, "crop", 0.30, "soil")),
        ((4, "crop", 0.45, "soil"), (4, "stubble", 0.15, "soil")),
    ),
    "vine": (
        ((5, "vine", 0.10, "soil"), (3, "grass", 0.35, "soil")),
        ((5, "vine", 0.42, "soil"), (3, "vine", 0.58, "soil")),
        ((5, "vine", 0.36, "soil"), (3, "vine", 0.48, "stubble")),
    ),
    "orchard": (
        ((5, "fruit", 0.40, "soil"), (3, "fruit", 0.48, "grass")),
        ((5, "fruit", 0.48, "soil"), (3, "fruit", 0.62, "stubble")),
        ((5, "fruit", 0.42, "soil"), (3, "fruit", 0.55, "stubble")),
    ),
    "citrus": (((5, "citrus", 0.62, "soil"), (3, "citrus", 0.45, "grass")),) * _SAME,
    "olive": (
        ((5, "olive", 0.40, "soil"), (3, "olive", 0.44, "grass")),
        ((5, "olive", 0.40, "soil"), (3, "olive", 0.46, "stubble")),
        ((5, "olive", 0.40, "soil"), (3, "olive", 0.46, "stubble")),
    ),
    "grove": (((8, "olive", 0.60, "soil"),),) * _SAME,
    "meadow": (
        ((8, "grass", 0.90, "soil"),),
        ((4, "grass", 0.60, "stubble"), (4, "grass", 0.35, "straw")),
        ((4, "grass", 0.55, "stubble"), (4, "stubble", 0.65, "soil")),
    ),
    "grassland": (
        ((5, "grass", 0.72, "soil"), (3, "grass", 0.55, "rock")),
        ((8, "straw", 0.60, "soil"),),
        ((8, "stubble", 0.60, "soil"),),
    ),
    "broadleaf": (
        ((4, "broadleaf", 0.62, "shrub"), (4, "broadleaf", 0.78, "grass")),
        ((8, "broadleaf", 0.88, "shrub"),),
        ((8, "broadleaf", 0.80, "shrub"),),
    ),
    "pine": (((5, "pine", 0.86, "shrub"), (3, "pine", 0.72, "stubble")),) * _SAME,
    "oak": (((8, "oak", 0.82, "shrub"),),) * _SAME,
    "shrub": (
        ((5, "shrub", 0.82, "grass"), (3, "shrub", 0.70, "soil")),
        ((5, "shrub", 0.82, "stubble"), (3, "shrub", 0.68, "soil")),
        ((5, "shrub", 0.80, "stubble"), (3, "shrub", 0.68, "soil")),
    ),
    "thin": (
        ((8, "grass", 0.28, "rock"),),
        ((4, "stubble", 0.40, "rock"), (4, "shrub", 0.22, "soil")),
        ((4, "stubble", 0.38, "rock"), (4, "shrub", 0.22, "soil")),
    ),
    "rock": (((8, "shrub", 0.10, "rock"),),) * _SAME,
    "burnt": (
        ((8, "ash", 0.55, "soil"),),
        ((5, "ash", 0.60, "soil"), (3, "ash", 0.50, "stubble")),
        ((5, "ash", 0.55, "soil"), (3, "ash", 0.50, "shrub")),
    ),
    "sand": (((8, "samphire", 0.06, "sand"),),) * _SAME,
    "gravel": (((5, "shrub", 0.10, "gravel"), (3, "grass", 0.20, "gravel")),) * _SAME,
    "garden": (
        ((4, "turf", 0.60, "oak"), (4, "grass", 0.60, "soil")),
        ((4, "turf", 0.50, "oak"), (4, "fruit", 0.50, "stubble")),
        ((4, "turf", 0.50, "oak"), (4, "fruit", 0.45, "stubble")),
    ),
    "turf": (((8, "turf", 0.85, "soil"),),) * _SAME,
    "tile": (((8, "tile", 0.80, "asphalt"),),) * _SAME,
    "house": (((8, "tile", 0.45, "soil"),),) * _SAME,
    "concrete": (((8, "concrete", 0.80, "asphalt"),),) * _SAME,
    "metal": (((8, "metal", 0.80, "concrete"),),) * _SAME,
    "asphalt": (((8, "asphalt", 0.85, "soil"),),) * _SAME,
    "yard": (((8, "concrete", 0.35, "soil"),),) * _SAME,
    "bare": (((8, "gravel", 0.15, "soil"),),) * _SAME,
    "marl": (((8, "marl", 0.75, "soil"),),) * _SAME,
    "reed": (((8, "reed", 0.80, "stream"),),) * _SAME,
    "samphire": (((8, "samphire", 0.75, "stream"),),) * _SAME,
    "brine": (((5, "brine", 0.80, "sea"), (3, "brine", 0.45, "stream")),) * _SAME,
    "sea": (((8, "sea", 1.0, "sea"),),) * _SAME,
    "lake": (((8, "lake", 1.0, "lake"),),) * _SAME,
    "stream": (((8, "stream", 0.92, "gravel"),),) * _SAME,
}
KINDS = tuple(_CALENDAR)
"""Kinds of cover, finer than the classes; the index is the value in a surface."""

SOIL = len(MATERIALS)
"""Background that means the soil of the pixel, one of the first three materials."""


@dataclass(frozen=True, eq=False)
class Looks:
    """Appearance of each kind in one season; arrays are (kinds * STATES,), index kind * STATES + state."""

    top: NDArray[np.uint8]
    """Material of the cover."""
    share: NDArray[np.float32]
    """Part of the pixel that the cover hides, 0 .. 1."""
    background: NDArray[np.uint8]
    """Material seen through it, or `SOIL`."""


def looks(season: str) -> Looks:
    """Return the calendar of a season as arrays."""
    number = {name: k for k, name in enumerate(MATERIALS)} | {"soil": SOIL}
    top, share, background = [], [], []
    for kind, seasons in _CALENDAR.items():
        states = seasons[SEASONS.index(season)]
        assert sum(state[0] for state in states) == STATES, kind
        for times, cover, part, below in states:
            top += [number[cover]] * times
            share += [part] * times
            background += [number[below]] * times
    return Looks(np.asarray(top, np.uint8), np.asarray(share, np.float32), np.asarray(background, np.uint8))
