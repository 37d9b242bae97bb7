"""The guarded network: which addresses are reached, and how much of what they send is taken."""

import gzip
import ipaddress
import math
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError

from audioclf.fetch.failures import FetchError, Reason, classify
from audioclf.fetch.guard import PAGE_BYTES, GuardedRH, GuardedYoutubeDL
from audioclf.fetch.limits import Limits, Refused, is_public, refuses_robots

PUBLIC = "93.184.215.14"
PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "64:ff9b:1::a00:1"),
    *("2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0"),
]


class Silent:
    debug = info = warning = error = lambda self, message: None


@pytest.fixture(scope="module")
def one_guarded() -> GuardedYoutubeDL:
    return GuardedYoutubeDL({"logger": Silent(), "socket_timeout": 5}, Limits(allow_private=False))


@pytest.fixture
def open_guarded(one_guarded: GuardedYoutubeDL) -> Iterator[Callable[..., GuardedYoutubeDL]]:
    """``open_guarded(limits)``: yt-dlp within these limits; the same one each time, for it takes 0.1 s to make."""
    used: list[Limits] = []

    def open_within(limits: Limits, proxy: str = "") -> GuardedYoutubeDL:
        one_guarded.close()  # it makes its handlers anew
        used.append(limits)
        one_guarded.limits = limits
        one_guarded.params["proxy"] = proxy
        one_guarded.__dict__.pop("proxies", None)
        return one_guarded

    yield open_within
    for limits in used:
        limits.close_pages()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, media_server: Any) -> dict[str, str]:
    """Names and their addresses, to be added to; the public one leads to the test server, without any network."""
    table = {"public.example": PUBLIC}
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        return real(table.get(host, host), *rest, **more)

    class Routed(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(("127.0.0.1", address[1]) if address[0] == PUBLIC else address)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "socket", Routed)
    return table


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_every_spelling_are_not_public(address: str) -> None:
    assert not is_public(address, unknown=True)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_counts_as_itself(address: ipaddress.IPv4Address) -> None:
    inside = [
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))),
    ]
    assert {is_public(each) for each in inside} == {is_public(str(address))}
    assert not (address.is_private and is_public(str(address)))


@given(st.text())
def test_any_text_for_a_host_is_answered(host: str) -> None:
    assert isinstance(is_public(host), bool)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0177.1", "[::ffff:7f00:1]"])
def test_links_to_this_machine_need_permission(
    open_guarded: Callable, media_server: Any, media: Callable, host: str
) -> None:
    url = media_server.url(media("wav"), "404").replace("127.0.0.1", host)
    with pytest.raises(Refused) as refusal:
        open_guarded(Limits(allow_private=False)).urlopen(url)
    assert refusal.value.fault.reason == Reason.PRIVATE_ADDRESS
    assert "fetch.allow_private=true" in refusal.value.fault.message
    assert media_server.requests(url) == []
    with pytest.raises(HTTPError, match="404"):
        open_guarded(Limits(allow_private=True)).urlopen(url)


def test_a_name_that_leads_to_this_machine_is_refused_at_connecting(
    open_guarded: Callable, media_server: Any, names: dict[str, str]
) -> None:
    names["innocent.example"] = "127.0.0.1"
    url = media_server.url("x.wav").replace("127.0.0.1", "innocent.example")
    with pytest.raises(Refused) as refusal:
        open_guarded(Limits(allow_private=False)).urlopen(url)
    assert refusal.value.fault.reason == Reason.PRIVATE_ADDRESS
    assert media_server.requests(url) == []


def test_the_address_connected_to_is_the_one_that_was_checked(
    open_guarded: Callable, media_server: Any, media: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        looked_up.append(host)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = media_server.url(media("wav")).replace("127.0.0.1", "once.example")
    assert open_guarded(Limits(allow_private=True)).urlopen(url).status == 200
    assert looked_up == ["once.example"]  # a second look could be answered otherwise


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.1:9/x", Reason.PRIVATE_ADDRESS),
        ("//localhost/x", Reason.PRIVATE_ADDRESS),
        ("http://[::1]/x", Reason.PRIVATE_ADDRESS),
        ("http://169.254.169.254/latest/meta-data", Reason.PRIVATE_ADDRESS),
        ("http://inside.example/x", Reason.PRIVATE_ADDRESS),
        ("https://0x7f000001/x", Reason.PRIVATE_ADDRESS),
        ("file:///etc/passwd", Reason.NO_MEDIA),
        ("ftp://public.example/x", Reason.NO_MEDIA),
        ("data:audio/wav;base64,UklGRg==", Reason.NO_MEDIA),
        ("http://[::1/x", Reason.NO_MEDIA),
    ],
)
def test_redirects_away_from_the_public_web_are_refused(
    open_guarded: Callable, media_server: Any, names: dict[str, str], target: str, reason: Reason
) -> None:
    names["inside.example"] = "10.0.0.1"
    url = media_server.url("x.wav", "redirect", host="public.example", to=target)
    with pytest.raises(Refused) as refusal:
        open_guarded(Limits(allow_private=False)).urlopen(url)
    assert refusal.value.fault.reason == reason
    assert len(media_server.requests(url)) == 1  # the redirect itself was reached


