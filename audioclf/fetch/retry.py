"""What is done about a failure: when a clip is asked for again, and when never."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.request import getproxies

from audioclf.audio.ledger import LedgerRow, State
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.failures import FailureClass, Fault, Reason, class_of

DAY_S = 86_400.0
CONFIRM_AFTER_S = 20 * 3600.0  # a second answer counts from here on; asked for after a day, whenever the user calls
MAX_ATTEMPTS = 12

# Of the classes that are tried again after a while: the first pause in seconds, which doubles from one attempt to the
# next up to a day, and after how many attempts that ended alike a clip is given up. Environment: at the next call.
_BACKOFF = {
    FailureClass.TRANSIENT: (2.0, MAX_ATTEMPTS),
    FailureClass.UNKNOWN: (60.0, 5),
    FailureClass.FORBIDDEN: (3600.0, 5),
    FailureClass.ENVIRONMENT: (0.0, 5),
}
_SESSION_S = {  # YouTube says of its limit: up to an hour
    Reason.RATE_LIMITED: 3600.0,
    Reason.BOT_CHECK: 6 * 3600.0,
    Reason.CAPTCHA: 6 * 3600.0,
}
_TOOLS = ("yt-dlp", "yt-dlp-ejs", "deno")
_RNG = random.Random()


def failed_row(
    clip: Clip,
    fault: Fault,
    previous: LedgerRow | None,
    now: float,
    access: str,
    rng: random.Random = _RNG,
) -> LedgerRow:
    """The ledger's row for a clip that could not be had.

    ``next_retry`` says when it may be tried again; None: never, unless what it depends on changes or the user asks.

    Args:
        clip: the clip.
        fault: what happened.
        previous: the row that is there.
        now: in seconds since 1970.
        access: of the attempt, from :func:`access_of`.
        rng: for the jitter.
    """
    kind = class_of(fault.reason)
    if previous is not None and (previous.state is not State.FAILED or _is_local(previous)):
        previous = None
    before = class_of(previous.failure or "") if previous else None
    attempts = (previous.attempts if previous else 0) + (kind is not FailureClass.SESSION)
    wait: float | None
    if kind is FailureClass.CONDITIONAL:
        wait = None
    elif kind is FailureClass.SESSION:
        wait = _SESSION_S[fault.reason] if fault.retry_after_s is None else fault.retry_after_s
    elif kind is FailureClass.DEAD:
        wait = _until_confirmed(previous if before is kind else None, now)
    else:
        first_s, most = _BACKOFF[kind]
        spent = attempts >= (most if before is kind else MAX_ATTEMPTS)
        wait = None if spent else min(first_s * 2 ** (attempts - 1), DAY_S) * rng.uniform(0.5, 1.5)
    next_retry = None if wait is None else now + max(wait, fault.retry_after_s or 0.0)
    row = LedgerRow.of(clip, State.FAILED, failure=fault.reason.value, message=fault.message)
    return replace(
        row, http_status=fault.http_status, attempts=attempts, next_retry=next_retry, access=access, updated=now
    )


def is_due(row: LedgerRow | None, now: float, access: str, retry: frozenset[FailureClass] = frozenset()) -> bool:
    """Whether a clip with a link as its source is to be asked for.

    Args:
        row: the ledger's; None for a clip that was never tried.
        now: in seconds since 1970; infinity asks whether it is ever.
        access: of now, from :func:`access_of`.
        retry: classes that the user asks for again whatever the row says.
    """
    if row is None:
        return True
    if row.state is not State.FAILED:
        return False
    kind = class_of(row.failure or "")
    if _is_local(row) or kind in retry:
        return True
    if row.next_retry is not None:
        return row.next_retry <= now
    ours, tools = _parts(access)
    ours_then, tools_then = _parts(row.access or "")
    return (kind is FailureClass.CONDITIONAL and ours != ours_then) or (
        kind is FailureClass.ENVIRONMENT and tools != tools_then
    )


def access_of(config: FetchConfig) -> str:
    """A fingerprint of what failures may depend on: cookies, proxy and ``allow_private``; then yt-dlp and its runtime.

    The two are 12 hex digits each, joined by a dash. Of the cookies' file only size and time of change are looked at.
    """
    cookies = None
    if config.cookies is not None:
        try:
            status = Path(config.cookies).expanduser().stat()
            cookies = (config.cookies, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError, RuntimeError):  # it is not there, which the session tells the user
            pass
    proxy = sorted(getproxies().items()) if config.proxy is None else config.proxy
    tools = [(name, _version(name)) for name in _TOOLS]
    return f"{_digest(cookies, proxy, config.allow_private)}-{_digest(tools, shutil.which('deno'))}"


def _until_confirmed(previous: LedgerRow | None, now: float) -> float | None:
    """Seconds until a dead recording is asked for again; None once it has been dead for a day."""
    if previous is None:
        return DAY_S
    due = previous.next_retry
    return None if due is None or now >= due - DAY_S + CONFIRM_AFTER_S else due - now


def _is_local(row: LedgerRow) -> bool:
    """Whether the row tells of a file that the user gave for the clip, and not of the web."""
    return row.source_size is not None


def _parts(access: str) -> tuple[str, str]:
    ours, _, tools = access.partition("-")
    return ours, tools


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]
