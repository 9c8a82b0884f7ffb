"""Map against reference: counts, scores and the report."""

from tesela.assessment.assessment import Assessment, Tile, assess
from tesela.assessment.confusion import Confusion, count_confusion
from tesela.assessment.report import write_report
from tesela.assessment.scores import ClassScores, Scores, score

__all__ = [
    "Assessment",
    "ClassScores",
    "Confusion",
    "Scores",
    "Tile",
    "assess",
    "count_confusion",
    "score",
    "write_report",
]
