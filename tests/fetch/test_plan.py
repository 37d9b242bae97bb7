"""What a fetch would take: counts that agree with what is done, and times that agree with the pace."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.failures import FailureClass, Fault, Reason
from audioclf.fetch.pace import SitePace
from audioclf.fetch.plan import RECORDING_S, Plan, duration, recordings_of, seconds_for, wanted
from audioclf.fetch.retry import access_of, failed_row

NOW = 1_800_000_000.0


def config_of(**changes: Any) -> FetchConfig:
    return FetchConfig.model_validate(changes)


ACCESS = access_of(config_of())


def clip_of(number: int, start: float, url: str = "https://x.org/{}", seconds: float | None = 10) -> Clip:
    end = None if seconds is None else start + seconds
    return Clip(f"c{number}-{start}", url.format(number), start, end, ("dog",), f"g{number}")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[AudioStore, Ledger]]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield AudioStore(tmp_path / "audio"), ledger


def fail(ledger: Ledger, clip: Clip, reason: Reason, ago_s: float = 0.0) -> None:
    ledger.put_many([failed_row(clip, Fault(reason, ""), None, time.time() - ago_s, ACCESS)])


def test_a_plan_counts_clips_recordings_sites_and_what_needs_no_fetching(place: tuple[AudioStore, Ledger]) -> None:
    store, ledger = place
    clips = [clip_of(n, start) for n in range(4) for start in (0, 10)]
    clips += [clip_of(9, 0, "https://www.y.org/{}", None), clip_of(8, 0, "a/{}.wav")]
    store.path(clips[0]).parent.mkdir(parents=True)
    store.path(clips[0]).write_bytes(b"")
    ledger.put_many([LedgerRow.of(clips[0], State.OK)])
    fail(ledger, clips[1], Reason.GEO)
    fail(ledger, clips[2], Reason.REMOVED)
    fail(ledger, clips[4], Reason.TIMEOUT, ago_s=3600)
    plan = Plan.of(clips, store, ledger, config_of(), frozenset())
    assert (plan.clips, plan.later, plan.done) == (6, 1, 3)
    assert plan.sites == {"x.org": 3, "y.org": 1}
    assert plan.audio_s == 50 and plan.open_ended == 1
    text = "\n".join(plan.lines())
    assert "6 clips of 4 recordings to fetch; 3 need no fetching, 1 are to be tried again later" in text
    assert "3 recordings at x.org" in text and "1 clips without an end" in text

    everything = Plan.of(clips, store, ledger, config_of(), frozenset(FailureClass))
    assert (everything.clips, everything.later, everything.done) == (8, 0, 2)


def test_untried_clips_go_first_and_a_retry_that_is_not_due_waits_by_itself(place: tuple[AudioStore, Ledger]) -> None:
    store, ledger = place
    clips = [clip_of(n, start) for n in range(3) for start in (0, 10)]
    fail(ledger, clips[0], Reason.TIMEOUT, ago_s=3600)
    fail(ledger, clips[1], Reason.TIMEOUT, ago_s=7200)
    fail(ledger, clips[2], Reason.RATE_LIMITED)
    now = time.time()
    found = list(recordings_of(wanted(clips, store, ledger, ACCESS, frozenset(), now), now))
    by_time = [([clip.start for clip in recording.clips], recording.url[-1], at) for recording, at in found]
    assert [(starts, url) for starts, url, _ in by_time] == [([0, 10], "0"), ([10], "1"), ([0, 10], "2"), ([0], "1")]
    tried, untried, other, later = (at for _, _, at in by_time)
    assert untried == other == 0 < tried < now - 7000 and later > now, "of two retries the one that waits longest"


def test_a_class_that_is_asked_for_again_is_due_now(place: tuple[AudioStore, Ledger]) -> None:
    store, ledger = place
    clip = clip_of(0, 0)
    fail(ledger, clip, Reason.REMOVED)
    now = time.time()
    assert [at > now for _, at in wanted([clip], store, ledger, ACCESS, frozenset(), now)] == [True]
    assert [0 < at <= now for _, at in wanted([clip], store, ledger, ACCESS, frozenset({FailureClass.DEAD}), now)] == [
        True
    ]


@given(
    recordings=st.integers(1, 1500),
    sleep=st.floats(0, 30),
    per_hour=st.none() | st.integers(1, 2000),
    workers=st.integers(1, 4),
)
def test_the_time_agrees_with_what_the_pace_allows(
    recordings: int, sleep: float, per_hour: int | None, workers: int
) -> None:
    config = config_of(sleep=sleep, per_hour=per_hour, workers=workers, workers_per_site=workers)
    pace, free = SitePace(config, random.Random(0)), [NOW] * workers
    for _ in range(recordings):
        now = heapq.heappop(free)
        now = max(now, pace.ready_at(now))
        pace.started(now)
        heapq.heappush(free, now + RECORDING_S)
    took, told = max(free) - NOW, seconds_for(Counter({"x.org": recordings}), config)
    burst_s = 3600 / per_hour * max(1, per_hour // 10) * 2 if per_hour else 0
    assert took - 2 * sleep - RECORDING_S <= told * 1.35 and told <= took * 1.35 + 2 * sleep + burst_s + RECORDING_S


def test_sites_are_fetched_side_by_side_as_far_as_there_are_workers() -> None:
    few = config_of(workers=2, workers_per_site=1, sleep=0, per_hour=None)
    assert seconds_for(Counter(a=10), few) == 10 * RECORDING_S
    assert seconds_for(Counter(a=10, b=10), few) == 10 * RECORDING_S
    assert seconds_for(Counter(a=10, b=10, c=10, d=10), few) == 20 * RECORDING_S
    assert seconds_for(Counter(), few) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h"), (1e6, "11.6 days")]
)
def test_a_time_is_said_in_a_unit_that_people_grasp(seconds: float, said: str) -> None:
    assert duration(seconds) == said
