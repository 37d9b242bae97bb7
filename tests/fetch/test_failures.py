import http.client
import io
import socket
import ssl
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import av
import pytest
import yt_dlp.cookies
import yt_dlp.networking.exceptions
import yt_dlp.socks
import yt_dlp.utils._utils
from hypothesis import example, given
from hypothesis import strategies as st
from yt_dlp import YoutubeDL
from yt_dlp.cookies import CookieLoadError
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    IncompleteRead,
    NoSupportingHandlers,
    ProxyError,
    RequestError,
    SSLError,
    TransportError,
)
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    EntryNotInPlaylist,
    ExtractorError,
    ThrottledDownload,
    UnavailableVideoError,
    UnsupportedError,
    UserNotLive,
    YoutubeDLError,
)

from audioclf.audio.frames import AudioError, Failure
from audioclf.errors import SHOWN_CHARACTERS
from audioclf.fetch.failures import MAX_RETRY_AFTER_S, FailureClass, Fault, FetchError, Reason, class_of, classify
from audioclf.fetch.messages import printable

URL = "audioclf-test://clip"


def http_error(status, headers=None, *, redirect_loop=False, reason=None):
    """As yt-dlp's handler makes it."""
    response = Response(io.BytesIO(b""), "https://host/media?sig=secret", headers or {}, status, reason)
    return HTTPError(response, redirect_loop=redirect_loop)


class Says:
    """What yt-dlp lets escape when an extractor does something: wrapped as it wraps it."""

    def __init__(self):
        self.ydl = YoutubeDL({"quiet": True, "no_warnings": True, "logger": Silent()}, auto_init=False)

    def __call__(self, does, **what):
        class TestIE(InfoExtractor):
            _VALID_URL = r"audioclf-test://(?P<id>.+)"

            def _real_extract(self, url):
                return does(self, **what)

        self.ydl._ies = {}
        self.ydl._ies_instances = {}
        self.ydl.add_info_extractor(TestIE())
        try:
            self.ydl.extract_info(URL, download=False)
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")


class Silent:
    def debug(self, message):
        pass

    info = warning = error = debug


@pytest.fixture(scope="module")
def escapes():
    """``escapes(lambda ie: ie.raise_login_required())``: the error that comes out of ``YoutubeDL.extract_info``."""
    return Says()


def stop(error):
    """An extractor that raises."""

    def does(ie):
        raise error

    return does


def refuse(error, note="Unable to download webpage"):
    """An extractor whose request fails, as ``_request_webpage`` says so."""

    def does(ie):
        try:
            raise error
        except Exception as cause:
            raise ExtractorError(f"{note}: {cause}", cause=cause, video_id="clip") from None

    return does


def no_formats(message):
    """What the YouTube extractor does with a video's playability status."""
    return lambda ie: ie.raise_no_formats(message, expected=True)


LOGIN_HINT = "Use --cookies-from-browser or --cookies for the authentication. See  https://github.com/x  for how to"

