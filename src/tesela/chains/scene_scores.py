"""Scores scene by scene and date by date: rows of one joint report, which names the scenes that were not assessed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tesela.assessment.assessment import Assessment
from tesela.chains.metrics import Metric
from tesela.io.manifest import write_text
from tesela.pages.environment import page_environment


@dataclass(frozen=True)
class SceneScore:
    """Scores of the map of one scene, or why there are none."""

    name: str
    date: str
    area: str
    """Where it was evaluated, or why not."""
    evaluated_px: int = 0
    accuracy: float | None = None
    miou: float | None = None
    macro_f1: float | None = None
    iou: Mapping[str, float | None] | None = None
    """IoU by class name; None where a class is absent."""
    report: str | None = None
    """Path of its report, from the folder of the joint one."""

    @classmethod
    def of(cls, name: str, date: str, area: str, assessment: Assessment, report: str | None) -> Self:
        """Row of an assessment."""
        scores = assessment.scores
        iou = {item.name: _rounded(item.iou) for item in scores.classes}
        return cls(
            name,
            date,
            area,
            scores.evaluated_px,
            float(scores.accuracy),
            float(scores.mean_iou),
            float(scores.macro_f1),
            iou,
            report,
        )

    @property
    def assessed(self) -> bool:
        """Whether there are scores."""
        return self.miou is not None

    @property
    def label(self) -> str:
        """Name and date."""
        return f"{self.name} {self.date}".strip()

    def metric(self) -> Metric:
        """The IoU for `tesela compare`."""
        by_class = {name: math.nan if value is None else value for name, value in (self.iou or {}).items()}
        return Metric("IoU", math.nan if self.miou is None else self.miou, by_class)

    def line(self) -> str:
        """One line for a terminal."""
        if self.miou is None:
            return f"scene     {self.label}: not assessed, {self.area}"
        return (
            f"scene     {self.label}: accuracy {self.accuracy:.4f}, mIoU {self.miou:.4f}, macro F1 {self.macro_f1:.4f} "
            f"on {self.area}"
        )


def read_scene_scores(rows: Sequence[Mapping[str, Any]]) -> tuple[SceneScore, ...]:
    """Rows of a document that `asdict` made."""
    return tuple(SceneScore(**row) for row in rows)


def scene_rows(scores: Sequence[SceneScore]) -> list[dict[str, Any]]:
    """Rows for JSON."""
    return [asdict(item) for item in scores]


def scene_tiles(scores: Sequence[SceneScore]) -> dict[str, Metric]:
    """The scenes as tiles of the headline, where there are several; `tesela compare` shows them side by side."""
    assessed = [item for item in scores if item.assessed]
    return {item.label: item.metric() for item in assessed} if len(scores) > 1 else {}


def write_joint_page(
    path: Path,
    scores: Sequence[SceneScore],
    *,
    title: str,
    total: Mapping[str, float] | None,
    facts: Mapping[str, str],
) -> Path:
    """
    Write one page above the reports of all scenes.

    Parameters
    ----------
    total : mapping, optional
        accuracy, miou and macro_f1 of all scenes together.
    """
    template = page_environment("tesela.chains").get_template("scenes.html.j2")
    names = list(dict.fromkeys(name for item in scores for name in item.iou or {}))
    page: str = template.render(
        title=title,
        scenes=scores,
        total=total,
        names=names,
        assessed=[s for s in scores if s.assessed],
        facts=facts,
    )
    write_text(path, page)
    return path


def _rounded(value: float) -> float | None:
    return None if value != value else round(float(value), 6)
