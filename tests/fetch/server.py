"""An HTTP server of recordings that can go wrong in every way a server on the web does.

``python server.py FOLDER`` serves a folder on 127.0.0.1, prints its port and ends with its standard input. It is a
process of its own, so that it outlives the clients that a test kills. ``/NAME`` is a file with ranges, an ETag and
If-Range; ``/KIND/NAME`` is the same file with a fault:

==============  =======================================================================================================
403, 429, ...   that status and a short HTML page; ``retry_after=`` adds the header
stall           the connection is accepted and nothing comes
hang            as cut, but the connection stays open and silent
drip            headers, then a byte a second
cut, reset      the connection is closed (reset) at byte ``at=`` of the file, by default its middle, or after ``after=``
                bytes of each body
long, short     Content-Length is 1,000 bytes more (less) than what is sent
etag            another ETag for each answer; If-Range is honoured, so that later ranges get the whole file
etag-ignored    another ETag for each answer, and yet 206
changed         no ETag, no date, and with each answer the file has become 10 bytes longer
no-validators   neither ETag nor date
no-ranges       200 and the whole file, whatever is asked
chunked         as no-ranges, without Content-Length
wrong-range     206 with bytes that lie 1,000 further on than what was asked, and a Content-Range that says so
short-range     206 with half of the range, and a Content-Length of that half
bare-range      206 without a Content-Range
star-range      206 with a Content-Range that leaves the file's size open
redirect        302 to ``to=``, by default the file itself
loop            302 to itself
html            a page without media; ``type=`` names another Content-Type
empty           200 and no byte
endless         a body without end; ``type=`` names another Content-Type
bomb            4 GB of zeros as 4 MB of gzip; ``type=`` names another Content-Type
robots          the file with X-Robots-Tag ``tag=``, by default noai
page, playlist  a page with the file as its <audio>; with three of them
m3u8            a playlist whose one entry is ``to=``
==============  =======================================================================================================

Options of any address: ``times=N``, only the first N requests suffer the fault; ``on=ranged`` (``on=whole``), only those
with (without) a Range do; ``rate=`` bytes a second on each connection. Requests of one address, query included, are
counted together. ``/_log`` tells all requests as JSON: method, path, range, if_range, status, bytes sent, begin
and end in seconds.
"""

import contextlib
import json
import mimetypes
import os
import re
import socket
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

