"""How often a site is asked, for any settings and any history, and what stops it."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.failures import FailureClass, Fault, Reason, class_of
from audioclf.fetch.pace import FIRST_OUTAGE_S, HOUR_S, OUTAGES, REFUSALS, Block, SitePace
from audioclf.fetch.recording import Recording
from audioclf.fetch.schedule import Schedule

NOW = 1_800_000_000.0


def pace_of(rng: int = 0, **settings: object) -> SitePace:
    return SitePace(FetchConfig(**settings), random.Random(rng))  # type: ignore[arg-type]


def starts(pace: SitePace, count: int, now: float = NOW) -> list[float]:
    """The times at which so many recordings are started as soon as they may be."""
    times = []
    for _ in range(count):
        now = max(now, pace.ready_at(now))
        pace.started(now)
        times.append(now)
    return times


@given(sleep=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_pauses_are_random_within_half_and_one_and_a_half_of_sleep(sleep: float, seed: int) -> None:
    times = starts(pace_of(seed, sleep=sleep, per_hour=None), 20)
    pauses = [b - a for a, b in pairwise(times)]
    assert all(0.499 * sleep <= pause <= 1.501 * sleep for pause in pauses) and len(set(pauses)) == 19


@given(per_hour=st.integers(1, 400), restarts=st.sets(st.integers(0, 800)), sleep=st.sampled_from([0.0, 5.0]))
def test_no_hour_sees_more_than_the_cap_also_across_restarts(per_hour: int, restarts: set[int], sleep: float) -> None:
    config = FetchConfig(sleep=sleep, per_hour=per_hour)
    pace, now, times = SitePace(config, random.Random(0)), NOW, list[float]()
    for i in range(2 * per_hour + 2):
        if i in restarts:
            pace = SitePace(config, random.Random(i), pace.arrival)
        now = max(now, pace.ready_at(now))
        pace.started(now)
        times.append(now)
    for first, beyond in zip(times, times[per_hour:], strict=False):
        assert beyond - first >= HOUR_S * 0.999999, f"{per_hour + 1} in {beyond - first} s"
    if sleep == 0:
        assert times[per_hour] - times[0] <= HOUR_S * 1.000001, "slower than the cap asks for"


def test_a_clock_that_was_an_age_ahead_costs_an_hour_at_most() -> None:
    pace = SitePace(FetchConfig(sleep=0, per_hour=10), random.Random(0), NOW + 1e8, None)
    assert pace.ready_at(NOW) <= NOW + HOUR_S
    pace.started(NOW + HOUR_S)
    assert pace.arrival <= NOW + 3 * HOUR_S


def test_a_cap_that_was_taken_off_is_no_longer_waited_for() -> None:
    config = FetchConfig(sleep=0.0, per_hour=None)
    assert SitePace(config, random.Random(0), NOW + 600).ready_at(NOW) <= NOW


def test_without_sleep_and_cap_nothing_waits() -> None:
    assert starts(pace_of(sleep=0, per_hour=None), 50) == [NOW] * 50


@pytest.mark.parametrize("reason", [reason for reason in Reason if class_of(reason) is FailureClass.SESSION])
def test_a_site_that_refuses_us_is_stopped_at_once_and_for_later_calls(reason: Reason) -> None:
    pace = pace_of()
    block = pace.failed("u", Fault(reason, "no"), NOW, NOW + 999)
    assert block == Block(NOW + 999, reason, "no") and block.lasting and block.stops_workers
    assert pace.blocked_until(NOW) == NOW + 999


@pytest.mark.parametrize(
    ("reason", "recordings"),
    [
        *((Reason.FORBIDDEN, REFUSALS), (Reason.NO_FORMAT, REFUSALS)),
        *((Reason.CONNECTION, OUTAGES), (Reason.TIMEOUT, OUTAGES), (Reason.SERVER_ERROR, OUTAGES)),
        (Reason.NO_JS_RUNTIME, 1),
    ],
)
def test_a_lone_odd_recording_stops_no_site_but_a_row_of_them_does(reason: Reason, recordings: int) -> None:
    pace = pace_of()
    for number in range(recordings - 1):
        for _clip in range(20):
            assert pace.failed(f"u{number}", Fault(reason, ""), NOW, NOW + 60) is None
    if recordings > 1:
        pace.succeeded()
        for number in range(recordings - 1):
            assert pace.failed(f"v{number}", Fault(reason, ""), NOW, NOW + 60) is None, "a success starts the row anew"
    block = pace.failed("w", Fault(reason, ""), NOW, NOW + 60)
    assert block is not None and pace.blocked_until(NOW) > NOW
    assert math.isinf(block.until) == (class_of(reason) is FailureClass.ENVIRONMENT)


@pytest.mark.parametrize(
    "reason", [r for r in Reason if class_of(r) in (FailureClass.DEAD, FailureClass.CONDITIONAL, FailureClass.UNKNOWN)]
)
def test_what_lies_with_the_recording_never_stops_its_site(reason: Reason) -> None:
    pace = pace_of()
    assert not any(pace.failed(f"u{i}", Fault(reason, ""), NOW, NOW + 60) for i in range(50))


def test_an_outage_is_looked_at_again_after_twice_as_long_each_time() -> None:
    pace, spans = pace_of(), []
    for _ in range(3):
        for number in range(OUTAGES):
            block = pace.failed(f"u{number}", Fault(Reason.CONNECTION, ""), NOW, NOW + 2)
        assert block is not None and not block.stops_workers
        spans.append(block.until - NOW)
    assert spans == [FIRST_OUTAGE_S, 2 * FIRST_OUTAGE_S, 4 * FIRST_OUTAGE_S]
    pace.succeeded()
    for number in range(OUTAGES):
        block = pace.failed(f"u{number}", Fault(Reason.CONNECTION, ""), NOW + 1e4, NOW)
    assert block is not None and block.until == NOW + 1e4 + FIRST_OUTAGE_S


def test_a_busy_server_that_names_a_time_is_left_alone_until_then() -> None:
    pace = pace_of()
    block = pace.failed("u", Fault(Reason.SERVER_ERROR, "busy", 503, 77.0), NOW, NOW + 80)
    assert block is not None and block.until == NOW + 77 and block.lasting and not block.stops_workers


@given(
    st.lists(
        st.tuples(st.sampled_from(Reason), st.integers(0, 9), st.none() | st.floats(0, 1e9), st.floats(0, 1e6)),
        max_size=40,
    )
)
def test_a_block_is_never_shortened_by_what_comes_after(events: list[tuple[Reason, int, float | None, float]]) -> None:
    pace, now = pace_of(), NOW
    for reason, number, retry_after_s, passed in events:
        before = pace.blocked_until(now)
        pace.failed(f"u{number}", Fault(reason, "", None, retry_after_s), now, now + (retry_after_s or 3600))
        assert pace.blocked_until(now) >= before
        now += passed


def recording(number: int, site: str = "a") -> Recording:
    return Recording(f"http://{site}/{number}", site, (Clip(f"{site}{number}", "", 0, 1, ("x",), "g"),))


class Sites(dict[str, SitePace]):
    def __missing__(self, site: str) -> SitePace:
        self[site] = pace_of(sleep=0, per_hour=None)
        return self[site]


@given(
    recordings=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), max_size=30),
    per_site=st.integers(1, 3),
    choices=st.randoms(use_true_random=False),
)
def test_every_recording_comes_once_and_not_early_and_no_site_gets_more_than_its_share(
    recordings: list[tuple[str, int]], per_site: int, choices: random.Random
) -> None:
    schedule = Schedule(Sites().__getitem__, per_site)
    for number, (site, at) in enumerate(recordings):
        schedule.add(recording(number, site), NOW + at)
    taken, under_way, now = list[Recording](), list[Recording](), NOW - 6
    while schedule.clips or under_way:
        found = schedule.take(now)
        if found is not None:
            assert NOW + recordings[int(found.url.rsplit("/", 1)[1])][1] <= now
            taken.append(found)
            under_way.append(found)
            assert [other.site for other in under_way].count(found.site) <= per_site
        elif under_way and choices.random() < 0.5:
            schedule.finished(under_way.pop(choices.randrange(len(under_way))).site)
        else:
            now += 1
            if not under_way:
                assert schedule.next_at() < math.inf or not schedule.clips
    assert len(taken) == len(recordings) == len({found.url for found in taken})
    assert schedule.worth_waiting(now, 1e9) is None


def test_waiting_ends_for_retries_and_blocks_beyond_patience_but_not_for_the_normal_pace() -> None:
    sites = Sites()
    schedule = Schedule(sites.__getitem__, 1)
    schedule.add(recording(1, "retry"), NOW + 100)
    sites["blocked"].block = Block(NOW + 100, Reason.RATE_LIMITED, "")
    schedule.add(recording(2, "blocked"))
    assert schedule.worth_waiting(NOW, 60) is None and schedule.take(NOW) is None
    assert schedule.worth_waiting(NOW, 100) == NOW + 100
    sites["slow"] = pace_of(sleep=0, per_hour=1)
    sites["slow"].started(NOW)
    schedule.add(recording(3, "slow"))
    assert schedule.worth_waiting(NOW, 0) == NOW + HOUR_S
    assert schedule.take(NOW + HOUR_S - 1) is not None and schedule.take(NOW + HOUR_S - 1) is not None
    assert schedule.take(NOW + HOUR_S - 1) is None


def test_untried_recordings_go_before_those_that_failed_before() -> None:
    schedule = Schedule(Sites().__getitem__, 1)
    schedule.add(recording(1), NOW - 50)
    schedule.add(recording(2), NOW - 90)
    schedule.add(recording(3))
    order = []
    while (found := schedule.take(NOW)) is not None:
        order.append(found.url[-1])
        schedule.finished("a")
    assert order == ["3", "2", "1"]
