"""The runner of a cascade: one strip through the tree of experts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tesela.io.scenes import SceneReader
from tesela.mapping.cascade import Cascade, Member
from tesela.mapping.context_shares import ContextScaler, ContextShares
from tesela.mapping.engines import KINDS, Engine
from tesela.mapping.kernels import (
    assign_child,
    divide_probability,
    keep_parent,
    quantise_probability,
    share_probability,
)
from tesela.mapping.reading import Scaler
from tesela.mapping.shared_backbone import SharedBackboneEngine
from tesela.mapping.window_cover import Tile, WindowSizes, cover_mask
from tesela.mapping.windows import Strip

SOFT_LEAST = 0.1
"""In soft mode a gate without a minimum confidence opens where its class has this probability or more."""


@dataclass(frozen=True)
class Group:
    """Members that run on the same windows: the first, and those that share its backbone."""

    members: tuple[Member, ...]
    engine: Engine
    costs: tuple[float, ...]
    """Cost of a window by size; see `tesela.mapping.window_cover.measure_costs`."""


@dataclass(frozen=True)
class CascadeRules:
    """Options of a cascade."""

    soft: bool = False
    """Multiply probabilities down the tree, and take the most probable of all classes."""
    isolated_px: int = 8
    """In the smallest square (64 px), fewer pixels of the gate mask than this get no window of their own."""


@dataclass(frozen=True)
class CascadeLayers:
    """Layers of a part beside the classes and their confidence."""

    entropy: bool = False
    probabilities: bool = False

    @property
    def distributed(self) -> bool:
        """Whether the probability of every class is kept."""
        return self.entropy or self.probabilities


@dataclass
class Tally:
    """Windows and pixels by member."""

    windows: Counter[str] = field(default_factory=Counter)
    """Windows of each size, as "expert 576x576"."""
    gated: Counter[str] = field(default_factory=Counter)
    """Pixels where the gate is open."""
    isolated: Counter[str] = field(default_factory=Counter)
    """Gated pixels that keep the class above, because they are isolated."""

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Document of counts."""
        return {key: dict(getattr(self, key)) for key in ("windows", "gated", "isolated")}

    def add(self, document: dict[str, dict[str, int]]) -> None:
        """Add a document of counts."""
        for key, counts in document.items():
            getattr(self, key).update(counts)


