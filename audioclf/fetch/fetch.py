"""The loop that fetches many recordings: workers, pace and breakers, one row a clip, whatever dies on the way."""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from filelock import FileLock, Timeout

from audioclf.audio.ledger import Ledger, LedgerRow, Site
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig, Launcher
from audioclf.console import ProgressBar, console, progress_bar
from audioclf.fetch.crew import Crew, crew_of
from audioclf.fetch.failures import FailureClass, class_of
from audioclf.fetch.pace import SitePace, block_of, known_sites
from audioclf.fetch.plan import duration, recordings_of, seconds_for, wanted
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.report import MB, FetchReport
from audioclf.fetch.retry import access_of, failed_row
from audioclf.fetch.schedule import Schedule, lane_of
from audioclf.fetch.status import Status
from audioclf.fetch.worker import WorkerDied, WorkerHandle
from audioclf.files import remove_stale, write_text

NOTICE = """\
Before the first fetch: sites have terms of use; whether they allow what you are about to do is for you to find out.
A data set's licence (AudioSet's CC BY 4.0, for one) covers its annotations, not the sound they point to.
Each site gets fetch.workers_per_site workers, pauses of fetch.sleep seconds and fetch.per_hour recordings an hour."""

_HEARTBEAT_S = 1.0  # between looks at the clock, for workers that overrun and for the progress line


def fetch_clips(
    clips: Sequence[Clip],
    store: AudioStore,
    ledger: Ledger,
    config: FetchConfig,
    *,
    retry: frozenset[FailureClass] = frozenset(),
    launcher: Launcher = "basic",
) -> FetchReport:
    """Brings the links' clips into the store, as far as that is possible now.

    What the ledger calls ok and the store holds is never fetched again. A clip is committed to the store by a worker,
    then to the ledger here: whenever any of the processes dies, what the ledger calls ok is there and the same call
    goes on. Untried clips go first, then those whose retry is due. The call waits for a retry or a site that stopped us
    for at most ``config.patience`` seconds at a time and leaves what needs longer to a later call. One fetch runs on a
    ledger at a time; a second one waits.

    Args:
        clips: those that are no links are passed over.
        store: where the FLACs go.
        ledger: where the rows go; opened by the calling thread.
        config: the ``fetch`` section.
        retry: failures of these classes are tried now, whatever was decided about them.
        launcher: ``"ray"``: the workers run on a Ray cluster, all of whose machines see the store's folder.

    Raises:
        UserError: what every recording would meet: a full disk, an unreadable cookies file, no cluster; what is done is
            kept.
        KeyboardInterrupt: likewise; no process is left behind.
    """
    access = access_of(config)
    report = FetchReport()
    started = time.monotonic()
    soon = time.time() + config.patience
    if any(at <= soon for _, at in wanted(clips, store, ledger, access, retry, time.time())):
        with _alone(ledger.path), crew_of(launcher, config, store) as crew:
            _notice(ledger.path.with_name(".fetch-notice"))
            store.clean()
            loop = _Loop(crew, ledger, config, access, retry, report)
            sites = Counter[str]()
            now = time.time()
            for recording, at in recordings_of(wanted(clips, store, ledger, access, retry, now), now):
                loop.add(recording, at)
                sites[recording.site] += at <= now + config.patience
            if count := sites.total():  # nothing may be left by one that we waited for
                takes = duration(seconds_for(sites, config))
                console.print(f"fetch: {count} recordings, about {takes}; Ctrl-C keeps what is done", markup=False)
            try:
                loop.run()
            finally:
                store.clean()  # what killed workers left half-written
    report.seconds = time.monotonic() - started
    report.status = Status.of(clips, store, ledger, access)
    return report


