"""Fused experts: several models whose class probabilities are joined into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Self

from tesela.core.errors import ExpertError, unknown_name
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.models.segmentation.unet_dates import UnetDatesArchitecture

if TYPE_CHECKING:
    from torch import nn

Member = UnetArchitecture | ClassTreesArchitecture

_KINDS: dict[str, type[UnetArchitecture] | type[ClassTreesArchitecture]] = {
    "unet": UnetArchitecture,
    "unet_dates": UnetDatesArchitecture,
    "class_trees": ClassTreesArchitecture,
}
_MOST_MEMBERS = 16


@dataclass(frozen=True)
class FusedArchitecture:
    """Models of the same bands and classes, each with a weight."""

    members: tuple[Member, ...]

    @property
    def bands(self) -> int:
        """Number of input bands."""
        return self.members[0].bands

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.members[0].classes

    @property
    def band_dates(self) -> tuple[int, ...]:
        """Number of the date of each band, where all members take gaps of a date; else empty."""
        dates = {getattr(member, "band_dates", ()) for member in self.members}
        return dates.pop() if len(dates) == 1 else ()

    @property
    def kind(self) -> str:
        """Name of the family in an expert's header."""
        return "fused"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return " x ".join(member.summary for member in self.members)

    @property
    def stride(self) -> int:
        """Rows and columns of the input must be a multiple of this."""
        return lcm(*(member.stride for member in self.members))

    def build(self) -> nn.Module:
        """Make all members, with random weights, and equal weights of the members."""
        from tesela.models.segmentation.fused_network import FusedNetwork

        return FusedNetwork(self, [member.build() for member in self.members])

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        return {"kind": self.kind, "members": [member.to_dict() for member in self.members]}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """
        Build from `to_dict`'s document, checking every field.

        Raises
        ------
        ExpertError
            If a member is unknown, or members differ in bands or classes.
        """
        members = document.get("members")
        if not isinstance(members, list) or not 1 <= len(members) <= _MOST_MEMBERS:
            raise ExpertError(
                f"architecture: members is {members!r}, a list of 1 to {_MOST_MEMBERS} was needed."
            )
        made: list[Member] = []
        for one in members:
            kind = str(one.get("kind")) if isinstance(one, Mapping) else ""
            if kind not in _KINDS:
                raise ExpertError(unknown_name("member of a fused expert", kind, _KINDS))
            made.append(_KINDS[kind].from_dict(one))
        if len({(member.bands, member.classes) for member in made}) != 1:
            raise ExpertError("architecture: the members of a fused expert differ in bands or classes.")
        return cls(tuple(made))
