"""What `model = "auto"` tried: the rows that the header of an expert keeps, and how people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("model", "prior", "accuracy", "macro F1", "lead over the chosen (95 % interval)", "")


def tried_rows(scores: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """
    The rows of the table of what was tried, under `COLUMNS`.

    Parameters
    ----------
    scores : mapping
        `scores` of an expert's header; without "tried" there are no rows.
    """
    rows = scores.get("tried", ())
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        return []
    return [
        (
            str(row.get("model", "")),
            f"{row['prior']:g}",
            f"{row['accuracy']:.4f}",
            f"{row['macro_f1']:.4f}",
            "" if row["chosen"] else " to ".join(f"{item:+.4f}" for item in row["lead_over_chosen"]),
            "chosen" if row["chosen"] else "",
        )
        for row in rows
        if {"prior", "accuracy", "macro_f1", "lead_over_chosen", "chosen"} <= set(row)
    ]


def tried_text(scores: Mapping[str, Any]) -> str:
    """The table for a terminal; empty where nothing was tried."""
    rows = tried_rows(scores)
    if not rows:
        return ""
    table = [COLUMNS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
