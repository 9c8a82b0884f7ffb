"""The log of verdicts: append-only, in SQLite, for several writers at a time."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tesela.core.errors import InputError
from tesela.core.notes import note
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
CREATE INDEX IF NOT EXISTS by_item ON events (reviewer, item_id);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log of verdicts is append-only'); END;
CREATE TABLE IF NOT EXISTS claims (item_id TEXT PRIMARY KEY, reviewer TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS subject (fingerprint TEXT NOT NULL);
"""
"""The file format of the first version, kept: action 'judge' is `Verdict.action` "rate", tier is `Verdict.quality`."""
_STANDING = """
SELECT e.* FROM events e JOIN (
    SELECT max(id) AS id FROM events
    WHERE action <> 'undo' AND id NOT IN (SELECT undoes FROM events WHERE action = 'undo')
    GROUP BY reviewer, item_id
) last ON e.id = last.id
"""
"""The last verdict of each reviewer on each item that was not undone."""


class LogError(InputError):
    """The log cannot be written now; the verdict has to be sent again."""


class VerdictLog:
    """
    The log of one patch table or sample, beside it on disk; use it in a `with` block.

    When `add` returns, the verdict is on disk and survives a loss of power. Entries are never changed or deleted: an
    undo is an additional entry. Several threads and several processes can write at the same time.
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
        """Convert a log of the version for patches only to the present columns."""
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
        """One write transaction, exclusive among all threads and processes."""
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
        """The database, for queries."""
        with self._lock:
            try:
                yield self._base
            except sqlite3.Error as error:
                raise InputError(
                    f"{self.path}: the log of verdicts cannot be read ({error}). Restore it from a copy, or export "
                    f"what can be read (tesela review export)."
                ) from None

    def bind(self, subject: str) -> None:
        """
        Bind the log to the table or sample of its item ids; the first call decides.

        Parameters
        ----------
        subject : str
            Fingerprint of the sample, because its ids are only numbers; empty for a patch table.

        Raises
        ------
        InputError
            If the log belongs to another sample: its answers would be assigned to the wrong points.
        """
        with self.writing() as base:
            base.execute("INSERT INTO subject SELECT ? WHERE NOT EXISTS (SELECT * FROM subject)", (subject,))
            bound = str(base.execute("SELECT fingerprint FROM subject").fetchone()[0])
        if bound != subject:
            raise InputError(
                f"{self.path}: contains the answers of another sample that had this name before. Move it away together "
                f"with that sample, or give the new sample another name."
            )

    def add(self, verdict: Verdict) -> None:
        """Append a verdict, unless there is one with its key."""
        with self.writing() as base:
            base.execute(
                "INSERT OR IGNORE INTO events (key, at, reviewer, action, item_id, tier, reference, label, boundary,"
                " reasons, note, flag, confidence, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    verdict.key,
                    _now(),
                    verdict.reviewer,
                    _STORED_ACTION.get(verdict.action, verdict.action),
                    verdict.item_id,
                    verdict.quality,
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
        Undo the last verdict or skip of a reviewer.

        Returns
        -------
        str or None
            Id of its item; None if there is nothing to undo.
        """
        with self.writing() as base:
            done = base.execute("SELECT item_id FROM events WHERE key = ?", (key,)).fetchone()
            if done is not None:  # a repeated request
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
        """Last verdict of each reviewer on each item, including skips, oldest first; of one reviewer or of all."""
        rule = "" if reviewer is None else " WHERE e.reviewer = ?"
        with self.reading() as base:
            try:
                rows = base.execute(
                    f"{_STANDING}{rule} ORDER BY e.id", () if reviewer is None else (reviewer,)
                )
                return [_verdict(row) for row in rows]
            except (sqlite3.DatabaseError, ValueError, AttributeError, TypeError):
                events = list(_readable(base))
        note(
            f"{self.path}: the log is damaged; {len(events)} of its entries can be read. Export them now, and restore "
            f"the log from a copy."
        )
        return _last_of(events, reviewer)

    def rated(self) -> set[str]:
        """Ids of all items that ever had a verdict, also if it was undone or the item was skipped later."""
        with self.reading() as base:
            rows = base.execute("SELECT DISTINCT item_id FROM events WHERE action = 'judge'")
            return {str(row["item_id"]) for row in rows}

    def count(self) -> int:
        """Number of entries of the log, including those undone."""
        with self.reading() as base:
            return int(base.execute("SELECT count(*) FROM events").fetchone()[0])


_GAP = 1000
"""So many entries in a row that cannot be read are taken for the end of a damaged log."""


def _readable(base: sqlite3.Connection) -> Iterator[sqlite3.Row]:
    """Entries of a damaged log that can be read, one by one, oldest first."""
    number = missing = 0
    while missing < _GAP:
        number += 1
        try:
            row = base.execute("SELECT * FROM events NOT INDEXED WHERE id = ?", (number,)).fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            row = None
        missing = 0 if row is not None else missing + 1
        if row is not None:
            yield row


def _last_of(events: list[sqlite3.Row], reviewer: str | None) -> list[Verdict]:
    """As `_STANDING`, for entries that the database cannot query any more."""
    undone = {row["undoes"] for row in events if row["action"] == "undo"}
    last: dict[tuple[str, str], tuple[int, Verdict]] = {}
    for row in events:
        if row["action"] == "undo" or row["id"] in undone or reviewer not in (None, row["reviewer"]):
            continue
        with suppress(ValueError, AttributeError, TypeError):  # a damaged text
            last[str(row["reviewer"]), str(row["item_id"])] = row["id"], _verdict(row)
    return [verdict for _, verdict in sorted(last.values(), key=lambda pair: pair[0])]


def log_path(reviewed: str | Path) -> Path:
    """Path of the log of a patch table or sample: ``patches.review.sqlite`` beside ``patches.parquet``."""
    return Path(reviewed).with_suffix(".review.sqlite")


_STORED_ACTION = {"rate": "judge"}
"""Names of actions in the file, where they differ."""


def _verdict(row: sqlite3.Row) -> Verdict:
    return Verdict(
        key=row["key"],
        reviewer=row["reviewer"],
        item_id=row["item_id"],
        action="rate" if row["action"] == "judge" else row["action"],
        quality=row["tier"],
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
