"""Every fault of a server through the real extractor and decoder: the right reason, and no clip that is not whole."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from audioclf.audio.ledger import State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.errors import UserError
from audioclf.fetch import reader
from audioclf.fetch.cut import fetch_recording
from audioclf.fetch.failures import FailureClass, Reason, class_of
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.session import Session

DEAD, SESSION, TRANSIENT = FailureClass.DEAD, FailureClass.SESSION, FailureClass.TRANSIENT
CONDITIONAL, FORBIDDEN = FailureClass.CONDITIONAL, FailureClass.FORBIDDEN


def config(**more: Any) -> FetchConfig:
    return FetchConfig(**{"allow_private": True, "timeout": 10, "max_seconds": 60, "max_mb": 4} | more)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(config()) as made:
        yield made


@pytest.fixture(scope="module")
def hasty() -> Iterator[Session]:
    """A session that takes a silence of 0.25 s for a time-out."""
    with Session(config(timeout=0.25)) as made:
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BACKOFF_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


@pytest.fixture
def fetch(session: Session, store: AudioStore) -> Callable[..., list[Outcome]]:
    """``fetch(url, (2, 4))``: the outcomes of clips of one recording, none of which may leave a temporary file."""

    def run(url: str, *spans: tuple[float, float | None], within: Session = session) -> list[Outcome]:
        clips = tuple(
            Clip(id=f"clip-{i}", source=url, start=start, end=end, labels=("x",), group="g")
            for i, (start, end) in enumerate(spans)
        )
        before = set(store.root.rglob("*.*"))
        outcomes = list(fetch_recording(Recording(url, "127.0.0.1", clips), within, store))
        assert [outcome.clip for outcome in outcomes] == list(clips)
        made = set(store.root.rglob("*.*")) - before
        assert {path.stem for path in made} == {outcome.row.key for outcome in outcomes if outcome.row}
        return outcomes

    return run


@pytest.mark.parametrize(
    ("fault", "options", "reason", "kind"),
    [
        ("403", {}, Reason.FORBIDDEN, FORBIDDEN),
        ("404", {}, Reason.NOT_FOUND, DEAD),
        ("410", {}, Reason.NOT_FOUND, DEAD),
        ("401", {}, Reason.LOGIN, CONDITIONAL),
        ("451", {}, Reason.GEO, CONDITIONAL),
        ("429", {"retry_after": 7}, Reason.RATE_LIMITED, SESSION),
        ("500", {}, Reason.SERVER_ERROR, TRANSIENT),
        ("503", {}, Reason.SERVER_ERROR, TRANSIENT),
        ("stall", {}, Reason.TIMEOUT, TRANSIENT),
        ("hang", {"at": 20_000}, Reason.TIMEOUT, TRANSIENT),
        ("cut", {"at": 20_000}, Reason.INCOMPLETE, TRANSIENT),
        ("short", {}, Reason.INCOMPLETE, TRANSIENT),
        ("short-range", {}, Reason.INCOMPLETE, TRANSIENT),
        ("wrong-range", {}, Reason.INCOMPLETE, TRANSIENT),
        ("etag", {}, Reason.CHANGED, TRANSIENT),
        ("etag-ignored", {}, Reason.CHANGED, TRANSIENT),
        ("changed", {}, Reason.CHANGED, TRANSIENT),
        ("loop", {}, Reason.REDIRECT_LOOP, DEAD),
        ("redirect", {"to": "file:///etc/passwd"}, Reason.NO_MEDIA, DEAD),
        ("html", {}, Reason.NO_MEDIA, DEAD),
        ("html", {"type": "audio/mp4"}, Reason.NO_MEDIA, DEAD),
        ("empty", {}, Reason.NO_MEDIA, DEAD),
        ("empty", {"type": "text/html"}, Reason.NO_MEDIA, DEAD),
        ("endless", {}, Reason.TOO_LARGE, DEAD),
        ("bomb", {}, Reason.BROKEN, DEAD),
        ("robots", {}, Reason.ROBOTS, DEAD),
        ("playlist", {}, Reason.PLAYLIST, DEAD),
        ("m3u8", {"to": "file:///etc/passwd"}, Reason.NO_MEDIA, DEAD),
        ("403", {"on": "ranged"}, Reason.FORBIDDEN, FORBIDDEN),
        ("404", {"on": "ranged"}, Reason.CHANGED, TRANSIENT),
        ("429", {"on": "ranged", "retry_after": 7}, Reason.RATE_LIMITED, SESSION),
        ("503", {"on": "ranged"}, Reason.SERVER_ERROR, TRANSIENT),
        ("stall", {"on": "ranged"}, Reason.TIMEOUT, TRANSIENT),
        ("html", {"on": "ranged"}, Reason.NO_MEDIA, DEAD),
        ("redirect", {"on": "ranged", "to": "ftp://127.0.0.1/x"}, Reason.NO_MEDIA, DEAD),
    ],
)
def test_a_fault_ends_in_its_reason_and_leaves_no_clip(
    fetch: Callable,
    session: Session,
    hasty: Session,
    media_server: Any,
    media: Callable,
    fault: str,
    options: dict,
    reason: Reason,
    kind: FailureClass,
) -> None:
    within = hasty if reason == Reason.TIMEOUT else session
    outcomes = fetch(media_server.url(media("m4a"), fault, **options), (2, 4), (20, 22), within=within)
    assert [outcome.fault and outcome.fault.reason for outcome in outcomes] == [reason, reason]
    assert class_of(reason) == kind
    for outcome in outcomes:
        assert outcome.fault.message.isprintable()
        assert outcome.fault.retry_after_s == options.get("retry_after")


@pytest.mark.parametrize("fault", ["drip", "hang", "stall"])
def test_a_server_that_is_too_slow_costs_no_more_than_the_time_limit(
    fetch: Callable, media_server: Any, media: Callable, fault: str
) -> None:
    with Session(config(max_seconds=0.5)) as limited:
        began = time.monotonic()
        outcomes = fetch(media_server.url(media("m4a"), fault, at=20_000, on="ranged"), (2, 4), within=limited)
        assert outcomes[0].fault.reason == Reason.TOO_SLOW
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(("fault", "reason"), [("cut", Reason.INCOMPLETE), ("changed", Reason.CHANGED)])
@pytest.mark.parametrize("kind", ["wav", "webm", "mp3", "ogg", "faststart.m4a"])
def test_bytes_that_break_off_give_no_clip_in_any_format(
    fetch: Callable,
    media_server: Any,
    media: Callable,
    offset_s: Callable,
    store: AudioStore,
    kind: str,
    fault: str,
    reason: Reason,
) -> None:
    path = media(kind)
    first, across = fetch(media_server.url(path, fault, at=path.stat().st_size * 2 // 3), (2, 4), (18, 24))
    assert across.fault and across.fault.reason == reason
    if first.row:  # it lies before the break, and is whole
        assert first.row.state == State.OK
        assert abs(offset_s(store.read(first.clip), 2)) <= 0.002
    else:
        assert first.fault.reason == reason


def test_a_connection_that_is_reset_gives_no_clip(fetch: Callable, media_server: Any, media: Callable) -> None:
    [outcome] = fetch(media_server.url(media("m4a"), "reset", at=20_000), (2, 4))
    assert outcome.fault.reason in (Reason.CONNECTION, Reason.INCOMPLETE)  # as the system tells it


@pytest.mark.parametrize(
    ("kind", "fault", "options", "status"),
    [
        ("m4a", "", {}, 206),
        ("m4a", "page", {}, 206),
        ("m4a", "redirect", {}, 206),
        ("m4a", "long", {}, 206),
        ("m4a", "no-validators", {}, 206),
        ("m4a", "no-ranges", {}, 200),
        ("m4a", "chunked", {}, 200),
        ("webm", "bare-range", {}, 200),
        ("wav", "star-range", {}, 200),
        ("mp3", "no-ranges", {}, 200),
        ("mpd", "", {}, 200),
        ("m4a", "403", {"on": "ranged", "times": 1}, 206),
        ("m4a", "404", {"on": "ranged", "times": 1}, 206),
        ("m4a", "503", {"on": "ranged", "times": 2}, 206),
        ("wav", "cut", {"times": 3, "after": 5000}, 206),
        ("m4a", "changed", {"times": 2, "on": "ranged"}, 206),
    ],
)
def test_what_can_be_had_is_had_whole(
    fetch: Callable,
    media_server: Any,
    media: Callable,
    offset_s: Callable,
    store: AudioStore,
    kind: str,
    fault: str,
    options: dict,
    status: int,
) -> None:
    for outcome in fetch(media_server.url(media(kind), fault, **options), (2, 4), (20, 22.5)):
        clip, row = outcome.clip, outcome.row
        assert row is not None, outcome.fault
        assert (row.state, row.http_status, row.failure, row.message) == (State.OK, status, None, "")
        assert row.duration_s == pytest.approx(clip.end - clip.start, abs=1e-4)
        assert abs(offset_s(store.read(clip), clip.start)) <= 0.002
        assert "yt-dlp 20" in row.tool_versions


def test_the_address_is_asked_for_again_once_and_then_the_recording_is_left(
    fetch: Callable, media_server: Any, media: Callable
) -> None:
    url = media_server.url(media("m4a"), "403", on="ranged")
    fetch(url, (2, 4), (6, 8), (10, 12))
    asked = [bool(entry["range"]) for entry in media_server.requests(url)]
    assert asked == [False, True, False, True]


def test_one_extraction_and_shared_bytes_serve_all_clips_of_a_recording(
    fetch: Callable, media_server: Any, media: Callable
) -> None:
    url = media_server.url(media("wav"))
    outcomes = fetch(url, *((i / 10, i / 10 + 1) for i in range(10)))
    assert all(outcome.row for outcome in outcomes)
    assert [bool(entry["range"]) for entry in media_server.requests(url)].count(False) == 1
    received = [outcome.received for outcome in outcomes]
    assert sum(received) < media("wav").stat().st_size / 2
    assert 0 in received  # its neighbours' blocks held it


def test_a_clip_beyond_the_end_costs_the_others_nothing(fetch: Callable, media_server: Any, media: Callable) -> None:
    for kind, fault in (("m4a", ""), ("wav", ""), ("mp3", "no-ranges")):
        url = media_server.url(media(kind), fault)
        first, beyond, last = fetch(url, (2, 4), (40, 42), (10, 12))
        assert first.row and last.row
        assert beyond.fault.reason == Reason.OUT_OF_RANGE
        if fault:
            assert len(media_server.requests(url)) == 2


def test_a_length_that_the_site_states_is_believed_before_bytes_are_fetched(
    fetch: Callable, media_server: Any, media: Callable
) -> None:
    url = media_server.url(media("m3u8"))
    before = len(media_server.requests())
    assert fetch(url, (100, 110))[0].fault.reason == Reason.OUT_OF_RANGE
    assert {entry["path"].rpartition("?")[0] for entry in media_server.requests()[before:]} == {"/short.m3u8"}


def test_a_recording_that_truly_ends_early_gives_a_partial_clip(
    fetch: Callable, media_server: Any, media: Callable
) -> None:
    row = fetch(media_server.url(media("wav")), (29, 35))[0].row
    assert row.state == State.PARTIAL
    assert row.duration_s == pytest.approx(1.72, abs=0.01)


@pytest.mark.parametrize("kind", ["wav", "mp3"])
@pytest.mark.parametrize("length", [None, "5, 5"])
def test_a_file_of_unstated_length_that_ends_early_gives_no_partial_clip(
    fetch: Callable, media: Callable, kind: str, length: str | None
) -> None:
    content = media(kind).read_bytes()
    content = content[: len(content) * 2 // 3]

    class HangsUp(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

    with HTTPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.{kind}"
        whole, *broken = fetch(url, (2, 4), (0, None), (20, 25), (20.4, 21), (28, 30))
        server.shutdown()
    assert whole.row.state == State.OK
    assert [outcome.fault and outcome.fault.reason for outcome in broken] == [Reason.INCOMPLETE] * 4


def test_a_clip_without_an_end_reaches_the_recordings_end(fetch: Callable, media_server: Any, media: Callable) -> None:
    row = fetch(media_server.url(media("m4a")), (28, None))[0].row
    assert row.state == State.OK
    assert row.duration_s == pytest.approx(2.72, abs=0.02)


def test_a_clip_needs_no_more_bytes_than_it_may(
    session: Session, store: AudioStore, media_server: Any, media: Callable
) -> None:
    with Session(config(max_mb=0.1)) as small:
        for fault in ("", "no-ranges"):
            url = media_server.url(media("wav"), fault)
            clip = Clip(id="c", source=url, start=0, end=30, labels=("x",), group="g")
            [outcome] = fetch_recording(Recording(url, "127.0.0.1", (clip,)), small, store)
            assert outcome.fault.reason == Reason.TOO_LARGE


def test_a_clip_that_needs_too_many_bytes_costs_the_others_nothing(
    store: AudioStore, media_server: Any, media: Callable
) -> None:
    url = media_server.url(media("wav"))
    long, short = (Clip("c", url, start, end, ("x",), "g") for start, end in ((0, 25), (26, 27)))
    with Session(config(max_mb=0.3)) as small:
        first, second = fetch_recording(Recording(url, "127.0.0.1", (long, short)), small, store)
    assert first.fault.reason == Reason.TOO_LARGE
    assert second.row and second.row.state == State.OK


def test_a_store_that_cannot_be_written_ends_the_fetch(
    session: Session, media_server: Any, media: Callable, write_file: Callable
) -> None:
    url = media_server.url(media("wav"))
    clip = Clip(id="c", source=url, start=0, end=1, labels=("x",), group="g")
    store = AudioStore(write_file("a file and no folder"))
    with pytest.raises(UserError, match="cannot write"):
        list(fetch_recording(Recording(url, "127.0.0.1", (clip,)), session, store))