def test_redirects_within_the_public_web_are_followed(
    open_guarded: Callable, media_server: Any, media: Callable, names: dict[str, str]
) -> None:
    url = media_server.url(media("wav"), "redirect", host="public.example")
    assert open_guarded(Limits(allow_private=False)).urlopen(url).read(4) == b"RIFF"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://public.example/x", "data:text/plain,x", "ws://public.example/"]
)
def test_only_http_is_spoken(open_guarded: Callable, url: str) -> None:
    with pytest.raises(Refused) as refusal:
        open_guarded(Limits(allow_private=True)).urlopen(url)
    assert refusal.value.fault.reason == Reason.NO_MEDIA


def test_no_other_request_handler_is_used(open_guarded: Callable) -> None:
    director = open_guarded(Limits(allow_private=True))._request_director
    assert [type(handler) for handler in director.handlers.values()] == [GuardedRH]


def test_a_proxy_may_be_on_this_machine_but_what_it_is_asked_for_may_not(
    open_guarded: Callable, media_server: Any, media: Callable
) -> None:
    guarded = open_guarded(Limits(allow_private=False), proxy=media_server.root)
    url = media_server.url(media("wav"), host="public.example")
    assert guarded.urlopen(url).read(4) == b"RIFF"
    for host in ("127.0.0.1", "LOCALHOST.", "a.localhost", "192.168.0.1", "2130706433", "[::1]"):
        with pytest.raises(Refused):
            guarded.urlopen(f"http://{host}:9/x")
    for host in ("127%2e0%2e0%2e1", "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1", "127.0.0.1%E3%80%82"):
        hop = media_server.url(media("wav"), "redirect", host="public.example", to=f"https://{host}:9/x")
        with pytest.raises(Refused):
            guarded.urlopen(hop)
    for host in ("127%2e0%2e0%2e1", "loc%61lhost"):
        with pytest.raises(Refused):
            guarded.urlopen(f"http://{host}:9/x")


@pytest.mark.parametrize("fault", ["endless", "bomb"])
def test_a_page_without_end_is_given_up(open_guarded: Callable, media_server: Any, media: Callable, fault: str) -> None:
    url = media_server.url(media("wav"), fault, type="text/html")
    limits = Limits(allow_private=True)
    with pytest.raises(Refused) as refusal:
        open_guarded(limits).urlopen(url).read()
    assert refusal.value.fault.reason == Reason.TOO_LARGE
    assert limits.received < PAGE_BYTES + (1 << 20)


def test_media_is_neither_limited_nor_decompressed(open_guarded: Callable, media_server: Any, media: Callable) -> None:
    limits = Limits(allow_private=True)
    with limits.for_media():
        response = open_guarded(limits).urlopen(media_server.url(media("wav"), "bomb"))
    assert response.read(2) == b"\x1f\x8b"
    response.close()


@pytest.mark.parametrize("fault", ["drip", "hang", "stall"])
def test_nothing_is_waited_for_past_the_deadline(
    open_guarded: Callable, media_server: Any, media: Callable, fault: str
) -> None:
    limits = Limits(allow_private=True, deadline=time.monotonic() + 0.3)
    with pytest.raises(FetchError) as error:
        open_guarded(limits).urlopen(media_server.url(media("wav"), fault, after=100)).read()
    assert error.value.fault.reason == Reason.TOO_SLOW


