"""Groups of a cascade: members that run on the same windows, with their engines and the costs of windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tesela.core.scene import Scene
from tesela.mapping.augmentation import TestTimeAugmentation
from tesela.mapping.cascade import Cascade, Member
from tesela.mapping.cascade_runner import Group
from tesela.mapping.context_shares import scene_part, with_blank_context
from tesela.mapping.engine_benchmark import choose_engine
from tesela.mapping.engines import Engine, TorchEngine, make_engine
from tesela.mapping.reading import read_trial
from tesela.mapping.shared_backbone import SharedBackboneEngine, can_carry, shared_stages
from tesela.mapping.window_cover import WindowSizes, guess_costs, usual_costs
from tesela.mapping.windows import WindowPlan

_MEASURED_FROM = 16
"""From this many windows on, the costs of the sizes are measured."""


class GroupChoice:
    """Chooses engines, detects shared backbones and measures costs."""

    def __init__(
        self,
        cascade: Cascade,
        scene: Scene,
        *,
        plan: WindowPlan,
        sizes: WindowSizes,
        augmentation: TestTimeAugmentation,
    ) -> None:
        self.cascade, self.scene, self.plan, self.sizes = cascade, scene, plan, sizes
        self.augmentation = augmentation

    def make(self, saved: Mapping[str, object] | None, engine: str, precision: str) -> list[Group]:
        """Groups of members with their engines; those of an earlier run, where it left parts."""
        groups: list[Group] = []
        names, costs = (saved or {}).get("engines"), (saved or {}).get("costs")
        alone = self.augmentation != TestTimeAugmentation()  # features of a turned window are no use unturned
        for members in share_backbones(self.cascade.members, alone=alone):
            networks = [member.expert.network for member in members]
            # only plain torch returns the results between stages
            kind = engine if len(members) == 1 or engine != "auto" else None
            if isinstance(names, list) and isinstance(costs, list):
                shared = make_engine(networks[0], str(names[len(groups)]))
            else:
                shared = self._choose(members[0], kind, precision)
            if len(members) > 1 and isinstance(shared, TorchEngine) and can_carry(shared):
                shared = SharedBackboneEngine(networks, shared)
            parts = (
                [members] if isinstance(shared, SharedBackboneEngine) else [(member,) for member in members]
            )
            for part in parts:
                own = shared if part[0] is members[0] else make_engine(part[0].expert.network, shared.name)
                cost = tuple(costs[len(groups)]) if isinstance(costs, list) else self._costs(part[0], own)
                groups.append(Group(part, self.augmentation.of(own), cost))
        return groups

    def _choose(self, member: Member, kind: str | None, precision: str) -> Engine:
        if kind is None:
            kind = "cuda" if torch.cuda.is_available() else "torch"
        trial = []
        if "auto" in (kind, precision):
            given = member.expert.header.standardisation
            trial = read_trial(self.scene, plan=self.plan, standardisation=scene_part(given))
            trial = with_blank_context(trial, given)
        return choose_engine(
            member.expert.network, engine=kind, precision=precision, trial=trial, windows=len(self.plan)
        )[0]

    def _costs(self, member: Member, engine: Engine) -> tuple[float, ...]:
        if member.gate is None:
            return ()
        if len(self.plan) < _MEASURED_FROM:
            return guess_costs(self.sizes)
        return usual_costs(member.expert, engine, self.sizes)


def share_backbones(members: Sequence[Member], *, alone: bool = False) -> list[tuple[Member, ...]]:
    """
    Group members that share a backbone with an expert above them; the order stays that of the tree.

    A member joins the group of its parent where bands and standardisation are the same and at least the encoders are
    equal. With `alone` each member is a group of its own.
    """
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            first = group[0].expert
            if (
                not alone
                and member.gate is not None
                and member.gate.parent in {item.name for item in group}
                and member.expert.header.standardisation == first.header.standardisation
                and shared_stages(first.network, member.expert.network)
            ):
                group.append(member)
                break
        else:
            groups.append([member])
    return [tuple(group) for group in groups]
