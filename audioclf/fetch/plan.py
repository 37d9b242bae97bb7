"""What is to be fetched of a table, and what that will take: counted and estimated, nothing is asked of the network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from audioclf.audio.ledger import Ledger, State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.clips.links import is_url
from audioclf.config import FetchConfig
from audioclf.errors import shown
from audioclf.fetch.failures import FailureClass
from audioclf.fetch.pace import interval_s
from audioclf.fetch.recording import Recording, group_by_recording
from audioclf.fetch.retry import access_of, is_due
from audioclf.fetch.status import is_open, look_up

AUDIO_BYTES_PER_S = 16_000  # 128 kbit/s, what sites give as best audio
READ_FACTOR = 2  # blocks around a cut; 1.1 to 3.5 for 10 s out of 600 s (docs/benchmarks.md)
RECORDING_BYTES = 500_000  # its page and the media's index: an assumption
RECORDING_S = 4.0  # an assumption: extraction, and 3.3 s for a cut of 10 s at 1 MB/s
FLAC_BYTES_PER_S = 55_000  # 44.1 kHz, 16 bits, mono; ESC-10, which is quiet in parts, has 38,000

_SITES_SHOWN = 10


def wanted(
    clips: Iterable[Clip], store: AudioStore, ledger: Ledger, access: str, retry: frozenset[FailureClass], now: float
) -> Iterator[tuple[Clip, float]]:
    """The links' clips that may be tried now or later, each with its time in seconds since 1970.

    The time is 0 for clips never tried and at most ``now`` for those whose retry is due; before it a clip is left alone.
    """
    for clip, row in look_up(clips, store, ledger):
        if row is None and is_url(clip.source):
            yield clip, 0.0
        elif row is not None and row.state is State.FAILED and is_url(clip.source):
            if is_due(row, now, access, retry):
                yield clip, min(row.next_retry or row.updated, now)
            elif is_open(clip, row, access):
                yield clip, row.next_retry or row.updated


def recordings_of(wanted: Iterable[tuple[Clip, float]], now: float) -> Iterator[tuple[Recording, float]]:
    """Wanted clips by recording, each not before its time; clips whose time has not come apart from those whose has."""
    times = dict[str, float]()
    due, later = list[Clip](), list[Clip]()
    for clip, at in wanted:
        (due if at <= now else later).append(clip)
        if at:
            times[clip.audio_key] = at
    for clips, which in ((due, min), (later, max)):
        for recording in group_by_recording(clips):
            yield recording, which(times.get(clip.audio_key, 0.0) for clip in recording.clips)


@dataclass
class Plan:
    """What a fetch would do now.

    Attributes:
        config: the ``fetch`` section.
        clips: to be fetched.
        later: clips whose retry is not due yet.
        done: clips that need no fetching: in the store, or failed for good.
        sites: recordings to be fetched, by site.
        audio_s: seconds of audio in ``clips``.
        open_ended: clips without an end, which ``audio_s`` cannot count.
    """

    config: FetchConfig
    clips: int = 0
    later: int = 0
    done: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    open_ended: int = 0

    @classmethod
    def of(
        cls, clips: list[Clip], store: AudioStore, ledger: Ledger, config: FetchConfig, retry: frozenset[FailureClass]
    ) -> Plan:
        """Counts what ``fetch_clips`` would do with the same arguments."""
        plan = cls(config)
        now = time.time()
        for recording, at in recordings_of(wanted(clips, store, ledger, access_of(config), retry, now), now):
            if at > now:
                plan.later += len(recording.clips)
                continue
            plan.sites[recording.site] += 1
            plan.clips += len(recording.clips)
            for clip in recording.clips:
                plan.audio_s += clip.end - clip.start if clip.end is not None else 0.0
                plan.open_ended += clip.end is None
        plan.done = len(clips) - plan.clips - plan.later
        return plan

    @property
    def received(self) -> float:
        """Bytes over the network, estimated."""
        return self.audio_s * AUDIO_BYTES_PER_S * READ_FACTOR + self.sites.total() * RECORDING_BYTES

    @property
    def stored(self) -> float:
        """Bytes on disk, estimated."""
        return self.audio_s * FLAC_BYTES_PER_S

    @property
    def seconds(self) -> float:
        """Time, estimated: of the slowest site at its pace, or of all workers together."""
        return seconds_for(self.sites, self.config)

    def lines(self) -> list[str]:
        """The plan for people."""
        lines = [f"{self.clips} clips of {self.sites.total()} recordings to fetch; {self.done} need no fetching"]
        if self.later:
            lines[0] += f", {self.later} are to be tried again later"
        lines += [f"  {count} recordings at {shown(site)}" for site, count in self.sites.most_common(_SITES_SHOWN)]
        if len(self.sites) > _SITES_SHOWN:
            lines.append(f"  and {len(self.sites) - _SITES_SHOWN} more sites")
        if not self.clips:
            return lines
        lines.append(
            f"network: about {_size(self.received)} ({AUDIO_BYTES_PER_S // 1000} kB a second of audio, "
            f"{READ_FACTOR} times; {RECORDING_BYTES / 1e6:g} MB a recording for its page)"
        )
        lines.append(f"disk: about {_size(self.stored)} (FLAC, {FLAC_BYTES_PER_S // 1000} kB a second)")
        if self.open_ended:
            lines.append(f"  not counted: {self.open_ended} clips without an end")
        cap = "no hourly cap" if self.config.per_hour is None else f"at most {self.config.per_hour} an hour"
        lines.append(
            f"time: about {duration(self.seconds)} ({self.config.workers_per_site} of {self.config.workers} workers "
            f"a site, a pause of {self.config.sleep:g} s, {cap}, {RECORDING_S:g} s a recording)"
        )
        return lines


def seconds_for(sites: Counter[str], config: FetchConfig) -> float:
    """How long so many recordings of each site take at the configured pace, in seconds; an estimate."""
    each = max(config.sleep, interval_s(config.per_hour), RECORDING_S / config.workers_per_site)
    together = sites.total() * RECORDING_S / config.workers
    return max([together, *(count * each for count in sites.values())])


def duration(seconds: float) -> str:
    """A length of time for people: ``"40 s"``, ``"12 min"``, ``"3.4 h"``, ``"2.1 days"``."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if unit != "min" else f"{seconds / size:.0f} min"
    return f"{seconds:.0f} s"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