SAID = [  # what the sites' extractors say, by way of yt-dlp's own methods
    (no_formats("Video unavailable. This video has been removed by the uploader"), Reason.REMOVED),
    (no_formats("Video unavailable"), Reason.REMOVED),
    (no_formats("Video unavailable. This video is not available"), Reason.REMOVED),
    (no_formats("This video isn’t available anymore"), Reason.REMOVED),
    (
        no_formats(
            "This video has been removed for violating YouTube's policy on hate speech. "
            "Learn more about combating hate speech in your country."
        ),
        Reason.REMOVED,
    ),
    (no_formats("Video unavailable. This video is no longer available due to a copyright claim by X"), Reason.REMOVED),
    (
        no_formats(
            "Video unavailable. This video is no longer available because the YouTube account associated with "
            "this video has been terminated."
        ),
        Reason.TERMINATED,
    ),
    (
        no_formats("This video is no longer available because the uploader has closed their YouTube account."),
        Reason.TERMINATED,
    ),
    (no_formats(f"Private video. Sign in if you've been granted access to this video. {LOGIN_HINT}"), Reason.PRIVATE),
    (no_formats("Video unavailable. This video is private"), Reason.PRIVATE),
    (no_formats("This video is DRM protected"), Reason.DRM),
    (lambda ie: ie.report_drm("clip"), Reason.DRM),
    (no_formats("Join this channel to get access to members-only content like this video."), Reason.MEMBERS_ONLY),
    (
        no_formats("This video is available to this channel's members on level: A (or any higher level)."),
        Reason.MEMBERS_ONLY,
    ),
    (no_formats("This video is only available to Music Premium members"), Reason.MEMBERS_ONLY),
    (no_formats("This video requires payment to watch."), Reason.MEMBERS_ONLY),
    (lambda ie: ie.raise_login_required("This video is only available for subscribers"), Reason.MEMBERS_ONLY),
    (no_formats("Sign in to confirm you’re not a bot. " + LOGIN_HINT), Reason.BOT_CHECK),
    (no_formats("Sign in to confirm you're not a bot"), Reason.BOT_CHECK),
    (
        stop(
            ExtractorError(
                "All player responses are invalid. Your IP is likely being blocked by Youtube", expected=True
            )
        ),
        Reason.BOT_CHECK,
    ),
    (no_formats("Video unavailable. YouTube is requiring a captcha challenge before playback"), Reason.CAPTCHA),
    (
        no_formats(
            "Video unavailable. This content isn’t available, try again later. The current session has been "
            "rate-limited by YouTube for up to an hour. It is recommended to use `-t sleep` to add a delay"
        ),
        Reason.RATE_LIMITED,
    ),
    (no_formats("Video unavailable. This content isn't available."), Reason.RATE_LIMITED),
    (stop(ExtractorError("You have exceeded the rate limit. Try again later", expected=True)), Reason.RATE_LIMITED),
    (
        stop(ExtractorError("Request is blocked by server (412), please wait and try later.", expected=True)),
        Reason.RATE_LIMITED,
    ),
    (stop(ExtractorError("Request is rejected by server (352)", expected=True)), Reason.RATE_LIMITED),
    (stop(ExtractorError("Your IP address is unable to access the Reddit API", expected=True)), Reason.BOT_CHECK),
    (stop(ExtractorError("Access token has expired or been invalidated", expected=True)), Reason.LOGIN),
    (
        stop(
            ExtractorError(
                "Required cookies for the auth-id.nfl.com domain were not found among passed cookies", expected=True
            )
        ),
        Reason.LOGIN,
    ),
    (
        no_formats(f"Sign in to confirm your age. This video may be inappropriate for some users. {LOGIN_HINT}"),
        Reason.AGE,
    ),
    (lambda ie: ie.raise_login_required("Login is required to access age-restricted content"), Reason.AGE),
    (lambda ie: ie.raise_login_required(), Reason.LOGIN),
    (lambda ie: ie.raise_login_required("The web client only works when logged-in"), Reason.LOGIN),
    (
        stop(ExtractorError("This video is protected by a password, use the --video-password option", expected=True)),
        Reason.LOGIN,
    ),
    (no_formats("Please sign in"), Reason.LOGIN),
    (lambda ie: ie.raise_geo_restricted(countries=["DE", "FR"]), Reason.GEO),
    (lambda ie: ie.raise_geo_restricted("Premium members elsewhere may see this"), Reason.GEO),  # the type decides
    (
        lambda ie: ie.raise_geo_restricted("The uploader has not made this video available in your country", ["US"]),
        Reason.GEO,
    ),
    (
        no_formats(
            "Video unavailable. This video contains content from SME, who has blocked it in your country on "
            "copyright grounds"
        ),
        Reason.GEO,
    ),
    (
        stop(ExtractorError("Track unavailable in your country due to licensing restrictions", expected=True)),
        Reason.GEO,
    ),
    (stop(ExtractorError("Unsupported URL: https://host/private-video-members-only", expected=True)), Reason.NO_MEDIA),
    (stop(UnsupportedError("https://host/premium")), Reason.NO_MEDIA),
    (stop(UserNotLive(video_id="clip")), Reason.NO_MEDIA),
    (no_formats("This live event will begin in 3 days."), Reason.NO_MEDIA),
    (no_formats("Premieres in 5 hours"), Reason.NO_MEDIA),
    (
        stop(ExtractorError("Incomplete YouTube ID abc. URL https://youtu.be/abc looks truncated.", expected=True)),
        Reason.NO_MEDIA,
    ),
    (stop(ExtractorError("Video abc does not exist", expected=True)), Reason.NOT_FOUND),
    (stop(ExtractorError("Content not found; it has most likely expired", expected=True)), Reason.NOT_FOUND),
    (
        stop(ExtractorError("Requested format is not available. Use --list-formats for a list", expected=True)),
        Reason.NO_FORMAT,
    ),
    (lambda ie: {"id": "clip", "title": "t", "formats": []}, Reason.NO_FORMAT),
    (
        no_formats("The following content is not available on this app.. Watch on the latest version of YouTube."),
        Reason.NO_FORMAT,
    ),
    (
        stop(ExtractorError("No supported JavaScript runtime could be found. Only deno is enabled by default")),
        Reason.NO_JS_RUNTIME,
    ),
    (stop(ExtractorError('Impersonate target "chrome" is not available.', expected=True)), Reason.UNSUPPORTED),
    (stop(ExtractorError("PhantomJS not found, Please download it from its site", expected=True)), Reason.UNSUPPORTED),
    (
        stop(
            ExtractorError(
                "This request has been blocked due to its TLS fingerprint. Install a required impersonation "
                "dependency if possible. If you are using a data center IP or VPN/proxy, your IP may be blocked."
            )
        ),
        Reason.UNSUPPORTED,
    ),
    (stop(ExtractorError("Failed to extract any player response")), Reason.CONNECTION),
    (no_formats("An error occurred. Please try again later."), Reason.SERVER_ERROR),
    (stop(ExtractorError("Unable to extract client id")), Reason.UNKNOWN),
    (stop(ExtractorError("Video data not found in the page")), Reason.UNKNOWN),  # the extractor is out of date
    (stop(KeyError("videoDetails")), Reason.UNKNOWN),
]


