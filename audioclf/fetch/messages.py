"""What sites and yt-dlp say, read: a reason out of a message, and the message as one line that is safe to show."""

from __future__ import annotations

import re

from audioclf.errors import shown
from audioclf.fetch.reasons import Reason

MAX_READ = 10_000  # characters of a message that are looked at

# In order: the first that is found decides. The words are those of yt-dlp's source and, where it hands on what a site
# says, the site's; lower case, straight apostrophes, addresses left out.
_SAYS: tuple[tuple[str, Reason], ...] = (
    (r"impersonat|phantomjs not found", Reason.UNSUPPORTED),
    (r"not a bot|ip (is likely being|address is) blocked|ip address is unable|anti-bot challenge", Reason.BOT_CHECK),
    (r"captcha", Reason.CAPTCHA),
    # YouTube's "this content isn't available" means the session, "this video isn't available" the video
    (
        r"rate.?limit|too many requests|request is (blocked|rejected) by server|this content isn't available",
        Reason.RATE_LIMITED,
    ),
    (r"javascript runtime|challenge solving failed", Reason.NO_JS_RUNTIME),
    (r"account.* (terminated|closed|suspended|deleted)|closed their .*account", Reason.TERMINATED),
    # before the country: "Learn more about combating hate speech in your country."
    (r"removed (by|for|due)|violat", Reason.REMOVED),
    (
        r"private (video|track|playlist|sound|show|subreddit)|(video|vod|track|post|account|event) is private",
        Reason.PRIVATE,
    ),
    (r"(your|this) (country|region|location|area)|geo.?(restrict|block)|webpage has been blocked", Reason.GEO),
    (r"\bdrm\b", Reason.DRM),
    (r"confirm your age|\bage.(restrict|verif|gate|limit)|inappropriate for some|mature audience", Reason.AGE),
    (
        r"members.only|premium|channel's members|for members|join this channel|subscri(be|ption)|purchase|payment|\bpaid\b",
        Reason.MEMBERS_ONLY,
    ),
    (r"fragment \d+ not found|did not get any data blocks", Reason.INCOMPLETE),
    (r"temporarily unavailable|server error|something went wrong|try again later", Reason.SERVER_ERROR),
    (
        r"requested format|no (video|audio) formats|only images are available|available on this app|pycryptodome",
        Reason.NO_FORMAT,
    ),
    (r"copyright|removed|deleted|no longer (exist|available)|unavailable|(not|n't) available", Reason.REMOVED),
    (
        r"unsupported url|not a valid url|not a video|no (video|media|audio|embed)\b|looks truncated"
        r"|live event|premieres in|not (currently )?live|(not|n't) (yet )?started|has ended",
        Reason.NO_MEDIA,
    ),
    # "... not found in webpage" is an extractor that no longer knows the site
    (
        r"not found(?! (in|on|even|among)\b)|cannot be found|does(n't| not) exist|(?<!token )(has|is) (most likely )?expired",
        Reason.NOT_FOUND,
    ),
    (
        r"log.?in|logged.in|sign.?in|registered users|password|embed-only|\btokens? (has|have|passed)\b|expired token|passed cookies",
        Reason.LOGIN,
    ),
    (r"timed out|timeout", Reason.TIMEOUT),
    (r"any player response|network error|connection (reset|refused)|name resolution|unreachable", Reason.CONNECTION),
)
_TABLE = tuple((re.compile(pattern), reason) for pattern, reason in _SAYS)

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://(?:[^\s/?#'\"<>]*@)?([^\s?#'\"<>]*)[^\s'\"<>]*", re.IGNORECASE)
_URL_SHOWN = 60  # characters of an address without its query
_SECRET = re.compile(
    r"\b((?:set-)?cookie|authorization)\s*:.*|\b(\w*(?:token|sig|signature|passw\w*|auth))=[^\s,;'\"]+", re.I
)
# For yt-dlp's own users; ours do not type its options.
_ADVICE = re.compile(
    r"[;.]?\s*(?:please report this issue on|use --(?:cookies|username|netrc|list-formats|proxy)|see --|also see )"
    r".*|\s*you might want to use a vpn or a proxy.*",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"HTTP Error \d{3}: [\w ]*")  # the server's words for its status
_PREFIX = re.compile(r"^(?:ERROR:\s*)+")


def reason_said(message: str) -> Reason | None:
    """The reason that a message of yt-dlp or of a site gives; None where none is known."""
    text = _ANSWER.sub(" ", _URL.sub(" ", message[:MAX_READ])).replace("’", "'")
    text = " ".join(text.casefold().split())
    return next((reason for pattern, reason in _TABLE if pattern.search(text)), None)


def printable(message: str) -> str:
    """A stranger's message on one line: without terminal escapes, secrets, signed addresses and yt-dlp's advice.

    Args:
        message: any text.

    Returns:
        Printable characters only, as short as every value in an error; the same again for what is so already.
    """
    text = _ESCAPE.sub("", message[:MAX_READ])
    text = " ".join(text.split())
    text = "".join(character for character in text if character.isprintable())
    text = _URL.sub(_short, _ADVICE.sub("", text))
    text = _SECRET.sub(lambda found: f"{found[1]}: ..." if found[1] else f"{found[2]}=...", _PREFIX.sub("", text))
    return shown(" ".join(text.split()))


def _short(url: re.Match[str]) -> str:
    """An address without user, query and fragment, and cut where it is long."""
    address = f"{url[0].partition('://')[0]}://{url[1]}".removesuffix("...")
    cut = address[:_URL_SHOWN]
    return cut if cut == url[0] else f"{cut}..."
