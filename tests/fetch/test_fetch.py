"""Fetching many recordings: what is asked for, in which order, what is written down, and what is left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audioclf.audio.ledger import Ledger, LedgerRow, Site, State
from audioclf.audio.store import AudioStore, pcm_sha256, read_pcm
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.console import ProgressBar
from audioclf.errors import EXIT_OK, EXIT_RETRY_LATER, UserError
from audioclf.fetch.failures import FailureClass, Reason
from audioclf.fetch.fetch import fetch_clips


def config_of(**changes: Any) -> FetchConfig:
    fast = {"sleep": 0.0, "per_hour": None, "workers": 1, "workers_per_site": 1, "timeout": 5.0, "patience": 0.0}
    return FetchConfig.model_validate(fast | {"allow_private": True} | changes)


def clip_of(name: str, url: str, start: float = 1.0) -> Clip:
    return Clip(name, url, start, start + 1, ("a",), url)


class Place:
    """A cache folder: its store and its ledger."""

    def __init__(self, root: Path) -> None:
        self.store, self.ledger = AudioStore(root / "audio"), Ledger(root / "ledger.sqlite")

    def row(self, clip: Clip) -> LedgerRow | None:
        return self.ledger.get_many([clip.audio_key]).get(clip.audio_key)

    def reasons(self, clips: list[Clip]) -> list[str | None]:
        """Of each clip: ``ok``, its failure's reason, or None where it has no row."""
        rows = map(self.row, clips)
        return [None if row is None else row.failure or row.state.value for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "cache")
    yield place
    place.ledger.close()