@pytest.mark.parametrize(("does", "reason"), SAID)
def test_what_a_site_says_has_a_reason(escapes, does, reason):
    error = escapes(does)
    assert isinstance(error, DownloadError), repr(error)
    assert classify(error, at_media=False).reason is reason


CLOUDFLARE = "Got HTTP Error 403 caused by Cloudflare anti-bot challenge; see  https://x  for how to install"
ANSWERS = [  # (error, reason at extraction, reason at the media's address)
    (http_error(400), Reason.UNKNOWN, Reason.UNKNOWN),
    (http_error(401), Reason.LOGIN, Reason.LOGIN),
    (http_error(403), Reason.FORBIDDEN, Reason.FORBIDDEN),
    (http_error(404), Reason.NOT_FOUND, Reason.CHANGED),
    (http_error(410), Reason.NOT_FOUND, Reason.CHANGED),
    (http_error(416), Reason.UNKNOWN, Reason.CHANGED),
    (http_error(429), Reason.RATE_LIMITED, Reason.RATE_LIMITED),
    (http_error(451), Reason.GEO, Reason.GEO),
    (http_error(500), Reason.SERVER_ERROR, Reason.SERVER_ERROR),
    (http_error(503), Reason.SERVER_ERROR, Reason.SERVER_ERROR),
    (http_error(500, reason="Private video"), Reason.SERVER_ERROR, Reason.SERVER_ERROR),  # the server's own words
    (http_error(302, redirect_loop=True), Reason.REDIRECT_LOOP, Reason.REDIRECT_LOOP),
    (IncompleteRead(partial=10, expected=20), Reason.INCOMPLETE, Reason.INCOMPLETE),
    (TransportError(cause=TimeoutError("timed out")), Reason.TIMEOUT, Reason.TIMEOUT),
    (TransportError(cause=ConnectionResetError(104, "Connection reset by peer")), Reason.CONNECTION, Reason.CONNECTION),
    (TransportError(cause=socket.gaierror(-2, "Name or service not known")), Reason.CONNECTION, Reason.CONNECTION),
    (TransportError(cause=zlib.error("incorrect header check")), Reason.INCOMPLETE, Reason.INCOMPLETE),
    (SSLError(cause=ssl.SSLError(1, "wrong version number")), Reason.CONNECTION, Reason.CONNECTION),
    (
        CertificateVerifyError("certificate is not valid for 'members-only.example'"),
        Reason.CONNECTION,
        Reason.CONNECTION,
    ),
    (ProxyError("tunnel connection failed: 407"), Reason.CONNECTION, Reason.CONNECTION),
]


@pytest.mark.parametrize(("error", "at_extraction", "at_media"), ANSWERS, ids=lambda value: str(value))
def test_what_the_network_answers_has_a_reason_wrapped_or_bare(escapes, error, at_extraction, at_media):
    assert classify(escapes(refuse(error)), at_media=False).reason is at_extraction
    assert classify(error, at_media=True).reason is at_media
    if isinstance(error, HTTPError):
        assert classify(escapes(refuse(error)), at_media=False).http_status == error.status


