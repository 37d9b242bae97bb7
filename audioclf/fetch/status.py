"""What became of a table's clips: counts by state, reason and class of sound, and a file with every failure."""

from __future__ import annotations

import codecs
import csv
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.clips.links import is_url
from audioclf.console import console
from audioclf.errors import UserError, shown
from audioclf.fetch.failures import FailureClass, class_of
from audioclf.fetch.retry import is_due
from audioclf.files import remove_stale, replacing

FAILURES_FILE = "failures.csv"

_CHUNK = 10_000
_LABELS_SHOWN = 40
_HEADER = (
    *("clip_id", "url", "start", "end", "label"),
    *("reason", "class", "http_status", "attempts", "next_retry", "message"),
)


class Known(NamedTuple):
    """A clip and what the ledger says of its audio: ``row`` is None for a clip that is still to be fetched."""

    clip: Clip
    row: LedgerRow | None


def look_up(clips: Iterable[Clip], store: AudioStore, ledger: Ledger) -> Iterator[Known]:
    """Each clip with its row, a few thousand in memory at a time; a row whose FLAC is gone counts for nothing."""
    clips = iter(clips)
    while chunk := [(clip.audio_key, clip) for clip in islice(clips, _CHUNK)]:
        rows = ledger.get_many(key for key, _ in chunk)
        for key, clip in chunk:
            row = rows.get(key)
            if row is not None and row.state is not State.FAILED and not store.path(key).exists():
                row = None
            yield Known(clip, row)


@dataclass
class Status:
    """Counts over a table.

    Attributes:
        clips: all of them.
        states: clips in each state; ``pending`` for those never tried.
        reasons: failed clips by reason.
        labels: per class of sound, clips that can be used, failed and pending.
        open: clips that can be tried some time: pending ones, and failed ones that are not final.
        next_retry: when the first of the failed ones may be tried, in seconds since 1970.
    """

    clips: int = 0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    open: int = 0
    next_retry: float | None = None

    @classmethod
    def of(cls, clips: Iterable[Clip], store: AudioStore, ledger: Ledger, access: str) -> Status:
        """Counts ``clips``; ``access`` as ``access_of`` gives it. The network is not touched."""
        status = cls()
        for clip, row in look_up(clips, store, ledger):
            status._add(clip, row, access)
        return status

    @property
    def usable(self) -> int:
        """Clips with sound to learn from."""
        return self.states[State.OK] + self.states[State.PARTIAL]

    @property
    def failure_classes(self) -> dict[FailureClass, int]:
        """Failed clips by what is done about them, the most frequent first."""
        counted: Counter[FailureClass] = Counter()
        for reason, count in self.reasons.items():
            counted[class_of(reason)] += count
        return dict(counted.most_common())

    def _add(self, clip: Clip, row: LedgerRow | None, access: str) -> None:
        state = "pending" if row is None else row.state.value
        self.clips += 1
        self.states[state] += 1
        kind = "usable" if row is not None and row.state.usable else state if state == "pending" else "failed"
        self.labels.setdefault(clip.label, Counter())[kind] += 1
        if row is None:
            self.open += is_url(clip.source)
        elif row.state is State.FAILED:
            self.reasons[row.failure or "unknown"] += 1
            if is_open(clip, row, access):
                self.open += 1
                self.next_retry = min(self.next_retry or math.inf, row.next_retry or row.updated)

    def lines(self) -> list[str]:
        """The counts for people, whatever the number of clips."""
        counts = [f"{n} {state}" for state in (*State, "pending") if (n := self.states[state])]
        lines = [f"{self.clips} clips: {', '.join(counts)}"]
        for kind, count in self.failure_classes.items():
            reasons = ", ".join(f"{n} {why}" for why, n in self.reasons.most_common() if class_of(why) is kind)
            lines.append(f"  {count} {kind}: {reasons}")
        if self.open:
            lines.append(f"{self.open} left to try{self._when()}")
        return lines

    def print(self) -> None:
        """Prints the counts and a table by class of sound, those that lack most first."""
        for line in self.lines():
            console.print(line, markup=False)
        table = Table(box=SIMPLE_HEAD, padding=(0, 1 if console.width >= 60 else 0))
        table.add_column("class of sound", overflow="ellipsis", no_wrap=True, max_width=max(console.width - 36, 8))
        for column in ("usable", "failed", "pending", "%"):
            table.add_column(column, justify="right", no_wrap=True)
        by_share = sorted(self.labels.items(), key=lambda item: (item[1]["usable"] / item[1].total(), item[0]))
        for label, n in by_share[:_LABELS_SHOWN]:
            cells = (n["usable"], n["failed"], n["pending"], 100 * n["usable"] // n.total())
            table.add_row(shown(label).replace("[", r"\["), *map(str, cells))
        console.print(table)
        if len(by_share) > _LABELS_SHOWN:
            console.print(f"and {len(by_share) - _LABELS_SHOWN} more classes of sound", markup=False)

    def _when(self) -> str:
        if self.states["pending"] or self.next_retry is None:
            return ""
        return ", from now on" if self.next_retry <= time.time() else f", the first {when(self.next_retry)}"


def is_open(clip: Clip, row: LedgerRow | None, access: str) -> bool:
    """Whether a link's clip may be tried some time, now or later, with the access that there is."""
    return is_url(clip.source) and (row is None or is_due(row, math.inf, access, frozenset()))


def write_failures(path: Path, clips: Iterable[Clip], store: AudioStore, ledger: Ledger) -> int:
    """Writes every failed clip as a row of a CSV file, whole or not at all; how many there are.

    Cells that a spreadsheet would take for a formula get a leading apostrophe: titles and messages are strangers'.

    Raises:
        UserError: the file cannot be written.
    """
    count = 0
    try:
        remove_stale(path.parent, path.name)  # of a process that was killed right here
        with replacing(path) as file:
            writer = csv.writer(codecs.getwriter("utf-8")(file))
            writer.writerow(_HEADER)
            for clip, row in look_up(clips, store, ledger):
                if row is not None and row.state is State.FAILED:
                    count += 1
                    writer.writerow(map(_cell, _failure(clip, row)))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "the ledger has it all; run again with --status"
        ) from None
    return count


def _failure(clip: Clip, row: LedgerRow) -> Sequence[object]:
    again = "" if row.next_retry is None else datetime.fromtimestamp(row.next_retry, UTC).isoformat(timespec="seconds")
    end = "" if clip.end is None else clip.end
    reason = row.failure or "unknown"
    where = (clip.id, clip.source, clip.start, end, clip.label)
    return *where, reason, class_of(reason), row.http_status or "", row.attempts, again, shown(row.message)


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value if value.isprintable() else repr(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def when(at: float) -> str:
    """A time to come as people say it: the clock's time, and the day where it is not today."""
    local, today = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return f"at {local:%H:%M:%S}" if local.date() == today.date() else f"on {local:%Y-%m-%d at %H:%M}"
