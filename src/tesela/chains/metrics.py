"""What a run gives to `tesela compare`: its scores, the counts of the blocks of its test area, its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tesela.chains.run import Chain


@dataclass(frozen=True)
class Metric:
    """One score of a run, over all classes and by class."""

    name: str
    """Head of its column: "IoU", "MAE"."""
    overall: float
    by_class: Mapping[str, float]
    """Value by class name, in the order of the legend; nan where a class is absent; empty where there is none."""
    better: Literal["higher", "lower"] = "higher"
    tiles: Mapping[str, Metric] = field(default_factory=dict)
    """The same score on each tile of the test area, by the tile's name; of the headline only."""
    level: int | None = None
    """Level of the legend, where a chain evaluates several; each has a table of its own."""

    digits: int = 4
    """Decimals that are printed."""
    unit: str = ""
    """Printed in heads of columns."""

    @property
    def head(self) -> str:
        """Head of its column."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def key(self) -> str:
        """Name that no other metric of the run has."""
        return self.name if self.level is None else f"{self.name}, level {self.level}"


@dataclass(frozen=True)
class Blocks:
    """Counts of each block of the test area: the headline score is computed from their sum."""

    names: tuple[str, ...]
    """Names of the blocks; runs that are compared are paired by them."""
    counts: NDArray[np.float64]
    """(blocks, ...): sums over a block, such as a confusion matrix or sums of squared errors."""
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Headline score, that of the first metric, of counts summed over blocks: (draws, ...) -> (draws,)."""


class Comparable(Chain, Protocol):
    """A chain that `tesela compare` can vary; it calls all three methods when the last stage has run."""

    def metrics(self) -> tuple[Metric, ...]:
        """Scores on the test area, the headline first."""
        ...

    def blocks(self) -> Blocks:
        """Counts by block of the test area, for intervals and for the significance of differences."""
        ...

    def mflops_per_px(self) -> float:
        """Million floating-point operations (a multiplication and an addition are two) to map one pixel."""
        ...