OTHERS = [
    (ContentTooShortError(10, 20), Reason.INCOMPLETE),
    (UnavailableVideoError(OSError("connection lost")), Reason.CONNECTION),
    (ThrottledDownload(), Reason.TOO_SLOW),
    (EntryNotInPlaylist(), Reason.PLAYLIST),
    (CookieLoadError("no cookies"), Reason.LOGIN),
    (NoSupportingHandlers([], [TimeoutError("timed out")]), Reason.TIMEOUT),
    (RequestError("Impersonate target is not available"), Reason.UNSUPPORTED),
    (DownloadError("ERROR: Unable to download video: HTTP Error 503: Service Unavailable"), Reason.SERVER_ERROR),
    (DownloadError("ERROR: fragment 1 not found, unable to continue"), Reason.INCOMPLETE),
    (TimeoutError("timed out"), Reason.TIMEOUT),
    (ConnectionRefusedError(111, "refused"), Reason.CONNECTION),
    (http.client.RemoteDisconnected("closed"), Reason.CONNECTION),
    (http.client.IncompleteRead(b"abc", 10), Reason.INCOMPLETE),
    (http.client.InvalidURL("control characters"), Reason.NO_MEDIA),
    (av.error.InvalidDataError(1, "Invalid data found when processing input"), Reason.BROKEN),
    (MemoryError(), Reason.CRASHED),
    (RuntimeError("Video unavailable"), Reason.UNKNOWN),  # no words of yt-dlp's
    (PermissionError(13, "Permission denied"), Reason.UNKNOWN),
    (KeyboardInterrupt(), Reason.UNKNOWN),
    (AudioError(Failure.OUT_OF_RANGE, "the clip starts at 90 s of 60.000 s"), Reason.OUT_OF_RANGE),
    (AudioError(Failure.NOT_AUDIO, "neither finds audio in it"), Reason.NO_MEDIA),
    (AudioError(Failure.EMPTY, "0 bytes"), Reason.NO_MEDIA),
    (AudioError(Failure.NON_FINITE, "NaN"), Reason.BROKEN),
    (AudioError(Failure.TOO_LONG, "over 3600 s long"), Reason.TOO_LARGE),
]


@pytest.mark.parametrize(("error", "reason"), OTHERS, ids=lambda value: repr(value))
def test_every_other_error_has_a_reason(error, reason):
    assert classify(error, at_media=True).reason is reason


def test_an_address_that_no_handler_takes_is_no_recording():
    with YoutubeDL({"quiet": True, "logger": Silent()}) as ydl, pytest.raises(RequestError) as caught:
        ydl.urlopen("rtmp://host/live")
    assert isinstance(caught.value, NoSupportingHandlers)
    assert classify(caught.value, at_media=True).reason is Reason.NO_MEDIA


REFUSED = FetchError(Fault(Reason.PRIVATE_ADDRESS, "127.0.0.1 is a loopback address"))


class GuardedRH(yt_dlp.networking.RequestHandler):
    """Stands where the guarded handler stands."""

    RH_KEY = RH_NAME = "Guarded"
    _SUPPORTED_URL_SCHEMES = ("http", "https")

    def _send(self, request):
        raise self.raises

    def _check_extensions(self, extensions):
        extensions.clear()


@pytest.mark.parametrize("raises", [REFUSED, TransportError(cause=REFUSED)], ids=["bare", "as a cause"])
def test_the_fetchers_own_verdict_survives_yt_dlps_wrapping(raises):
    with YoutubeDL({"quiet": True, "logger": Silent()}) as ydl:
        ydl._request_director.handlers.clear()
        handler = GuardedRH(logger=Silent())
        handler.raises = raises
        ydl._request_director.add_handler(handler)
        with pytest.raises(Exception) as caught:  # noqa: PT011
            ydl.extract_info("http://host/clip", download=False)
    assert caught.value is not raises
    assert classify(caught.value, at_media=False) == REFUSED.fault


def error_classes_of_yt_dlp():
    modules = (yt_dlp.utils, yt_dlp.utils._utils, yt_dlp.networking.exceptions, yt_dlp.cookies, yt_dlp.socks)
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    found = [kind for kind in kinds if issubclass(kind, Exception) and kind.__module__.startswith("yt_dlp.")]
    assert len(found) > 30
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


