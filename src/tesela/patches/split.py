"""The split: which patches train a model, which validate it, and which test it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words, unknown_name
from tesela.core.grid import crs_text
from tesela.core.notes import note
from tesela.io.vector import open_layer, read_layer
from tesela.patches.areas import (
    metric_footprints,
    one_split_each,
    separate_splits,
    shared_pairs,
    touched_blocks,
)
from tesela.patches.balance import MIN_CLASS_PART, MISSING_CLASS_COST, allocate_groups, largest_remainder
from tesela.patches.table import NONE, QUALITIES, SPLITS, UNBIASED, PatchTable

FRACTIONS = (0.6, 0.2, 0.2)
"""Default shares of train, val and test."""

_SAME_AREA = 0.5
"""Scenes that share more than this part of the smaller one show the same area at two dates."""

_ROUNDED = 0.01
"""Blocks are larger or smaller than wanted by more than this share: a note says so."""

_MAX_BUFFERED = 20_000
"""Patches up to which each allocation of blocks is evaluated with its buffers, which takes time."""


@dataclass(frozen=True)
class _Plan:
    """Settings of the methods below."""

    fractions: tuple[float, ...]
    seed: int
    block_m: float
    buffer_m: float
    anchor: str
    regions: str | Path | None
    region_field: str | None
    layer: str | None
    assign: Mapping[str, str] | None
    unbiased: float

    @property
    def wanted(self) -> tuple[str, ...]:
        """Splits with a fraction above 0."""
        return tuple(name for name, part in zip(SPLITS, self.fractions, strict=True) if part > 0)


_Splits = tuple[NDArray[np.object_], Sequence[str]]
"""Split of each patch, and the splits that must not be empty."""


def split_patches(
    table: PatchTable,
    how: str = "block",
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    block_m: float = 2000.0,
    buffer_m: float = 0.0,
    anchor: str = "scene",
    regions: str | Path | None = None,
    region_field: str | None = None,
    layer: str | None = None,
    assign: Mapping[str, str] | None = None,
    unbiased: float = 0.0,
) -> PatchTable:
    """
    Split a patch table so that no area is in two splits.

    Each area is allocated to one split; a patch that overlaps the areas of two splits goes to "none". So do patches
    of different splits that still overlap, such as two dates of one area with different quality classes.

    Parameters
    ----------
    how : {"block", "random", "region", "quality"}
        "block": square blocks, allocated so that every split gets its part of every class. "random": single
        patches. "region": polygons or scenes; where none is left to validate, blocks of the training regions are.
        "quality": high quality trains, medium validates, low tests, as in [GarciaMartin2026]_.
    fractions : sequence of float
        Target shares of train, val and test; one may be 0. Ignored by "quality" and with `assign`.
    block_m : float
        Side of the blocks in metres; from the scene's corner on the nearest whole number of patches, at least one,
        and fewer where the area would give too few blocks.
    buffer_m : float
        Least distance between patches of different splits in metres.
    anchor : {"scene", "multiples"}
        Blocks are those of whole patches from the upper left corner of each area's first scene, so that they do not
        cut a patch; or start at the multiples of their side in the CRS, so that they do not depend on the scenes.
    regions : str or Path, optional
        Layer of polygons for "region"; default: each scene is a region, and dates of one area are one region.
    region_field : str, optional
        Field with the names of the regions; polygons of one name are one region. Regions named train, val and
        test become these splits.
    layer : str, optional
        Layer of `regions`; needed when the file has several.
    assign : mapping of str to str, optional
        Split of each region or scene, by its name; the others are not used.
    unbiased : float
        For "quality", whose test patches have the worst labels: share of the patches to hold out in random blocks
        as the split "unbiased", of any quality, reviewed or not. 0 for none, as in the published split.

    Raises
    ------
    InputError
        If the area is too small for the splits, or a name is unknown.
    GridError
        If a block from "multiples" is smaller than a patch.
    """
    if how not in _METHODS:
        raise InputError(unknown_name("split", how, _METHODS))
    if seed < 0:
        raise InputError(f"The seed is {seed}; it is 0 or more.")
    if not 0 <= unbiased < 1 or (unbiased and how != "quality"):
        raise InputError(
            f"An unbiased test of {unbiased:g} of the patches cannot be held out of a split by '{how}'. Give a "
            "share from 0 to below 1, and the split 'quality'; the test patches of other splits are unbiased anyway."
        )
    plan = _Plan(
        _fractions(fractions), seed, block_m, buffer_m, anchor, regions, region_field, layer, assign, unbiased
    )
    footprints = np.asarray(metric_footprints(table).to_numpy(), object)
    splits, required = _METHODS[how](table, footprints, plan)
    splits = separate_splits(footprints, splits, buffer_m=buffer_m)
    empty = [name for name in required if not (splits == name).any()]
    if empty:
        raise InputError(
            f"No patch is left for {join_words(empty)}: {len(table)} patches of {table.size_px} px are too "
            "few for this split, or they cross its borders. Use smaller patches or a smaller stride, other "
            "blocks or regions, or no buffer."
        )
    return table.with_splits(splits)


def _fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    parts = tuple(float(part) for part in fractions)
    if len(parts) != len(SPLITS) or not min(parts) >= 0 or not abs(sum(parts) - 1) <= 1e-6:
        raise InputError(
            f"The shares are {join_words(parts)}; give three that sum to 1, for {join_words(SPLITS)}, "
            "such as 0.6, 0.2, 0.2."
        )
    return parts


def _random(table: PatchTable, footprints: NDArray[np.object_], plan: _Plan) -> _Splits:
    """Patches that do not overlap an earlier one are drawn; the others get the split of those that they overlap."""
    first, second = shared_pairs(footprints, footprints)
    later = first > second
    starts = np.searchsorted(first[later], np.arange(len(footprints) + 1))
    earlier = second[later]
    alone = np.zeros(len(footprints), np.bool_)
    for index in range(len(footprints)):
        alone[index] = not alone[earlier[starts[index] : starts[index + 1]]].any()
    drawn = np.flatnonzero(alone)
    _require(
        len(drawn),
        len(plan.wanted),
        what="patches without overlap",
        advice="smaller patches (--size) or more scenes",
    )
    order = np.random.default_rng(plan.seed).permutation(drawn)
    splits = np.full(len(footprints), NONE, object)
    splits[order] = np.repeat(np.array(SPLITS, object), largest_remainder(len(order), plan.fractions))
    touches = alone[second]
    followed = one_split_each(first[touches], splits[second[touches]], count=len(footprints))
    return followed, plan.wanted


def _block(table: PatchTable, footprints: NDArray[np.object_], plan: _Plan) -> _Splits:
    """Blocks are allocated several times; the result closest to the fractions of every class is taken."""
    patch, block, part = _blocks(table, footprints, plan, needed=len(plan.wanted))
    classes = table.frame[table.share_columns].to_numpy(float)
    content = np.zeros((block.max() + 1, classes.shape[1]))
    np.add.at(content, block, classes[patch] * part[:, None])
    names = np.array(SPLITS, object)
    best, lowest = None, np.inf
    for chosen in allocate_groups(content, plan.fractions, seed=plan.seed):
        splits = one_split_each(patch, names[chosen[block]], count=len(footprints))
        if plan.buffer_m > 0 and len(footprints) <= _MAX_BUFFERED:
            splits = separate_splits(footprints, splits, buffer_m=plan.buffer_m)
        cost = _cost(classes, splits, plan.fractions)
        if cost < lowest:
            best, lowest = splits, cost
    assert best is not None
    return best, plan.wanted


def _blocks(
    table: PatchTable, footprints: NDArray[np.object_], plan: _Plan, *, needed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Patches and the blocks that they touch, see `touched_blocks`; at least `needed` contain a whole patch."""
    if plan.anchor not in ("scene", "multiples"):
        raise InputError(unknown_name("anchor", plan.anchor, ("scene", "multiples")))
    side = float(np.sqrt(shapely.area(footprints)).max())
    if plan.anchor == "scene":
        count = patches_a_block(plan.block_m, side)
        patch, block, part = _blocks_by_area(table, footprints, count)
        while count > 1 and _whole(block, part).size < needed:
            count = -(-count // 2)
            patch, block, part = _blocks_by_area(table, footprints, count)
        block_m = count * side
        if abs(block_m - plan.block_m) > _ROUNDED * plan.block_m:
            note(f"Blocks of {plan.block_m:,.0f} m become {block_m:,.0f} m, {count} x {count} whole patches.")
    else:
        block_m = plan.block_m
        if block_m < side * (1 - 1e-6):
            raise GridError(
                f"Blocks of {block_m:g} m are smaller than a patch ({table.size_px} px, {side:.0f} m). Use "
                f"blocks of {side:.0f} m or a multiple of it (--block), or smaller patches (--size)."
            )
        patch, block, part = touched_blocks(footprints, side_m=block_m, anchor=(0.0, 0.0))
    _require(
        len(_whole(block, part)),
        needed,
        what=f"blocks of {block_m:g} m with a whole patch",
        advice="smaller blocks (--block), smaller patches (--size) or more scenes",
    )
    return patch, block, part


def _whole(block: NDArray[np.intp], part: NDArray[np.float64]) -> NDArray[np.intp]:
    """Blocks with a whole patch."""
    return np.unique(block[part > 1 - 1e-5])


def patches_a_block(block_m: float, patch_m: float) -> int:
    """
    Patches along the side of a block: the whole number that is nearest to the wanted side, so that no patch is cut.

    Examples
    --------
    >>> patches_a_block(5000, 1280), patches_a_block(512, 5120)
    (4, 1)
    """
    return max(1, round(block_m / patch_m))


def _blocks_by_area(
    table: PatchTable, footprints: NDArray[np.object_], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """
    Blocks of `count` patches a side on the pixels of the first scene of each area, whatever its CRS.

    Sheets of other zones are turned and shifted against each other, and one grid of blocks would cut their patches.
    """
    import geopandas as gpd

    patch_of, names, _ = _scenes_of(table, footprints)
    patches, blocks, parts = [], [], []
    before = 0
    for name in dict.fromkeys(names.tolist()):
        here = patch_of[names == name]
        grid = table.scenes[name].grid
        own: gpd.GeoSeries = table.frame.geometry.iloc[here].to_crs(crs_text(grid))
        step = ~grid.affine
        pixels = own.affine_transform([step.a, step.b, -step.d, -step.e, step.c, -step.f])  # rows upwards
        touched = touched_blocks(
            pixels.to_numpy(object), side_m=float(count * table.size_px), anchor=(0.0, 0.0)
        )
        patches.append(here[touched[0]])
        blocks.append(touched[1] + before)
        parts.append(touched[2])
        before += int(touched[1].max()) + 1
    order = np.argsort(np.concatenate(patches), kind="stable")
    return np.concatenate(patches)[order], np.concatenate(blocks)[order], np.concatenate(parts)[order]


def _region(table: PatchTable, footprints: NDArray[np.object_], plan: _Plan) -> _Splits:
    required: tuple[str, ...] = SPLITS[:1]
    if plan.regions is None:
        patch, names, region_of = _scenes_of(table, footprints)
    else:
        (patch, names), region_of = _regions_of(table, footprints, plan), {}
    regions, region = np.unique(names.astype(str), return_inverse=True)
    if plan.assign is not None:
        chosen = np.array(_assigned(plan.assign, regions.tolist(), region_of), object)
        required = tuple(name for name in SPLITS if name in {*plan.assign.values()}) or required
    elif set(regions) <= set(SPLITS) and len(regions) > 1:
        chosen = regions.astype(object)
    else:
        ends = [name for name in ("train", "test") if name in plan.wanted]
        two = len(regions) == 2 and len(ends) == 2  # validated within the region that trains
        _require(
            len(regions),
            2 if two else len(plan.wanted),
            what="regions",
            advice="more scenes, or a layer with more polygons (--regions)",
        )
        classes = table.frame[table.share_columns].to_numpy(float)
        content = np.zeros((len(regions), classes.shape[1]))
        np.add.at(content, region, classes[patch])
        parts = (plan.fractions[0] + plan.fractions[1], 0.0, plan.fractions[2]) if two else plan.fractions
        chosen = np.array(SPLITS, object)[allocate_groups(content, parts, seed=plan.seed)[0]]
        required = plan.wanted
    splits = one_split_each(patch, chosen[region], count=len(footprints))
    if "val" in plan.wanted and "val" not in chosen:
        splits = _validate_within(footprints, splits, plan)
    return splits, required


def _assigned(assign: Mapping[str, str], regions: Sequence[str], region_of: Mapping[str, str]) -> list[str]:
    """Split of each region; a scene stands for its area, which other dates show too."""
    unknown = sorted(set(assign.values()) - {*SPLITS, NONE})
    if unknown:
        raise InputError(unknown_name("split", unknown[0], (*SPLITS, NONE)))
    chosen: dict[str, str] = {}
    for name, split in assign.items():
        region = region_of.get(name, name)
        if region not in regions:
            raise InputError(unknown_name("region", name, [*regions, *region_of]))
        if chosen.setdefault(region, split) != split:
            raise InputError(
                f"assign gives '{name}' to {split} and other dates of its area to {chosen[region]}; one area goes to "
                f"one split."
            )
    return [chosen.get(name, NONE) for name in regions]


def _validate_within(
    footprints: NDArray[np.object_], splits: NDArray[np.object_], plan: _Plan
) -> NDArray[np.object_]:
    """
    Take blocks of the training patches to validate, in the share of validation to training; as they are if too few.

    Blocks are as large as `block_m`, or smaller, so that there are some.
    """
    train = np.flatnonzero(splits == "train")
    side = float(np.sqrt(shapely.area(footprints)).max())
    left, bottom, right, top = shapely.total_bounds(footprints[train]) if len(train) else (0, 0, 0, 0)
    usual = min(plan.block_m, max(right - left, top - bottom) / 8)
    block_m = side * max(1, int(usual / side + 1e-6))
    corner = (float(left), float(top))
    patch, block, part = touched_blocks(footprints[train], side_m=block_m, anchor=corner)
    whole = np.unique(block[part > 1 - 1e-5])
    count = round(len(whole) * plan.fractions[1] / (plan.fractions[0] + plan.fractions[1]))
    if len(whole) < 2:
        return splits
    drawn = np.random.default_rng(plan.seed).permutation(whole)[: max(1, count)]
    chosen = np.where(np.isin(block, drawn), "val", "train").astype(object)
    out = splits.copy()
    out[train] = one_split_each(patch, chosen, count=len(train))
    share = (out == "val").sum() / len(train)
    note(f"No region validates: {share:.0%} of the training patches do, in blocks of {block_m:,.0f} m.")
    return out


def _quality(table: PatchTable, footprints: NDArray[np.object_], plan: _Plan) -> _Splits:
    qualities = table.frame["quality"].to_numpy(object)
    unknown = sorted({str(quality) for quality in qualities} - {*QUALITIES, ""})
    if unknown:
        raise InputError(
            f"Column quality of the patch table: {unknown_name('quality', unknown[0], QUALITIES)}"
        )
    roles = dict(zip(QUALITIES, SPLITS, strict=True))
    splits = np.array([roles.get(str(quality), NONE) for quality in qualities], object)
    if not (splits == SPLITS[0]).any():
        raise InputError(
            f"No patch of {len(table)} has the quality '{QUALITIES[0]}', which is the training split. Review the "
            "patches first (tesela review serve TABLE)."
        )
    if not plan.unbiased:
        return splits, SPLITS[:1]
    held = _held_out(table, footprints, plan)
    return np.where(held == "rest", splits, held), (SPLITS[0], UNBIASED)


def _held_out(table: PatchTable, footprints: NDArray[np.object_], plan: _Plan) -> NDArray[np.object_]:
    """Split "unbiased" in blocks drawn at random until they hold the target share, "rest" in the others."""
    patch, block, part = _blocks(table, footprints, plan, needed=2)
    whole = _whole(block, part)
    order = np.random.default_rng(plan.seed).permutation(whole)
    amount = np.cumsum(np.bincount(block, part)[order])[:-1]
    count = int(np.abs(amount - plan.unbiased * len(footprints)).argmin()) + 1
    drawn = np.isin(block, order[:count])
    return one_split_each(patch, np.where(drawn, UNBIASED, "rest").astype(object), count=len(footprints))


_METHODS: dict[str, Callable[[PatchTable, NDArray[np.object_], _Plan], _Splits]] = {
    "block": _block,
    "random": _random,
    "region": _region,
    "quality": _quality,
}


def _require(count: int, needed: int, *, what: str, advice: str) -> None:
    if count < needed:
        raise InputError(
            f"{what[0].upper()}{what[1:]}: {count}, but {needed} splits need at least {needed}. Use {advice}."
        )


def _cost(classes: NDArray[np.float64], splits: NDArray[np.object_], fractions: Sequence[float]) -> float:
    """Distance of the splits from the fractions, by class of the whole table; patches in no split count as missing."""
    totals = classes.sum(axis=0)
    present = totals > 0
    held = np.stack([classes[splits == name].sum(axis=0) for name in SPLITS])[:, present] / totals[present]
    size = np.array([(splits == name).mean() for name in SPLITS])
    wanted = np.asarray(fractions)
    empty = sum(bool(part > 0) and not count for part, count in zip(wanted, size, strict=True))
    missing = (held[wanted > 0] < MIN_CLASS_PART).sum()
    spread = ((held - wanted[:, None]) ** 2).sum() + present.sum() * ((size - wanted) ** 2).sum()
    return float(spread + MISSING_CLASS_COST * missing) + 100 * empty


def _scenes_of(
    table: PatchTable, footprints: NDArray[np.object_]
) -> tuple[NDArray[np.intp], NDArray[np.object_], dict[str, str]]:
    """Position of each patch, and its region: its scene, or the first scene of the same area; region by scene."""
    scene = table.frame["scene"].to_numpy(object)
    names = list(dict.fromkeys(scene.tolist()))
    areas = {name: shapely.union_all(footprints[scene == name]) for name in names}
    region: dict[str, str] = {}
    for name in names:
        for earlier in list(region):
            least = min(areas[name].area, areas[earlier].area)
            if areas[name].intersection(areas[earlier]).area > _SAME_AREA * least:
                region[name] = region[earlier]
                break
        else:
            region[name] = name
    return np.arange(len(scene)), np.array([region[name] for name in scene], object), region


def _regions_of(
    table: PatchTable, footprints: NDArray[np.object_], plan: _Plan
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Patches, and the names of the regions that they overlap, one pair each."""
    if plan.regions is None or plan.region_field is None:
        raise InputError(
            "A split by the polygons of a layer needs the field that names them (--region-field)."
        )
    layer = open_layer(plan.regions, layer=plan.layer)
    field = layer.require_field(plan.region_field)
    series = metric_footprints(table)
    bounds = series.to_crs(layer.crs).total_bounds
    polygons = read_layer(layer, bounds=tuple(bounds.tolist()), columns=[field]).to_crs(series.crs)
    layer.report()
    polygons = polygons[polygons[field].notna()]
    patch, polygon = shared_pairs(footprints, shapely.make_valid(polygons.geometry.to_numpy()))
    if not len(patch):
        raise InputError(
            f"{plan.regions}: no polygon with a name in '{field}' overlaps a patch. Check the layer and its "
            "coordinate system."
        )
    order = np.argsort(patch, kind="stable")
    return patch[order], polygons[field].astype(str).to_numpy(object)[polygon[order]]
