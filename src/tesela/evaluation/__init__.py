"""Counts, scores and the report."""

from tesela.evaluation.assessment import Assessment, Tile, assess
from tesela.evaluation.counts import Confusion, count_confusion
from tesela.evaluation.report import write_report
from tesela.evaluation.scores import ClassScores, Scores, score

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
