"""The cascade: experts in a small tree; each maps only the pixels where the expert above it opens the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.class_tree import Branch, Node, class_nodes
from tesela.core.context_bands import context_bands, is_context
from tesela.core.errors import InputError, RecipeError, join_words, unknown_name
from tesela.core.file_names import inside
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import with_origins
from tesela.io.toml_file import read_toml
from tesela.models.expert import Expert, open_expert

FILE = "cascade.toml"
"""Name of the file in the directory of a cascade."""

_KEYS = ("path", "name", "parent", "classes", "min_confidence")


@dataclass(frozen=True)
class Gate:
    """The pixels that an expert maps: where its parent predicts one of these classes with enough confidence."""

    parent: str
    """Name of the expert above."""
    classes: tuple[str, ...]
    """Codes of the parent's legend."""
    min_confidence: float = 0.0
    """Least probability of the class, 0 to 1; the product of the probabilities down the tree."""


@dataclass(frozen=True)
class Member:
    """An expert in a cascade."""

    name: str
    expert: Expert
    gate: Gate | None = None
    """None for the first, which maps the whole scene."""

    @property
    def reads_context(self) -> bool:
        """Whether it reads probabilities of the first expert, see `tesela.mapping.context_shares`."""
        return any(is_context(band) for band in self.expert.header.bands)


@dataclass(frozen=True)
class Cascade:
    """
    Experts in a tree, parents before children.

    Each class of each expert is a node of one tree and has one value, the same at every level of the legend. Where a
    gate is closed, also for low confidence, the pixel keeps the class above at the finer levels, with its code and
    value.
    """

    name: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        problems = list(_problems(self.members))
        if problems:
            raise RecipeError(f"Cascade '{self.name}': {'; '.join(problems)}.")

    def __repr__(self) -> str:
        return f"<Cascade {self.name}: {', '.join(member.name for member in self.members)}>"

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of the scene that the experts take, each once."""
        bands = dict.fromkeys(band for member in self.members for band in member.expert.header.bands)
        return tuple(band for band in bands if not is_context(band))

    @property
    def has_context(self) -> bool:
        """Whether an expert reads probabilities of the first one."""
        return any(member.reads_context for member in self.members)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All classes, parents before children; see `tesela.core.class_tree.class_nodes`."""
        branches = [
            Branch(
                member.name,
                member.expert.header.legend,
                *(() if member.gate is None else (member.gate.parent, member.gate.classes)),
            )
            for member in self.members
        ]
        return class_nodes(branches, name=self.name)

    @cached_property
    def legend(self) -> Legend:
        """Legend of the map: the finest level, those above it as `Legend.level`."""
        root = self._legends[self.members[0].name]
        depth = max(node.depth for node in self.nodes)
        levels = root.depth - 1 + depth
        legend = None if root.upper is None else _renamed(root.upper, self.name, levels)
        for level in range(1, depth + 1):
            classes = tuple(self._class(node, level) for node in self.nodes if node.depth <= level)
            legend = Legend(self.name, classes, upper=legend, levels=levels)
        assert legend is not None
        return legend

    def values(self, member: Member) -> NDArray[np.uint8]:
        """
        Values of the cascade's map for the classes of a member.

        Returns
        -------
        (256, classes) array of uint8
            Value by the value of the class above (0 for the first member) and the position of the class.
        """
        table = np.zeros((256, len(member.expert.header.legend)), np.uint8)
        for node in self.nodes:
            if node.member == member.name:
                table[0 if node.parent is None else node.parent.value, node.position] = node.value
        return table

    def gate_values(self, member: Member) -> tuple[int, ...]:
        """Values of the classes that open the gate of a member."""
        return tuple(
            dict.fromkeys(
                node.parent.value for node in self.nodes if node.member == member.name and node.parent
            )
        )

    def _class(self, node: Node, level: int) -> LandClass:
        """A node as a class of a level at its depth or below."""
        own = self._legends[node.member].classes[node.position]
        above = own.parent if node.parent is None else node.parent.code
        return LandClass(
            node.value,
            node.code,
            own.name,
            own.color,
            node.code if node.depth < level else above,
            own.origin,
        )

    @cached_property
    def _legends(self) -> dict[str, Legend]:
        return {member.name: with_origins(member.expert.header.legend) for member in self.members}


