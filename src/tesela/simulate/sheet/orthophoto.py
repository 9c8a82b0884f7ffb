"""The orthophoto of a virtual sheet: surface, crowns and roofs under the sun, with their shadows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.simulate.noise import fractal, smooth
from tesela.simulate.sheet.covers import COVER_TYPES, NUMBER, TREES
from tesela.simulate.sheet.crowns import ROOF, Relief, raise_relief
from tesela.simulate.sheet.sheet import Sheet

SUN_AZIMUTH, SUN_ELEVATION = 155.0, 52.0
"""Degrees; a summer morning over Spain: shadows fall to the north-west."""

_ROOFS = (
    (178, 108, 78),
    (190, 126, 92),
    (164, 100, 76),
    (184, 140, 112),
    (196, 198, 200),
    (170, 178, 188),
    (214, 208, 196),
    (150, 158, 160),
)
"""Colours of roofs: four of tiles, four of metal and concrete."""

_SKY = np.asarray([0.40, 0.45, 0.54], np.float32)
"""Light in a shadow as a share of full light, in red, green and blue."""


def draw_orthophoto(sheet: Sheet, relief: Relief | None = None) -> NDArray[np.uint8]:
    """
    Render a sheet as an aerial image.

    Parameters
    ----------
    relief : Relief, optional
        From `crowns.raise_relief`, made if not given.

    Returns
    -------
    (3, rows, cols) array of uint8
        Red, green and blue.
    """
    relief = raise_relief(sheet) if relief is None else relief
    rng = np.random.default_rng([sheet.seed, 52])
    shape = sheet.parcel.shape
    pixel_m = sheet.pixel_m

    def noise(longest_m: float, shortest_m: float, gain: float = 0.6) -> NDArray[np.float32]:
        return fractal(rng, shape, pixel_m=pixel_m, longest_m=longest_m, shortest_m=shortest_m, gain=gain)

    grain, patch, broad = noise(1.5, pixel_m, 0.8), noise(30, 3), noise(250, 60)
    colour = _surface(sheet, grain=grain, patch=patch, broad=broad)
    _rows(sheet, colour, patch)
    _clothe(relief, colour, grain)
    light = _sunlight(relief, sheet, grain, patch)
    image = colour * light
    image = (
        image * np.float32(0.86)
        + image.mean(axis=0) * np.float32(0.08)
        + np.asarray([10, 12, 17], np.float32)[:, None, None]
    )  # haze
    sharp = np.stack([smooth(band, 0.55) for band in image])
    sharp += rng.standard_normal(sharp.shape, dtype=np.float32) * np.float32(1.6)
    return np.clip(np.rint(sharp), 1, 255).astype(np.uint8)


def _surface(
    sheet: Sheet, *, grain: NDArray[np.float32], patch: NDArray[np.float32], broad: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Colour of the surface, (3, rows, cols)."""
    kind = sheet.kind[sheet.parcel]
    fine = np.asarray([cover_type.grain for cover_type in COVER_TYPES], np.float32)[kind]
    coarse = np.asarray([cover_type.patch for cover_type in COVER_TYPES], np.float32)[kind]
    tone = sheet.tone[sheet.parcel] * (1 + fine * grain + coarse * patch * np.float32(0.8))
    base = np.asarray([cover_type.rgb for cover_type in COVER_TYPES], np.float32)
    # dry soil is paler and redder, moist soil greener
    damp = np.clip(coarse * (patch + broad), -0.2, 0.2)
    shift = np.asarray([-0.35, 0.05, -0.25], np.float32)
    wet = np.isin(kind, [NUMBER["reservoir"], NUMBER["stream"]])
    colour = np.empty((3, *kind.shape), np.float32)
    for band in range(3):
        colour[band] = base[kind, band] * tone * np.where(wet, 1, 1 + shift[band] * damp)
    return colour


