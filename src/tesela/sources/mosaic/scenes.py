"""The scenes of a mosaic: read, selected and checked before a pixel is composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tesela.core.errors import InputError
from tesela.io.remote import Rasters
from tesela.sources.sensor import Granule, RejectedScene, Sensor

_SAME_PASS = timedelta(minutes=10)
"""Granules of one satellite that are closer in time are one observation."""


@dataclass(frozen=True)
class Scenes:
    """The observations of a mosaic."""

    observations: tuple[tuple[Granule, ...], ...]
    """By time; the granules of one observation are of one pass."""
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
    sensor: Sensor,
    bands: Sequence[str],
    max_cloud: float = 100.0,
    incomplete: str = "skip",
    without: Sequence[str] = (),
    workers: int = 8,
) -> Scenes:
    """
    Group items into observations.

    Parameters
    ----------
    items : sequence of STAC items
    max_cloud : float
        In per cent; cloudier scenes are left out.
    incomplete : {"skip", "refuse"}
        What to do with items that lack a band or the mask band.
    without : sequence of str
        Names of items to leave out.

    Raises
    ------
    InputError
        If nothing is left, or an item is incomplete and that is refused.
    NetworkError
        If a scene cannot be read to check its offset.
    """
    read = [sensor.read_item(item, bands) for item in items]
    left_out = [one for one in read if isinstance(one, RejectedScene)]
    if left_out and (incomplete == "refuse" or len(left_out) == len(read)):
        raise InputError(
            f"{len(left_out)} of {len(read)} items cannot be used: {left_out[0].name} {left_out[0].reason}. "
            f"Choose other bands (--bands) or another catalogue; --incomplete skip leaves such items out if "
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
            f"All {len(read)} scenes are left out ({left_out[0].name} {left_out[0].reason}). Allow more "
            f"cloud (--max-cloud), or take another period."
        )
    kept = newest_processing(granules)
    kept_names = {granule.name for granule in kept}
    left_out += [
        RejectedScene(one.name, "was processed again, with a later version")
        for one in granules
        if one.name not in kept_names
    ]
    with ThreadPoolExecutor(workers) as pool:
        checked = list(pool.map(lambda granule: sensor.check_offset(granule, rasters), kept))
    notes = tuple(f"{granule.name}: {words}" for granule, words in checked if words)
    groups = group_observations([granule for granule, _ in checked])
    return Scenes(tuple(groups), tuple(left_out), notes)


def newest_processing(granules: Sequence[Granule]) -> list[Granule]:
    """Keep the latest processing of each tile and time; by time."""
    best: dict[tuple[str, str, str], Granule] = {}
    for granule in granules:
        key = (granule.platform, granule.tile or granule.name, granule.moment.strftime("%Y%m%dT%H%M"))
        held = best.get(key)
        if held is None or _rank(granule) > _rank(held):
            best[key] = granule
    return sorted(best.values(), key=lambda one: (one.moment, one.name))


def group_observations(granules: Sequence[Granule]) -> list[tuple[Granule, ...]]:
    """
    Group the granules of one satellite and one pass: neighbouring tiles repeat pixels, which must count once.

    Examples
    --------
    >>> group_observations([])
    []
    """
    groups: list[list[Granule]] = []
    for granule in sorted(granules, key=lambda one: (one.platform, one.moment, one.name)):
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and last.platform == granule.platform
            and granule.moment - last.moment < _SAME_PASS
        ):
            groups[-1].append(granule)
        else:
            groups.append([granule])
    return sorted((tuple(group) for group in groups), key=lambda group: (group[0].moment, group[0].name))


def _rank(granule: Granule) -> tuple[float, str]:
    return (granule.version if granule.version == granule.version else -1.0, granule.name)
