"""A first recipe: the commented template of a chain, filled in for a scene of the user."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, RecipeError
from tesela.core.grid import pixel_size_m
from tesela.core.scene import Scene
from tesela.core.units import parse_length_m
from tesela.io.manifest import write_text
from tesela.io.scenes import SceneSource, open_scene
from tesela.recipes.chain_registry import find_chain

_BLOCKS = 10
"""Blocks along the shorter side that a scene needs to keep the blocks of the template."""


def write_template(chain: str, path: Path, *, like: SceneSource | None = None) -> Path:
    """
    Write the commented recipe of a chain.

    Parameters
    ----------
    like : path or several, optional
        Imagery of the first scene: its files and bands stand in the recipe, and patches and blocks fit its size.

    Raises
    ------
    RecipeError
        If there is no such chain, or it maps no scenes.
    InputError
        If the file exists, which is not overwritten, or the scene cannot be opened.
    """
    find_chain(chain)
    if path.exists():
        raise InputError(f"{path} exists and is not overwritten. Name another file (-o).")
    text = resources.files("tesela.chains").joinpath(chain, "template.toml").read_text(encoding="utf-8")
    if like is not None:
        if "[[scenes]]" not in text:
            raise RecipeError(f"The chain '{chain}' maps no scenes, so leave --like out.")
        text = _filled(text, open_scene(like), folder=path.parent)
    write_text(path, text.replace(f"tesela run {chain}.toml", f"tesela run {path.name}", 1))
    return path


def fitting_patches(
    grids: Sequence[GeoBox], *, most_px: int = 128, block_m: float = 5_000
) -> tuple[int, int]:
    """
    Side of patches in pixels, and of blocks in metres, for scenes of this size.

    A patch is a tenth of the shorter side, at least 32 px. A block is two patches, where fewer than ten of the usual
    blocks lie along that side.

    Parameters
    ----------
    most_px, block_m : int and float
        Usual sides, for large scenes.

    Examples
    --------
    >>> from affine import Affine
    >>> fitting_patches([GeoBox((394, 621), Affine(30, 0, 0, 0, -30, 0), "EPSG:32630")])
    (32, 1920)
    """
    side_px, pixel_m = min((min(int(side) for side in grid.shape), pixel_size_m(grid)[0]) for grid in grids)
    size_px = min(most_px, max(32, side_px // 10 // 32 * 32))
    return size_px, round(block_m if side_px * pixel_m >= _BLOCKS * block_m else 2 * size_px * pixel_m)


def _filled(text: str, scene: Scene, *, folder: Path) -> str:
    """The template with the files, bands, patches and blocks of a scene."""
    usual = {key: json.loads(_line_of(key).search(text)[1]) for key in ("size_px", "block")}  # type: ignore[index]
    size_px, block_m = fitting_patches(
        [scene.grid], most_px=usual["size_px"], block_m=parse_length_m(usual["block"])
    )
    files = dict.fromkeys(band.path for band in scene.bands)
    values: dict[str, object] = {
        "paths": [_from_folder(file, folder) for file in files],
        "bands": list(scene.band_names),
        "size_px": size_px,
        "block": f"{block_m / 1000:g} km" if block_m % 1000 == 0 else f"{block_m} m",
    }
    for key, value in values.items():
        found = _line_of(key).search(text)
        if found is not None:
            line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
            rest = text[found.end() :]
            if rest.lstrip(" ").startswith("#"):  # the comment keeps its column, as far as it can
                line, rest = f"{line:<{_COMMENTS - 1}} ", rest.lstrip(" ")
            text = text[: found.start()] + line + rest
    return text


_COMMENTS = 29
"""Column of the comments of a template."""


def _line_of(key: str) -> re.Pattern[str]:
    """A key of the template with its value: a number, a text, or a list of texts in one line."""
    return re.compile(rf'^{key} = (\[.*?\]|"[^"]*"|\d+)', re.MULTILINE)


def _from_folder(file: str, folder: Path) -> str:
    """A file as the recipe names it: from its own folder where it lies below, else with its whole path."""
    if "://" in file or file.startswith("/vsi"):
        return file
    whole = Path(file).absolute()
    try:
        return whole.relative_to(folder.absolute()).as_posix()
    except ValueError:
        return whole.as_posix()
