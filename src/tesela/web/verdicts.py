"""Verdicts: the rating of a patch by a reviewer, or the interpretation of a point of a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.patches.table import QUALITIES

ANSWERS = ("right", "partly", "wrong")
"""Answers 1, 2 and 3 to a question."""

REASONS: Mapping[str, str] = {
    "class": "wrong class",
    "outdated": "outdated",
    "shift": "shifted",
    "missing": "missing polygon",
    "mixed": "mixed classes",
    "cloud": "cloud or shadow",
    "other": "other",
}
"""Reasons why a label is wrong, by code."""

_QUALITIES: tuple[Literal["high"], Literal["medium"], Literal["low"]] = ("high", "medium", "low")


def reviewer_name(text: str) -> str:
    """
    Name of a reviewer, stripped of spaces.

    Raises
    ------
    ValueError
        If it is empty, longer than 60 characters, or has characters that cannot be printed.
    """
    name = text.strip()
    if not 0 < len(name) <= 60 or not name.isprintable():
        raise ValueError("a reviewer's name has 1 to 60 characters")
    return name


Answer = Annotated[int, Field(ge=1, le=len(ANSWERS))]

_PLAIN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
"""No control characters but tabs and line ends: tables for spreadsheets hold none."""


class Verdict(BaseModel):
    """
    Verdict of one reviewer on one item: a patch, or a point of a sample.

    For a patch, the reviewer answers both questions, and the quality is the worse of the two, or gives the quality
    alone. For a point, the reviewer gives its class.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=64)]
    """Random, set by the page: a verdict that is sent twice is stored once."""
    reviewer: Annotated[str, AfterValidator(reviewer_name)]
    item_id: str
    """Id of the patch, or of the point."""
    action: Literal["rate", "skip"] = "rate"
    """Skipped items are shown again later."""
    quality: Literal["high", "medium", "low"] | None = None
    """Of a patch; None for a skip."""
    reference: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of a point: code of its class; None for a skip."""
    label: Answer | None = None
    """Is the label right? 1 right, 2 partly, 3 wrong."""
    boundary: Answer | None = None
    """Is the boundary right? As `label`."""
    reasons: tuple[str, ...] = ()
    """Codes of `REASONS`."""
    note: Annotated[str, Field(max_length=2000, pattern=_PLAIN)] = ""
    flag: bool = False
    """Another reviewer should look at the item."""
    confidence: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent."""
    seconds: Annotated[float, Field(ge=0, lt=1e7)] = 0.0
    """Time for which the item was shown."""
    at: str = ""
    """UTC, ISO 8601; set by the log."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for reason in self.reasons:
            if reason not in REASONS:
                raise ValueError(unknown_name("reason", reason, REASONS))
        if self.label is not None and self.boundary is not None:
            derived = derive_quality(self.label, self.boundary)
            if self.quality not in (None, derived):
                raise ValueError(f"quality is {self.quality}, but the answers make it {derived}")
        if self.action == "rate" and (self.quality is None) == (self.reference is None):
            raise ValueError(
                f"a verdict needs the quality of a patch, one of {join_words(QUALITIES)}, or the class of a point"
            )
        return self

    @property
    def answer(self) -> str:
        """Quality of a patch, class of a point; empty for a skip."""
        return self.quality or self.reference or ""

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Verdict:
        """
        Verdict from a page's JSON.

        Raises
        ------
        InputError
            If a field is unknown, missing or out of range.
        """
        try:
            return cls.model_validate_json(json.dumps(document))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"This verdict cannot be stored: {field} {first['msg']}.") from None


def derive_quality(label: int, boundary: int) -> Literal["high", "medium", "low"]:
    """
    Quality from the answers to both questions: the worse of the two.

    Examples
    --------
    >>> derive_quality(1, 1), derive_quality(1, 2), derive_quality(3, 1)
    ('high', 'medium', 'low')
    """
    return _QUALITIES[max(label, boundary) - 1]


def by_item(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Verdicts by item, without skips."""
    grouped: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.action == "rate":
            grouped.setdefault(verdict.item_id, []).append(verdict)
    return grouped
