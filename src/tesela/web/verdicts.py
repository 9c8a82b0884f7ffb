"""Verdicts of photointerpreters: what one of them says of a patch, or of a point of a sample."""

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
"""What may be wrong, by code."""

_TIERS: tuple[Literal["high"], Literal["medium"], Literal["low"]] = ("high", "medium", "low")


def reviewer_name(text: str) -> str:
    """
    Name of a reviewer without blanks around it.

    Raises
    ------
    ValueError
        If it is empty, longer than 60 characters, or holds what cannot be printed.
    """
    name = text.strip()
    if not 0 < len(name) <= 60 or not name.isprintable():
        raise ValueError("a reviewer's name has 1 to 60 characters")
    return name


Answer = Annotated[int, Field(ge=1, le=len(ANSWERS))]


class Verdict(BaseModel):
    """
    One reviewer's word on one thing: a patch, or a point of a sample.

    Of a patch, either both questions are answered, and the tier is the worse of the two, or the tier alone is
    given. Of a point, the class that is seen there is given.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=64)]
    """Drawn by the page: a verdict that is sent twice is kept once."""
    reviewer: Annotated[str, AfterValidator(reviewer_name)]
    item_id: str
    """Id of the patch, or of the point."""
    action: Literal["judge", "skip"] = "judge"
    """What is skipped is seen again later."""
    tier: Literal["high", "medium", "low"] | None = None
    """Of a patch; None for a skip."""
    reference: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of a point: code of the class that is seen; None for a skip."""
    label: Answer | None = None
    """Is the label right? 1 right, 2 partly, 3 wrong."""
    boundary: Answer | None = None
    """Is the boundary right? As `label`."""
    reasons: tuple[str, ...] = ()
    """Codes of `REASONS`."""
    note: Annotated[str, Field(max_length=2000)] = ""
    flag: bool = False
    """To be looked at by somebody else."""
    confidence: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent."""
    seconds: Annotated[float, Field(ge=0, lt=1e7)] = 0.0
    """Time that it was looked at."""
    at: str = ""
    """UTC, ISO 8601; set by the log."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for reason in self.reasons:
            if reason not in REASONS:
                raise ValueError(unknown_name("reason", reason, REASONS))
        if self.label is not None and self.boundary is not None:
            derived = derive_tier(self.label, self.boundary)
            if self.tier not in (None, derived):
                raise ValueError(f"tier is {self.tier}, but the answers make it {derived}")
        if self.action == "judge" and (self.tier is None) == (self.reference is None):
            raise ValueError(
                f"a judgement needs its tier, one of {join_words(QUALITIES)}, or the class of a point"
            )
        return self

    @property
    def answer(self) -> str:
        """What it says: the tier of a patch, the class of a point; empty for a skip."""
        return self.tier or self.reference or ""

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
            found = error.errors()[0]
            place = ".".join(str(part) for part in found["loc"])
            raise InputError(f"This verdict cannot be kept: {place} {found['msg']}.") from None


def derive_tier(label: int, boundary: int) -> Literal["high", "medium", "low"]:
    """
    Tier from the answers to both questions: the worse of the two decides.

    Examples
    --------
    >>> derive_tier(1, 1), derive_tier(1, 2), derive_tier(3, 1)
    ('high', 'medium', 'low')
    """
    return _TIERS[max(label, boundary) - 1]


def last_words(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Judgements by what they are about, skips left out."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.action == "judge":
            found.setdefault(verdict.item_id, []).append(verdict)
    return found
