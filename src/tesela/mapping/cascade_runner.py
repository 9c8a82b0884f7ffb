"""The descent: one strip of ground down the tree of a cascade."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tesela.mapping.cascade import Cascade, Member
from tesela.mapping.engines import KINDS, Engine
from tesela.mapping.gates import assign_child, keep_parent, share_probability
from tesela.mapping.reading import Scaler
from tesela.mapping.shared_backbone import SharedBackboneEngine
from tesela.mapping.window_cover import Tile, WindowSizes, cover_ground
from tesela.mapping.windows import Strip

SOFT_LEAST = 0.1
"""In soft mode a gate without a confidence of its own opens from this probability of its class on."""


@dataclass(frozen=True)
class Group:
    """Members that run on the same windows: the first, and those that share its backbone and follow it."""

    members: tuple[Member, ...]
    engine: Engine
    costs: tuple[float, ...]
    """Of a window, by size; see `tesela.mapping.window_cover.measure_costs`."""


@dataclass(frozen=True)
class CascadeRules:
    """How a cascade is run."""

    soft: bool = False
    """Multiply probabilities down the tree and take the most probable class of all."""
    isolated_px: int = 8
    """In the smallest square of ground (64 px), fewer gated pixels than this call for no window of their own."""


@dataclass
class Tally:
    """What a descent did, by member."""

    windows: Counter[str] = field(default_factory=Counter)
    """Windows of each size, as "expert 576x576"."""
    gated: Counter[str] = field(default_factory=Counter)
    """Pixels on which the gate was open."""
    isolated: Counter[str] = field(default_factory=Counter)
    """Those of them left to the class above, as isolated."""

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Document of counts."""
        return {key: dict(getattr(self, key)) for key in ("windows", "gated", "isolated")}

    def add(self, document: dict[str, dict[str, int]]) -> None:
        """Add a document of counts."""
        for key, counts in document.items():
            getattr(self, key).update(counts)


