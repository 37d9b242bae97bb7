"""From local files to verified audio, for many clips: decode, store, then the ledger."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from audioclf.audio.decode import AudioError, Failure, decode
from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.match import FileMatch, LocalPiece
from audioclf.audio.store import CANONICAL_RATE, AudioStore
from audioclf.clips.clip import Clip
from audioclf.clips.links import is_url
from audioclf.console import progress_bar
from audioclf.errors import UserError

ROWS_PER_COMMIT = 64
COMMIT_EVERY_S = 0.5

_AHEAD = 4  # clips waiting for each worker; memory does not grow with the number of clips
_SHOWN = 10


@dataclass(frozen=True)
class ImportReport:
    """What an import left.

    Attributes:
        rows: the ledger's row for each clip that has one.
        pending: clips without audio whose source is not a local file: they are still to be fetched.
        imported: how many clips were decoded this time, failed ones included; the others were there already.
        files: what the user's folder held, where one was given.
    """

    rows: dict[Clip, LedgerRow] = field(default_factory=dict)
    pending: list[Clip] = field(default_factory=list)
    imported: int = 0
    files: FileMatch | None = None

    @property
    def states(self) -> dict[State, int]:
        """Clips in each state, zeros included; pending clips have no state."""
        counted = Counter(row.state for row in self.rows.values())
        return {state: counted[state] for state in State}

    @property
    def failures(self) -> dict[str, int]:
        """Failed clips of each failure class, the most frequent first."""
        return dict(Counter(row.failure or "unknown" for row in self._failed()).most_common())

    @property
    def unusable(self) -> list[tuple[Clip, str]]:
        """Clips that cannot be learnt from, each with the reason."""
        reasons = {clip: _reason(row) for clip, row in self.rows.items() if not row.state.usable}
        return [*reasons.items(), *((clip, "pending: not fetched yet") for clip in self.pending)]

    def summary_lines(self) -> list[str]:
        """The outcome for people, a few lines whatever the number of clips."""
        counts = [f"{count} {state}" for state, count in self.states.items() if count]
        counts += [f"{len(self.pending)} pending"] if self.pending else []
        lines = self.files.summary_lines() if self.files else []
        lines.append(
            f"{len(self.rows) + len(self.pending)} clips: {', '.join(counts) or 'none'} ({self.imported} imported now)"
        )
        if self.failures:
            lines.append("  failed: " + ", ".join(f"{count} {failure}" for failure, count in self.failures.items()))
        bad = [(clip, row) for clip, row in self.rows.items() if not row.state.usable]
        lines += [f"  {clip.id}: {_reason(row)}" for clip, row in bad[:_SHOWN]]
        if len(bad) > _SHOWN:
            lines.append(f"  ... and {len(bad) - _SHOWN} more that cannot be used")
        return lines

    def _failed(self) -> Iterator[LedgerRow]:
        return (row for row in self.rows.values() if row.state is State.FAILED)


def import_clips(
    clips: Sequence[Clip],
    store: AudioStore,
    ledger: Ledger,
    *,
    files: FileMatch | None = None,
    workers: int | None = None,
) -> ImportReport:
    """Brings the clips whose audio lies in local files into the store.

    A clip is passed over where the ledger knows it, its FLAC is there and the file it came from has not changed. One
    that fails leaves a row with its reason and stops no other. Each clip's FLAC is committed before its row, and rows
    are written a few at a time by the calling thread: whenever the process dies, what the ledger calls ok is there.

    Args:
        clips: with a path as source, or a link; a link without a file in ``files`` is left alone.
        store: where the FLACs go.
        ledger: where the rows go; opened by the calling thread.
        files: the user's own files for clips, from ``match_files``; they go before a clip's source.
        workers: threads that decode and encode; None: one for each core that this process may use.

    Returns:
        What became of all ``clips``.

    Raises:
        UserError: store or ledger cannot be written, e.g. the disk is full; what was finished is kept.
    """
    store.clean()
    by_key = {clip.audio_key: clip for clip in reversed(clips)}  # the same segment twice is one piece of audio
    pieces = {clip.audio_key: piece for clip, piece in files.pieces.items()} if files else {}
    rows = ledger.get_many(by_key)
    jobs, replaced, absent = [], list[str](), set[str]()
    for key, clip in reversed(by_key.items()):
        piece = pieces.get(key) or _own_file(clip)
        row, stored = rows.get(key), store.path(key).exists()
        wanted = row is None or row.state is State.FAILED or not stored or _changed(row, piece)
        if piece is not None and wanted:
            jobs.append((clip, piece, row.attempts if row else 0))
            if row is not None and row.sha256:
                replaced.append(key)
        elif row is None or (row.state is not State.FAILED and not stored):
            absent.add(key)
    # A row that vouches for the audio about to be replaced is withdrawn first: nothing may come between the two.
    ledger.delete_many(replaced)
    for row in _run(jobs, store, ledger, workers or cores()):
        rows[row.key] = row
    keys = {clip: clip.audio_key for clip in clips}
    known = {clip: rows[key] for clip, key in keys.items() if key in rows and key not in absent}
    return ImportReport(known, [clip for clip, key in keys.items() if key in absent], len(jobs), files)


_Job = tuple[Clip, LocalPiece, int]  # and how often it was tried before


def _run(jobs: Sequence[_Job], store: AudioStore, ledger: Ledger, workers: int) -> list[LedgerRow]:
    """Imports with a bounded number of clips in flight; the rows, all of them in the ledger."""
    if not jobs:
        return []
    done: list[LedgerRow] = []
    batch: list[LedgerRow] = []
    pending: set[Future[LedgerRow]] = set()
    queue, committed = iter(jobs), time.monotonic()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="import")
    try:
        with progress_bar("import", len(jobs), "clips") as bar:
            while True:
                for job in islice(queue, _AHEAD * workers - len(pending)):
                    pending.add(pool.submit(_import_one, store, *job))
                if not pending:
                    break
                finished, _ = wait(pending, timeout=COMMIT_EVERY_S, return_when=FIRST_COMPLETED)
                for future in finished:
                    batch.append(future.result())
                    pending.remove(future)
                bar.advance(len(finished))
                if len(batch) >= ROWS_PER_COMMIT or time.monotonic() - committed >= COMMIT_EVERY_S:
                    done += ledger.put_many(batch)
                    batch, committed = [], time.monotonic()
        return done + ledger.put_many(batch)
    except BaseException:
        # Interrupted, or the store cannot be written: what is under way is finished and kept, the rest not begun.
        pool.shutdown(wait=True, cancel_futures=True)
        kept = [future.result() for future in pending if not future.cancelled() and future.exception() is None]
        ledger.put_many([*batch, *kept])
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _import_one(store: AudioStore, clip: Clip, piece: LocalPiece, attempts: int) -> LedgerRow:
    """One clip from file to store; a clip that fails is a row too."""
    size, mtime_ns = _fingerprint(piece.path) or (None, None)  # before decoding: a later change is seen next time
    try:
        row = store.write(clip, decode(piece.path, piece.start_s, piece.end_s, CANONICAL_RATE))
    except AudioError as error:
        row = LedgerRow.of(clip, State.FAILED, failure=error.failure, message=error.message)
    except UserError:
        raise
    except Exception as error:  # a decoder may fail in ways of its own: it costs this clip, not the others
        message = f"{piece.path}: {type(error).__name__}: {error}"
        row = LedgerRow.of(clip, State.FAILED, failure=Failure.UNREADABLE, message=message)
    return replace(row, attempts=attempts + 1, source_size=size, source_mtime_ns=mtime_ns)


def _own_file(clip: Clip) -> LocalPiece | None:
    """The clip's source where that is a local file."""
    return None if is_url(clip.source) else LocalPiece(Path(clip.source), clip.start, clip.end)


def _changed(row: LedgerRow, piece: LocalPiece | None) -> bool:
    """Whether a file is there and is another than the row's audio was cut from; a vanished file is no reason."""
    now = _fingerprint(piece.path) if piece else None
    return now is not None and row.source_size is not None and now != (row.source_size, row.source_mtime_ns)


def _fingerprint(path: Path) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns of a file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(row: LedgerRow) -> str:
    return f"{row.failure}: {row.message}" if row.state is State.FAILED else "silent: all samples are equal"