class _Loop:
    """One thread that owns ledger, pace and breakers; the workers know nothing of one another."""

    def __init__(
        self,
        crew: Crew,
        ledger: Ledger,
        config: FetchConfig,
        access: str,
        retry: frozenset[FailureClass],
        report: FetchReport,
    ) -> None:
        self.schedule = Schedule(self._pace_of, config.workers_per_site)
        self._crew, self._ledger, self._config, self._access, self._report = crew, ledger, config, access, report
        self._rng = random.Random()
        self._paces: dict[str, SitePace] = {}
        self._retry, self._sites = retry, known_sites(ledger, retry)  # sites by lane
        self._busy: list[WorkerHandle] = []
        self._idle: list[WorkerHandle] = []
        self._again: dict[str, list[tuple[Clip, float]]] = defaultdict(list)  # of recordings under way, by URL
        self._put_off: set[str] = set()  # audio keys of clips that wait and are left to a later call
        self._failed_now: dict[str, FailureClass] = {}  # by audio key
        self._failed = Counter[FailureClass]()
        self._started = time.monotonic()
        self._waits_s = 0.0  # with nothing under way

    def add(self, recording: Recording, not_before: float) -> None:
        """Lets a recording wait, at most until the call ends; ``not_before`` in seconds since 1970."""
        self.schedule.add(recording, not_before)
        if self._is_late(not_before):
            self._put_off.update(clip.audio_key for clip in recording.clips)

    def run(self) -> None:
        """Fetches until nothing is left that can be done now."""
        try:
            with progress_bar("fetch", self._to_go(), "clips") as bar:
                while self._start() or self._busy:
                    if self._busy:
                        self._listen()
                    self._show(bar)
        finally:
            for worker in [*self._busy, *self._idle]:
                worker.kill()
            self._report.failed = dict((+self._failed).most_common())
            now = time.time()
            paces = self._paces.items()
            self._report.blocks = {site: p.block for site, p in paces if p.block and p.blocked_until(now) > now}

    def _start(self) -> bool:
        """Starts what may be started; with nothing under way, waits for a while. Whether there is more to come."""
        addresses = self._crew.addresses
        while len(self._busy) < self._config.workers and (taken := self._take(addresses)) is not None:
            recording, address = taken
            worker = next((idle for idle in self._idle if idle.address == address), None)
            if worker is None:
                worker = self._crew.hire(address)
            else:
                self._idle.remove(worker)
            worker.submit(recording)
            self._busy.append(worker)
            if self._config.per_hour is not None:
                self._keep(lane_of(recording.site, address))
        if self._busy:
            self._waits_s = 0.0
            return True
        now = time.time()
        at = self.schedule.worth_waiting(now, self._config.patience, addresses)
        self._waits_s = at - now if at is not None else 0.0
        if at is not None:
            time.sleep(min(max(at - now, 0.0), _HEARTBEAT_S))
        return at is not None

    def _take(self, addresses: Collection[str]) -> tuple[Recording, str] | None:
        """The next recording and the address that it leaves by: of those that may, the one with the least to do."""
        at_work = Counter(worker.address for worker in self._busy)
        for address in sorted(addresses, key=at_work.__getitem__):
            if (recording := self.schedule.take(time.time(), address)) is not None:
                return recording, address
        return None

    def _listen(self) -> None:
        """Waits for answers and deals with them."""
        free = len(self._busy) < self._config.workers
        next_at = self.schedule.next_at(self._crew.addresses) if free else math.inf
        patience = max(min(next_at - time.time(), _HEARTBEAT_S), 0.0)
        wait([worker.connection for worker in self._busy], patience)
        stopped: set[str] = set()
        for worker in list(self._busy):
            stopped |= self._hear(worker)
        for worker in [worker for worker in self._busy if _lane(worker) in stopped]:
            self._hear(worker)  # what it had finished counts
            if worker in self._busy:
                self._give_up(worker)

    def _hear(self, worker: WorkerHandle) -> set[str]:
        """Takes a worker's answers; the lanes whose workers have to stop."""
        recording, lane = worker.recording, _lane(worker)
        assert recording is not None
        try:
            outcomes = worker.receive()
        except WorkerDied as died:
            in_flight = next(iter(worker.unanswered), None)
            lost = [worker.unanswered.pop(in_flight)] if in_flight else []
            stopped = self._record(recording, lane, [Outcome(clip, fault=died.fault) for clip in lost])
            self._give_up(worker)
            return stopped
        stopped = self._record(recording, lane, outcomes)
        if worker.recording is None:
            self._busy.remove(worker)
            self._idle.append(worker)
            self._finished(recording, worker.address)
        return stopped

    def _give_up(self, worker: WorkerHandle) -> None:
        """Ends a worker; the clips that it has not answered wait again and have spent no attempt."""
        worker.kill()
        self._busy.remove(worker)
        assert worker.recording is not None
        if worker.unanswered:
            self.schedule.add(replace(worker.recording, clips=tuple(worker.unanswered.values())))
        self._finished(worker.recording, worker.address)

    def _finished(self, recording: Recording, address: str) -> None:
        again = self._again.pop(recording.url, [])
        if again:
            clips, times = zip(*again, strict=True)
            self.schedule.add(replace(recording, clips=clips), max(times))
        self.schedule.finished(recording.site, address)

    def _record(self, recording: Recording, lane: str, outcomes: Sequence[Outcome]) -> set[str]:
        """Writes a recording's outcomes down and tells its lane's pace; the lane, if its workers have to stop."""
        if not outcomes:
            return set()
        now, pace = time.time(), self._pace_of(lane)
        before = self._ledger.get_many(outcome.clip.audio_key for outcome in outcomes)
        rows: list[LedgerRow] = []
        stopped: set[str] = set()
        for outcome in outcomes:
            key, previous = outcome.clip.audio_key, before.get(outcome.clip.audio_key)
            self._report.received += outcome.received
            if outcome.row is not None:
                rows.append(replace(outcome.row, attempts=previous.attempts + 1 if previous else 1))
                self._report.fetched += 1
                self._put_off.discard(key)
                self._count_failed(key, None)
                pace.succeeded()
                continue
            assert outcome.fault is not None
            row = failed_row(outcome.clip, outcome.fault, previous, now, self._access)
            rows.append(row)
            kind = class_of(outcome.fault.reason)
            self._count_failed(key, kind)
            block = pace.failed(recording.url, outcome.fault, now, row.next_retry)
            if block is not None and block.lasting:
                self._keep(lane)
            if block is not None and block.stops_workers:
                stopped.add(lane)
            self._put_off.discard(key)
            if row.next_retry is not None and kind is not FailureClass.ENVIRONMENT:  # which lasts as long as we do
                self._again[recording.url].append((outcome.clip, row.next_retry))
                if self._is_late(row.next_retry):
                    self._put_off.add(key)
        self._ledger.put_many(rows)
        return stopped

    def _count_failed(self, key: str, kind: FailureClass | None) -> None:
        """Counts a clip by its last failure, or no longer, once it came."""
        if (before := self._failed_now.pop(key, None)) is not None:
            self._failed[before] -= 1
        if kind is not None:
            self._failed_now[key] = kind
            self._failed[kind] += 1

    def _pace_of(self, lane: str) -> SitePace:
        if lane not in self._paces:
            kept = self._sites.get(lane, Site(lane))
            if self._retry and lane in self._sites:
                self._ledger.put_site(kept)  # a block that the user took off is none for the next call either
            self._paces[lane] = SitePace(self._config, self._rng, kept.next_start or 0.0, block_of(kept))
        return self._paces[lane]

    def _keep(self, lane: str) -> None:
        """Writes down what of a lane's pace has to outlive this process."""
        pace = self._paces[lane]
        block = pace.block if pace.block is not None and pace.block.lasting else None
        until, reason, message = (block.until, block.reason, block.message) if block else (None, None, None)
        self._ledger.put_site(Site(lane, until, reason, message, pace.arrival))

    def _is_late(self, at: float) -> bool:
        """Whether the time is too far off to be waited for."""
        return at > time.time() + self._config.patience

    def _to_go(self) -> int:
        """Clips that this call still has to do, as far as is known."""
        waiting = self.schedule.clips + sum(map(len, self._again.values()))
        return waiting + sum(len(worker.unanswered) for worker in self._busy) - len(self._put_off)

    def _show(self, bar: ProgressBar) -> None:
        failed = ", ".join(f"{n} {kind}" for kind, n in (+self._failed).most_common())
        rate = self._report.received / MB / max(time.monotonic() - self._started, 1e-9)
        counts = f"{self._report.fetched} ok, {failed}" if failed else f"{self._report.fetched} ok"
        waits = f", waiting {duration(self._waits_s)}" if self._waits_s > _HEARTBEAT_S else ""
        bar.advance(max(bar.total - self._to_go() - bar.done, 0), f"{rate:.1f} MB/s, {counts}{waits}")


def _lane(worker: WorkerHandle) -> str:
    return lane_of(worker.recording.site, worker.address) if worker.recording else ""


@contextmanager
def _alone(ledger: Path) -> Iterator[None]:
    """One fetch at a time on a ledger; a second one waits and says so."""
    lock = FileLock(ledger.with_name(f".{ledger.name}.fetch.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("another process is fetching into this cache; waiting for it", markup=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _notice(marker: Path) -> None:
    """What everyone should have read once, before the first fetch into a cache."""
    if not marker.exists():
        console.print(NOTICE, markup=False)
        with suppress(OSError):  # a folder that cannot be written is the store's to explain
            remove_stale(marker.parent, marker.name)
            write_text(marker, NOTICE)
