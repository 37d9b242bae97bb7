"""How often a site is asked, and when it is left alone: pauses, an hourly cap and breakers.

Nothing here looks at a clock: every method takes the time, in seconds since 1970.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, replace

from audioclf.audio.ledger import Ledger, Site
from audioclf.config import FetchConfig
from audioclf.fetch.failures import MAX_RETRY_AFTER_S, FailureClass, Fault, Reason, class_of

HOUR_S = 3600.0
LONGEST_BLOCK_S = MAX_RETRY_AFTER_S  # whatever a clock that was wrong left behind
FIRST_OUTAGE_S = 30.0  # a site that cannot be reached is tried again after this; each time after twice as long
REFUSALS = 3  # recordings in a row, so that one odd video stops no table
OUTAGES = 5

_OUTAGE = frozenset({Reason.CONNECTION, Reason.TIMEOUT, Reason.SERVER_ERROR})


@dataclass(frozen=True, slots=True)
class Block:
    """A site that is left alone.

    Attributes:
        until: seconds since 1970; infinite: for as long as this process runs.
        reason: what stopped it.
        message: the server's words, one printable line.
    """

    until: float
    reason: Reason
    message: str

    @property
    def lasting(self) -> bool:
        """Whether the next call has to heed it too: the site refused us, or said when to come back."""
        return class_of(self.reason) in (FailureClass.SESSION, FailureClass.FORBIDDEN, FailureClass.TRANSIENT)

    @property
    def stops_workers(self) -> bool:
        """Whether what is under way at that site is given up: it would only be refused as well."""
        return class_of(self.reason) in (FailureClass.SESSION, FailureClass.FORBIDDEN)


class SitePace:
    """One site's pace.

    The pause between two starts is ``sleep`` x uniform(0.5, 1.5). The hourly cap is a leaky bucket (GCRA): a tenth of
    the cap may go at once, the rest evenly, so that no window of an hour sees more starts than ``per_hour``. Its whole
    state is one number, ``arrival``, which outlives the process in the ledger.

    Args:
        config: ``sleep`` and ``per_hour``.
        rng: for the pauses.
        arrival: of an earlier call, in seconds since 1970.
        block: of an earlier call.
    """

    def __init__(
        self, config: FetchConfig, rng: random.Random, arrival: float = 0.0, block: Block | None = None
    ) -> None:
        self.arrival, self.block = arrival, block
        self._sleep, self._rng = config.sleep, rng
        self._interval = interval_s(config.per_hour)
        self._burst_s = (_burst(config.per_hour) - 1) * self._interval
        self._pause_until = 0.0
        self._outages = 0
        self._in_a_row: dict[FailureClass, set[str]] = defaultdict(set)

    def ready_at(self, now: float) -> float:
        """When the next recording may be started as far as pause and cap go; a block comes on top."""
        if not self._interval:
            return self._pause_until
        arrival = min(self.arrival, now + HOUR_S)  # more is no cap's doing but a clock that was set back
        return max(self._pause_until, arrival - self._burst_s)

    def blocked_until(self, now: float) -> float:
        """When the site may be asked again; the past where nothing stops it."""
        if self.block is None or math.isinf(self.block.until):
            return 0.0 if self.block is None else math.inf
        return min(self.block.until, now + LONGEST_BLOCK_S)

    def started(self, now: float) -> None:
        """A recording of the site was started."""
        self._pause_until = now + self._sleep * self._rng.uniform(0.5, 1.5)
        self.arrival = max(min(self.arrival, now + HOUR_S), now) + self._interval

    def succeeded(self) -> None:
        """A clip came: the site serves us."""
        self._in_a_row.clear()
        self._outages = 0

    def failed(self, url: str, fault: Fault, now: float, next_retry: float | None) -> Block | None:
        """Takes note of a clip's failure; the block where it stops the site.

        Args:
            url: the recording's; several clips of one count once.
            fault: what happened.
            now: in seconds since 1970.
            next_retry: when the clip may be tried again, by the ledger's rules.
        """
        kind = class_of(fault.reason)
        until = self._stop(kind, url, fault, now, next_retry)
        if until is None and fault.retry_after_s is not None:
            until = now + min(fault.retry_after_s, LONGEST_BLOCK_S)
        if until is None or until <= self.blocked_until(now):
            return None
        self.block = Block(until, fault.reason, fault.message)
        return self.block

    def _stop(self, kind: FailureClass, url: str, fault: Fault, now: float, next_retry: float | None) -> float | None:
        """Until when the site is to be left alone by the breakers' rules, or None."""
        outage = fault.reason in _OUTAGE
        if kind is FailureClass.SESSION:
            return next_retry or now + HOUR_S
        if fault.reason is Reason.NO_JS_RUNTIME:
            return math.inf
        if not outage and kind not in (FailureClass.FORBIDDEN, FailureClass.ENVIRONMENT):
            return None
        recordings = self._in_a_row[kind]
        recordings.add(url)
        if len(recordings) < (OUTAGES if outage else REFUSALS):
            return None
        if kind is FailureClass.ENVIRONMENT:
            return math.inf
        if kind is FailureClass.FORBIDDEN:
            return next_retry or now + HOUR_S
        self._outages += 1
        recordings.clear()
        return now + min(FIRST_OUTAGE_S * 2.0 ** (self._outages - 1), HOUR_S)


def block_of(site: Site) -> Block | None:
    """The block that an earlier call left behind."""
    if site.blocked_until is None or site.reason is None:
        return None
    return Block(site.blocked_until, Reason(site.reason), site.message or "")


def known_sites(ledger: Ledger, retry: frozenset[FailureClass]) -> dict[str, Site]:
    """What earlier calls left behind, by lane.

    Args:
        ledger: where they wrote it.
        retry: what the user asks to try again now: blocks of these classes are taken off; the hourly cap stays.
    """
    return {
        site.site: replace(site, blocked_until=None, reason=None, message=None)
        if site.reason is not None and class_of(site.reason) in retry
        else site
        for site in ledger.get_sites()
    }


def standing_blocks(ledger: Ledger, retry: frozenset[FailureClass], now: float) -> dict[str, Block]:
    """The sites that the next call will leave alone, by lane."""
    blocks = ((lane, block_of(site)) for lane, site in known_sites(ledger, retry).items())
    return {lane: block for lane, block in blocks if block is not None and block.until > now}


def interval_s(per_hour: int | None) -> float:
    """Seconds between two recordings of a site that an hourly cap leaves in the long run; 0 without a cap."""
    return HOUR_S / (per_hour - _burst(per_hour) + 1) if per_hour else 0.0


def _burst(per_hour: int | None) -> int:
    """Recordings that may go at once: with one every ``interval_s`` after them they fill the cap exactly."""
    return max(1, (per_hour or 0) // 10)
