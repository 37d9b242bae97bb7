"""From a link to its media: cookies, proxies, lists, live streams and what strangers write."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yt_dlp.globals
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import smuggle_url

from audioclf.audio.store import AudioStore
from audioclf.config import FetchConfig
from audioclf.errors import UserError
from audioclf.fetch.failures import FetchError, Reason, classify
from audioclf.fetch.session import Media, Session
from audioclf.fetch.whole import STREAM_NAME, whole_file, whole_stream
from audioclf.files import temporary_name

SECRET = "s3cr3t-v4lu3"
COOKIES = f"# Netscape HTTP Cookie File\n\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}\n"


class FakeSiteIE(InfoExtractor):
    """A site whose answers a test lays down: ``ANSWERS[path]``, a dictionary or an error."""

    _VALID_URL = r"https://fake\.example/(?P<id>.+)"
    ANSWERS: ClassVar[dict[str, Any]] = {}

    def _real_extract(self, url: str) -> Any:
        answer = self.ANSWERS[self._match_id(url)]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(FetchConfig(allow_private=True, timeout=2, max_seconds=5)) as made:
        made.ydl.add_info_extractor(FakeSiteIE())
        made.ydl._ies = {"FakeSite": made.ydl._ies.pop("FakeSite"), **made.ydl._ies}  # before the generic one
        yield made


@pytest.fixture
def fake(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Media]:
    """``fake(answer)``: what the session makes of a site that answers so."""

    def extract(answer: Any) -> Media:
        monkeypatch.setitem(FakeSiteIE.ANSWERS, "1", answer)
        session.start_clock()
        return session.extract("https://fake.example/1")

    return extract


def video(*formats: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "1", "title": "a title", "formats": list(formats), **more}


def form(name: str, protocol: str = "https", **more: Any) -> dict[str, Any]:
    return {"format_id": name, "url": f"https://fake.example/{name}", "ext": "m4a", "protocol": protocol, **more}


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(FetchError) as error:
        call()
    assert error.value.fault.message.isprintable()
    return error.value.fault.reason


def test_a_direct_link_is_its_own_media(session: Session, media_server: Any, media: Callable) -> None:
    url = media_server.url(media("m4a"))
    session.start_clock()
    found = session.extract(url)
    assert (found.url, found.protocol, found.ext, found.extractor) == (url, "http", "m4a", "Generic")
    assert media_server.sent(url) < 128 << 10


def test_no_connection_outlives_an_extraction(session: Session, media_server: Any, media: Callable) -> None:
    url = media_server.url(media("wav"))
    session.start_clock()
    session.extract(url)
    assert all(entry["ended"] for entry in media_server.requests(url))


def test_the_media_of_a_page_is_found(session: Session, media_server: Any, media: Callable) -> None:
    session.start_clock()
    assert "short.m4a" in session.extract(media_server.url(media("m4a"), "page")).url


def test_a_list_of_recordings_is_refused_and_not_expanded(fake: Callable) -> None:
    asked = []

    def entries() -> Iterator[dict[str, Any]]:
        for i in range(10_000):
            asked.append(i)
            yield {"_type": "url", "url": f"https://fake.example/{i}"}

    assert reason_of(lambda: fake(lambda: {"_type": "playlist", "id": "l", "entries": entries()})) == Reason.PLAYLIST
    assert len(asked) == 2


def test_a_list_of_one_recording_is_that_recording(fake: Callable) -> None:
    only = video(form("a", vcodec="none", acodec="mp4a"))
    assert fake(lambda: {"_type": "playlist", "id": "l", "entries": iter([only])}).url == "https://fake.example/a"
    assert reason_of(lambda: fake({"_type": "playlist", "id": "l", "entries": []})) == Reason.NO_MEDIA


def test_pages_that_lead_to_one_another_come_to_an_end(fake: Callable) -> None:
    circle = {"_type": "url", "url": "https://fake.example/1"}
    assert reason_of(lambda: fake(lambda: dict(circle))) == Reason.REDIRECT_LOOP


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ytsearch10:dogs", "rtmp://fake.example/x", "/etc/passwd", ""])
def test_a_page_leads_to_nothing_but_http(fake: Callable, url: str) -> None:
    assert reason_of(lambda: fake({"_type": "url", "url": url})) == Reason.NO_MEDIA


def test_what_a_link_smuggles_in_is_dropped(session: Session, media_server: Any, media: Callable) -> None:
    url = media_server.url(media("m4a"))
    session.start_clock()
    found = session.extract(smuggle_url(url, {"force_videoid": "other", "referer": "https://elsewhere.example"}))
    assert found.info["id"] == "short"
    assert "Referer" not in found.headers


@pytest.mark.parametrize("state", [{"is_live": True}, {"live_status": "is_upcoming"}, {"live_status": "post_live"}])
def test_a_live_stream_is_no_recording(fake: Callable, state: dict[str, Any]) -> None:
    assert reason_of(lambda: fake(video(form("a"), **state))) == Reason.NO_MEDIA


def test_protected_media_is_said_to_be_so(fake: Callable) -> None:
    assert reason_of(lambda: fake(video(form("a", has_drm=True)))) == Reason.DRM


@pytest.mark.parametrize(
    ("formats", "chosen"),
    [
        (["video", "audio"], "audio"),
        (["hls-audio", "audio"], "audio"),
        (["hls-audio", "poor"], "hls-audio"),
        (["hls-audio", "big", "small"], "small"),
        (["hls-audio", "dash-audio"], "hls-audio"),
        (["rtmp", "poor"], "poor"),
        (["dubbed", "original"], "original"),
        (["small dubbed", "big"], "big"),
    ],
)
def test_one_file_with_few_bytes_is_preferred(fake: Callable, formats: list[str], chosen: str) -> None:
    sound = {"vcodec": "none", "acodec": "mp4a"}
    both = {"vcodec": "avc1", "acodec": "mp4a"}
    known = {
        "video": form("video", vcodec="avc1", acodec="none", height=1080),
        "audio": form("audio", abr=128, **sound),
        "poor": form("poor", abr=32, **sound),
        "hls-audio": form("hls-audio", "m3u8_native", abr=160, **sound),
        "dash-audio": form("dash-audio", "http_dash_segments", abr=96, **sound),
        "big": form("big", height=1080, **both),
        "small": form("small", height=240, **both),
        "small dubbed": form("small-dubbed", height=240, language_preference=-10, **both),
        "rtmp": form("rtmp", "rtmp", abr=192, **sound),
        "dubbed": form("dubbed", abr=160, language="de", language_preference=-1, **sound),
        "original": form("original", abr=96, language="en", language_preference=10, **sound),
    }
    assert fake(video(*(known[name] for name in formats))).url == known[chosen]["url"]


def test_pictures_without_sound_are_no_format(fake: Callable) -> None:
    assert reason_of(lambda: fake(video(form("v", vcodec="avc1", acodec="none")))) == Reason.NO_FORMAT


def test_a_missing_javascript_runtime_is_the_reason_where_formats_are_missing(session: Session, fake: Callable) -> None:
    def answer() -> dict[str, Any]:
        session.ydl.report_warning(
            "[youtube] No supported JavaScript runtime could be found. \x1b[31mSome formats missing"
        )
        return video()

    with pytest.raises(FetchError) as error:
        fake(answer)
    assert error.value.fault.reason == Reason.NO_JS_RUNTIME
    assert error.value.fault.message.isprintable()
    assert reason_of(lambda: fake(video())) == Reason.NO_FORMAT  # nothing of it is left for the next recording


@pytest.mark.parametrize("title", ["\x1b]0;owned\x07\x1b[2J", "../../etc/passwd", "a\nb\r\0", "‮gnp", "x" * 100_000])
def test_hostile_titles_and_messages_are_not_printed(
    fake: Callable, title: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fake(video(form("a"), title=title, id=title)).url == "https://fake.example/a"
    with pytest.raises(FetchError) as error:
        fake(ValueError(title))
    message = error.value.fault.message
    assert message.isprintable()
    assert len(message) < 300
    assert capfd.readouterr() == ("", "")


def test_whatever_an_extractor_raises_is_a_fetch_error(fake: Callable) -> None:
    for error in (KeyError("x"), RecursionError(), AssertionError(), UnicodeError("x"), TimeoutError(), MemoryError()):
        assert isinstance(reason_of(lambda error=error: fake(error)), Reason)


def test_a_site_that_never_answers_is_given_up(session: Session, media_server: Any, media: Callable) -> None:
    session.limits.deadline = time.monotonic() + 0.3
    assert reason_of(lambda: session.extract(media_server.url(media("m4a"), "stall"))) == Reason.TOO_SLOW


@pytest.mark.parametrize("page", ["robots", "page"])
def test_a_site_that_forbids_its_use_is_left_alone(
    session: Session, media_server: Any, media: Callable, page: str
) -> None:
    url = media_server.url(media("m4a"), "robots")
    session.start_clock()
    if page == "robots":
        assert reason_of(lambda: session.extract(url)) == Reason.ROBOTS
    known = session.extract(media_server.url(media("m4a")))
    assert reason_of(lambda: session.urlopen(Request(url), known)) == Reason.ROBOTS


def test_cookies_are_sent_but_the_file_is_neither_written_nor_told(
    write_file: Callable, media_server: Any, media: Callable, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_file("cookies.txt", COOKIES)
    with Session(FetchConfig(allow_private=True, timeout=2, cookies=str(path))) as session:
        assert [cookie.value for cookie in session.ydl.cookiejar] == [SECRET]
        session.start_clock()
        found = session.extract(media_server.url(media("m4a")))
        assert SECRET not in repr(found)
        assert SECRET not in str(dict(found.headers))
        with pytest.raises(FetchError) as error:
            session.extract(media_server.url(media("m4a"), "403"))
        assert SECRET not in error.value.fault.message
    assert path.read_text() == COOKIES
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f"# Netscape HTTP Cookie File\n127.0.0.1 FALSE / FALSE 0 sid {SECRET}\n", "line 2"),
        (f"# Netscape HTTP Cookie File\n\n127.0.0.1\tFALSE\t/\tFALSE\tsoon\tsid\t{SECRET}\n", "line 3"),
        (f'[{{"name": "sid", "value": "{SECRET}"}}]', "line 1"),
        (f"127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}\n", "Netscape"),
        (f"# Netscape HTTP Cookie File\n.a.example\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}\n", "line 2"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_malformed_cookies_file_is_the_users_to_mend(
    write_file: Callable, content: str | bytes, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_file("cookies.txt", content)
    with pytest.raises(UserError) as error:
        Session(FetchConfig(cookies=str(path)))
    assert f"fetch.cookies={path}" in str(error.value)
    assert line in str(error.value)
    assert SECRET not in str(error.value) + "".join(capfd.readouterr())


def test_a_missing_cookies_file_is_the_users_to_mend(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UserError, match=r"fetch\.cookies=.*"):
            Session(FetchConfig(cookies=str(path)))


def test_code_that_lies_beside_the_data_is_not_run(
    write_file: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "was here"
    write_file("yt_dlp_plugins/extractor/evil.py", f"open({str(trace)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(yt_dlp.globals.all_plugins_loaded, "value", False)
    monkeypatch.setattr(yt_dlp.globals.plugin_dirs, "value", ["default"])
    Session(FetchConfig())
    assert not trace.exists()


@pytest.mark.parametrize("proxy", ["https://user:s3cr3t@host:1", "host:8080", "http://", "ftp://host"])
def test_a_proxy_that_cannot_be_used_is_the_users_to_mend(proxy: str) -> None:
    with pytest.raises(UserError, match=r"fetch\.proxy: .*expected.*socks5") as error:
        Session(FetchConfig(proxy=proxy))
    assert "s3cr3t" not in str(error.value)


def test_a_whole_file_has_no_name_and_a_limit(
    session: Session, media_server: Any, media: Callable, tmp_path: Path
) -> None:
    session.start_clock()
    for fault in ("no-ranges", "chunked"):
        found = session.extract(media_server.url(media("m4a"), fault))
        with whole_file(session, found, tmp_path, 1 << 20, None) as (file, is_whole):
            assert is_whole
            assert file.read() == media("m4a").read_bytes()
            assert list(tmp_path.iterdir()) == []
    assert reason_of(lambda: whole_file(session, found, tmp_path, 1000, None).__enter__()) == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("fault", "reason"), [("long", Reason.INCOMPLETE), ("cut", Reason.INCOMPLETE), ("403", Reason.FORBIDDEN)]
)
def test_a_whole_file_is_whole_or_an_error(
    session: Session, media_server: Any, media: Callable, tmp_path: Path, fault: str, reason: Reason
) -> None:
    session.start_clock()
    found = replace(session.extract(media_server.url(media("m4a"))), url=media_server.url(media("m4a"), fault))
    with pytest.raises(RequestError) as error:
        whole_file(session, found, tmp_path, 1 << 20, None).__enter__()
    assert classify(error.value, at_media=True).reason == reason


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(
    session: Session, media_server: Any, media: Callable, write_file: Callable
) -> None:
    path = write_file("a file and no folder")
    session.start_clock()
    for kind, whole in (
        ("m4a", lambda found: whole_file(session, found, path, 1 << 20, None)),
        ("mpd", lambda found: whole_stream(session, found, path, 1 << 20)),
    ):
        found = session.extract(media_server.url(media(kind)))
        with pytest.raises(UserError, match="what is done stays done"):
            whole(found).__enter__()


@pytest.mark.parametrize("kind", ["m3u8", "mpd"])
def test_a_stream_is_put_together_and_its_folder_removed(
    session: Session, media_server: Any, media: Callable, tmp_path: Path, kind: str
) -> None:
    session.start_clock()
    found = session.extract(media_server.url(media(kind)))
    with whole_stream(session, found, tmp_path, 10 << 20) as path:
        assert path.stat().st_size > 200_000
        assert [each.name for each in path.parent.iterdir()] == ["media"]
    assert list(tmp_path.iterdir()) == []
    assert reason_of(lambda: whole_stream(session, found, tmp_path, 100_000).__enter__()) == Reason.TOO_LARGE
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_a_stream_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as killed:
        pass
    mine = temporary_name(tmp_path / STREAM_NAME)
    left = mine.with_name(mine.name.replace(str(os.getpid()), str(killed.pid)))
    for folder in (mine, left):
        folder.mkdir()
        (folder / "media").write_bytes(b"x")
    assert AudioStore(tmp_path).clean() == 1
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("#EXT-X-KEY:METHOD=AES-128,URI='key'\n#EXTINF:1,\nshort.m4a\n#EXT-X-ENDLIST", Reason.NO_FORMAT),
        ("#EXT-X-KEY:METHOD=SAMPLE-AES,URI='key'\n#EXTINF:1,\nshort.m4a\n#EXT-X-ENDLIST", Reason.DRM),
        ('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://key"\n#EXTINF:1,\nshort.m4a\n#EXT-X-ENDLIST', Reason.DRM),
        ("#EXTINF:1,\nshort.m4a", Reason.NO_MEDIA),
        ("#EXTINF:1,\nshort.m4a\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\nshort.m4a\n#EXT-X-ENDLIST", Reason.UNSUPPORTED),
        ("#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST", Reason.NO_MEDIA),
        ("#EXTINF:1,\n404/absent.ts\n#EXT-X-ENDLIST", Reason.CHANGED),
        ("#EXTINF:1,\ncut/short.m4a\n#EXT-X-ENDLIST", Reason.INCOMPLETE),
        ("#EXTINF:1,\nhtml/short.m4a\n#EXT-X-ENDLIST", Reason.INCOMPLETE),
        ("#EXTINF:1,\nempty/short.m4a\n#EXT-X-ENDLIST", Reason.INCOMPLETE),
    ],
)
def test_streams_that_cannot_be_had_say_why(
    session: Session,
    media_server: Any,
    media: Callable,
    tmp_path: Path,
    lines: str,
    reason: Reason,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(session.ydl.params, "retry_sleep_functions", {})
    media("m4a")
    playlist = media_server.folder / f"{reason}-{len(lines)}.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}\n")
    session.start_clock()
    with pytest.raises(Exception) as error:  # noqa: PT011
        whole_stream(session, session.extract(media_server.url(playlist)), tmp_path, 10 << 20).__enter__()
    assert classify(error.value, at_media=True).reason == reason
    assert list(tmp_path.iterdir()) == []