@pytest.mark.parametrize("kind", error_classes_of_yt_dlp())
def test_no_error_class_of_yt_dlp_goes_unclassified(kind):
    made = []
    for arguments in ((), ("words",), (1, 2), ([], []), (http_error(500).response,), (Silent, None)):
        try:
            made.append(kind(*arguments))
        except Exception:  # this class is not made like that
            continue
    assert made, "tell how it is made"
    for error in made:
        fault = classify(error, at_media=False)
        assert isinstance(fault.reason, Reason)
        assert fault.message
        assert fault.message.isprintable()


def test_causes_that_lead_back_to_themselves_end():
    first, second = ExtractorError("a"), TransportError("b")
    first.cause, second.__cause__, second.__context__ = second, first, second
    assert classify(first, at_media=False).reason is Reason.CONNECTION


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("99999999999", MAX_RETRY_AFTER_S),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),  # past
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds(value, seconds):
    assert classify(http_error(429, {"Retry-After": value}), at_media=False).retry_after_s == seconds


def test_retry_after_is_read_as_a_date(escapes):
    date = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    error = escapes(refuse(http_error(503, {"Retry-After": date})))
    assert classify(error, at_media=False).retry_after_s == pytest.approx(7200, abs=60)


def test_every_reason_and_every_local_failure_has_a_class_and_other_words_are_unknown():
    assert {class_of(reason) for reason in Reason} == set(FailureClass)
    unknown = {reason for reason in Reason if class_of(reason) is FailureClass.UNKNOWN}
    assert unknown == {Reason.UNKNOWN, Reason.CRASHED}
    assert {failure for failure in Failure if class_of(failure) is FailureClass.UNKNOWN} == {"missing", "unreadable"}
    assert class_of("gone fishing") is FailureClass.UNKNOWN


def test_a_message_is_short_and_says_only_what_matters(escapes):
    error = escapes(refuse(http_error(404)))
    message = classify(error, at_media=False).message
    assert message.startswith("[Test] clip: Unable to download webpage: HTTP Error 404: Not Found")
    assert "please report" not in message
    error = escapes(no_formats(f"Sign in to confirm you’re not a bot. {LOGIN_HINT}"))
    assert classify(error, at_media=False).message == "[Test] clip: Sign in to confirm you’re not a bot"
    error = escapes(lambda ie: ie.raise_geo_restricted(countries=["DE"]))
    assert classify(error, at_media=False).message.endswith("geo restriction This video is available in Germany.")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[0;31mERROR:\x1b[0m [x] a:\n\tgone", "[x] a: gone"),
        ("title \x1b]0;owned\x07 end", "title end"),
        ("a\x00b\u202ec\ud800d", "abcd"),
        ("Unable: https://h.example/v.mp4?sig=abc&expire=1#x end", "Unable: https://h.example/v.mp4... end"),
        ("proxy http://user:pw@h.example:1/ refused", "proxy http://h.example:1/... refused"),
        (f"https://h.example/{'s' * 100}", f"https://h.example/{'s' * 42}..."),
        ("sent Cookie: SID=abc; HSID=def", "sent Cookie: ..."),
        ("bad access_token=abc, code", "bad access_token=..., code"),
        ("x" * 300, "x" * SHOWN_CHARACTERS + "..."),
    ],
)
def test_a_strangers_message_is_made_safe(raw, shown):
    assert printable(raw) == shown


pieces = st.sampled_from(
    [
        "\x1b[31m",
        "\x1b]8;;",
        "\n",
        "ERROR: ",
        "https://u:p@h/p?sig=secret",
        "; please report this issue on",
        "Cookie: ",
        "...",
    ]
)


@given(st.lists(st.one_of(st.text(max_size=30), pieces), max_size=12).map("".join))
@example("Use --cookies")
@example("https://h.example/" + "a" * 41 + "?x")
def test_whatever_is_said_becomes_one_printable_line(text):
    for error in (ExtractorError(text), DownloadError(text), OSError(text), FetchError(Fault(Reason.UNKNOWN, text))):
        message = classify(error, at_media=False).message
        assert message.isprintable()
        assert len(message) <= SHOWN_CHARACTERS + 3
        assert "secret" not in message
        assert printable(message) == message


@given(st.text())
def test_an_error_whose_text_cannot_be_had_is_a_failure_too(text):
    class Rude(YoutubeDLError):
        def __str__(self):
            raise ValueError(text)

    assert classify(Rude(), at_media=False).message == "Rude"
