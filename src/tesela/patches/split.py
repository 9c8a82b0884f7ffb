"""The split: which patches teach, which choose the model, and which judge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words, unknown_name
from tesela.io.vector import open_layer, read_layer
from tesela.patches.areas import metric_footprints, one_split_each, settle, shared_pairs, touched_blocks
from tesela.patches.balance import HELD, LACKING, quotas, share_out
from tesela.patches.table import NONE, QUALITIES, SPLITS, UNBIASED, PatchTable

FRACTIONS = (0.6, 0.2, 0.2)
"""Default shares of train, val and test."""

_SAME_GROUND = 0.5
"""Scenes that share more than this part of the smaller one show the same place at two dates."""

_MOST_SETTLED = 20_000
"""Patches up to which each way to share out blocks is judged with its buffers, which takes time."""


@dataclass(frozen=True)
class _Plan:
    """What the methods below choose by."""

    fractions: tuple[float, ...]
    seed: int
    block_m: float
    buffer_m: float
    anchor: str
    regions: str | Path | None
    region_field: str | None
    assign: Mapping[str, str] | None
    unbiased: float

    @property
    def wanted(self) -> tuple[str, ...]:
        """Splits that are to have patches."""
        return tuple(name for name, part in zip(SPLITS, self.fractions, strict=True) if part > 0)


_Splits = tuple[NDArray[np.object_], Sequence[str]]
"""Split of each patch, and the splits that must not end up empty."""


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
    assign: Mapping[str, str] | None = None,
    unbiased: float = 0.0,
) -> PatchTable:
    """
    Split a patch table so that no ground is in two splits.

    Ground is given to a split; a patch that touches ground of two goes to "none". So do patches of two splits
    that would still share ground, such as two dates of one place with different verdicts.

    Parameters
    ----------
    how : {"block", "random", "region", "quality"}
        "block": squares of ground, shared out so that every split gets its part of every class. "random":
        single patches. "region": polygons or scenes. "quality": high teaches, medium chooses, low judges,
        as in [GarciaMartin2026]_.
    fractions : sequence of float
        Wanted shares of train, val and test; one may be 0. Without use for "quality" and with `assign`.
    block_m : float
        Side of the blocks in metres; at least that of a patch.
    buffer_m : float
        Least distance between patches of different splits in metres.
    anchor : {"scene", "multiples"}
        Blocks start at the upper left corner of the first scene, so that blocks of whole patches cut no
        patch; or at the multiples of their side in the CRS, so that they do not depend on the scenes.
    regions : str or Path, optional
        Layer of polygons for "region"; default: each scene is a region, and dates of one place are one.
    region_field : str, optional
        Field that names the regions; polygons of one name are one region. Regions named train, val and test
        are taken at their word.
    assign : mapping of str to str, optional
        Split of each region or scene, by its name; those not named are used for nothing.
    unbiased : float
        For "quality", whose test patches are the worst labelled ones: share of the patches to hold out on random
        blocks of ground as the split "unbiased", whatever their quality, reviewed or not. 0 for none; the
        published split has none.

    Raises
    ------
    InputError
        If there is too little ground for the splits wanted, or a name is unknown.
    GridError
        If a block is smaller than a patch.
    """
    if how not in _METHODS:
        raise InputError(unknown_name("split", how, _METHODS))
    if seed < 0:
        raise InputError(f"The seed is {seed}; it is 0 or more.")
    if not 0 <= unbiased < 1 or (unbiased and how != "quality"):
        raise InputError(
            f"An unbiased test of {unbiased:g} of the patches cannot be held out of a split by '{how}'. Give a "
            "share from 0 to below 1, and the split 'quality'; the test patches of other splits are unbiased."
        )
    plan = _Plan(
        _fractions(fractions), seed, block_m, buffer_m, anchor, regions, region_field, assign, unbiased
    )
    ground = np.asarray(metric_footprints(table).to_numpy(), object)
    splits, promised = _METHODS[how](table, ground, plan)
    splits = settle(ground, splits, buffer_m=buffer_m)
    lacking = [name for name in promised if not (splits == name).any()]
    if lacking:
        raise InputError(
            f"No patch is left for {join_words(lacking)}: {len(table)} patches of {table.size_px} px are too "
            "few for this split, or they cross its borders. Take smaller patches or a smaller stride, other "
            "blocks or regions, or no buffer."
        )
    return table.with_splits(splits)


def _fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(part) for part in fractions)
    if len(found) != len(SPLITS) or min(found) < 0 or abs(sum(found) - 1) > 1e-6:
        raise InputError(
            f"The fractions are {join_words(found)}; give three that sum to 1, for {join_words(SPLITS)}, "
            "such as 0.6, 0.2, 0.2."
        )
    return found


def _random(table: PatchTable, ground: NDArray[np.object_], plan: _Plan) -> _Splits:
    """Patches that share no ground with an earlier one are drawn; the others follow those that they touch."""
    first, second = shared_pairs(ground, ground)
    later = first > second
    starts = np.searchsorted(first[later], np.arange(len(ground) + 1))
    earlier = second[later]
    alone = np.zeros(len(ground), np.bool_)
    for index in range(len(ground)):
        alone[index] = not alone[earlier[starts[index] : starts[index + 1]]].any()
    drawn = np.flatnonzero(alone)
    _require(
        len(drawn),
        len(plan.wanted),
        what="patches that share no ground",
        advice="smaller patches (--size) or more scenes",
    )
    order = np.random.default_rng(plan.seed).permutation(drawn)
    splits = np.full(len(ground), NONE, object)
    splits[order] = np.repeat(np.array(SPLITS, object), quotas(len(order), plan.fractions))
    touches = alone[second]
    followed = one_split_each(first[touches], splits[second[touches]], count=len(ground))
    return followed, plan.wanted


def _block(table: PatchTable, ground: NDArray[np.object_], plan: _Plan) -> _Splits:
    """Blocks are shared out several times; the result that keeps most of every class is taken."""
    patch, block, part = _blocks(table, ground, plan, needed=len(plan.wanted))
    classes = table.frame[table.share_columns].to_numpy(float)
    content = np.zeros((block.max() + 1, classes.shape[1]))
    np.add.at(content, block, classes[patch] * part[:, None])
    names = np.array(SPLITS, object)
    best, lowest = None, np.inf
    for chosen in share_out(content, plan.fractions, seed=plan.seed):
        splits = one_split_each(patch, names[chosen[block]], count=len(ground))
        if plan.buffer_m > 0 and len(ground) <= _MOST_SETTLED:
            splits = settle(ground, splits, buffer_m=plan.buffer_m)
        miss = _miss(classes, splits, plan.fractions)
        if miss < lowest:
            best, lowest = splits, miss
    assert best is not None
    return best, plan.wanted


def _blocks(
    table: PatchTable, ground: NDArray[np.object_], plan: _Plan, *, needed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Patches and the blocks that they touch, see `touched_blocks`; at least `needed` hold a whole patch."""
    side = float(np.sqrt(shapely.area(ground)).max())
    if plan.block_m < side * (1 - 1e-6):
        raise GridError(
            f"Blocks of {plan.block_m:g} m are smaller than a patch ({table.size_px} px, {side:.0f} m). Take "
            f"blocks of {side:.0f} m or a multiple of it (--block), or smaller patches (--size)."
        )
    if plan.anchor not in ("scene", "multiples"):
        raise InputError(unknown_name("anchor", plan.anchor, ("scene", "multiples")))
    corner = _scene_corner(table) if plan.anchor == "scene" else (0.0, 0.0)
    patch, block, part = touched_blocks(ground, side_m=plan.block_m, anchor=corner)
    whole = np.unique(block[part > 1 - 1e-5])
    _require(
        len(whole),
        needed,
        what=f"blocks of {plan.block_m:g} m with a whole patch",
        advice="smaller blocks (--block)",
    )
    return patch, block, part


