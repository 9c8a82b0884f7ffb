"""What a figure of an article is made of: its number, its drawing, its caption and the files that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tesela.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Source:
    """The run that is drawn."""

    chain: Any
    """Of the kind that the module of the figures knows."""
    file: str
    """The recipe's file, for messages."""
    scene: str | None = None
    """Scene to draw; default: the first one with a map and labels."""
    dpi: int = 300
    kept: dict[object, Any] = field(default_factory=dict, compare=False)
    """What several figures need, by what it is."""

    def need(self, path: Path, stage: str) -> Path:
        """
        A file that a stage writes.

        Raises
        ------
        InputError
            If it is missing; names the stage to run.
        """
        if not path.exists():
            raise InputError(
                f"{path} is missing, which stage '{stage}' writes. Run `tesela run {self.file} --until {stage}`."
            )
        return path

    def cells(self, width_mm: float) -> int:
        """Cells across a picture of this width."""
        return max(16, round(width_mm / 25.4 * self.dpi))


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption."""

    figure: Figure
    caption: str
    inputs: tuple[str | Path, ...]
    """Files that it shows."""


Draw: TypeAlias = Callable[[Source], Drawing]
Figures: TypeAlias = Mapping[str, Draw]
"""Drawings of a chain by the number of the figure in the paper."""
