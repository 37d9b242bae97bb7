"""The ledger: what became of every clip's audio, one SQLite row each, and which sites are to be left alone until when.

WAL mode lets one process read while another writes; a writer waits for another instead of failing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from enum import StrEnum
from itertools import islice
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from audioclf.clips.clip import Clip
from audioclf.errors import UserError
from audioclf.files import exists

LEDGER = "ledger.sqlite"
"""The ledger's name in the cache folder."""
BUSY_TIMEOUT_S = 60.0

_MAGIC = b"SQLite format 3\0"
_CHUNK = 10_000  # keys a query; SQLite allows 32,766 variables
_MIGRATIONS = (  # from each version to the next; the first makes an empty file a ledger
    """
CREATE TABLE clips (
    key TEXT PRIMARY KEY NOT NULL, clip_id TEXT NOT NULL, source TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL,
    state TEXT NOT NULL, failure TEXT, http_status INTEGER, attempts INTEGER NOT NULL, next_retry REAL,
    sha256 TEXT, duration_s REAL, source_size INTEGER, source_mtime_ns INTEGER,
    tool_versions TEXT NOT NULL, message TEXT NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID
""",
    """
ALTER TABLE clips ADD COLUMN access TEXT;
CREATE TABLE sites (site TEXT PRIMARY KEY NOT NULL, blocked_until REAL, reason TEXT, message TEXT, next_start REAL)
WITHOUT ROWID
""",
)
SCHEMA_VERSION = len(_MIGRATIONS)