def _region(table: PatchTable, ground: NDArray[np.object_], plan: _Plan) -> _Splits:
    promised: tuple[str, ...] = SPLITS[:1]
    patch, names = _scenes_of(table, ground) if plan.regions is None else _regions_of(table, ground, plan)
    known, region = np.unique(names.astype(str), return_inverse=True)
    if plan.assign is not None:
        for name in plan.assign:
            if name not in known:
                raise InputError(unknown_name("region", name, known.tolist()))
        strange = sorted(set(plan.assign.values()) - {*SPLITS, NONE})
        if strange:
            raise InputError(unknown_name("split", strange[0], (*SPLITS, NONE)))
        chosen = np.array([plan.assign.get(name, NONE) for name in known], object)
    elif set(known) <= set(SPLITS) and len(known) > 1:
        chosen = known.astype(object)
    else:
        _require(
            len(known),
            len(plan.wanted),
            what="regions",
            advice="more scenes, or a layer with more polygons (--regions)",
        )
        classes = table.frame[table.share_columns].to_numpy(float)
        content = np.zeros((len(known), classes.shape[1]))
        np.add.at(content, region, classes[patch])
        chosen = np.array(SPLITS, object)[share_out(content, plan.fractions, seed=plan.seed)[0]]
        promised = plan.wanted
    return one_split_each(patch, chosen[region], count=len(ground)), promised


