"""A worker's yt-dlp: from a link to the address of its media, and from there to the media's bytes."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.cookiejar import LoadError
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import yt_dlp.globals
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.networking import Request, Response
from yt_dlp.utils import unsmuggle_url

from audioclf.config import FetchConfig
from audioclf.errors import UserError, shown
from audioclf.fetch.failures import Fault, FetchError, Reason, classify
from audioclf.fetch.guard import GuardedYoutubeDL
from audioclf.fetch.limits import Limits, refuses_robots
from audioclf.fetch.messages import printable, reason_said
from audioclf.fetch.reader import RangeReader

MAX_HOPS = 5
"""Results that lead to other results (a page to its embedded player); more is a circle or a trap."""

WHOLE_PROTOCOLS = frozenset({"m3u8", "m3u8_native", "http_dash_segments"})
"""Media in fragments, which ``whole`` fetches; all else that is asked for is one file at an http(s) address."""

# One file over fragments: only the bytes of a clip are needed of it, even where it holds pictures too, and of those the
# smallest. Under 64 kbit/s the fragments sound better. Languages as the extractor ranks them: the original first.
_ONE_FILE, _KNOWN = "[protocol~='^https?$'][abr>=?64]", "[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
_FORMAT = "/".join(f"ba{kind}/b[acodec!=?none]{kind}" for kind in (_ONE_FILE, _KNOWN))
_FORMAT_SORT = ["lang", "+res"]
_PROXIES = frozenset({"http", "socks4", "socks4a", "socks5", "socks5h"})
# domain, whether it holds below the domain too, path, whether for https only, expiry, name, value
_COOKIE = re.compile(r"(\.[^\t]*\tTRUE|[^.\t][^\t]*\tFALSE)(\t[^\t]*){2}\t([0-9]+(\.[0-9]+)?)?(\t[^\t]*){2}")
_GENERIC = frozenset({"Generic", "HTML5MediaEmbed"})  # yt-dlp does not know the site
_KEPT_LINES = 20


@dataclass(frozen=True, slots=True)
class Media:
    """Where the audio of a recording lies.

    Attributes:
        url: of the file, or of the playlist of its fragments.
        headers: to be sent with each request.
        protocol: ``http``, ``https`` or one of ``WHOLE_PROTOCOLS``.
        ext: the file name extension by which the site goes, e.g. ``m4a``.
        extractor: yt-dlp's name for the site; ``Generic`` and ``HTML5MediaEmbed`` for one that it does not know.
        duration_s: of the recording, as the site has it, often rounded to a second; None where it does not say.
        size: of the file, in bytes, as the site has it.
        info: all that yt-dlp knows, for its downloaders.
    """

    url: str
    headers: Mapping[str, str]
    protocol: str
    ext: str
    extractor: str
    duration_s: float | None
    size: int | None
    info: dict[str, Any] = field(repr=False, compare=False)


class Session:
    """What one worker keeps from recording to recording: yt-dlp with its cookies, on the guarded network.

    A context manager. For one thread.

    Args:
        config: the ``fetch`` section.

    Raises:
        UserError: the cookies file cannot be read, or the proxy is none that is supported.
    """

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.limits = Limits(config.allow_private)
        self._log = _Log()
        yt_dlp.globals.plugin_dirs.value = []  # code in a folder beside the data is not run
        self.ydl = GuardedYoutubeDL(
            {
                "logger": self._log,
                "quiet": True,
                "noprogress": True,
                "color": "never",
                "cachedir": False,
                "noplaylist": True,
                "format": _FORMAT,
                "format_sort": _FORMAT_SORT,
                "check_formats": False,
                "socket_timeout": config.timeout,
                "proxy": _check_proxy(config.proxy),
                "cookiefile": read_cookies(config.cookies),
                "geo_bypass": False,
                "extractor_retries": 1,
                "retries": 2,  # of a stream's fragments; all else is tried again by those who call
                "retry_sleep_functions": {"http": lambda n: 2.0**n},
                "skip_unavailable_fragments": False,
                "hls_prefer_native": True,
                "continuedl": False,
                "nopart": True,
                "_no_ytdl_file": True,
                "updatetime": False,
            },
            self.limits,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ydl.close()

    def start_clock(self) -> None:
        """Gives the requests from now on ``fetch.max_seconds``."""
        self.limits.deadline = time.monotonic() + self.config.max_seconds

    def extract(self, url: str) -> Media:
        """Finds the media of a recording: one extraction, no bytes of the media, never a list of recordings.

        Args:
            url: the link, http or https.

        Raises:
            FetchError: whatever goes wrong.
        """
        self._log.lines.clear()
        try:
            return self._extract(url)
        except Exception as error:  # extractors are code of 1,800 sites: nearly anything may come out of them
            raise FetchError(self._fault(error)) from error
        finally:
            self.limits.close_pages()

    def open(self, media: Media) -> RangeReader:
        """The media as a file, of which only what is read is fetched.

        Raises:
            NoRangesError: the server only gives the whole of it.
            FetchError: the server refuses it.
        """
        return RangeReader(lambda request: self.urlopen(request, media), media.url, media.headers)

    def urlopen(self, request: Request, media: Media) -> Response:
        """One request for bytes of ``media``.

        Raises:
            FetchError: ``robots``, or what the guard refuses.
            RequestError: yt-dlp's, for all else.
        """
        with self.limits.for_media():
            response = self.ydl.urlopen(request)
        if media.extractor in _GENERIC and refuses_robots(response.headers):
            response.close()
            raise _robots(media.url)
        return response

    def _extract(self, url: str) -> Media:
        result = self._ask(unsmuggle_url(url)[0])  # what a link smuggles in are options of extractors
        for _ in range(MAX_HOPS):
            kind = result.get("_type", "video")
            if kind == "video":
                return self._choose(result)
            if kind in ("url", "url_transparent"):
                result = self._ask(result["url"], result.get("ie_key"))
            elif kind in ("playlist", "multi_video"):
                result = _only_entry(result)
            else:
                raise FetchError(Fault(Reason.UNKNOWN, f"yt-dlp answers with a {shown(kind)}"))
        raise FetchError(Fault(Reason.REDIRECT_LOOP, f"over {MAX_HOPS} pages lead from one to the next"))

    def _ask(self, url: str, extractor: str | None = None) -> dict[str, Any]:
        """One step of an extraction; only an extractor may name another one and its private kind of address."""
        if extractor is None:
            self.limits.check_url(url)
        self.limits.robots = False
        result: dict[str, Any] | None = self.ydl.extract_info(url, ie_key=extractor, process=False)
        if not result:
            raise FetchError(Fault(Reason.NO_MEDIA, "yt-dlp finds nothing there"))
        if self.limits.robots and result.get("extractor_key") in _GENERIC:
            raise _robots(url)
        return result

    def _choose(self, result: dict[str, Any]) -> Media:
        """Picks a format of a single recording."""
        if result.get("is_live") or result.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise FetchError(Fault(Reason.NO_MEDIA, "a live stream; it has not ended yet"))
        info = self.ydl.process_ie_result(result, download=False)
        duration = info.get("duration")
        return Media(
            url=info["url"],
            headers=dict(info.get("http_headers") or {}),
            protocol=info["protocol"],
            ext=str(info["ext"]),
            extractor=str(info["extractor_key"]),
            duration_s=None if duration is None else float(duration),
            size=info.get("filesize"),
            info=info,
        )

    def _fault(self, error: Exception) -> Fault:
        """The failure; a missing format may be for want of a JavaScript runtime, which only a warning says."""
        fault = classify(error, at_media=False)
        if fault.reason in (Reason.NO_FORMAT, Reason.UNKNOWN):
            for line in self._log.lines:
                if reason_said(line) == Reason.NO_JS_RUNTIME:
                    return replace(fault, reason=Reason.NO_JS_RUNTIME, message=line)
        return fault


class _Log:
    """What yt-dlp says: kept as clean lines for finding a failure's reason, never shown."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def debug(self, message: str) -> None:
        pass

    info = debug

    def warning(self, message: str) -> None:
        self.lines.append(printable(message))

    error = warning


