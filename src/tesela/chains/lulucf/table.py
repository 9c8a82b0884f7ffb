"""The table of the lulucf chain, laid out as Table 1 of Garcia Martin et al.: experts and system, three scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tesela.assessment.scores import Scores
from tesela.chains.evaluation import AREAS
from tesela.chains.metrics import Metric
from tesela.chains.scene_scores import SceneScore, read_scene_scores, scene_rows, scene_tiles
from tesela.core.errors import InputError
from tesela.io.manifest import write_text
from tesela.pages.environment import page_environment

_SCORES = {"accuracy": "pixel accuracy", "miou": "mIoU", "macro_f1": "macro F1"}
_STRATEGIES = {"none": "none", "loss": "weighted loss", "sampling": "sampling"}
_IMBALANCE = {
    "none": "imbalance: no strategy",
    "loss": "imbalance: weighted loss",
    "sampling": "imbalance: sampling",
}

PUBLISHED = {
    "context": (0.6599, 0.3156, 0.4565),
    "canopy": (0.6183, 0.3569, 0.4779),
    "cascade": (0.6009, 0.3418, 0.4600),
}
"""Scores that Garcia Martin et al. print for their sheet and experts: pixel accuracy, mIoU, macro F1."""


@dataclass(frozen=True)
class Row:
    """Scores of an expert, or of the cascade, trained with a strategy against class imbalance, in an area."""

    name: str
    imbalance: str
    """Strategy: none, loss or sampling."""
    area: str
    """Patches that were evaluated, such as "test patches"."""
    accuracy: float
    miou: float
    macro_f1: float
    evaluated_px: int
    iou: Mapping[str, float | None]
    """IoU by class name; None where a class is absent."""

    @classmethod
    def of(cls, name: str, imbalance: str, area: str, scores: Scores) -> Self:
        """Row of a confusion's scores."""
        iou = {
            item.name: None if item.iou != item.iou else round(float(item.iou), 6) for item in scores.classes
        }
        return cls(
            name,
            imbalance,
            area,
            float(scores.accuracy),
            float(scores.mean_iou),
            float(scores.macro_f1),
            scores.evaluated_px,
            iou,
        )


@dataclass(frozen=True)
class Table:
    """All rows: by area, by strategy, experts before the cascade."""

    rows: tuple[Row, ...]
    strategies: tuple[str, ...]
    """Strategies against class imbalance; the first one makes the map."""
    scenes: tuple[SceneScore, ...] = ()
    """Scores of the map of the first strategy, scene by scene."""

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that were evaluated, in order."""
        return tuple(dict.fromkeys(row.area for row in self.rows))

    @property
    def names(self) -> tuple[str, ...]:
        """Experts, then the cascade."""
        return tuple(dict.fromkeys(row.name for row in self.rows))

    def find(self, name: str, imbalance: str, area: str) -> Row | None:
        """One row, where there is one."""
        wanted = (name, imbalance, area)
        return next((row for row in self.rows if (row.name, row.imbalance, row.area) == wanted), None)

    def metrics(self) -> tuple[Metric, ...]:
        """
        Scores of the cascade by its finest classes, then the mIoU of each expert on its own labels.

        They are those of the first strategy, on unbiased patches where there are some, else on test patches; of the
        cascade, where no map has any, on the first scene that was not trained on.

        Raises
        ------
        InputError
            If no map was evaluated.
        """
        usual = [area for area in self.areas if area in AREAS.values()]
        mapped = [row for row in self.rows if row.name == "cascade" and row.imbalance == self.strategies[0]]
        if not mapped:
            raise InputError(
                "No map was evaluated, so there are no scores to compare. Map a scene that has test patches, or one "
                "with a reference that was not trained on."
            )
        patches = [row for row in mapped if row.area in usual]
        system = patches[-1] if patches else mapped[0]
        area = usual[-1] if usual else system.area
        rows = {name: self.find(name, self.strategies[0], area) for name in self.names if name != "cascade"}
        by_class = {name: math.nan if iou is None else iou for name, iou in system.iou.items()}
        return (
            Metric("IoU", system.miou, by_class, tiles=scene_tiles(self.scenes)),
            Metric("F1", system.macro_f1, {}),
            Metric("accuracy", system.accuracy, {}),
            *(Metric(f"{name} IoU", row.miou, {}) for name, row in rows.items() if row is not None),
        )

    def lines(self) -> tuple[str, ...]:
        """The table for a terminal."""
        head = ("area", "imbalance", "expert", *_SCORES.values())
        body = [
            (
                row.area,
                _STRATEGIES[row.imbalance],
                row.name,
                f"{row.accuracy:.4f}",
                f"{row.miou:.4f}",
                f"{row.macro_f1:.4f}",
            )
            for area in self.areas
            for row in self.rows
            if row.area == area
        ]
        widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]

        def text(cells: Sequence[str]) -> str:
            columns = [
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(columns).rstrip()

        scenes = [item.line() for item in self.scenes if len(self.scenes) > 1 or not item.assessed]
        return (text(head), "  ".join("-" * width for width in widths), *map(text, body), *scenes)

    def to_dict(self) -> dict[str, Any]:
        """Document of all rows."""
        return {
            "imbalance": list(self.strategies),
            "rows": [asdict(row) for row in self.rows],
            "scenes": scene_rows(self.scenes),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Table of such a document."""
        rows = tuple(Row(**row) for row in document["rows"])
        scenes = read_scene_scores(document.get("scenes", []))  # of an earlier version
        return cls(rows, tuple(document["imbalance"]), scenes)

    def write(self, folder: Path, *, title: str, facts: Mapping[str, str]) -> list[Path]:
        """Write ``table.html``, one page that opens offline, and ``table.json``."""
        page, numbers = folder / "table.html", folder / "table.json"
        write_text(page, self.to_html(title=title, facts=facts))
        write_text(numbers, json.dumps(self.to_dict(), indent=2) + "\n")
        return [page, numbers]

    def to_html(self, *, title: str, facts: Mapping[str, str]) -> str:
        """The table as a page: one block an area, one group of columns a strategy; then the IoU of each class."""
        template = page_environment("tesela.chains.lulucf").get_template("experts.html.j2")
        page: str = template.render(
            title=f"{title}: experts and cascade",
            t=self,
            heads=_SCORES,
            imbalance=_IMBALANCE,
            published=PUBLISHED,
            facts=dict(facts),
        )
        return page

    def classes(self, area: str) -> Iterator[tuple[str, list[float | None]]]:
        """IoU of each class of each expert, one a strategy; None where there is none."""
        for name in self.names:
            rows = [self.find(name, strategy, area) for strategy in self.strategies]
            for item in next((row.iou for row in rows if row is not None), {}):
                values = [None if row is None else row.iou[item] for row in rows]
                if any(value is not None for value in values):
                    yield f"{name}: {item}", values
