"""What a request may do: which addresses it may reach, until when, and for how many bytes.

Addresses are checked *at the moment of connecting*: a name that is looked up, checked and looked up again could answer
differently the second time.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import RequestError

from audioclf.errors import shown
from audioclf.fetch.failures import Fault, FetchError, Reason

PAGE_WINDOW = 16 << 10
"""Receive buffer while pages are asked for, in bytes: yt-dlp opens media to look at its type and lets the rest go.

Systems double it; at 50 ms to the server, 32 kB allow 640 kB/s.
"""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_AGENTS = frozenset({"*", "audioclf", "yt-dlp"})
_REFUSALS = frozenset({"noai", "noindex", "none"})
_WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})  # after a colon


class Refused(FetchError, RequestError):
    """What the guard refuses; yt-dlp's extractors take it for no ordinary network error, so it ends the extraction."""


@dataclass(slots=True)
class Limits:
    """What the requests of one session may do.

    Attributes:
        allow_private: whether addresses outside of the public internet may be connected to.
        deadline: by ``time.monotonic``; nothing is asked or read after it.
        media: whether media is being asked for, whose reader counts its bytes itself, or a page.
        received: bytes so far, headers included.
        robots: whether a page asked not to be used since this was last set to False.
    """

    allow_private: bool
    deadline: float = math.inf
    media: bool = False
    received: int = 0
    robots: bool = False
    _pages: list[Response] = field(default_factory=list)

    def check(self) -> None:
        """Raises ``too_slow`` past the deadline."""
        if time.monotonic() > self.deadline:
            raise Refused(Fault(Reason.TOO_SLOW, "the time limit of a clip (fetch.max_seconds) is over"))

    def timeout(self, timeout_s: float) -> float:
        """A time-out in seconds that does not reach beyond the deadline by much."""
        return max(min(timeout_s, self.deadline - time.monotonic()), 0.1)

    @contextmanager
    def for_media(self) -> Iterator[None]:
        """What is asked for inside is media."""
        self.media = True
        try:
            yield
        finally:
            self.media = False

    def opened(self, page: Response) -> None:
        """Takes note of a page: of what it asks of robots, and of its connection, which extractors leave open."""
        self.robots |= refuses_robots(page.headers)
        self._pages.append(page)

    def close_pages(self) -> None:
        """Closes what extractors left open, so that no server goes on sending."""
        for page in self._pages:
            page.close()
        self._pages.clear()

    def connect(self, address: tuple[str, int], timeout: float, source_address: Any = None) -> socket.socket:
        """Connects to the first public address of a host that answers, to the very address that was checked.

        Raises:
            Refused: ``private_address``.
            OSError: as ``socket.create_connection``.
        """
        host, port = address
        found = [entry for entry in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM) if self._allows(entry[4][0])]
        if not found:
            raise _private(host)
        error: OSError | None = None
        for family, kind, protocol, _, where in found:
            self.check()
            connection = socket.socket(family, kind, protocol)
            try:
                if not self.media:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PAGE_WINDOW)
                connection.settimeout(self.timeout(timeout))
                connection.connect(where)
                return connection
            except OSError as failed:
                connection.close()
                error = failed
        self.check()
        assert error is not None
        raise error

    def check_url(self, url: str, base: str = "") -> None:
        """Refuses what is not http(s), and hosts that name a private address without being looked up.

        A proxy looks names up itself: there, this is all that can be checked.

        Args:
            url: to be asked, or what a redirect names.
            base: where the redirect came from.

        Raises:
            Refused: ``no_media`` for another scheme, ``private_address``.
        """
        try:
            link = urlsplit(urljoin(base, url))
            # what a proxy would be asked for: urllib undoes %-escapes, and full-width digits are digits
            host = unquote(link.hostname or "").encode("idna").decode().rstrip(".")
        except ValueError as error:
            raise Refused(Fault(Reason.NO_MEDIA, f"leads to {shown(url)}: {error}")) from None
        if link.scheme.lower() not in ("http", "https"):
            raise Refused(Fault(Reason.NO_MEDIA, f"leads to a {shown(link.scheme)}: address, expected http or https"))
        if not self.allow_private and (f".{host}".endswith(".localhost") or not is_public(host, unknown=True)):
            raise _private(host)

    def _allows(self, address: Any) -> bool:
        return self.allow_private or is_public(str(address))


def is_public(host: str, unknown: bool = False) -> bool:
    """Whether an IP address belongs to the public internet.

    IPv4 addresses inside IPv6 ones (mapped, 6to4, NAT64) count as themselves; so do the decimal, octal and hexadecimal
    spellings that resolvers accept (``2130706433``, ``0177.1``).

    Args:
        host: an address, with or without a zone.
        unknown: what to answer where ``host`` is no address but a name.
    """
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return unknown
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address.is_global and address in _GLOBAL_UNICAST
        address = inner
    return address.is_global and not address.is_multicast


def refuses_robots(headers: Message) -> bool:
    """Whether ``X-Robots-Tag`` asks not to use what is served: ``noai``, ``noindex``, ``none`` and their like.

    A directive may carry the name of the program that it is for; one for another program does not count. This is
    img2dataset's rule, with ``none`` (short for noindex and nofollow) added.
    """
    for value in headers.get_all("X-Robots-Tag", []):
        agent, colon, directives = value.lower().partition(":")
        if not colon or "," in agent or agent.strip() in _WITH_VALUE:
            agent, directives = "*", value.lower()
        if agent.strip() in _AGENTS and _REFUSALS & {word.strip() for word in directives.split(",")}:
            return True
    return False


def _private(host: str) -> Refused:
    hint = "fetch.allow_private=true permits it"
    return Refused(Fault(Reason.PRIVATE_ADDRESS, f"leads to {shown(host)}, no public address; {hint}"))