class CascadeRunner:
    """
    Takes strips down a cascade: the first group on all of the plan's windows, each other on the cheapest cover of
    the ground where its gate is open.
    """

    def __init__(
        self, cascade: Cascade, groups: Sequence[Group], *, sizes: WindowSizes, rules: CascadeRules
    ) -> None:
        self.cascade = cascade
        self.groups = groups
        self.sizes = sizes
        self.rules = rules
        self._tables = {member.name: cascade.values(member) for member in cascade.members}
        gated = [value for member in cascade.members for value in cascade.gate_values(member)]
        self._layer = {value: layer for layer, value in enumerate(gated)}

    def run(
        self, strip: Strip, raw: NDArray[np.generic], scalers: dict[str, Scaler]
    ) -> tuple[NDArray[np.uint8], Tally]:
        """
        Map a strip.

        Parameters
        ----------
        raw : (bands, rows, cols) array
            All that the strip's windows see, as stored.
        scalers : dict
            By name of the member.

        Returns
        -------
        (2, rows, cols) array of uint8, Tally
            Values of the cascade's legend, and their probability in per cent, 255 without data.
        """
        ground = _Ground(strip, len(self._layer) if self.rules.soft else 0)
        tally = Tally()
        for group in self.groups:
            top = group.members[0]
            if top.gate is None:
                places = list(self._whole(strip))
            else:
                asked = self._asked(ground, top)
                places, left = cover_ground(
                    asked, strip, sizes=self.sizes, costs=group.costs, least_px=self.rules.isolated_px
                )
                tally.gated[top.name] += int(np.count_nonzero(asked))
                tally.isolated[top.name] += left
            for batch in self._batches(places, group):
                self._ask(group, batch, ground, raw=raw, scaler=scalers[top.name], tally=tally)
            if self.rules.soft:
                self._settle(group, ground)
        return ground.layers(), tally

    def _whole(self, strip: Strip) -> Iterator[Tile]:
        """The plan's own windows."""
        rows = strip.rows.keep_start, strip.rows.keep_stop
        for cols in strip.cols:
            yield Tile(0, (strip.rows.start, cols.start), rows, (cols.keep_start, cols.keep_stop))

    def _batches(self, places: Sequence[Tile], group: Group) -> Iterator[list[Tile]]:
        batch: list[Tile] = []
        for place in places:
            if batch and (
                place.size != batch[0].size or len(batch) == self.sizes.batch(place.size, group.engine)
            ):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _ask(
        self,
        group: Group,
        places: Sequence[Tile],
        ground: _Ground,
        *,
        raw: NDArray[np.generic],
        scaler: Scaler,
        tally: Tally,
    ) -> None:
        """Run a group on windows of one size."""
        strip = ground.strip
        shape = self.sizes.window(places[0].size)
        cut = [
            scaler.cut(
                raw, (place.corner[0] - strip.rows.start, place.corner[1] - strip.cols[0].start), shape
            )
            for place in places
        ]
        kept = [number for number, (_, _, count) in enumerate(cut) if count]
        if not kept:
            return
        images = np.stack([cut[number][0] for number in kept])
        places = [places[number] for number in kept]
        valid = [cut[number][1] for number in kept]
        top = group.members[0]
        tally.windows[f"{top.name} {shape[0]}x{shape[1]}"] += len(places)
        engine = group.engine
        if isinstance(engine, SharedBackboneEngine):
            scores, carried = engine.first(images)
        else:
            scores = _padded(engine, images, self.sizes.batch(places[0].size, engine))
        for place, mask, score in zip(places, valid, scores, strict=True):
            self._answer(top, place, ground, scores=score, valid=mask)
        if not isinstance(engine, SharedBackboneEngine):
            return
        for number, member in enumerate(group.members[1:], start=1):
            open_here = [self._asked(ground, member, place=place) for place in places]
            chosen = [index for index, asked in enumerate(open_here) if asked.any()]
            tally.gated[member.name] += sum(int(np.count_nonzero(asked)) for asked in open_here)
            if not chosen:
                continue
            tally.windows[f"{member.name} {shape[0]}x{shape[1]}"] += len(chosen)
            followed = engine.follow(number, carried, chosen)
            for index, score in zip(chosen, followed, strict=True):
                self._answer(member, places[index], ground, scores=score, valid=valid[index])

    def _answer(
        self,
        member: Member,
        place: Tile,
        ground: _Ground,
        *,
        scores: NDArray[np.float32],
        valid: NDArray[np.bool_],
    ) -> None:
        """Write the answers of a member on one window."""
        here = ground.at(place)
        corner = place.rows[0] - place.corner[0], place.cols[0] - place.corner[1]
        rows, cols = place.rows[1] - place.rows[0], place.cols[1] - place.cols[0]
        good = valid[corner[0] : corner[0] + rows, corner[1] : corner[1] + cols]
        values, surety = ground.values[here], ground.surety[here]
        table = self._tables[member.name]
        if not self.rules.soft:
            asked = good if member.gate is None else good & self._asked(ground, member, place=place)
            assign_child(scores, corner, asked, table, values, surety)
            return
        for above in self.cascade.gate_values(member) or (0,):
            below = np.array([self._layer.get(int(value), -1) for value in table[above]])
            if above:
                weight = ground.open_weights[self._layer[above]][here]
                asked = good & (weight >= self._least(member))
                ground.answered[self._layer[above]][here] |= asked
            else:
                weight, asked = np.ones(good.shape, np.float32), good
                surety[:] = 0
            share_probability(
                scores,
                corner,
                asked,
                weight,
                table[above],
                below,
                ground.open_weights[:, *here],
                values,
                surety,
            )

    def _asked(self, ground: _Ground, member: Member, *, place: Tile | None = None) -> NDArray[np.bool_]:
        """Pixels of a window's ground, or of all of the strip's, on which a member's gate is open."""
        here = (slice(None), slice(None)) if place is None else ground.at(place)
        above = self.cascade.gate_values(member)
        if self.rules.soft:
            found = np.zeros(ground.values[here].shape, np.bool_)
            for value in above:
                found |= ground.open_weights[self._layer[value]][here] >= self._least(member)
            return found
        opened = np.zeros(256, np.bool_)
        opened[list(above)] = True
        asked = opened[ground.values[here]]
        if member.gate is not None and member.gate.min_confidence > 0:
            asked &= ground.surety[here] >= member.gate.min_confidence
        return asked

    def _least(self, member: Member) -> np.float32:
        least = 0.0 if member.gate is None else member.gate.min_confidence
        return np.float32(least or SOFT_LEAST)

    def _settle(self, group: Group, ground: _Ground) -> None:
        for member in group.members:
            for value in self.cascade.gate_values(member):
                layer = self._layer[value]
                keep_parent(
                    ground.answered[layer], ground.open_weights[layer], value, ground.values, ground.surety
                )


class _Ground:
    """What is known of the ground of a strip."""

    def __init__(self, strip: Strip, layers: int) -> None:
        self.strip = strip
        self.values = np.zeros(strip.shape, np.uint8)
        self.surety = np.ones(strip.shape, np.float32)
        self.open_weights = np.zeros((layers, *strip.shape), np.float32)
        """Soft mode: probability of each class that opens a gate."""
        self.answered = np.zeros((layers, *strip.shape), np.bool_)

    def at(self, place: Tile) -> tuple[slice, slice]:
        """Rows and columns of a window's ground."""
        top, left = self.strip.corner
        return slice(place.rows[0] - top, place.rows[1] - top), slice(
            place.cols[0] - left, place.cols[1] - left
        )

    def layers(self) -> NDArray[np.uint8]:
        found = np.empty((2, *self.values.shape), np.uint8)
        found[0] = self.values
        found[1] = np.where(self.values > 0, np.rint(self.surety * 100), 255)
        return found


def _padded(engine: Engine, images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Scores; engines that are set up for one shape always get a full batch."""
    missing = batch - len(images)
    if missing and KINDS[engine.name.partition("-")[0]].own_shape:
        blank = np.zeros((missing, *images.shape[1:]), np.float32)
        return engine.scores(np.concatenate([images, blank]))[: len(images)]
    return engine.scores(images)
