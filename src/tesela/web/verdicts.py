"""Verdicts of photointerpreters: an append-only log in SQLite that several may write at once."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    at TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('judge', 'skip', 'undo')),
    patch_id TEXT NOT NULL,
    tier TEXT,
    label INTEGER,
    boundary INTEGER,
    reasons TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    flag INTEGER NOT NULL DEFAULT 0,
    confidence INTEGER,
    seconds REAL NOT NULL DEFAULT 0,
    undoes INTEGER REFERENCES events (id)
);
CREATE INDEX IF NOT EXISTS by_patch ON events (reviewer, patch_id);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TABLE IF NOT EXISTS claims (patch_id TEXT PRIMARY KEY, reviewer TEXT NOT NULL, until REAL NOT NULL);
"""
_STANDING = """
SELECT e.* FROM events e JOIN (
    SELECT max(id) AS id FROM events
    WHERE action <> 'undo' AND id NOT IN (SELECT undoes FROM events WHERE action = 'undo')
    GROUP BY reviewer, patch_id
) last ON e.id = last.id
"""
"""The last word of each reviewer on each patch that was not taken back."""


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


class LogError(InputError):
    """The log cannot be written now: the verdict must be sent again."""


class Verdict(BaseModel):
    """
    One reviewer's word on one patch.

    Either both questions are answered, and the tier is the worse of the two, or the tier alone is given.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=64)]
    """Drawn by the page: a verdict that is sent twice is kept once."""
    reviewer: Annotated[str, AfterValidator(reviewer_name)]
    patch_id: str
    action: Literal["judge", "skip"] = "judge"
    """A patch that is skipped is seen again later."""
    tier: Literal["high", "medium", "low"] | None = None
    """None for a skip."""
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
    """Time that the patch was looked at."""
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
        if self.action == "judge" and self.tier is None:
            raise ValueError(f"a judgement needs its tier, one of {join_words(QUALITIES)}")
        return self

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


class VerdictLog:
    """
    The log of one patch table, beside it on disk; use it in a `with` block.

    A verdict is on disk when `add` returns, also when the machine loses power then. Nothing is ever changed or
    deleted: taking back is an entry of its own. Several threads and several processes may write at once.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        try:
            self._base = sqlite3.connect(self.path, timeout=20, isolation_level=None, check_same_thread=False)
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot be used as a log of verdicts ({error}).") from None

    def __enter__(self) -> VerdictLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that writes, alone among all threads and processes."""
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                try:
                    yield self._base
                except BaseException:
                    self._base.execute("ROLLBACK")
                    raise
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                raise LogError(f"{self.path}: nothing was saved ({error}). Is the disk full?") from None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The data base, for queries."""
        with self._lock:
            yield self._base

    def add(self, verdict: Verdict) -> None:
        """Append a verdict; one whose key is there already is kept once."""
        with self.writing() as base:
            base.execute(
                "INSERT OR IGNORE INTO events (key, at, reviewer, action, patch_id, tier, label, boundary, reasons,"
                " note, flag, confidence, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    verdict.key,
                    _now(),
                    verdict.reviewer,
                    verdict.action,
                    verdict.patch_id,
                    verdict.tier,
                    verdict.label,
                    verdict.boundary,
                    " ".join(verdict.reasons),
                    verdict.note,
                    int(verdict.flag),
                    verdict.confidence,
                    round(verdict.seconds, 2),
                ),
            )

    def undo(self, reviewer: str, key: str) -> str | None:
        """
        Take the reviewer's last word back, whatever it was.

        Returns
        -------
        str or None
            Patch that it was about; None if there is nothing to take back.
        """
        with self.writing() as base:
            done = base.execute("SELECT patch_id FROM events WHERE key = ?", (key,)).fetchone()
            if done is not None:  # asked twice
                return str(done["patch_id"])
            last = base.execute(
                "SELECT id, patch_id FROM events WHERE reviewer = ? AND action <> 'undo' AND id NOT IN "
                "(SELECT undoes FROM events WHERE action = 'undo') ORDER BY id DESC LIMIT 1",
                (reviewer,),
            ).fetchone()
            if last is None:
                return None
            base.execute(
                "INSERT INTO events (key, at, reviewer, action, patch_id, undoes) VALUES (?, ?, ?, 'undo', ?, ?)",
                (key, _now(), reviewer, last["patch_id"], last["id"]),
            )
            return str(last["patch_id"])

    def standing(self, reviewer: str | None = None) -> list[Verdict]:
        """Last word of each reviewer on each patch, skips too, oldest first; of one reviewer or of all."""
        rule = "" if reviewer is None else " WHERE e.reviewer = ?"
        with self.reading() as base:
            found = base.execute(f"{_STANDING}{rule} ORDER BY e.id", () if reviewer is None else (reviewer,))
            return [_verdict(row) for row in found]

    def count(self) -> int:
        """Entries of the log, those taken back too."""
        with self.reading() as base:
            return int(base.execute("SELECT count(*) FROM events").fetchone()[0])


def log_path(table: str | Path) -> Path:
    """Where the log of a patch table lies: ``patches.review.sqlite`` beside ``patches.parquet``."""
    return Path(table).with_suffix(".review.sqlite")


def _verdict(row: sqlite3.Row) -> Verdict:
    return Verdict(
        key=row["key"],
        reviewer=row["reviewer"],
        patch_id=row["patch_id"],
        action=row["action"],
        tier=row["tier"],
        label=row["label"],
        boundary=row["boundary"],
        reasons=tuple(row["reasons"].split()),
        note=row["note"],
        flag=bool(row["flag"]),
        confidence=row["confidence"],
        seconds=row["seconds"],
        at=row["at"],
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def last_words(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Judgements by patch, skips left out."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.action == "judge":
            found.setdefault(verdict.patch_id, []).append(verdict)
    return found