def test_headers_that_drip_do_not_outlast_the_deadline(open_guarded: Callable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for i in range(1000):
                    try:
                        connection.sendall(b"X-%d: x\r\n" % i)
                    except OSError:
                        break
                    time.sleep(0.02)

        threading.Thread(target=drip, daemon=True).start()
        limits = Limits(allow_private=True, deadline=time.monotonic() + 0.2)
        with pytest.raises(FetchError) as error:
            open_guarded(limits).urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert error.value.fault.reason == Reason.TOO_SLOW


@pytest.mark.parametrize("amount", [None, 1 << 30, 1000])
def test_a_body_that_ends_early_is_an_error_however_it_is_read(
    open_guarded: Callable, media_server: Any, media: Callable, amount: Any
) -> None:
    response = open_guarded(Limits(allow_private=True)).urlopen(media_server.url(media("wav"), "cut", at=5000))
    with pytest.raises(IncompleteRead) as error:
        list(iter(lambda: response.read(amount), b""))
    assert classify(error.value, at_media=True).reason == Reason.INCOMPLETE


@pytest.fixture(scope="module")
def packed_server() -> Iterator[Callable[..., str]]:
    """``packed_server("gzip", body)``: the address of a body with that Content-Encoding."""
    bodies: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            coding, body = bodies[int(self.path[1:])]
            self.send_response(200)
            self.send_header("Content-Encoding", coding)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def url(coding: str, body: bytes) -> str:
        bodies.append((coding, body))
        return f"http://127.0.0.1:{server.server_port}/{len(bodies) - 1}"

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP ", gzip.compress),
        ("x-gzip", lambda content: gzip.compress(content) + b"junk behind it"),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
)
def test_pages_are_decompressed_as_they_are_read(
    open_guarded: Callable, packed_server: Callable[..., str], coding: str, pack: Callable
) -> None:
    page = "".join(f"<p>Zeile {i} äöü</p>" for i in range(20_000)).encode()
    guarded = open_guarded(Limits(allow_private=True))
    assert guarded.urlopen(packed_server(coding, pack(page))).read() == page
    in_parts = guarded.urlopen(packed_server(coding, pack(page)))
    assert b"".join(iter(lambda: in_parts.read(999), b"")) == page


@pytest.mark.parametrize("body", [gzip.compress(bytes(range(256)) * 50)[:-20], b"no gzip at all", b""])
def test_a_broken_compressed_page_is_a_network_error(
    open_guarded: Callable, packed_server: Callable[..., str], body: bytes
) -> None:
    with pytest.raises(TransportError):
        open_guarded(Limits(allow_private=True)).urlopen(packed_server("gzip", body)).read()


def test_pages_that_are_left_unread_cost_little(open_guarded: Callable, media_server: Any, media: Callable) -> None:
    url = media_server.url(media("wav"))
    limits = Limits(allow_private=True)
    open_guarded(limits).urlopen(url)
    limits.close_pages()
    assert media_server.sent(url) < 96 << 10 < media("wav").stat().st_size


def test_the_status_and_what_to_wait_reach_the_fault(
    open_guarded: Callable, media_server: Any, media: Callable
) -> None:
    with pytest.raises(HTTPError) as error:
        open_guarded(Limits(allow_private=True)).urlopen(Request(media_server.url(media("wav"), "429", retry_after=7)))
    fault = classify(error.value, at_media=True)
    assert (fault.reason, fault.http_status, fault.retry_after_s) == (Reason.RATE_LIMITED, 429, 7.0)
    assert error.value.response.read().startswith(b"<html>")


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (["noai"], True),
        (["NoIndex, nofollow"], True),
        (["none"], True),
        (["all"], False),
        (["nofollow"], False),
        (["googlebot: noindex"], False),
        (["audioclf: noindex"], True),
        (["googlebot: none", "*: noai"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST"], False),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], True),
        (["noindex, max-snippet: 0"], True),
        (["max-image-preview: large, noai"], True),
        (["googlebot: noindex, max-snippet: 0"], False),
        ([], False),
    ],
)
def test_what_a_server_asks_of_robots_is_understood(values: list[str], refused: bool) -> None:
    headers = Message()
    for value in values:
        headers.add_header("X-Robots-Tag", value)
    assert refuses_robots(headers) is refused


def test_a_timeout_reaches_no_further_than_the_deadline() -> None:
    assert Limits(True, deadline=math.inf).timeout(20) == 20
    assert Limits(True, deadline=time.monotonic() + 5).timeout(20) <= 5
    assert 0 < Limits(True, deadline=time.monotonic() - 5).timeout(20) < 1
