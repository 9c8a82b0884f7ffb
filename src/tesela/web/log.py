"""The log of verdicts: append-only, in SQLite, written by several people at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tesela.core.errors import InputError
from tesela.web.verdicts import Verdict

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    at TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('judge', 'skip', 'undo')),
    item_id TEXT NOT NULL,
    tier TEXT,
    reference TEXT,
    label INTEGER,
    boundary INTEGER,
    reasons TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    flag INTEGER NOT NULL DEFAULT 0,
    confidence INTEGER,
    seconds REAL NOT NULL DEFAULT 0,
    undoes INTEGER REFERENCES events (id)
);
CREATE INDEX IF NOT EXISTS by_thing ON events (reviewer, item_id);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TABLE IF NOT EXISTS claims (item_id TEXT PRIMARY KEY, reviewer TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS subject (fingerprint TEXT NOT NULL);
"""
_STANDING = """
SELECT e.* FROM events e JOIN (
    SELECT max(id) AS id FROM events
    WHERE action <> 'undo' AND id NOT IN (SELECT undoes FROM events WHERE action = 'undo')
    GROUP BY reviewer, item_id
) last ON e.id = last.id
"""
"""The last word of each reviewer on each thing that was not taken back."""


class LogError(InputError):
    """The log cannot be written now: the verdict must be sent again."""


class VerdictLog:
    """
    The log of one patch table or sample, beside it on disk; use it in a `with` block.

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
            self._upgrade()
            self._base.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot be used as a log of verdicts ({error}).") from None

    def _upgrade(self) -> None:
        """Bring a log that was begun when only patches were judged to the columns of now."""
        with self.writing() as base:
            columns = {str(row["name"]) for row in base.execute("PRAGMA table_info(events)")}
            if "patch_id" in columns:
                for table in ("events", "claims"):
                    base.execute(f"ALTER TABLE {table} RENAME COLUMN patch_id TO item_id")
                base.execute("ALTER TABLE events ADD COLUMN reference TEXT")

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

    def bind(self, subject: str) -> None:
        """
        Say of what the ids of the log are; what was said first stands.

        Parameters
        ----------
        subject : str
            Fingerprint of the sample that numbers them; empty where ids say themselves what they mean.

        Raises
        ------
        InputError
            If the log is of another subject: its answers would go to other places.
        """
        with self.writing() as base:
            base.execute("INSERT INTO subject SELECT ? WHERE NOT EXISTS (SELECT * FROM subject)", (subject,))
            found = str(base.execute("SELECT fingerprint FROM subject").fetchone()[0])
        if found != subject:
            raise InputError(
                f"{self.path}: holds the answers of another sample that had this name before. Move it away with that "
                f"sample, or give the new one a name of its own."
            )

    def add(self, verdict: Verdict) -> None:
        """Append a verdict; one whose key is there already is kept once."""
        with self.writing() as base:
            base.execute(
                "INSERT OR IGNORE INTO events (key, at, reviewer, action, item_id, tier, reference, label, boundary,"
                " reasons, note, flag, confidence, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    verdict.key,
                    _now(),
                    verdict.reviewer,
                    verdict.action,
                    verdict.item_id,
                    verdict.tier,
                    verdict.reference,
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
            Id of what it was about; None if there is nothing to take back.
        """
        with self.writing() as base:
            done = base.execute("SELECT item_id FROM events WHERE key = ?", (key,)).fetchone()
            if done is not None:  # asked twice
                return str(done["item_id"])
            last = base.execute(
                "SELECT id, item_id FROM events WHERE reviewer = ? AND action <> 'undo' AND id NOT IN "
                "(SELECT undoes FROM events WHERE action = 'undo') ORDER BY id DESC LIMIT 1",
                (reviewer,),
            ).fetchone()
            if last is None:
                return None
            base.execute(
                "INSERT INTO events (key, at, reviewer, action, item_id, undoes) VALUES (?, ?, ?, 'undo', ?, ?)",
                (key, _now(), reviewer, last["item_id"], last["id"]),
            )
            return str(last["item_id"])

    def standing(self, reviewer: str | None = None) -> list[Verdict]:
        """Last word of each reviewer on each thing, skips too, oldest first; of one reviewer or of all."""
        rule = "" if reviewer is None else " WHERE e.reviewer = ?"
        with self.reading() as base:
            found = base.execute(f"{_STANDING}{rule} ORDER BY e.id", () if reviewer is None else (reviewer,))
            return [_verdict(row) for row in found]

    def judged(self) -> set[str]:
        """Ids of all that was ever judged, also where it was taken back or skipped later."""
        with self.reading() as base:
            found = base.execute("SELECT DISTINCT item_id FROM events WHERE action = 'judge'")
            return {str(row["item_id"]) for row in found}

    def count(self) -> int:
        """Entries of the log, those taken back too."""
        with self.reading() as base:
            return int(base.execute("SELECT count(*) FROM events").fetchone()[0])


def log_path(reviewed: str | Path) -> Path:
    """Where the log of a patch table or sample lies: ``patches.review.sqlite`` beside ``patches.parquet``."""
    return Path(reviewed).with_suffix(".review.sqlite")


def _verdict(row: sqlite3.Row) -> Verdict:
    return Verdict(
        key=row["key"],
        reviewer=row["reviewer"],
        item_id=row["item_id"],
        action=row["action"],
        tier=row["tier"],
        reference=row["reference"],
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
