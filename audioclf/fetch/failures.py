"""Why a link gave no clip: the reason, the class that decides what is done about it, and how errors become reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """What is done about a failure.

    ``dead``: asked a second time a day later, then never again. ``conditional``: asked again when cookies, proxy or
    ``fetch.allow_private`` change. ``session``: the site refuses *us*, whatever the recording: every worker on that site
    stops, no attempt is spent. ``environment``: this machine lacks something; stop and say what mends it. ``transient``:
    again after a while. ``forbidden``: the site gave the media's address and refuses its bytes; extracted again once,
    then as ``session``. ``unknown``: again a few times, the message kept.
    """

    DEAD = "dead"
    CONDITIONAL = "conditional"
    SESSION = "session"
    ENVIRONMENT = "environment"
    TRANSIENT = "transient"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why, in a word; what the ledger's ``failure`` holds for audio from the web."""

    # dead
    REMOVED = "removed"
    PRIVATE = "private"
    TERMINATED = "terminated"
    DRM = "drm"
    MEMBERS_ONLY = "members_only"
    NOT_FOUND = "not_found"  # 404, 410
    OUT_OF_RANGE = "out_of_range"  # the clip starts past the recording's end
    NO_MEDIA = "no_media"  # a page without a recording, HTML where media should be
    PLAYLIST = "playlist"  # a link to many recordings
    ROBOTS = "robots"  # the server's X-Robots-Tag says no
    REDIRECT_LOOP = "redirect_loop"
    TOO_LARGE = "too_large"
    BROKEN = "broken"  # the server gave all its bytes, and they are no usable audio
    # conditional
    GEO = "geo"
    AGE = "age"
    LOGIN = "login"
    PRIVATE_ADDRESS = "private_address"  # loopback, link-local, private network
    # session
    BOT_CHECK = "bot_check"
    CAPTCHA = "captcha"
    RATE_LIMITED = "rate_limited"  # 429
    # environment
    NO_JS_RUNTIME = "no_js_runtime"
    NO_FORMAT = "no_format"
    NO_IMPERSONATION = "no_impersonation"
    # transient
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # DNS, refused, reset, TLS
    SERVER_ERROR = "server_error"  # 5xx
    INCOMPLETE = "incomplete"  # fewer bytes than promised
    CHANGED = "changed"  # another file under the same address in the middle of reading
    TOO_SLOW = "too_slow"  # over the time limit
    # forbidden
    FORBIDDEN = "forbidden"  # 403
    # unknown
    CRASHED = "crashed"  # the worker died over it
    UNKNOWN = "unknown"


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
