"""A later date of a virtual region: some land changed, and everything else looks different again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.legends import open_legend
from tesela.io.maps import write_map
from tesela.simulate.region.landscape import Landscape, make_landscape
from tesela.simulate.region.sensors import CloudRule, simulate_image, write_image
from tesela.simulate.region.spectra import BANDS, STATES
from tesela.simulate.region.surface import lay_surface

_WOODS = {29: 0.45, 33: 0.35, 12: 0.08, 3: 0.07, 7: 0.05}
_SCRUB = {33: 0.3, 24: 0.25, 12: 0.2, 3: 0.15, 32: 0.1}
_FIELDS = {2: 0.3, 3: 0.2, 17: 0.2, 16: 0.2, 28: 0.1}
_GROVES = {12: 0.5, 2: 0.2, 3: 0.15, 28: 0.15}
TRANSITIONS: dict[int, dict[int, float]] = {
    **dict.fromkeys((23, 24, 25), _WOODS),
    **dict.fromkeys((26, 28, 29), _SCRUB),
    **dict.fromkeys((12, 13, 18), _FIELDS),
    **dict.fromkeys((15, 16, 17, 19, 20, 21, 22), _GROVES),
    32: {24: 0.5, 28: 0.3, 7: 0.2},
}
"""Grid codes of CORINE: what a class turns into, and how often. Numbers are ours; the kinds are usual ones of CORINE in
Spain: fires and felling, building, new orchards, abandonment, growth."""


@dataclass(frozen=True)
class RegionPair:
    """Paths of a virtual region at two dates."""

    before: tuple[Path, ...]
    """One scene per season, as `write_region` writes them."""
    after: tuple[Path, ...]
    truth_before: Path
    truth_after: Path


def change_landscape(landscape: Landscape, *, share: float = 0.03, seed: int = 0) -> Landscape:
    """
    The landscape after some years: groups of neighbouring parcels of one class have turned into another.

    Parameters
    ----------
    share : float
        Of the pixels that change, 0 to 0.3; the last group may exceed it.
    seed : int
        Another one changes other land.

    Raises
    ------
    InputError
        If `share` is out of range.
    """
    if not 0 <= share <= 0.3:
        raise InputError(f"share is {share:g}; give the share of the pixels that change, 0 to 0.3.")
    rng = np.random.default_rng([landscape.seed, seed, 2024])
    truth, parcel = landscape.truth, landscape.parcel
    count = int(parcel.max()) + 1
    votes = np.bincount(parcel.ravel().astype(np.int64) * 64 + truth.ravel(), minlength=count * 64).reshape(
        count, 64
    )
    main = votes.argmax(1)
    size = np.maximum(votes.sum(1), 1)
    rows, cols = (axis.ravel() for axis in np.indices(truth.shape))
    centre = np.stack(
        [np.bincount(parcel.ravel(), weights=axis, minlength=count) / size for axis in (rows, cols)], 1
    )
    centre *= abs(float(landscape.grid.affine.a))
    becomes = np.zeros(count, np.uint8)
    wanted, changed = share * truth.size, 0
    for start in rng.permutation(count):
        if changed >= wanted:
            break
        odds = TRANSITIONS.get(int(main[start]))
        if odds is None or becomes[start]:
            continue
        reach = rng.lognormal(np.log(120.0), 0.5)
        near = ((centre - centre[start]) ** 2).sum(1) <= reach**2
        group = near & (main == main[start]) & (becomes == 0)
        becomes[group] = rng.choice(list(odds), p=list(odds.values()))
        changed += int(votes[group, main[start]].sum())
    new = becomes[parcel]
    return replace(
        landscape, truth=np.where((new > 0) & (truth == main[parcel]), new, truth).astype(np.uint8)
    )


def write_region_pair(
    out_dir: str | Path,
    *,
    size_px: int = 800,
    pixel_m: float = 10.0,
    seed: int = 0,
    share: float = 0.03,
    seasons: Sequence[str] = ("july",),
    bands: Sequence[str] = BANDS,
    clouds: CloudRule = "none",
) -> RegionPair:
    """
    Write a region at two dates, of which the change is known.

    At the later date all crops are in other states, clouds and noise are others, and land has changed.

    Parameters
    ----------
    size_px, pixel_m, seed
        As in `make_landscape`.
    share : float
        As in `change_landscape`.
    seasons, bands, clouds
        As in `write_region`.

    Raises
    ------
    TeselaError
        If a parameter is out of range or a file cannot be written.
    """
    early = make_landscape(size_px=size_px, pixel_m=pixel_m, seed=seed)
    late = change_landscape(early, share=share, seed=seed)
    folder, legend = Path(out_dir), open_legend("corine-3")
    scenes: list[tuple[Path, ...]] = []
    truths: list[Path] = []
    for take, (name, landscape) in enumerate((("before", early), ("after", late))):
        surface = lay_surface(landscape)
        if take:
            surface = replace(surface, state=_other_states(surface.state, landscape.seed))
        images = [
            simulate_image(landscape, season, surface=surface, clouds=clouds, take=take) for season in seasons
        ]
        scenes.append(
            tuple(
                write_image(image, folder / f"{name}_{image.season.name}.tif", bands=bands)
                for image in images
            )
        )
        truths.append(folder / f"truth_{name}.tif")
        write_map(truths[-1], landscape.truth, landscape.grid, legend=legend)
    return RegionPair(scenes[0], scenes[1], truths[0], truths[1])


def _other_states(state: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """States of the crops of another year."""
    rng = np.random.default_rng([seed, 2024, 1])
    return rng.integers(0, STATES, state.shape).astype(np.uint8)
