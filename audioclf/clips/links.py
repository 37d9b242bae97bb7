"""What a link to a recording says."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from audioclf.clips.clip import is_url


def recording_id(source: str) -> str:
    """What names a recording: a YouTube link's video id, another link as it is, or the path."""
    if not is_url(source):
        return source
    link = urlsplit(source)
    host = (link.hostname or "").removeprefix("www.").removeprefix("m.").removeprefix("music.")
    found: list[str] = []
    if host == "youtu.be":
        found = re.findall(r"^/([^/]+)", link.path)
    elif host in ("youtube.com", "youtube-nocookie.com"):
        found = parse_qs(link.query).get("v") or re.findall(r"^/(?:shorts|embed|live|v)/([^/]+)", link.path)
    return found[0] if found else source.split("#")[0]
