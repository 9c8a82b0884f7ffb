"""The architectures of unmixing networks: the few settings from which each is built again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from tesela.core.errors import ExpertError, unknown_name
from tesela.models.architecture import (
    MOST_CHANNELS,
    MOST_CLASSES,
    choice,
    flag,
    number_list,
    whole_number,
)

if TYPE_CHECKING:
    from tesela.models.output import UnmixingNetwork

ENCODERS = ("mlp", "ltae", "tempcnn")
"""Pixel encoders by name; see `tesela.models.context`."""

HEAD_NAMES = ("softmax", "dirichlet", "sparsemax", "hurdle")
"""Heads of encoders by name; see `tesela.models.output`."""

MOST_NODES = 1 << 26
"""Largest number of nodes of all trees that a file may ask for."""

_READERS: dict[str, Callable[[Mapping[str, object]], object]] = {
    "bands": lambda document: whole_number(document, "bands", most=MOST_CHANNELS),
    "classes": lambda document: whole_number(document, "classes", most=MOST_CLASSES),
    "steps": lambda document: whole_number(document, "steps", most=MOST_CHANNELS),
    "layers": lambda document: whole_number(document, "layers", most=MOST_CHANNELS, least=0),
    "hidden": lambda document: whole_number(document, "hidden", most=MOST_CHANNELS),
    "embedding": lambda document: whole_number(document, "embedding", most=MOST_CHANNELS),
    "context": lambda document: whole_number(document, "context", most=8, least=0),
    "endmembers": lambda document: whole_number(document, "endmembers", most=MOST_CHANNELS),
    "trees": lambda document: whole_number(document, "trees", most=MOST_NODES),
    "nodes": lambda document: whole_number(document, "nodes", most=MOST_NODES),
    "outputs": lambda document: whole_number(document, "outputs", most=MOST_CLASSES),
    "neighbours": lambda document: whole_number(document, "neighbours", most=8, least=0),
    "windows": lambda document: number_list({"windows": document.get("windows", [])}, "windows", most=65),
    "months": lambda document: number_list(document, "months", most=12, least=1),
    "parents": lambda document: number_list(document, "parents", most=MOST_CLASSES),
    "encoder": lambda document: choice(document, "encoder", ENCODERS),
    "legacy": lambda document: choice(document, "legacy", ("", "deltas", "order")),
    "method": lambda document: choice(document, "method", ("fclsu", "nnls")),
    "filled": lambda document: flag({"filled": document.get("filled", False)}, "filled"),
    "sigmoid": lambda document: flag(document, "sigmoid"),
    "head": lambda document: _read_head(document),
    "endmember_decoder": lambda document: flag(
        document, "endmember_decoder" if "endmember_decoder" in document else "mixture"
    ),  # "mixture": in files written before the key was renamed
}
"""How each field of a file is read and checked."""


def _read_head(document: Mapping[str, object]) -> str:
    """Head of an encoder; files written before it had a name have a flag "dirichlet"."""
    if "head" in document:
        return choice(document, "head", HEAD_NAMES)
    return "dirichlet" if flag(document, "dirichlet") else "softmax"


class _Settings:
    """Reading and writing that all architectures share."""

    kind: str

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Build from `to_dict`'s document, checking every field."""
        return cls(**{item.name: _READERS[item.name](document) for item in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class BritsArchitecture(_Settings):
    """The published network; see `tesela.models.brits.network.Brits`."""

    bands: int
    classes: int
    layers: int = 0
    """Ancillary layers."""
    hidden: int = 100
    embedding: int = 50
    sigmoid: bool = True
    legacy: str = ""

    kind = "brits"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"BRITS, {self.hidden} hidden units"

    def build(self) -> UnmixingNetwork:
        """Make the network, with random weights."""
        from tesela.models.brits.network import Brits

        return Brits(
            self.bands,
            self.classes,
            layers=self.layers,
            hidden=self.hidden,
            embedding=self.embedding,
            sigmoid=self.sigmoid,
            legacy=self.legacy,
        )


@dataclass(frozen=True)
class EncoderArchitecture(_Settings):
    """A pixel encoder, optional neighbours, and a head; see `tesela.models.context.SeriesNetwork`."""

    bands: int
    classes: int
    months: tuple[int, ...]
    """Month of each step."""
    layers: int = 0
    encoder: str = "tempcnn"
    embedding: int = 128
    """Width of a pixel's embedding."""
    context: int = 0
    """Convolutions over neighbours, 3 x 3 each; 0: each pixel by itself."""
    head: str = "softmax"
    """How the embedding becomes shares: one of `HEAD_NAMES`."""
    endmember_decoder: bool = False
    """Reconstruct the series as a mixture of monthly endmember spectra, which can be read from the expert."""

    kind = "series"

    @property
    def summary(self) -> str:
        """A few words for people."""
        around = f", {self.context} x 3 x 3 context" if self.context else ""
        return f"{self.encoder}{around}{'' if self.head == 'softmax' else f', {self.head}'}"

    def build(self) -> UnmixingNetwork:
        """Make the network, with random weights."""
        from tesela.models.context import SeriesNetwork

        return SeriesNetwork(self)


@dataclass(frozen=True)
class MixingArchitecture(_Settings):
    """Linear unmixing with fixed endmembers; see `tesela.models.mixing.LinearUnmixing`."""

    bands: int
    classes: int
    steps: int
    endmembers: int
    """Endmember series, one or several per class."""
    parents: tuple[int, ...]
    """Position of each endmember's class."""
    method: str = "fclsu"
    """"fclsu": shares sum to 1 in the fit; "nnls": they are divided by their sum afterwards."""

    kind = "mixing"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"{self.method.upper()} of {self.endmembers} endmembers"

    def build(self) -> UnmixingNetwork:
        """Make the network, with endmembers of zero."""
        from tesela.models.mixing import LinearUnmixing

        return LinearUnmixing(self)


@dataclass(frozen=True)
class TreesArchitecture(_Settings):
    """A random forest or boosted trees; see `tesela.models.trees.Trees`."""

    bands: int
    classes: int
    steps: int
    trees: int
    nodes: int
    """Nodes of all trees."""
    outputs: int
    """Numbers in a leaf: all classes in a forest, one in boosted trees."""
    layers: int = 0
    neighbours: int = 0
    """Pixels on each side whose series are features too."""
    windows: tuple[int, ...] = ()
    """Sides of the windows whose means and deviations are features too."""
    filled: bool = False
    """Whether the pixel's series without its gaps is a feature too; not in files of former versions."""

    kind = "trees"

    @property
    def summary(self) -> str:
        """A few words for people."""
        kind = "boosted trees" if self.outputs == 1 and self.classes > 1 else "random forest"
        around = f", windows of {', '.join(map(str, self.windows))} px" if self.windows else ""
        return f"{kind}, {self.trees} trees{around}"

    def build(self) -> UnmixingNetwork:
        """Make the network, with trees that are single empty leaves."""
        from tesela.models.trees import Trees

        return Trees(self)


@dataclass(frozen=True)
class EnsembleArchitecture:
    """The weighted mean of several networks; see `tesela.models.ensemble.Ensemble`."""

    members: tuple[Unmixer, ...]
    weights: tuple[float, ...] = ()
    """Of each network; empty: all alike."""

    kind = "ensemble"

    @property
    def bands(self) -> int:
        """Number of input bands."""
        return self.members[0].bands

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.members[0].classes

    @property
    def summary(self) -> str:
        """A few words for people."""
        counts = Counter(member.summary for member in self.members)
        return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())

    def build(self) -> UnmixingNetwork:
        """Make the network, with random weights."""
        from tesela.models.ensemble import Ensemble

        return Ensemble([member.build() for member in self.members], self.weights)

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        document: dict[str, object] = {
            "kind": self.kind,
            "members": [member.to_dict() for member in self.members],
        }
        return document | ({"weights": list(self.weights)} if self.weights else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> EnsembleArchitecture:
        """Build from `to_dict`'s document, checking every field."""
        networks = document.get("members")
        if not isinstance(networks, list) or not 1 <= len(networks) <= MOST_CLASSES:
            raise ExpertError(
                f"architecture: members is {str(networks)[:60]!r}, a list of networks was needed."
            )
        members = []
        for item in networks:
            kind = str(item.get("kind")) if isinstance(item, Mapping) else ""
            if kind not in _MEMBERS:
                raise ExpertError(f"architecture: {unknown_name('member', kind, _MEMBERS)}")
            members.append(_MEMBERS[kind].from_dict(item))
        if len({(member.bands, member.classes) for member in members}) > 1:
            raise ExpertError("architecture: the members of an ensemble differ in bands or classes.")
        return cls(tuple(members), _read_weights(document.get("weights", []), len(members)))


def _read_weights(numbers: object, count: int) -> tuple[float, ...]:
    """Weights of the members of an ensemble; none, or one each from 0, of sum 1."""
    if numbers == []:
        return ()
    fits = isinstance(numbers, list) and all(isinstance(item, int | float) for item in numbers)
    weights = tuple(float(item) for item in numbers) if fits and isinstance(numbers, list) else ()
    if len(weights) != count or min(weights) < 0 or not abs(sum(weights) - 1) < 1e-2:
        raise ExpertError(
            f"architecture: weights is {str(numbers)[:60]!r}, {count} numbers from 0 of sum 1 were needed."
        )
    return weights


Unmixer = BritsArchitecture | EncoderArchitecture | MixingArchitecture | TreesArchitecture
"""Architectures that may be members of an ensemble."""

_MEMBERS: dict[str, type[Unmixer]] = {
    "brits": BritsArchitecture,
    "series": EncoderArchitecture,
    "mixing": MixingArchitecture,
    "trees": TreesArchitecture,
}

UNMIXERS = {**_MEMBERS, "ensemble": EnsembleArchitecture}
"""Families of unmixing networks that an expert file may name."""
