"""What `model = "auto"` tried: the rows that the header of an expert keeps, and how people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LEAD = "lead over chosen (95 % interval)"

COLUMNS = ("model", "prior", "accuracy", "macro F1", _LEAD)
"""Of class maps."""

SHARE_COLUMNS = ("model", "RMSE by level, %", "weight", "training, CPU s", _LEAD)
"""Of shares."""


def tried_columns(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns of `tried_rows`."""
    rows = scores.get("tried", ())
    of_shares = isinstance(rows, Sequence) and any(isinstance(row, Mapping) and "rmse" in row for row in rows)
    return SHARE_COLUMNS if of_shares else COLUMNS


def tried_rows(scores: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """
    The rows of the table of what was tried, under `tried_columns`.

    Parameters
    ----------
    scores : mapping
        `scores` of an expert's header; without "tried" there are no rows.
    """
    rows = scores.get("tried", ())
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        return []
    if tried_columns(scores) is SHARE_COLUMNS:
        return [_share_row(row) for row in rows if set(row) >= _SHARE_KEYS]
    return [
        (
            str(row.get("model", "")),
            f"{row['prior']:g}",
            f"{row['accuracy']:.4f}",
            f"{row['macro_f1']:.4f}",
            _verdict(row, 4),
        )
        for row in rows
        if {"prior", "accuracy", "macro_f1", "lead_over_chosen", "chosen"} <= set(row)
    ]


_SHARE_KEYS = {"rmse", "weight", "cpu_s", "lead_over_chosen", "chosen"}


def _share_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row.get("model", "")),
        " / ".join(f"{item:.2f}" for item in row["rmse"]),
        "" if row["weight"] is None else f"{row['weight']:.2f}",
        f"{row['cpu_s']:.0f}",
        _verdict(row, 2),
    )


def _verdict(row: Mapping[str, Any], digits: int) -> str:
    """The lead, or that the row is the chosen one."""
    return (
        "chosen" if row["chosen"] else " to ".join(f"{item:+.{digits}f}" for item in row["lead_over_chosen"])
    )


def tried_text(scores: Mapping[str, Any]) -> str:
    """The table for a terminal, whose scores are those of the validation area; empty where nothing was tried."""
    rows = tried_rows(scores)
    if not rows:
        return ""
    table = [tried_columns(scores), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "on the validation area:\n" + "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
