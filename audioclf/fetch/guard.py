"""yt-dlp on a guarded network: http and https, public addresses, bounded in bytes and in time.

yt-dlp makes all requests, and a stranger's page can lead it anywhere. Its request handlers are replaced by one that
keeps to a session's ``Limits`` on every hop.
"""

from __future__ import annotations

import functools
import http.client
import io
import math
import socket
import urllib.request
import zlib
from collections.abc import Callable
from typing import Any, cast

from yt_dlp import YoutubeDL
from yt_dlp.networking import Request, RequestDirector, Response
from yt_dlp.networking._urllib import HTTPHandler, RedirectHandler, UrllibRH
from yt_dlp.networking.exceptions import HTTPError

from audioclf.fetch.failures import Fault, Reason
from audioclf.fetch.limits import Limits, Refused

PAGE_BYTES = 32 << 20
"""The most that is read of one page or playlist, decompressed; the largest real ones have a few MB."""

_BLOCK = 64 << 10
_ENCODINGS = "gzip, deflate"


class GuardedYoutubeDL(YoutubeDL):
    """yt-dlp with the guarded network.

    Args:
        params: yt-dlp's own.
        limits: what its requests may do.
    """

    def __init__(self, params: dict[str, Any], limits: Limits) -> None:
        self.limits = limits
        super().__init__(params)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """One handler, ours; whatever else is installed (requests, curl, websockets) would go around the guard."""
        return super().build_request_director([functools.partial(GuardedRH, limits=self.limits)])


class GuardedRH(UrllibRH):
    """yt-dlp's urllib handler, within limits."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")

    def __init__(self, *, limits: Limits, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limits = limits

    def _check_url_scheme(self, request: Request) -> str:
        self._limits.check_url(request.url)
        return cast(str, super()._check_url_scheme(request))

    def _calculate_timeout(self, request: Request) -> float:
        return self._limits.timeout(super()._calculate_timeout(request))

    def _prepare_headers(self, request: Request, headers: Any) -> None:
        headers.setdefault("Accept-Encoding", _ENCODINGS)

    def _create_instance(self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:
        guarded = urllib.request.OpenerDirector()
        for handler in super()._create_instance(proxies, cookiejar, legacy_ssl_support).handlers:
            if isinstance(handler, HTTPHandler):
                handler = _GuardedHTTP(self._limits, handler._context)
            elif isinstance(handler, RedirectHandler):
                handler = _GuardedRedirects(self._limits)
            elif isinstance(handler, urllib.request.FTPHandler | urllib.request.DataHandler):
                continue
            guarded.add_handler(handler)
        guarded.addheaders = []
        return guarded

    def _send(self, request: Request) -> Response:
        self._limits.check()
        try:
            response = super()._send(request)
        except HTTPError as error:
            self._bound(error.response)
            raise
        self._bound(response)
        return response

    def _bound(self, response: Response) -> None:
        """Puts a bounded body into a response, which reads through ``fp`` alone."""
        if self._limits.media:
            response.fp = _Body(response.fp, most=None)
        else:
            response.fp = _Body(response.fp, most=PAGE_BYTES)
            self._limits.opened(response)


class _GuardedHTTP(HTTPHandler):
    """Connects through ``Limits.connect`` and leaves bodies as they are."""

    def __init__(self, limits: Limits, context: Any) -> None:
        super().__init__(context=context)
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connections(http.client.HTTPConnection, req), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connections(http.client.HTTPSConnection, req), req, context=self._context)

    def http_response(self, req: urllib.request.Request, resp: Any) -> Any:
        """yt-dlp would read and decompress all of it here."""
        return resp

    https_response = http_response

    def _connections(self, base: type, req: urllib.request.Request) -> Callable[..., http.client.HTTPConnection]:
        kind = self._make_conn_class(base, req)
        proxied = kind is not base or req.has_proxy() or getattr(req, "_tunnel_host", None)

        def connection(*args: Any, **kwargs: Any) -> http.client.HTTPConnection:
            made = kind(*args, **kwargs)
            made.response_class = functools.partial(_TimedResponse, limits=self._limits)
            if not proxied:  # the proxy itself may well be on this machine
                made._create_connection = self._limits.connect
            return cast(http.client.HTTPConnection, made)

        return connection


class _GuardedRedirects(RedirectHandler):
    """Follows a redirect only where its target could have been asked for itself."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        self._limits.check()
        self._limits.check_url(headers.get("location") or headers.get("uri") or "", base=req.full_url)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _TimedResponse(http.client.HTTPResponse):
    """An HTTP response whose every byte, headers included, comes before the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), limits), _BLOCK)


class _Timed(io.RawIOBase):
    """A socket's stream that looks at the clock with each read (a byte a second is no time-out) and counts bytes."""

    def __init__(self, raw: io.RawIOBase, limits: Limits) -> None:
        self._raw = raw
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._limits.check()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            self._limits.check()
            raise
        self._limits.received += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Body(io.RawIOBase):
    """A response's body, decompressed as it is read, with its length checked.

    Args:
        response: of ``http.client``.
        most: bytes after which it is refused, or None: media, which is not decompressed either.
    """

    def __init__(self, response: http.client.HTTPResponse, most: int | None) -> None:
        self._response = response
        self._most = most
        self._count = 0
        coding = (response.headers.get("Content-Encoding") or "").strip().lower()
        self._coding = coding if most is not None and coding in ("gzip", "x-gzip", "deflate") else ""
        self._inflate: Any = None
        self._packed = b""

    def readable(self) -> bool:
        return True

    def read(self, amount: int | None = -1) -> bytes:
        """Up to ``amount`` bytes, fewer only at the end; all for -1 or None.

        Raises:
            http.client.IncompleteRead: the body ends before its declared length.
            Refused: ``too_large`` or ``too_slow``.
        """
        pieces, left = [], math.inf if amount is None or amount < 0 else amount
        while left > 0 and (piece := self.read1(int(min(left, _BLOCK)))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def read1(self, amount: int = _BLOCK) -> bytes:
        """What is there, at most ``amount`` bytes; nothing at the end."""
        piece = self._inflated(amount) if self._coding else self._raw(amount)
        self._count += len(piece)
        if self._most is not None and self._count > self._most:
            self.close()
            raise Refused(Fault(Reason.TOO_LARGE, f"a page of over {self._most >> 20} MB"))
        return piece

    def close(self) -> None:
        self._response.close()
        super().close()

    def _raw(self, amount: int) -> bytes:
        if self._response.closed:
            return b""
        piece = self._response.read1(amount)
        missing = getattr(self._response, "length", None)
        if not piece and missing:
            self._response.close()
            raise http.client.IncompleteRead(b"", missing)
        return piece

    def _inflated(self, amount: int) -> bytes:
        while self._inflate is None or not self._inflate.eof:
            packed = self._packed or self._raw(_BLOCK)
            if not packed:
                raise http.client.IncompleteRead(b"")
            if self._inflate is None:  # "deflate" comes with zlib's header or without
                bare = self._coding == "deflate" and packed[0] & 15 != zlib.DEFLATED
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            piece = self._inflate.decompress(packed, amount)
            self._packed = self._inflate.unconsumed_tail
            if piece:
                return cast(bytes, piece)
        return b""
