"""The tree of classes of a cascade: the classes of each expert below those that open its gate, each with its code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tesela.core.errors import RecipeError
from tesela.core.legend import Legend


@dataclass(frozen=True)
class Branch:
    """An expert as a part of the tree: its legend, and the classes of its parent that open its gate."""

    name: str
    legend: Legend
    parent: str | None = None
    """None for the first, whose classes are the roots."""
    classes: tuple[str, ...] = ()
    """Codes of the parent's legend."""


@dataclass(frozen=True)
class Node:
    """A class of an expert, as a node of the tree of all classes."""

    member: str
    position: int
    """Position of the class in the expert's legend."""
    value: int
    """Value in the cascade's map."""
    code: str
    depth: int
    parent: Node | None

    @property
    def path(self) -> tuple[Node, ...]:
        """The node and those above it, up to the root."""
        return (self, *(() if self.parent is None else self.parent.path))


def class_nodes(branches: Sequence[Branch], *, name: str) -> tuple[Node, ...]:
    """
    All classes of a cascade, parents before children.

    A class keeps the value and code of its legend where no other class has them. Otherwise it gets the next free
    value, and the code of the class above is put before its own: "forest.other".

    Parameters
    ----------
    branches : sequence of Branch
        Parents before children.
    name : str
        Of the cascade, for messages.

    Raises
    ------
    RecipeError
        If there are more than 254 classes.
    """
    nodes: list[Node] = []
    legends = {item.name: item.legend for item in branches}
    for branch in branches:
        parents: list[Node | None] = [None]
        if branch.parent is not None:
            above = legends[branch.parent]
            opens = {above.codes.index(code) for code in branch.classes}
            parents = [node for node in nodes if node.member == branch.parent and node.position in opens]
        for parent in parents:
            for position, item in enumerate(branch.legend.classes):
                taken = {node.value for node in nodes}
                value = item.value if item.value not in taken else next(_free(taken), 0)
                if not value:
                    raise RecipeError(
                        f"Cascade '{name}': its experts have more than 254 classes together, more than a map of "
                        f"bytes can hold. Split it into two cascades."
                    )
                unique = parent is None or all(node.code != item.code for node in nodes)
                code = item.code if unique or parent is None else f"{parent.code}.{item.code}"
                depth = 1 if parent is None else parent.depth + 1
                nodes.append(Node(branch.name, position, value, code, depth, parent))
    return tuple(nodes)


def _free(taken: set[int]) -> Iterator[int]:
    return (value for value in range(1, 255) if value not in taken)
