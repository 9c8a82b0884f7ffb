"""The scenes of a mosaic: searched, read, sorted out and checked before a pixel is composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tesela.core.errors import InputError
from tesela.io.remote import Rasters
from tesela.sources.sentinel2.granules import (
    Granule,
    RejectedScene,
    check_offset,
    group_observations,
    newest_processing,
    read_granule,
)


@dataclass(frozen=True)
class Scenes:
    """What a mosaic is made of."""

    observations: tuple[tuple[Granule, ...], ...]
    """By time; the granules of one were seen in one pass."""
    left_out: tuple[RejectedScene, ...]
    notes: tuple[str, ...]
    """Offsets that were corrected."""

    @property
    def granules(self) -> tuple[Granule, ...]:
        """All of them."""
        return tuple(granule for group in self.observations for granule in group)


def choose_scenes(
    items: Sequence[Mapping[str, Any]],
    rasters: Rasters,
    *,
    bands: Sequence[str],
    max_cloud: float = 100.0,
    incomplete: str = "skip",
    without: Sequence[str] = (),
    workers: int = 8,
) -> Scenes:
    """
    Make observations of items.

    Parameters
    ----------
    items : sequence of STAC items
    max_cloud : float
        Per cent; cloudier scenes are left out.
    incomplete : {"skip", "refuse"}
        What to do with items that lack a band or the scene classification.
    without : sequence of str
        Names of items to leave out.

    Raises
    ------
    InputError
        If nothing is left, or an item is incomplete and that is refused.
    NetworkError
        If a scene cannot be looked at to check its offset.
    """
    read = [read_granule(item, bands) for item in items]
    left_out = [one for one in read if isinstance(one, RejectedScene)]
    if left_out and (incomplete == "refuse" or len(left_out) == len(read)):
        raise InputError(
            f"{len(left_out)} of {len(read)} items cannot be used: {left_out[0].name} {left_out[0].reason}. "
            f"Choose other bands (--bands) or another catalogue; --incomplete skip leaves such items out if some "
            f"others have all bands."
        )
    granules = [one for one in read if isinstance(one, Granule)]
    for granule in list(granules):
        reason = ""
        if granule.name in without:
            reason = "was left out by --without"
        elif granule.cloud_percent > max_cloud:
            reason = f"is cloudy ({granule.cloud_percent:.0f} %)"
        if reason:
            granules.remove(granule)
            left_out.append(RejectedScene(granule.name, reason))
    if not granules:
        raise InputError(
            f"All {len(read)} scenes found are left out ({left_out[0].name} {left_out[0].reason}). Allow more "
            f"cloud (--max-cloud), or take another period."
        )
    kept = newest_processing(granules)
    chosen = {granule.name for granule in kept}
    left_out += [
        RejectedScene(one.name, "was processed anew, by a later baseline")
        for one in granules
        if one.name not in chosen
    ]
    with ThreadPoolExecutor(workers) as pool:
        checked = list(pool.map(lambda granule: check_offset(granule, rasters), kept))
    notes = tuple(f"{granule.name}: {words}" for granule, words in checked if words)
    groups = group_observations([granule for granule, _ in checked])
    return Scenes(tuple(groups), tuple(left_out), notes)
