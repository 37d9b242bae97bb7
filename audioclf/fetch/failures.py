"""Why a link gave no clip: one failure with all that is known of it, and how any error becomes one."""

from __future__ import annotations

import functools
import http.client
import re
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from audioclf.audio.frames import AudioError, Failure
from audioclf.fetch.messages import MAX_READ, printable, reason_said
from audioclf.fetch.reasons import FailureClass, Reason, class_of

__all__ = ["FailureClass", "Fault", "FetchError", "Reason", "class_of", "classify"]

MAX_RETRY_AFTER_S = 7 * 86_400.0  # a server that asks for more is not believed

_MOST_CAUSES = 50
_STATUS = re.compile(r"HTTP Error (\d{3})\b")
_STATUSES = {
    401: Reason.LOGIN,
    402: Reason.MEMBERS_ONLY,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    407: Reason.CONNECTION,  # the proxy wants a password
    408: Reason.TIMEOUT,
    410: Reason.NOT_FOUND,
    425: Reason.SERVER_ERROR,
    429: Reason.RATE_LIMITED,
    451: Reason.GEO,
}
_AUDIO = {
    Failure.MISSING: Reason.NOT_FOUND,
    Failure.EMPTY: Reason.NO_MEDIA,
    Failure.NOT_AUDIO: Reason.NO_MEDIA,
    Failure.OUT_OF_RANGE: Reason.OUT_OF_RANGE,
    Failure.TOO_LONG: Reason.TOO_LARGE,
}  # the others: BROKEN


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure.

    Attributes:
        reason: in a word.
        message: one printable line, without terminal escapes, cookies or signed addresses.
        http_status: the server's answer, where there was one.
        retry_after_s: what the server's Retry-After asks for, in seconds.
    """

    reason: Reason
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None


class FetchError(Exception):
    """Raised by the fetcher's own parts, where they know the reason."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def classify(error: BaseException, *, at_media: bool) -> Fault:
    """Any error as a failure.

    A ``FetchError`` anywhere among the error's causes decides; else what yt-dlp or the site says; else the HTTP status;
    else the errors' types, the most telling first.

    Args:
        error: whatever was raised; never raises itself.
        at_media: whether extraction had succeeded and the media's own address was being read. Such addresses are signed
            and expire: 404, 410 and 416 there mean ``changed`` (extract again), not that the recording is gone.
    """
    from yt_dlp.networking.exceptions import HTTPError, network_exceptions  # here: the command line starts without
    from yt_dlp.utils import ExtractorError, YoutubeDLError

    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, FetchError):
            return replace(cause.fault, message=printable(cause.fault.message))
        if isinstance(cause, AudioError):
            return Fault(_AUDIO.get(cause.failure, Reason.BROKEN), printable(cause.message))
    kind, text = type(error).__name__, _text(error)
    message = printable(text if isinstance(error, YoutubeDLError) else f"{kind}: {text}") or kind
    extractors = [cause for cause in chain if isinstance(cause, ExtractorError)]
    said = text if isinstance(error, YoutubeDLError) else ""
    if extractors:  # without the id, which may be any words
        said = str(getattr(extractors[0], "orig_msg", said))
    for cause in chain:
        if isinstance(cause, network_exceptions):  # the server's own words or the system's: no verdict of yt-dlp's
            said = said.replace(_text(cause) or said, "")
    answer = next((cause for cause in chain if isinstance(cause, HTTPError)), None)
    in_text = _STATUS.search(text[:MAX_READ])
    status = answer.status if answer else int(in_text[1]) if in_text else None
    reason = (
        (Reason.REDIRECT_LOOP if answer and answer.redirect_loop else None)
        or _of_types(chain, _verdicts())
        or reason_said(said)
        or (_of_status(status, at_media) if status else None)
        or _of_types(chain, _troubles())
        or Reason.UNKNOWN
    )
    return Fault(reason, message, status, _retry_after(answer.response.headers) if answer else None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, the nearest first; yt-dlp keeps causes in attributes of its own."""
    queue, seen = deque([error]), set[int]()
    while queue and len(seen) < _MOST_CAUSES:
        cause = queue.popleft()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        info = getattr(cause, "exc_info", None)
        inner = [cause.__cause__, getattr(cause, "cause", None), getattr(cause, "reason", None)]
        inner += [info[1] if isinstance(info, tuple) and len(info) == 3 else None]
        inner += [None if cause.__suppress_context__ else cause.__context__]
        for name in ("unexpected_errors", "unsupported_errors"):  # of NoSupportingHandlers
            inner += getattr(cause, name, None) or []
        queue.extend(found for found in inner if isinstance(found, BaseException))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an error of a stranger's making
        return ""


def _of_status(status: int, at_media: bool) -> Reason | None:
    """What an HTTP status means; None for one that says nothing about the recording."""
    if at_media and status in (404, 410, 416):
        return Reason.CHANGED
    return _STATUSES.get(status) or (Reason.SERVER_ERROR if 500 <= status <= 599 else None)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """What the Retry-After header asks for, in seconds, given as such or as a date; None where it cannot be read."""
    value = (headers.get("Retry-After") or "").strip()
    try:
        seconds = float(value) if value.replace(".", "", 1).isdecimal() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()


def _of_types(chain: Sequence[BaseException], table: Sequence[tuple[tuple[type, ...], Reason]]) -> Reason | None:
    found = (reason for types, reason in table if any(isinstance(cause, types) for cause in chain))
    return next(found, None)


@functools.cache
def _verdicts() -> tuple[tuple[tuple[type, ...], Reason], ...]:
    """Types that say more than their words; the first that is found decides."""
    from yt_dlp.cookies import CookieLoadError
    from yt_dlp.utils import EntryNotInPlaylist, GeoRestrictedError, UnsupportedError, UserNotLive

    return (
        ((GeoRestrictedError,), Reason.GEO),
        ((UnsupportedError, UserNotLive), Reason.NO_MEDIA),
        ((EntryNotInPlaylist,), Reason.PLAYLIST),
        ((CookieLoadError,), Reason.LOGIN),
    )


@functools.cache
def _troubles() -> tuple[tuple[tuple[type, ...], Reason], ...]:
    """Types where neither words nor status tell; the first that is found decides."""
    import av
    from yt_dlp.networking.exceptions import IncompleteRead, NoSupportingHandlers, TransportError
    from yt_dlp.utils import ContentTooShortError, ReExtractInfo, UnavailableVideoError

    return (
        ((IncompleteRead, ContentTooShortError, http.client.IncompleteRead), Reason.INCOMPLETE),
        ((TimeoutError,), Reason.TIMEOUT),
        ((EOFError, zlib.error), Reason.INCOMPLETE),
        ((TransportError, ConnectionError, ssl.SSLError, socket.gaierror), Reason.CONNECTION),
        ((http.client.InvalidURL,), Reason.NO_MEDIA),
        ((http.client.HTTPException, UnavailableVideoError), Reason.CONNECTION),
        ((NoSupportingHandlers,), Reason.NO_MEDIA),  # an address that is neither http nor https
        ((ReExtractInfo,), Reason.TOO_SLOW),
        ((MemoryError,), Reason.CRASHED),
        ((av.FFmpegError,), Reason.BROKEN),
    )