def children() -> list[int]:
    """Processes that this one started and has not seen end."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def test_each_clip_gets_its_own_row_and_what_came_is_never_asked_for_again(
    media: Any, media_server: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    good = media_server.url(media("opus"))
    clips = [clip_of(f"good{i}", good, 2.0 * i) for i in range(3)]
    clips += [clip_of("late", good, 1000.0), clip_of("gone", media_server.url(media("opus"), "404"))]
    clips += [Clip("local", "a.wav", 0, 1, ("a",), "a")]
    before = children()
    report = fetch_clips(clips, place.store, place.ledger, config_of(per_hour=1000))
    assert place.reasons(clips) == ["ok", "ok", "ok", "out_of_range", "not_found", None]
    assert (report.fetched, report.failed, report.exit_code) == (3, {FailureClass.DEAD: 2}, EXIT_RETRY_LATER)
    assert 0 < report.received <= 2 * media_server.sent() and report.tried
    for clip in clips[:3]:
        row = place.row(clip)
        assert row is not None and row.attempts == 1 and "yt-dlp" in row.tool_versions
        assert pcm_sha256(read_pcm(place.store.path(clip))) == row.sha256 and row.duration_s == pytest.approx(1)
    assert children() == before, "workers are gone"
    (site,) = place.ledger.get_sites()
    assert site.site == "127.0.0.1" and site.next_start is not None
    assert 0 < site.next_start - time.time() < 10, "two of 1,000 an hour: the cap outlives the process"
    assert "sites have terms of use" in capsys.readouterr().out

    asked = len(media_server.requests())
    again = fetch_clips(clips, place.store, place.ledger, config_of())
    assert not again.tried and len(media_server.requests()) == asked, "dead ones are asked again a day later"
    assert again.exit_code == EXIT_RETRY_LATER and "terms" not in capsys.readouterr().out
    place.store.path(clips[1]).unlink()
    report = fetch_clips(clips[:3], place.store, place.ledger, config_of())
    assert (report.fetched, report.exit_code) == (1, EXIT_OK) and place.store.path(clips[1]).exists()


def test_a_site_that_refuses_us_is_left_alone_and_the_others_go_on(media: Any, media_server: Any, place: Place) -> None:
    file = media("opus")
    refusing = [clip_of(f"r{i}", media_server.url(file, "429", retry_after=50)) for i in range(3)]
    serving = [clip_of(f"s{i}", media_server.url(file, host="localhost")) for i in range(2)]
    clips = [*refusing, *serving]
    report = fetch_clips(clips, place.store, place.ledger, config_of())
    assert place.reasons(clips) == ["rate_limited", None, None, "ok", "ok"]
    row = place.row(refusing[0])
    assert row is not None and row.attempts == 0 and row.http_status == 429, "no attempt is spent"
    block = report.blocks["127.0.0.1"]
    assert 40 < block.until - time.time() < 51 and report.exit_code == EXIT_RETRY_LATER
    assert any("127.0.0.1 is left alone until" in line for line in report.summary_lines())

    asked = len(media_server.requests())
    later = fetch_clips(clips, place.store, place.ledger, config_of())
    assert not later.tried and len(media_server.requests()) == asked, "another process heeds it too"
    assert "127.0.0.1" in later.blocks
    fetch_clips(clips, place.store, place.ledger, config_of(), retry=frozenset({FailureClass.SESSION}))
    assert len(media_server.requests()) > asked


def test_a_block_stops_what_is_under_way_at_that_site_and_costs_it_nothing(
    media: Any, media_server: Any, place: Place
) -> None:
    file = media("opus")
    slow = clip_of("slow", media_server.url(file, "stall"))
    refused = clip_of("refused", media_server.url(file, "429"))
    started = time.monotonic()
    fetch_clips([slow, refused], place.store, place.ledger, config_of(workers=2, workers_per_site=2, timeout=100.0))
    assert place.reasons([slow, refused]) == [None, "rate_limited"] and time.monotonic() - started < 50


def test_what_fails_for_a_moment_is_tried_again_within_patience(media: Any, media_server: Any, place: Place) -> None:
    clips = [clip_of("shaky", media_server.url(media("opus"), "500", times=1))]
    report = fetch_clips(clips, place.store, place.ledger, config_of(patience=30.0))
    row = place.row(clips[0])
    assert row is not None and row.state is State.OK and row.attempts == 2 and row.failure is None
    assert (report.fetched, report.failed, report.exit_code) == (1, {}, EXIT_OK)


def test_a_worker_that_dies_costs_the_clip_in_flight_and_no_other(media: Any, media_server: Any, place: Place) -> None:
    stalled = media_server.url(media("opus"), "stall", times=1)
    clips = [clip_of("a", stalled), clip_of("b", stalled, 5.0), clip_of("c", media_server.url(media("opus")))]
    known = set(children())

    def kill() -> None:
        while not media_server.requests(stalled):
            time.sleep(0.01)
        for pid in set(children()) - known:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    fetch_clips(clips, place.store, place.ledger, config_of(timeout=100.0))
    killer.join()
    assert place.reasons(clips) == ["crashed", "ok", "ok"]
    row = place.row(clips[0])
    assert row is not None and row.attempts == 1 and "SIGKILL" in row.message and row.next_retry is not None


def test_a_store_that_cannot_be_written_ends_the_fetch_and_blames_no_clip(
    media: Any, media_server: Any, place: Place
) -> None:
    clips = [clip_of("a", media_server.url(media("opus")))]
    place.store.root.parent.mkdir(exist_ok=True)
    place.store.root.mkdir()
    place.store.path(clips[0]).parent.write_text("a file where a folder should be")
    before = children()
    with pytest.raises(UserError, match="cannot write"):
        fetch_clips(clips, place.store, place.ledger, config_of())
    assert place.reasons(clips) == [None] and children() == before


def test_one_fetch_at_a_time_and_a_second_one_waits_and_says_so(
    media: Any, media_server: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [clip_of("a", media_server.url(media("opus")))]
    path = place.ledger.path.with_name(f".{place.ledger.path.name}.fetch.lock")
    program = (
        f"from filelock import FileLock; lock = FileLock({str(path)!r}); lock.acquire(); print(1, flush=True); input()"
    )
    asked: list[int] = []
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stdout.readline()

        def release() -> None:
            said, deadline = "", time.monotonic() + 30
            while "waiting for it" not in said and time.monotonic() < deadline:
                said += capsys.readouterr().out
                time.sleep(0.01)
            asked.append(len(media_server.requests(clips[0].source)) if said else -1)
            holder.stdin.close()

        other = threading.Thread(target=release)
        other.start()
        report = fetch_clips(clips, place.store, place.ledger, config_of())
        other.join()
    assert report.fetched == 1 and asked == [0]


def test_a_refusal_that_needs_another_access_is_tried_when_that_changes(
    media: Any, media_server: Any, place: Place
) -> None:
    clips = [clip_of("a", media_server.url(media("opus")))]
    report = fetch_clips(clips, place.store, place.ledger, config_of(allow_private=False))
    assert place.reasons(clips) == [Reason.PRIVATE_ADDRESS] and report.exit_code == EXIT_OK
    assert not media_server.requests(clips[0].source)
    assert not fetch_clips(clips, place.store, place.ledger, config_of(allow_private=False)).tried
    assert fetch_clips(clips, place.store, place.ledger, config_of()).fetched == 1


def test_progress_counts_what_this_call_still_has_to_do_and_not_what_waits_for_another_day(
    media: Any, media_server: Any, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [clip_of(f"gone{i}", media_server.url(media("opus"), "404")) for i in range(2)]
    bars: list[ProgressBar] = []
    advance = ProgressBar.advance

    def watch(bar: ProgressBar, n: int = 1, note: str = "") -> None:
        advance(bar, n, note)
        bars.append(bar)

    monkeypatch.setattr(ProgressBar, "advance", watch)
    fetch_clips(gone, place.store, place.ledger, config_of())
    assert (bars[-1].done, bars[-1].total) == (2, 2), "failed for today"
    good = clip_of("good", media_server.url(media("opus")))
    fetch_clips([*gone, good], place.store, place.ledger, config_of())
    assert (bars[-1].done, bars[-1].total) == (1, 1), "those of tomorrow are none of this call's"
    assert "fetch: 1 recordings" in capsys.readouterr().out


def test_a_call_that_finds_nothing_left_to_do_announces_nothing(
    media: Any, media_server: Any, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two clips of one recording: it waits for the later one, and that is beyond our patience."""
    url = media_server.url(media("opus"), "500")
    clips = [clip_of("a", url), clip_of("b", url, 5.0)]
    rows = [LedgerRow.of(clip, State.FAILED, failure=Reason.TIMEOUT) for clip in clips]
    times = (time.time() + 1, time.time() + 1000)
    place.ledger.put_many(replace(row, next_retry=at) for row, at in zip(rows, times, strict=True))
    assert not fetch_clips(clips, place.store, place.ledger, config_of(patience=30.0)).tried
    assert "recordings, about" not in capsys.readouterr().out


def test_a_block_that_the_user_takes_off_is_off_for_good_and_the_hourly_cap_stays(
    media: Any, media_server: Any, place: Place
) -> None:
    clips = [clip_of(f"c{i}", media_server.url(media("opus"))) for i in range(2)]
    filled = time.time() + 10
    place.ledger.put_site(Site("127.0.0.1", time.time() + 1000, Reason.RATE_LIMITED, "no", filled))
    assert not fetch_clips(clips, place.store, place.ledger, config_of()).tried
    session = frozenset({FailureClass.SESSION})
    assert fetch_clips(clips[:1], place.store, place.ledger, config_of(), retry=session).fetched == 1
    (site,) = place.ledger.get_sites()
    assert (site.blocked_until, site.next_start) == (None, filled)
    assert fetch_clips(clips, place.store, place.ledger, config_of()).fetched == 1