def _rows(sheet: Sheet, colour: NDArray[np.float32], patch: NDArray[np.float32]) -> None:
    """Draw furrows, wheel tracks and rows of vines, in place."""
    kind = sheet.kind[sheet.parcel]
    turn = sheet.turn[sheet.parcel]
    rows, cols = kind.shape
    y = (np.arange(rows, dtype=np.float32) * np.float32(sheet.pixel_m))[:, None]
    x = (np.arange(cols, dtype=np.float32) * np.float32(sheet.pixel_m))[None, :]
    across = x * np.cos(turn) + y * np.sin(turn)
    for index, cover_type in enumerate(COVER_TYPES):
        if not cover_type.tilled_m:
            continue
        here = kind == index
        phase = across[here] / np.float32(cover_type.tilled_m)
        phase -= np.floor(phase)
        if cover_type.name == "vineyard":
            leafy = (np.abs(phase - 0.5) < 0.2 + 0.05 * patch[here]).astype(np.float32)
            for band, green in enumerate((84, 108, 54)):
                background = colour[band][here]
                colour[band][here] = background + leafy * (
                    green * sheet.tone[sheet.parcel[here]] - background
                )
            continue
        furrow = 1 + np.float32(0.05) * (2 * np.abs(2 * phase - 1) - 1)
        wheel = across[here] / np.float32(18)
        wheel = (wheel - np.floor(wheel)) * 18
        rut = np.where((np.abs(wheel - 1) < 0.45) | (np.abs(wheel - 3) < 0.45), 0.9, 1).astype(np.float32)
        for band in range(3):
            colour[band][here] *= furrow * (rut if cover_type.name != "fallow" else 1)


def _clothe(relief: Relief, colour: NDArray[np.float32], grain: NDArray[np.float32]) -> None:
    """Colour crowns and roofs, in place."""
    for number, tree in enumerate(TREES, start=1):
        here = relief.what == number
        shade = 1 + np.float32(0.08) * relief.hue[here] + np.float32(0.10) * grain[here]
        for band, value in enumerate(tree.rgb):
            warm = 1 + (0.05 * relief.hue[here] if band == 0 else 0)
            colour[band][here] = value * shade * warm
    here = relief.what == ROOF
    roofs = np.asarray(_ROOFS, np.float32)[relief.hue[here].astype(int)]
    for band in range(3):
        colour[band][here] = roofs[:, band] * (1 + np.float32(0.05) * grain[here])


def _sunlight(
    relief: Relief, sheet: Sheet, grain: NDArray[np.float32], patch: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Light on each pixel relative to a level surface, (3, rows, cols)."""
    leaf = (relief.what > 0) & (relief.what < ROOF)
    height = (
        relief.height_m + np.where(leaf, np.float32(0.35) * grain, np.float32(0)) + np.float32(0.12) * patch
    )
    south, east = np.gradient(height, np.float32(sheet.pixel_m))
    azimuth, elevation = np.deg2rad(SUN_AZIMUTH), np.deg2rad(SUN_ELEVATION)
    to_east = float(np.sin(azimuth) * np.cos(elevation))
    to_south = float(-np.cos(azimuth) * np.cos(elevation))
    up = float(np.sin(elevation))
    limit = np.where(relief.what == ROOF, np.float32(1.0), np.float32(1.6))
    south, east = np.clip(south, -limit, limit), np.clip(east, -limit, limit)
    facing = (up - to_south * south - to_east * east) / np.sqrt(1 + south * south + east * east)
    sun = np.clip(facing / up, 0.12, 1.5).astype(np.float32)
    lit = _lit(
        np.ascontiguousarray(relief.height_m),
        to_south / np.cos(elevation),
        to_east / np.cos(elevation),
        float(np.tan(elevation) * sheet.pixel_m),
    )
    lit = smooth(lit, 0.6)
    direct = sun * lit
    return np.stack([share + (1 - share) * direct for share in _SKY]).astype(np.float32)


@njit(cache=True)
def _lit(height, south, east, rise):  # type: ignore[no-untyped-def]
    """1 where the sun reaches the surface, 0 in shadow: each pixel is traced towards the sun."""
    rows, cols = height.shape
    highest = height.max()
    lit = np.ones((rows, cols), np.float32)
    for i in range(rows):
        for j in range(cols):
            h = height[i, j]
            step = 1
            while h + step * rise < highest:
                y, x = i + step * south, j + step * east
                if y < 0 or x < 0 or y > rows - 1 or x > cols - 1:
                    break
                if height[int(y + 0.5), int(x + 0.5)] > h + step * rise + 0.3:
                    lit[i, j] = 0
                    break
                step += 1
    return lit