CHUNK = 8192
SEND_BUFFER = 16_384  # small: a byte counted as sent has left, or nearly so
NO_RANGES = {"no-ranges", "chunked", "empty", "endless", "bomb", "html", "page", "playlist", "m3u8"}
TYPES = {".m4a": "audio/mp4", ".opus": "audio/ogg", ".webm": "audio/webm", ".m3u8": "application/vnd.apple.mpegurl"}
TYPES |= {".mpd": "application/dash+xml", ".ts": "video/mp2t", ".m4s": "video/iso.segment", ".flac": "audio/flac"}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.folder = folder
        self.lock = threading.Lock()
        self.log: list[dict] = []
        self.seen: Counter[str] = Counter()

    def shutdown_request(self, request) -> None:
        """Closes without saying goodbye first, or nothing would be a reset."""
        self.close_request(request)

    def handle_error(self, request, client_address) -> None:
        """Clients that go away are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        link = urlsplit(self.path)
        if link.path == "/_log":
            return self.tell_log()
        self.option = dict(parse_qsl(link.query))
        *kind, name = unquote(link.path).strip("/").split("/")
        with self.server.lock:
            self.seen = self.server.seen[self.path] = self.server.seen[self.path] + 1
            self.entry = {"method": self.command, "path": self.path, "range": self.headers["Range"], "status": None}
            self.entry["if_range"] = self.headers["If-Range"]
            self.entry |= {"sent": 0, "began": time.monotonic(), "ended": None}
            self.server.log.append(self.entry)
        only = {"ranged": bool(self.headers["Range"]), "whole": not self.headers["Range"]}.get(
            self.option.get("on"), True
        )
        fault = kind[0] if kind and only and self.seen <= int(self.option.get("times", 1 << 60)) else ""
        try:
            self.answer(fault, self.server.folder / name)
        except OSError:
            self.close_connection = True
        finally:
            self.entry["ended"] = time.monotonic()

    def tell_log(self) -> None:
        """The log, once no answer is under way any more (or in a third of a second: some never end)."""
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline and any(entry["ended"] is None for entry in list(self.server.log)):
            time.sleep(0.005)
        self.entry = {"sent": 0}
        self.option = {}
        content = json.dumps(self.server.log).encode()
        self.head(200, {"Content-Type": "application/json", "Content-Length": len(content)})
        self.body([content])

    def answer(self, fault: str, path: Path) -> None:
        """One request with one fault, or none."""
        if fault.isdigit():
            more = {"Retry-After": self.option["retry_after"]} if "retry_after" in self.option else {}
            self.text(int(fault), "<html><title>no</title></html>", more)
        elif fault == "stall":
            self.silence()
        elif fault in ("redirect", "loop"):
            target = (
                self.path if fault == "loop" else self.option.get("to") or f"/{path.name}?{urlsplit(self.path).query}"
            )
            self.text(302, "", {"Location": target})
        elif fault in ("html", "page", "playlist"):
            tag = f'<audio src="/{path.name}?{urlsplit(self.path).query}&item=%d" controls></audio>\n'
            media = "".join(tag % i for i in range({"html": 0, "page": 1, "playlist": 3}[fault]))
            self.text(200, f"<!DOCTYPE html><html><head><title>A page</title></head><body>{media}</body></html>\n")
        elif fault == "m3u8":
            self.option.setdefault("type", "application/vnd.apple.mpegurl")
            self.text(200, f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{self.option['to']}\n#EXT-X-ENDLIST\n")
        elif fault in ("endless", "bomb"):
            kind = {"Content-Type": self.option.get("type", media_type(path)), "Connection": "close"}
            self.head(200, kind | ({"Content-Encoding": "gzip"} if fault == "bomb" else {}))
            self.body(zeros() if fault == "bomb" else endless(path.read_bytes()))
        elif not path.is_file():
            self.text(404, "<html><title>Not here</title></html>")
        else:
            self.file(fault, path)

    def file(self, fault: str, path: Path) -> None:
        """A file, or the range of it that is asked for."""
        content = b"" if fault == "empty" else whole(path)
        content += bytes(10 * self.seen) if fault == "changed" else b""
        date = formatdate(path.stat().st_mtime, usegmt=True)
        etag = f'"{path.stat().st_mtime_ns:x}{self.seen if fault.startswith("etag") else ""}"'
        headers = {"Content-Type": self.option.get("type", media_type(path)), "ETag": etag, "Last-Modified": date}
        if fault in ("changed", "no-validators"):
            headers = {"Content-Type": headers["Content-Type"]}
        if fault == "robots":
            headers["X-Robots-Tag"] = self.option.get("tag", "noai")
        start, stop, size = 0, len(content), len(content)
        wanted = None if fault in NO_RANGES else re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        condition = self.headers["If-Range"]
        if condition and condition not in (etag, date) and fault not in ("etag-ignored", "changed"):
            wanted = None
        if wanted:
            first, last = wanted.groups()
            start = int(first) if first else max(size - int(last), 0)
            stop = min(int(last) + 1, size) if first and last else size
            if start >= size:
                self.text(416, "", {"Content-Range": f"bytes */{size}"})
                return
            if fault == "wrong-range":
                start, stop = min(start + 1000, size - 1), min(stop + 1000, size)
            told = f"bytes {start}-{stop - 1}/{'*' if fault == 'star-range' else size}"
            headers |= {} if fault == "bare-range" else {"Content-Range": told}
            if fault == "short-range":
                stop = start + (stop - start) // 2
        length = stop - start + {"long": 1000, "short": -1000}.get(fault, 0)
        chunked = fault == "chunked"
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": max(length, 0)}
        if fault not in NO_RANGES:
            headers["Accept-Ranges"] = "bytes"
        self.head(206 if wanted else 200, headers)
        end = stop
        if fault in ("cut", "reset", "hang"):
            after = (
                int(self.option["after"]) if "after" in self.option else int(self.option.get("at", size // 2)) - start
            )
            end = min(end, start + max(after, 0))
        served = content[start:end]
        self.body(slow(served) if fault == "drip" else [served], chunked)
        if end < stop and fault == "hang":
            self.silence()
        if end < stop and fault == "reset":  # closing with a linger time of 0 sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = self.close_connection or end < stop or fault in ("long", "short")

    def text(self, status: int, text: str, headers: dict | None = None) -> None:
        content = text.encode()
        kind = {"Content-Type": self.option.get("type", "text/html; charset=utf-8"), "Content-Length": len(content)}
        self.head(status, kind | (headers or {}))
        self.body([content])

    def head(self, status: int, headers: dict) -> None:
        self.entry["status"] = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.close_connection = self.close_connection or headers.get("Connection") == "close"
        self.end_headers()

    def body(self, blocks: Iterable[bytes], chunked: bool = False) -> None:
        """Sends blocks at the address's speed and counts what went."""
        if self.command == "HEAD":
            return
        rate, began = float(self.option.get("rate", 0)), time.monotonic()
        for block in blocks:
            for at in range(0, len(block), CHUNK):
                part = block[at : at + CHUNK]
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                self.entry["sent"] += len(part)
                if rate:
                    time.sleep(max(began + self.entry["sent"] / rate - time.monotonic(), 0))
        if chunked:
            self.connection.sendall(b"0\r\n\r\n")

    def silence(self) -> None:
        """Says nothing until the client goes."""
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        self.close_connection = True


@lru_cache(32)
def whole(path: Path) -> bytes:
    return path.read_bytes()


def media_type(path: Path) -> str:
    return TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def endless(content: bytes) -> Iterator[bytes]:
    while True:
        yield content or bytes(CHUNK)


def slow(content: bytes) -> Iterator[bytes]:
    for byte in content:
        yield bytes([byte])
        time.sleep(1)


def zeros() -> Iterator[bytes]:
    """4 GB of zeros, gzipped."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    for _ in range(4096):
        yield packer.compress(block)
    yield packer.flush()


if __name__ == "__main__":
    server = Server(Path(sys.argv[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.write(1, f"{server.server_port}\n".encode())
    sys.stdin.read()  # ends with the process that holds the other end, however that ends
