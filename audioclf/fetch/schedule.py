"""Which recording is fetched next: each site's own line, and one order over all sites."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection

from audioclf.fetch.pace import SitePace
from audioclf.fetch.recording import Recording

HERE = ("",)
"""Our egress addresses where all that we fetch leaves by the same one."""


def lane_of(site: str, address: str) -> str:
    """What has a pace and breakers of its own: a site, as one egress address of ours meets it."""
    return f"{site} from {address}" if address else site


class Schedule:
    """Recordings that wait, each not before its time and not before its site allows.

    A site's recordings go by their time, then in the order in which they were added. All sites stand in one heap by
    the time at which they may go on, so that a call costs the logarithm of their number; each egress address of ours
    has a heap of its own, for a site that stops one of them lets the others go on.

    Args:
        pace_of: the pace of a lane.
        workers_per_site: recordings of one lane that may be under way at the same time.
    """

    def __init__(self, pace_of: Callable[[str], SitePace], workers_per_site: int) -> None:
        self.clips = 0  # that wait
        self._pace_of, self._workers_per_site = pace_of, workers_per_site
        self._lines: dict[str, list[tuple[float, int, Recording]]] = {}
        self._under_way = Counter[str]()  # by lane
        self._heaps: dict[str, list[tuple[float, str]]] = {}  # of sites, by address
        self._listed: dict[str, float] = {}  # the one entry of its heap that counts for a lane
        self._order = itertools.count()

    def add(self, recording: Recording, not_before: float = 0.0) -> None:
        """Lets a recording wait; ``not_before`` in seconds since 1970."""
        line = self._lines.setdefault(recording.site, [])
        heapq.heappush(line, (not_before, next(self._order), recording))
        self.clips += len(recording.clips)
        for address in self._heaps:
            self._list(recording.site, address, 0.0)  # when it really may start is found out when its turn comes

    def take(self, now: float, address: str = "") -> Recording | None:
        """The next recording that may be started at ``now``; its lane counts it as under way until ``finished``."""
        heap = self._heap_of(address)
        while heap and heap[0][0] <= now:
            at, site = heapq.heappop(heap)
            lane = lane_of(site, address)
            if self._listed.get(lane) != at:
                continue
            del self._listed[lane]
            if site not in self._lines:
                continue  # another address took the last
            if self._under_way[lane] >= self._workers_per_site:
                continue  # listed again when one of them is finished
            if (ready := self._ready_at(site, address, now)) > now:
                self._list(site, address, ready)
                continue
            recording = heapq.heappop(self._lines[site])[2]
            if not self._lines[site]:
                del self._lines[site]
            self.clips -= len(recording.clips)
            self._under_way[lane] += 1
            self._pace_of(lane).started(now)
            self._list(site, address, now)
            return recording
        return None

    def finished(self, site: str, address: str = "") -> None:
        """One recording of the lane is no longer under way."""
        self._under_way[lane_of(site, address)] -= 1
        self._list(site, address, 0.0)

    def next_at(self, addresses: Collection[str] = HERE) -> float:
        """No recording may be started before this time, as far as is known; infinite where none waits."""
        return min((heap[0][0] for address in addresses if (heap := self._heap_of(address))), default=math.inf)

    def worth_waiting(self, now: float, patience: float, addresses: Collection[str] = HERE) -> float | None:
        """When the next recording may start, of those whose retry or block ends within ``patience`` seconds.

        Pauses and the hourly cap are the normal pace and waited out however long they are. None: what is left has to
        wait longer than that.
        """
        return min(
            (
                self._ready_at(site, address, now)
                for site, line in self._lines.items()
                for address in addresses
                if max(line[0][0], self._pace_of(lane_of(site, address)).blocked_until(now)) <= now + patience
            ),
            default=None,
        )

    def _heap_of(self, address: str) -> list[tuple[float, str]]:
        if address not in self._heaps:
            self._heaps[address] = []
            for site in self._lines:
                self._list(site, address, 0.0)
        return self._heaps[address]

    def _ready_at(self, site: str, address: str, now: float) -> float:
        pace = self._pace_of(lane_of(site, address))
        return max(self._lines[site][0][0], pace.ready_at(now), pace.blocked_until(now))

    def _list(self, site: str, address: str, at: float) -> None:
        lane = lane_of(site, address)
        if site in self._lines and self._listed.get(lane, math.inf) > at:
            self._listed[lane] = at
            heapq.heappush(self._heaps[address], (at, site))