class State(StrEnum):
    """What a clip's audio is; a clip without a row is pending."""

    OK = "ok"
    PARTIAL = "partial"
    SILENT = "silent"
    FAILED = "failed"

    @property
    def usable(self) -> bool:
        """Whether there is sound to learn from, perhaps shorter than asked."""
        return self in (State.OK, State.PARTIAL)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One clip's audio.

    Attributes:
        key: the clip's ``audio_key``, which also names its FLAC.
        clip_id: the clip's id, for people.
        source: URL or path, as the manifest has it.
        start_s: in seconds.
        end_s: in seconds; None means to the end of the recording.
        state: ok, partial (shorter than asked, or with a hole), silent, or failed.
        failure: the failure's class where ``state`` is failed.
        http_status: the server's last answer, for audio from the web.
        attempts: how often it was tried, this time included.
        next_retry: not to be tried before this time, in seconds since 1970.
        sha256: of the stored samples as little-endian int16, whatever encoder wrote them.
        duration_s: the true length, in seconds.
        source_size: of the local file it was cut from, in bytes.
        source_mtime_ns: that file's modification time, in ns since 1970.
        tool_versions: what decoded, resampled and encoded it.
        message: the raw reason or a note.
        access: what the network saw of us (cookies, proxy, tools), where a failure may depend on it.
        updated: when the row was put, in seconds since 1970.
    """

    key: str
    clip_id: str
    source: str
    start_s: float
    end_s: float | None
    state: State
    failure: str | None = None
    http_status: int | None = None
    attempts: int = 1
    next_retry: float | None = None
    sha256: str | None = None
    duration_s: float | None = None
    source_size: int | None = None
    source_mtime_ns: int | None = None
    tool_versions: str = ""
    message: str = ""
    access: str | None = None
    updated: float = 0.0

    @classmethod
    def of(cls, clip: Clip, state: State, *, failure: str | None = None, message: str = "") -> Self:
        """A row for ``clip``, its first attempt; the rest by ``dataclasses.replace``."""
        key, where = clip.audio_key, (clip.source, clip.start, clip.end)
        return cls(key, clip.id, *where, state=state, failure=failure, message=message)


@dataclass(frozen=True, slots=True)
class Site:
    """What of a site's pace has to outlive the process.

    Attributes:
        site: its name.
        blocked_until: left alone until this time, in seconds since 1970; None where nothing stops it.
        reason: what stopped it.
        message: the site's words, one printable line.
        next_start: up to when the hourly cap's bucket is filled, in seconds since 1970 (``SitePace.arrival``).
    """

    site: str
    blocked_until: float | None = None
    reason: str | None = None
    message: str | None = None
    next_start: float | None = None


_COLUMNS = tuple(field.name for field in fields(LedgerRow))
_STATE = _COLUMNS.index("state")
_values = attrgetter(*_COLUMNS)
_PUT = f"INSERT OR REPLACE INTO clips ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Ledger:
    """The rows of one audio store, in an SQLite file; a context manager. For the thread that opened it.

    Args:
        path: the file, made with its folder where absent.
        read_only: read what is there, in a folder that may not be writable; the file has to be there.

    Raises:
        UserError: the file cannot be opened, is no ledger, or was written by a newer version; by every method: it cannot
            be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with self._explained():
            if read_only:
                self._refuse_other_files()
                self._db = _opened_to_read(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._refuse_other_files()
                self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                if read_only:
                    self._check_version(oldest=SCHEMA_VERSION)
                else:
                    self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _refuse_other_files(self) -> None:
        """SQLite would take a file of a few bytes for an empty database and write over it."""
        if self.path.is_file() and self.path.stat().st_size:
            with self.path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise self._no_ledger("it is no SQLite file")

    def _no_ledger(self, why: object) -> UserError:
        message = f"{self.path} is not an audioclf ledger, or it is damaged: {why}"
        return UserError(message, "move the file away; import or fetch then makes a new one")

    def _prepare(self) -> None:
        with self._transaction():  # two processes may both find a new file: one makes the table, the other waits
            version = self._check_version()
            if version < SCHEMA_VERSION:
                for statement in ";".join(_MIGRATIONS[version:]).split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._use_wal()
        self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, never the file

    def _check_version(self, oldest: int = 0) -> int:
        """The version of the file.

        Raises:
            UserError: another program's file, or another version's.
        """
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version < 0 or (version == 0 and tables):
            raise UserError(f"{self.path} is another program's SQLite file", "name another folder for the audio")
        if version > SCHEMA_VERSION:
            message = f"{self.path} has ledger version {version}; this audioclf knows up to {SCHEMA_VERSION}"
            raise UserError(message, "update audioclf, or name another folder for the audio")
        if version < oldest:
            message = f"{self.path} has ledger version {version}; expected {SCHEMA_VERSION}"
            raise UserError(message, "`python -m audioclf fetch` or import brings it up to date")
        return version

    def _use_wal(self) -> None:
        """Switches to WAL; SQLite does not wait for other connections here, so we do."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def get_many(self, keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows there are for ``keys``; a pending clip's key is absent."""
        return {row.key: row for row in self.rows(keys)}

    def rows(self, keys: Iterable[str]) -> Iterator[LedgerRow]:
        """The rows there are for ``keys``, a few thousand in memory at a time, whatever their number."""
        remaining = iter(keys)
        while chunk := list(islice(remaining, _CHUNK)):
            query = f"SELECT {', '.join(_COLUMNS)} FROM clips WHERE key IN ({', '.join('?' * len(chunk))})"
            with self._explained():
                found = self._db.execute(query, chunk).fetchall()
            for values in found:
                yield LedgerRow(*(*values[:_STATE], State(values[_STATE]), *values[_STATE + 1 :]))

    def put_many(self, rows: Iterable[LedgerRow]) -> list[LedgerRow]:
        """Writes rows in one transaction, over older ones of the same keys; returns them stamped with the time."""
        now = time.time()
        stamped = [replace(row, updated=now) for row in rows]
        with self._explained(), self._transaction():
            self._db.executemany(_PUT, map(_values, stamped))
        return stamped

    def delete_many(self, keys: Iterable[str]) -> None:
        """Makes clips pending again, in one transaction; keys without a row are passed over."""
        with self._explained(), self._transaction():
            self._db.executemany("DELETE FROM clips WHERE key = ?", ((key,) for key in keys))

    def counts(self) -> dict[State, int]:
        """How many rows there are in each state, zeros included."""
        with self._explained():
            found = dict(self._db.execute("SELECT state, count(*) FROM clips GROUP BY state"))
        return {state: found.get(state.value, 0) for state in State}

    def get_sites(self) -> list[Site]:
        """The sites that were put, by name."""
        with self._explained():
            found = self._db.execute("SELECT site, blocked_until, reason, message, next_start FROM sites").fetchall()
        return [Site(*values) for values in found]

    def put_site(self, site: Site) -> None:
        """Writes a site over what was known of it."""
        with self._explained(), self._transaction():
            self._db.execute("INSERT OR REPLACE INTO sites VALUES (?, ?, ?, ?, ?)", astuple(site))

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns SQLite's and the system's errors into one line that says what to do."""
        try:
            yield
        except OSError as error:
            raise UserError(f"no folder for {self.path}: {error.strerror}", "name another folder") from error
        except sqlite3.ProgrammingError:  # ours, e.g. use from another thread
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            primary = None if code is None else code & 0xFF  # extended codes carry the primary one in their low byte
            if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise self._no_ledger(error) from error
            hint = {
                sqlite3.SQLITE_BUSY: "another process holds the ledger; end it or wait, then try again",
                sqlite3.SQLITE_FULL: "the disk is full; make room and run again: what is done stays done",
            }.get(primary or 0, "check that the file and its folder can be written")
            raise UserError(f"cannot use the ledger {self.path}: {error}", hint) from error


def _opened_to_read(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    db = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        db.close()
        unmerged = path.with_name(f"{path.name}-wal")
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if exists(unmerged) and unmerged.stat().st_size:  # rows that a killed writer left, which would go unseen
            raise
        # A folder that cannot be written has no place for WAL's index; then nobody else writes there, either.
        return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return db