class CascadeRunner:
    """
    Runs a cascade on strips: the first group on all windows of the plan, each other group on the cheapest cover of
    the pixels where its gate is open.
    """

    def __init__(
        self,
        cascade: Cascade,
        groups: Sequence[Group],
        *,
        sizes: WindowSizes,
        rules: CascadeRules,
        layers: CascadeLayers | None = None,
    ) -> None:
        self.cascade = cascade
        self.groups = groups
        self.sizes = sizes
        self.rules = rules
        self.layers = layers or CascadeLayers()
        self._places = cascade.legend.index_table.astype(np.int64)
        self._context = ContextShares(cascade.members[0].expert.header.legend.codes)
        self._tables = {member.name: cascade.values(member) for member in cascade.members}
        gated = [value for member in cascade.members for value in cascade.gate_values(member)]
        self._layer = {value: layer for layer, value in enumerate(gated)}

    def scalers(self, reader: SceneReader) -> dict[str, Scaler]:
        """What cuts the windows of each member, by name."""
        inputs = {member.name: member.expert.header.standardisation for member in self.cascade.members}
        return {
            member.name: ContextScaler(reader, inputs[member.name], self._context)
            if member.reads_context
            else Scaler(reader, inputs[member.name])
            for member in self.cascade.members
        }

    def run(
        self, strip: Strip, raw: NDArray[np.generic], scalers: dict[str, Scaler]
    ) -> tuple[NDArray[np.uint8], Tally]:
        """
        Map a strip.

        Parameters
        ----------
        raw : (bands, rows, cols) array
            Stored numbers of the strip's windows.
        scalers : dict
            Scaler of each member, by name, from `scalers`.

        Returns
        -------
        (layers, rows, cols) array of uint8, Tally
            Values of the cascade's legend, and their confidence in per cent, 255 without data; then, as `layers` asks,
            entropy in per cent and the probability of each class in steps of 1/254.
        """
        classes = len(self.cascade.legend) if self.layers.distributed else 0
        state = _StripState(strip, len(self._layer) if self.rules.soft else 0, classes)
        tally = Tally()
        if self.cascade.has_context:
            self._context.begin(strip, self.sizes.window(0))
        for group in self.groups:
            top = group.members[0]
            if top.gate is None:
                tiles = list(self._whole(strip))
            else:
                mask = self._gate_mask(state, top)
                tiles, isolated = cover_mask(
                    mask, strip, sizes=self.sizes, costs=group.costs, least_px=self.rules.isolated_px
                )
                tally.gated[top.name] += int(np.count_nonzero(mask))
                tally.isolated[top.name] += isolated
            for batch in self._batches(tiles, group):
                self._run_group(group, batch, state, raw=raw, scaler=scalers[top.name], tally=tally)
            if self.rules.soft:
                self._keep_parents(group, state)
        return state.layers(self.layers), tally

    def _whole(self, strip: Strip) -> Iterator[Tile]:
        """Windows of the plan."""
        rows = strip.rows.keep_start, strip.rows.keep_stop
        for cols in strip.cols:
            yield Tile(0, (strip.rows.start, cols.start), rows, (cols.keep_start, cols.keep_stop))

    def _batches(self, tiles: Sequence[Tile], group: Group) -> Iterator[list[Tile]]:
        batch: list[Tile] = []
        for tile in tiles:
            if batch and (
                tile.size != batch[0].size or len(batch) == self.sizes.batch(tile.size, group.engine)
            ):
                yield batch
                batch = []
            batch.append(tile)
        if batch:
            yield batch

    def _run_group(
        self,
        group: Group,
        tiles: Sequence[Tile],
        state: _StripState,
        *,
        raw: NDArray[np.generic],
        scaler: Scaler,
        tally: Tally,
    ) -> None:
        """Run a group on windows of one size."""
        strip = state.strip
        shape = self.sizes.window(tiles[0].size)
        cut = [
            scaler.cut(raw, (tile.corner[0] - strip.rows.start, tile.corner[1] - strip.cols[0].start), shape)
            for tile in tiles
        ]
        kept = [number for number, (_, _, count) in enumerate(cut) if count]
        if not kept:
            return
        images = np.stack([cut[number][0] for number in kept])
        tiles = [tiles[number] for number in kept]
        valid = [cut[number][1] for number in kept]
        top = group.members[0]
        tally.windows[f"{top.name} {shape[0]}x{shape[1]}"] += len(tiles)
        engine = group.engine
        if isinstance(engine, SharedBackboneEngine):
            scores, features = engine.first(images)
        else:
            scores = _padded(engine, images, self.sizes.batch(tiles[0].size, engine))
        for tile, good, score in zip(tiles, valid, scores, strict=True):
            self._apply(top, tile, state, scores=score, valid=good)
            if top.gate is None and self.cascade.has_context:
                self._context.put(tile, score)
        if not isinstance(engine, SharedBackboneEngine):
            return
        for number, member in enumerate(group.members[1:], start=1):
            masks = [self._gate_mask(state, member, tile=tile) for tile in tiles]
            chosen = [index for index, mask in enumerate(masks) if mask.any()]
            tally.gated[member.name] += sum(int(np.count_nonzero(mask)) for mask in masks)
            if not chosen:
                continue
            tally.windows[f"{member.name} {shape[0]}x{shape[1]}"] += len(chosen)
            followed = engine.follow(number, features, chosen)
            for index, score in zip(chosen, followed, strict=True):
                self._apply(member, tiles[index], state, scores=score, valid=valid[index])

    def _apply(
        self,
        member: Member,
        tile: Tile,
        state: _StripState,
        *,
        scores: NDArray[np.float32],
        valid: NDArray[np.bool_],
    ) -> None:
        """Apply the scores of a member on one window."""
        here = state.at(tile)
        corner = tile.rows[0] - tile.corner[0], tile.cols[0] - tile.corner[1]
        rows, cols = tile.rows[1] - tile.rows[0], tile.cols[1] - tile.cols[0]
        good = valid[corner[0] : corner[0] + rows, corner[1] : corner[1] + cols]
        values, confidence = state.values[here], state.confidence[here]
        table = self._tables[member.name]
        if not self.rules.soft:
            mask = good if member.gate is None else good & self._gate_mask(state, member, tile=tile)
            for above in self.cascade.gate_values(member) or (0,):
                chosen = mask & (values == above) if above else mask
                self._divide(state, here, scores, corner=corner, mask=chosen, above=above, row=table[above])
            assign_child(scores, corner, mask, table, values, confidence)
            return
        for above in self.cascade.gate_values(member) or (0,):
            below = np.array([self._layer.get(int(value), -1) for value in table[above]])
            if above:
                weight = state.open_weights[self._layer[above]][here]
                mask = good & (weight >= self._least(member))
                state.shared[self._layer[above]][here] |= mask
            else:
                weight, mask = np.ones(good.shape, np.float32), good
                confidence[:] = 0
            self._divide(state, here, scores, corner=corner, mask=mask, above=above, row=table[above])
            share_probability(
                scores,
                corner,
                mask,
                weight,
                table[above],
                below,
                state.open_weights[:, *here],
                values,
                confidence,
            )

    def _divide(
        self,
        state: _StripState,
        here: tuple[slice, slice],
        scores: NDArray[np.float32],
        *,
        corner: tuple[int, int],
        mask: NDArray[np.bool_],
        above: int,
        row: NDArray[np.uint8],
    ) -> None:
        """Divide the probability of the class above among those of a member, where all probabilities are kept."""
        if self.layers.distributed:
            source = int(self._places[above]) if above else -1
            divide_probability(scores, corner, mask, source, self._places[row], state.probabilities[:, *here])

    def _gate_mask(
        self, state: _StripState, member: Member, *, tile: Tile | None = None
    ) -> NDArray[np.bool_]:
        """Pixels of a window, or of the whole strip, where a member's gate is open."""
        here = (slice(None), slice(None)) if tile is None else state.at(tile)
        above = self.cascade.gate_values(member)
        if self.rules.soft:
            mask = np.zeros(state.values[here].shape, np.bool_)
            for value in above:
                mask |= state.open_weights[self._layer[value]][here] >= self._least(member)
            return mask
        opened = np.zeros(256, np.bool_)
        opened[list(above)] = True
        mask = opened[state.values[here]]
        if member.gate is not None and member.gate.min_confidence > 0:
            mask &= state.confidence[here] >= member.gate.min_confidence
        return mask

    def _least(self, member: Member) -> np.float32:
        least = 0.0 if member.gate is None else member.gate.min_confidence
        return np.float32(least or SOFT_LEAST)

    def _keep_parents(self, group: Group, state: _StripState) -> None:
        for member in group.members:
            for value in self.cascade.gate_values(member):
                layer = self._layer[value]
                keep_parent(
                    state.shared[layer], state.open_weights[layer], value, state.values, state.confidence
                )