def _only_entry(playlist: dict[str, Any]) -> dict[str, Any]:
    """The entry of a list that has but one; two are enough to know a longer one, of which yt-dlp has no more asked."""
    entries = [entry for entry in islice(iter(playlist.get("entries") or ()), 2) if entry]
    if not entries:
        raise FetchError(Fault(Reason.NO_MEDIA, "an empty list"))
    if len(entries) > 1:
        raise FetchError(Fault(Reason.PLAYLIST, "leads to several recordings; give each its own link"))
    of_list = ("extractor", "extractor_key", "webpage_url", "webpage_url_basename", "webpage_url_domain")
    return {name: playlist.get(name) for name in of_list} | dict(entries[0])


def _robots(url: str) -> FetchError:
    site = shown(urlsplit(url).hostname)
    return FetchError(Fault(Reason.ROBOTS, f"{site} asks by X-Robots-Tag that this is not used"))


def _check_proxy(proxy: str | None) -> str | None:
    """The proxy as it is; its address, which may hold a password, is not shown."""
    scheme, colon, rest = (proxy or "").partition("://")
    if proxy is not None and not (scheme.lower() in _PROXIES and rest.strip("/")):
        kind = f"of kind {shown(scheme)}" if colon else "without ://"
        raise UserError(
            f"fetch.proxy: an address {kind}; expected one of {', '.join(sorted(_PROXIES))}",
            "write fetch.proxy=http://HOST:PORT or fetch.proxy=socks5://HOST:PORT",
        )
    return proxy


def read_cookies(path: str | None) -> io.StringIO | None:
    """A cookies file as text: yt-dlp would write a file that it opens itself, and print lines that it cannot read.

    Raises:
        UserError: naming the key, the file and the line, but nothing of what the file holds.
    """
    if path is None:
        return None
    hint = "export the cookies in Netscape's format, or leave fetch.cookies=null"
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of a user that there is not
        why = "no text in UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", "cannot be read")
        raise UserError(f"fetch.cookies={shown(path)}: {why}", hint) from None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removeprefix("#HttpOnly_")
        if line.strip() and not line.startswith("#") and not _COOKIE.fullmatch(line):
            what = f"line {number} is no cookie; expected 7 fields with tabs between them, as in cookies.txt"
            raise UserError(f"fetch.cookies={shown(path)}: {what}", hint)
    with suppress(LoadError):
        YoutubeDLCookieJar(io.StringIO(text)).load()
        return io.StringIO(text)
    raise UserError(f"fetch.cookies={shown(path)}: expected a file that begins '# Netscape HTTP Cookie File'", hint)
