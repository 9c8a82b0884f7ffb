"""The table of the lulucf chain, laid out as Table 1 of Garcia Martin et al.: experts and system, three scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tesela.assessment.scores import Scores
from tesela.chains.metrics import Metric
from tesela.io.manifest import write_whole
from tesela.pages.environment import page_environment

_SCORES = {"accuracy": "pixel accuracy", "miou": "mIoU", "macro_f1": "macro F1"}
_MEASURES = {"none": "none", "loss": "weighted loss", "sampling": "sampling"}
_IMBALANCE = {
    "none": "no measure against imbalance",
    "loss": "imbalance: weighted loss",
    "sampling": "imbalance: sampling",
}

PUBLISHED = {
    "context": (0.6599, 0.3156, 0.4565),
    "canopy": (0.6183, 0.3569, 0.4779),
    "cascade": (0.6009, 0.3418, 0.4600),
}
"""What Garcia Martin et al. print for their sheet and experts: pixel accuracy, mIoU, macro F1."""


@dataclass(frozen=True)
class Row:
    """Scores of an expert, or of the cascade, trained with a measure against class imbalance, on some ground."""

    name: str
    measure: str
    ground: str
    accuracy: float
    miou: float
    macro_f1: float
    evaluated_px: int
    iou: Mapping[str, float | None]
    """IoU by class name; None where a class is absent."""

    @classmethod
    def of(cls, name: str, measure: str, ground: str, scores: Scores) -> Self:
        """Row of a confusion's scores."""
        iou = {
            item.name: None if item.iou != item.iou else round(float(item.iou), 6) for item in scores.classes
        }
        return cls(
            name,
            measure,
            ground,
            float(scores.accuracy),
            float(scores.mean_iou),
            float(scores.macro_f1),
            scores.evaluated_px,
            iou,
        )


@dataclass(frozen=True)
class Table:
    """All rows: by ground, by measure, experts before the cascade."""

    rows: tuple[Row, ...]
    measures: tuple[str, ...]

    @property
    def grounds(self) -> tuple[str, ...]:
        """Grounds that judged, in order."""
        return tuple(dict.fromkeys(row.ground for row in self.rows))

    @property
    def names(self) -> tuple[str, ...]:
        """Experts, then the cascade."""
        return tuple(dict.fromkeys(row.name for row in self.rows))

    def find(self, name: str, measure: str, ground: str) -> Row | None:
        """One row, where there is one."""
        wanted = (name, measure, ground)
        return next((row for row in self.rows if (row.name, row.measure, row.ground) == wanted), None)

    def metrics(self) -> tuple[Metric, ...]:
        """
        Scores of the cascade by its finest classes, then the mIoU of each expert on its own labels.

        They are those of the first measure, on unbiased patches where there are some, else on test patches.
        """
        ground = self.grounds[-1]
        rows = {name: self.find(name, self.measures[0], ground) for name in self.names}
        system = rows.pop("cascade")
        assert system is not None
        by_class = {name: math.nan if iou is None else iou for name, iou in system.iou.items()}
        return (
            Metric("IoU", system.miou, by_class),
            Metric("F1", system.macro_f1, {}),
            Metric("accuracy", system.accuracy, {}),
            *(Metric(f"{name} IoU", row.miou, {}) for name, row in rows.items() if row is not None),
        )

    def lines(self) -> tuple[str, ...]:
        """The table for a terminal."""
        head = ("ground", "imbalance", "expert", *_SCORES.values())
        body = [
            (
                row.ground,
                _MEASURES[row.measure],
                row.name,
                f"{row.accuracy:.4f}",
                f"{row.miou:.4f}",
                f"{row.macro_f1:.4f}",
            )
            for ground in self.grounds
            for row in self.rows
            if row.ground == ground
        ]
        widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]

        def text(cells: Sequence[str]) -> str:
            places = [
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(places).rstrip()

        return (text(head), "  ".join("-" * width for width in widths), *map(text, body))

    def to_dict(self) -> dict[str, Any]:
        """Document of all rows."""
        return {"measures": list(self.measures), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Table of such a document."""
        return cls(tuple(Row(**row) for row in document["rows"]), tuple(document["measures"]))

    def write(self, folder: Path, *, title: str, facts: Mapping[str, str]) -> list[Path]:
        """Write ``table.html``, one page that opens offline, and ``table.json``."""
        page, numbers = folder / "table.html", folder / "table.json"
        with write_whole(page) as part:
            part.write_text(self.to_html(title=title, facts=facts), encoding="utf-8")
        with write_whole(numbers) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return [page, numbers]

    def to_html(self, *, title: str, facts: Mapping[str, str]) -> str:
        """The table as a page: one block a ground, one group of columns a measure; then the IoU of each class."""
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

    def classes(self, ground: str) -> Iterator[tuple[str, list[float | None]]]:
        """IoU of each class of each expert, one a measure, None where there is none."""
        for name in self.names:
            found = [self.find(name, measure, ground) for measure in self.measures]
            for item in next((row.iou for row in found if row is not None), {}):
                values = [None if row is None else row.iou[item] for row in found]
                if any(value is not None for value in values):
                    yield f"{name}: {item}", values
