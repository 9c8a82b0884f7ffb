"""Verdicts of photointerpreters: an append-only log in SQLite that several may write at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

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


class LogError(InputError):
    """The log cannot be written now: the verdict must be sent again."""


@dataclass(frozen=True)
class Verdict:
    """
    One reviewer's word on one patch.

    Either both questions are answered, and the tier is the worse of the two, or the tier alone is given.
    """

    key: str
    """Drawn by the page: a verdict that is sent twice is kept once."""
    reviewer: str
    patch_id: str
    action: str = "judge"
    """"judge", or "skip" to see it again later."""
    tier: str | None = None
    """"high", "medium" or "low"; None for a skip."""
    label: int | None = None
    """Is the label right? 1 right, 2 partly, 3 wrong."""
    boundary: int | None = None
    """Is the boundary right? As `label`."""
    reasons: tuple[str, ...] = ()
    """Codes of `REASONS`."""
    note: str = ""
    flag: bool = False
    """To be looked at by somebody else."""
    confidence: int | None = None
    """Per cent."""
    seconds: float = 0.0
    """Time that the patch was looked at."""
    at: str = ""
    """UTC, ISO 8601; set by the log."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InputError(f"This verdict cannot be kept: {'; '.join(problems)}.")

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Verdict:
        """
        Verdict from a page's JSON; the tier is derived where both questions are answered.

        Raises
        ------
        InputError
            If a field is unknown, missing or out of range.
        """
        known = [field.name for field in fields(cls) if field.name != "at"]
        for name in document:
            if name not in known:
                raise InputError(unknown_name("field of a verdict", name, known))
        missing = [name for name in ("key", "reviewer", "patch_id") if name not in document]
        if missing:
            raise InputError(f"A verdict lacks {join_words(missing)}.")
        values = dict(document)
        reasons = values.get("reasons", [])
        if not isinstance(reasons, list):
            raise InputError("The reasons of a verdict are a list.")
        values["reasons"] = tuple(reasons)
        label, boundary = values.get("label"), values.get("boundary")
        if isinstance(label, int) and isinstance(boundary, int):
            values["tier"] = derive_tier(label, boundary)
        return cls(**values)  # type: ignore[arg-type] # checked by __post_init__


def derive_tier(label: int, boundary: int) -> str:
    """
    Tier from the answers to both questions: the worse of the two decides.

    Examples
    --------
    >>> derive_tier(1, 1), derive_tier(1, 2), derive_tier(3, 1)
    ('high', 'medium', 'low')
    """
    worst = max(label, boundary)
    if min(label, boundary) < 1 or worst > len(QUALITIES):
        raise InputError(f"Answers {label} and {boundary}: they run from 1 to {len(QUALITIES)}.")
    return QUALITIES[worst - 1]


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


def _problems(verdict: Verdict) -> Iterator[str]:
    for name, most in (("key", 64), ("reviewer", 60), ("patch_id", 400)):
        text = getattr(verdict, name)
        if not isinstance(text, str) or not 0 < len(text.strip()) <= most or not text.isprintable():
            yield f"{name} must be a text of 1 to {most} characters"
    if verdict.action not in ("judge", "skip"):
        yield f"action is {verdict.action!r}; it is 'judge' or 'skip'"
    elif verdict.action == "judge" and verdict.tier not in QUALITIES:
        yield f"tier is {verdict.tier!r}; answer both questions, or choose {join_words(QUALITIES)}"
    for name, low, high in (("label", 1, 3), ("boundary", 1, 3), ("confidence", 0, 100)):
        value = getattr(verdict, name)
        if value is not None and not (_is_number(value, int) and low <= value <= high):
            yield f"{name} is {value!r}; it runs from {low} to {high}"
    strange = [reason for reason in verdict.reasons if reason not in REASONS]
    if strange:
        yield f"reason {strange[0]!r} is not one of {join_words(REASONS)}"
    if not isinstance(verdict.note, str) or len(verdict.note) > 2000:
        yield "note must be a text of at most 2000 characters"
    if not isinstance(verdict.flag, bool):
        yield "flag is true or false"
    if not _is_number(verdict.seconds, (int, float)) or not 0 <= verdict.seconds < 1e7:
        yield f"seconds is {verdict.seconds!r}; it is a time from 0 on"


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def last_words(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Judgements by patch, skips left out."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.action == "judge":
            found.setdefault(verdict.patch_id, []).append(verdict)
    return found
