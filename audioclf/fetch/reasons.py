"""The words for failures: why a link gave no clip, and the class that decides what is done about it."""

from __future__ import annotations

from enum import StrEnum

from audioclf.audio.frames import Failure


class FailureClass(StrEnum):
    """What is done about a failure.

    ``dead``: asked a second time a day later, then never again. ``conditional``: asked again when cookies, proxy or
    ``fetch.allow_private`` change. ``session``: the site refuses *us*, whatever the recording: every worker on that site
    stops, no attempt is spent. ``environment``: this machine lacks something; stop and say what mends it. ``transient``:
    again after a while. ``forbidden``: the server refuses (403) this recording or us, which only the next recordings
    tell; media is extracted again once, and several in a row count as ``session``. ``unknown``: again a few times, the
    message kept.
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
    UNSUPPORTED = "unsupported"  # a site that only answers browsers, or whose extractor needs PhantomJS
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
    # transient
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # DNS, refused, reset, TLS
    SERVER_ERROR = "server_error"  # 5xx
    INCOMPLETE = "incomplete"  # fewer bytes than promised
    CHANGED = "changed"  # another file, or none, under an address that was good a moment ago
    TOO_SLOW = "too_slow"  # over the time limit
    LOST = "lost"  # the machine of the cluster that was at it is gone
    # forbidden
    FORBIDDEN = "forbidden"  # 403
    # unknown
    CRASHED = "crashed"  # the worker died over it
    UNKNOWN = "unknown"


_REASONS: dict[FailureClass, tuple[Reason, ...]] = {
    FailureClass.DEAD: (
        Reason.REMOVED,
        Reason.PRIVATE,
        Reason.TERMINATED,
        Reason.DRM,
        Reason.MEMBERS_ONLY,
        Reason.NOT_FOUND,
        Reason.OUT_OF_RANGE,
        Reason.NO_MEDIA,
        Reason.PLAYLIST,
        Reason.ROBOTS,
        Reason.REDIRECT_LOOP,
        Reason.TOO_LARGE,
        Reason.UNSUPPORTED,
        Reason.BROKEN,
    ),
    FailureClass.CONDITIONAL: (Reason.GEO, Reason.AGE, Reason.LOGIN, Reason.PRIVATE_ADDRESS),
    FailureClass.SESSION: (Reason.BOT_CHECK, Reason.CAPTCHA, Reason.RATE_LIMITED),
    FailureClass.ENVIRONMENT: (Reason.NO_JS_RUNTIME, Reason.NO_FORMAT),
    FailureClass.TRANSIENT: (
        Reason.TIMEOUT,
        Reason.CONNECTION,
        Reason.SERVER_ERROR,
        Reason.INCOMPLETE,
        Reason.CHANGED,
        Reason.TOO_SLOW,
        Reason.LOST,
    ),
    FailureClass.FORBIDDEN: (Reason.FORBIDDEN,),
    FailureClass.UNKNOWN: (Reason.CRASHED, Reason.UNKNOWN),
}
# A user's own file, given for a link: what it holds does not change; whether it can be read may.
_LOCAL = {
    failure.value: FailureClass.UNKNOWN if failure in (Failure.MISSING, Failure.UNREADABLE) else FailureClass.DEAD
    for failure in Failure
}
_CLASS = _LOCAL | {reason.value: kind for kind, reasons in _REASONS.items() for reason in reasons}


def class_of(reason: str) -> FailureClass:
    """The class of a reason, be it of audio from the web or of a local file; ``unknown`` for any other text."""
    return _CLASS.get(reason, FailureClass.UNKNOWN)