def _quality(table: PatchTable, ground: NDArray[np.object_], plan: _Plan) -> _Splits:
    verdicts = table.frame["quality"].to_numpy(object)
    strange = sorted({str(verdict) for verdict in verdicts} - {*QUALITIES, ""})
    if strange:
        raise InputError(f"The patch table holds the {unknown_name('quality', strange[0], QUALITIES)}")
    roles = dict(zip(QUALITIES, SPLITS, strict=True))
    splits = np.array([roles.get(str(verdict), NONE) for verdict in verdicts], object)
    if not (splits == SPLITS[0]).any():
        raise InputError(
            f"No patch of {len(table)} is of quality '{QUALITIES[0]}', which teaches. Review the patches "
            "first (tesela review)."
        )
    if not plan.unbiased:
        return splits, SPLITS[:1]
    held = _held_out(table, ground, plan)
    return np.where(held == "rest", splits, held), (SPLITS[0], UNBIASED)


def _held_out(table: PatchTable, ground: NDArray[np.object_], plan: _Plan) -> NDArray[np.object_]:
    """Split "unbiased" on blocks drawn at random until they hold the share wanted, "rest" on the others."""
    patch, block, part = _blocks(table, ground, plan, needed=2)
    whole = np.unique(block[part > 1 - 1e-5])
    order = np.random.default_rng(plan.seed).permutation(whole)
    amount = np.cumsum(np.bincount(block, part)[order])[:-1]
    count = int(np.abs(amount - plan.unbiased * len(ground)).argmin()) + 1
    drawn = np.isin(block, order[:count])
    return one_split_each(patch, np.where(drawn, UNBIASED, "rest").astype(object), count=len(ground))


_METHODS: dict[str, Callable[[PatchTable, NDArray[np.object_], _Plan], _Splits]] = {
    "block": _block,
    "random": _random,
    "region": _region,
    "quality": _quality,
}


def _require(count: int, needed: int, *, what: str, advice: str) -> None:
    if count < needed:
        raise InputError(
            f"{what[0].upper()}{what[1:]}: {count}, but {needed} splits need at least {needed}. Take "
            f"{advice}."
        )


def _miss(classes: NDArray[np.float64], splits: NDArray[np.object_], fractions: Sequence[float]) -> float:
    """How far the splits are from their part of each class that the whole table holds; lost patches count."""
    totals = classes.sum(axis=0)
    present = totals > 0
    held = np.stack([classes[splits == name].sum(axis=0) for name in SPLITS])[:, present] / totals[present]
    size = np.array([(splits == name).mean() for name in SPLITS])
    wanted = np.asarray(fractions)
    empty = sum(bool(part > 0) and not count for part, count in zip(wanted, size, strict=True))
    lacking = (held[wanted > 0] < HELD).sum()
    spread = ((held - wanted[:, None]) ** 2).sum() + present.sum() * ((size - wanted) ** 2).sum()
    return float(spread + LACKING * lacking) + 100 * empty


def _scene_corner(table: PatchTable) -> tuple[float, float]:
    """Upper left corner of the first scene, in the metres of the footprints."""
    import geopandas as gpd

    scene = next(iter(table.scenes.values()))
    corner = gpd.GeoSeries.from_xy([scene.grid.affine.c], [scene.grid.affine.f], crs=table.frame.crs)
    x, y = corner.to_crs(metric_footprints(table).crs).iloc[0].coords[0]
    return float(x), float(y)


def _scenes_of(
    table: PatchTable, ground: NDArray[np.object_]
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Position of each patch, and its region: its scene, or the first scene that shows the same place."""
    scene = table.frame["scene"].to_numpy(object)
    names = list(dict.fromkeys(scene.tolist()))
    areas = {name: shapely.union_all(ground[scene == name]) for name in names}
    region: dict[str, str] = {}
    for name in names:
        for earlier in list(region):
            least = min(areas[name].area, areas[earlier].area)
            if areas[name].intersection(areas[earlier]).area > _SAME_GROUND * least:
                region[name] = region[earlier]
                break
        else:
            region[name] = name
    return np.arange(len(scene)), np.array([region[name] for name in scene], object)


def _regions_of(
    table: PatchTable, ground: NDArray[np.object_], plan: _Plan
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Patches, and the names of the regions that they touch, one pair each."""
    if plan.regions is None or plan.region_field is None:
        raise InputError(
            "A split by the polygons of a layer needs the field that names them (--region-field)."
        )
    layer = open_layer(plan.regions)
    field = layer.require_field(plan.region_field)
    footprints = metric_footprints(table)
    bounds = footprints.to_crs(layer.crs).total_bounds
    found = read_layer(layer, bounds=tuple(bounds.tolist()), columns=[field]).to_crs(footprints.crs)
    found = found[found[field].notna()]
    patch, polygon = shared_pairs(ground, shapely.make_valid(found.geometry.to_numpy()))
    if not len(patch):
        raise InputError(
            f"{plan.regions}: no polygon with a name in '{field}' lies on a patch. Check the layer and its "
            "place."
        )
    order = np.argsort(patch, kind="stable")
    return patch[order], found[field].astype(str).to_numpy(object)[polygon[order]]