class _StripState:
    """Classes and probabilities of a strip, while it goes through the tree."""

    def __init__(self, strip: Strip, layers: int, classes: int) -> None:
        self.strip = strip
        self.values = np.zeros(strip.shape, np.uint8)
        self.confidence = np.ones(strip.shape, np.float32)
        self.open_weights = np.zeros((layers, *strip.shape), np.float32)
        """Soft mode: probability of each class that opens a gate."""
        self.shared = np.zeros((layers, *strip.shape), np.bool_)
        self.probabilities = np.zeros((classes, *strip.shape), np.float32)
        """Probability of each class of the finest level, where all are kept."""

    def at(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns that a window keeps."""
        top, left = self.strip.corner
        return slice(tile.rows[0] - top, tile.rows[1] - top), slice(tile.cols[0] - left, tile.cols[1] - left)

    def layers(self, wanted: CascadeLayers) -> NDArray[np.uint8]:
        classes = len(self.probabilities)
        layers = np.empty((2 + (1 + classes) * wanted.distributed, *self.values.shape), np.uint8)
        layers[0] = self.values
        layers[1] = np.where(self.values > 0, np.rint(self.confidence * 100), 255)
        if wanted.distributed:
            quantise_probability(self.probabilities, self.values > 0, layers[2], layers[3:])
        return layers if wanted.probabilities else layers[:3]


def _padded(engine: Engine, images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Scores; an engine that is set up for one shape always gets a full batch."""
    missing = batch - len(images)
    if missing and KINDS[engine.name.partition("-")[0]].own_shape:
        blank = np.zeros((missing, *images.shape[1:]), np.float32)
        return engine.scores(np.concatenate([images, blank]))[: len(images)]
    return engine.scores(images)