def open_cascade(path: str | Path) -> Cascade:
    """
    Read a cascade from a TOML file, or from a directory that holds ``cascade.toml``.

    Each ``[[experts]]`` table has ``path`` (in the folder of the file, or below it), and may have ``name`` (default:
    the stem of the path); all but the first have ``parent``, ``classes`` and may have ``min_confidence``.

    Raises
    ------
    RecipeError
        If the file is missing or wrong; reports all mistakes at once.
    ExpertError
        If an expert cannot be opened.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE
    try:
        document = read_toml(file)
    except OSError as error:
        raise RecipeError(
            f"{file}: cannot be read ({error.strerror}); a cascade is a TOML file, or a folder with {FILE}."
        ) from None
    tables = document.get("experts")
    problems = [
        f"unknown key: {unknown_name('key', key, ('name', 'experts'))}"
        for key in document
        if key not in ("name", "experts")
    ]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RecipeError(f"{file}: has no experts; write an [[experts]] table with path for each.")
    for number, table in enumerate(tables, start=1):
        problems += [f"expert {number}: {problem}" for problem in _table_problems(table, first=number == 1)]
    if problems:
        raise RecipeError(f"{file}: {'; '.join(problems)}.")
    for table in tables:
        try:
            inside(file.parent, str(table["path"]), what=f"{file}: the path of an expert")
        except InputError as error:
            raise RecipeError(str(error)) from None
    members = tuple(_read_member(table, file, first=number == 0) for number, table in enumerate(tables))
    try:
        return Cascade(
            str(document.get("name", file.parent.name if file.name == FILE else file.stem)), members
        )
    except RecipeError as error:
        raise RecipeError(f"{file}: {error}") from None


def _read_member(table: Mapping[str, object], file: Path, *, first: bool) -> Member:
    path = str(table["path"])
    gate = None
    if not first:
        classes = table["classes"]
        assert isinstance(classes, list)
        least = table.get("min_confidence", 0.0)
        assert isinstance(least, int | float)
        gate = Gate(str(table["parent"]), tuple(classes), float(least))
    return Member(str(table.get("name", Path(path).stem)), open_expert(file.parent / path), gate)


def _table_problems(table: Mapping[str, object], *, first: bool) -> Iterator[str]:
    for key in table:
        if key not in _KEYS:
            yield unknown_name("key", key, _KEYS).rstrip(".")
    needed = ("path",) if first else ("path", "parent", "classes")
    for key in needed:
        if key not in table:
            yield f"no {key}"
    for key in ("path", "name", "parent"):
        if not isinstance(table.get(key, ""), str):
            yield f"{key} must be text"
    if first and "parent" in table:
        yield "the first expert maps the whole scene and has no parent"
    classes = table.get("classes", ["-"])
    if not isinstance(classes, list) or not classes or not all(isinstance(code, str) for code in classes):
        yield 'classes must be a list of codes, such as ["forest"]'
    least = table.get("min_confidence", 0)
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
        yield "min_confidence must be a number from 0 to 1"


def _problems(members: Sequence[Member]) -> Iterator[str]:
    if not members or members[0].gate is not None:
        yield "the first expert must have no gate, because it maps the whole scene"
    yield from _context_problems(members)
    legends: dict[str, Legend] = {}
    gated: set[tuple[str, str]] = set()
    for member in members:
        if member.name in legends:
            yield f"two experts have the name '{member.name}'; give each its own"
        gate = member.gate
        if gate is None and legends:
            yield f"expert '{member.name}' has no parent; only the first may have none"
        if gate is not None and gate.parent not in legends:
            names = join_words(legends) or "none"
            yield f"expert '{member.name}' has parent '{gate.parent}', which is none of the experts before it ({names})"
        elif gate is not None:
            codes = legends[gate.parent].codes
            for code in gate.classes:
                if code not in codes:
                    yield f"expert '{member.name}': {unknown_name('class', code, codes).rstrip('.')}"
                elif (gate.parent, code) in gated:
                    yield f"class '{code}' of '{gate.parent}' opens the gates of two experts; only one may follow it"
                gated.add((gate.parent, code))
        legends[member.name] = member.expert.header.legend


def _context_problems(members: Sequence[Member]) -> Iterator[str]:
    for number, member in enumerate(members):
        bands = [band for band in member.expert.header.bands if is_context(band)]
        known = context_bands(members[0].expert.header.legend.codes) if number else ()
        strange = [band for band in bands if band not in known]
        if strange:
            yield (
                f"expert '{member.name}' reads {join_words(strange)}, probabilities of a first expert with these "
                f"classes, which '{members[0].name}' is not"
            )
        elif bands and list(member.expert.header.bands[-len(bands) :]) != bands:
            yield f"expert '{member.name}' has bands of the scene after those of the first expert"


def _renamed(legend: Legend, name: str, levels: int) -> Legend:
    upper = None if legend.upper is None else _renamed(legend.upper, name, levels)
    return Legend(name, legend.classes, upper=upper, levels=levels)
