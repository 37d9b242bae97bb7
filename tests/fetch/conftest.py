"""Recordings with a known waveform in every format, and the server of ``server.py`` that serves them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import numpy as np
import pytest
import soundfile
import soxr

from audioclf.fetch.guard import GuardedYoutubeDL
from audioclf.fetch.limits import Limits
from audioclf.fetch.reader import RangeReader

RATE = 24_000
SECONDS = 30.72  # a whole number of frames of AAC, MP3 and Opus, so that their packets can be repeated
REPEATS = 20  # of a long recording: 614.4 s

CODECS = {  # kind -> codec, bit/s, the codec's options, the container's options
    "m4a": ("aac", 64_000, {"aac_coder": "fast"}, {}),
    "faststart.m4a": ("aac", 64_000, {"aac_coder": "fast"}, {"movflags": "faststart"}),
    "fragmented.m4a": (
        "aac",
        64_000,
        {"aac_coder": "fast"},
        {"movflags": "frag_keyframe+global_sidx+delay_moov+default_base_moof", "frag_duration": "5000000"},
    ),
    "video.mp4": ("aac", 64_000, {"aac_coder": "fast"}, {"movflags": "faststart"}),
    "webm": ("libopus", 48_000, {}, {}),
    "opus": ("libopus", 48_000, {}, {}),
    "mp3": ("libmp3lame", 48_000, {"compression_level": "7"}, {}),
    "vbr.mp3": ("libmp3lame", None, {"flags": "+qscale", "global_quality": "708"}, {}),
    "m3u8": ("aac", 64_000, {"aac_coder": "fast"}, {"hls_time": "6", "hls_list_size": "0"}),
    "mpd": ("aac", 64_000, {"aac_coder": "fast"}, {"seg_duration": "6"}),
}
BY_LIBSNDFILE = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
KINDS = (*CODECS, *BY_LIBSNDFILE)

Media = Callable[..., Path]


@pytest.fixture(scope="session")
def sound() -> np.ndarray:
    """What all media hold: noise of 200 Hz to 6 kHz, 30.72 s at 24 kHz, that correlates with nothing but itself."""
    n = round(SECONDS * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE)
    spectrum[(hz < 200) | (hz > 6000)] = 0
    samples = np.fft.irfft(spectrum, n)
    return (samples / np.abs(samples).max() * 0.5).astype(np.float32)


@pytest.fixture(scope="session")
def media_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server serves."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def media(media_folder: Path, sound: np.ndarray) -> Media:
    """``media("m4a")``: the sound as a file of that kind, made once; ``long=True``: 20 times in a row, 614.4 s.

    Kinds: m4a (index at the end), faststart.m4a, fragmented.m4a (as YouTube's), video.mp4, webm and opus (Opus), ogg
    (Vorbis), mp3 (CBR), vbr.mp3, wav, flac, m3u8 (HLS of MPEG-TS) and mpd (DASH). All lie in the server's folder.
    """

    def make(kind: str, long: bool = False) -> Path:
        path = media_folder / f"{'long' if long else 'short'}.{kind}"
        if not path.exists():
            repeats = REPEATS if long else 1
            if kind == "ogg" and long:
                repeat_ogg(make(kind), path)
            elif kind in BY_LIBSNDFILE:
                form, subtype = BY_LIBSNDFILE[kind]
                soundfile.write(path, np.tile(sound, repeats), RATE, subtype, format=form)
            else:
                encode(path, sound, kind, repeats)
        return path

    return make


def encode(path: Path, sound: np.ndarray, kind: str, repeats: int) -> None:
    """A recording by PyAV; a long one repeats the packets of a short one, which costs a tenth of encoding it."""
    import av

    codec, bit_rate, options, container_options = CODECS[kind]
    with av.open(str(path), "w", options=container_options) as container:
        packets: list[Any] = []
        if kind == "video.mp4":
            video = container.add_stream("mpeg4", rate=25, width=32, height=32)
            pictures = np.random.default_rng(0).integers(0, 255, (round(SECONDS * 25), 32, 32, 3), np.uint8)
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base = i, Fraction(1, 25)
                packets += video.encode(frame)
            packets += video.encode(None)
        stream = container.add_stream(codec, rate=RATE, layout="mono", options=options)
        if bit_rate:
            stream.bit_rate = bit_rate
        whole = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        whole.sample_rate, whole.pts, whole.time_base = RATE, 0, Fraction(1, RATE)
        fifo = av.AudioFifo()
        for part in av.AudioResampler(stream.codec_context.format, "mono", RATE).resample(whole):
            fifo.write(part)
        while part := fifo.read(stream.codec_context.frame_size, partial=True):
            packets += stream.encode(part)
        mux(container, packets + stream.encode(None), repeats)


def repeat_ogg(short: Path, path: Path) -> None:
    """A long Vorbis recording from a short one; libsndfile would take seconds for it."""
    import av

    with av.open(str(short)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        packets = [packet for packet in source.demux() if packet.size]
        for packet in packets:
            packet.stream = stream
        mux(container, packets, REPEATS)


def mux(container: Any, packets: list[Any], repeats: int) -> None:
    """Writes packets by their times, all of them ``repeats`` times in a row; an encoder's padding only at the end."""
    import av

    packets = sorted(packets, key=lambda packet: packet.dts * float(packet.time_base))
    first_s = packets[0].dts * float(packets[0].time_base)
    timed = [(packet, round(SECONDS / packet.time_base), float(packet.time_base)) for packet in packets]
    period = [item for item in timed if item[0].dts * item[2] - first_s < SECONDS - 1e-9]
    for repeat in range(repeats):
        for packet, ticks, _ in timed if repeat == repeats - 1 else period:
            copy, shift = av.Packet(bytes(packet)), repeat * ticks
            copy.pts, copy.dts, copy.duration = packet.pts + shift, packet.dts + shift, packet.duration
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, packet.stream
            if repeat == 0 or packet is packets[-1]:  # how many samples to skip at the beginning and at the end
                for item in packet.iter_sidedata():
                    copy.set_sidedata(item)
            container.mux(copy)


@pytest.fixture(scope="session")
def offset_s(sound: np.ndarray) -> Callable[[np.ndarray, float], float]:
    """``offset_s(samples, start_s)``: how much later than ``start_s`` 44.1 kHz samples of any media lie, in seconds.

    By the peak of the cross-correlation with the sound from 0.3 s before to 0.3 s behind it.
    """
    once = soxr.resample(sound, RATE, 44_100, "HQ")
    reference = np.concatenate([once, once])

    def find(samples: np.ndarray, start_s: float) -> float:
        first = (round(start_s * 44_100) - 13_230) % len(once)
        around = reference[first : first + len(samples) + 26_460]
        n = len(around)
        lags = np.fft.irfft(np.fft.rfft(around) * np.conj(np.fft.rfft(samples, n)), n)[:26_461]
        return (int(np.argmax(lags)) - 13_230) / 44_100

    return find


def number(url: str) -> list[str]:
    """What tells a server's addresses from one another."""
    return parse_qs(urlsplit(url).query).get("n", [])


class MediaServer:
    """A running server.

    Attributes:
        root: ``http://127.0.0.1:PORT``.
        folder: what it serves.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.root, self.folder = f"http://127.0.0.1:{port}", folder
        self._number = count(1)

    def url(self, name: str | Path, fault: str = "", host: str = "127.0.0.1", **options: object) -> str:
        """A new address of a file, with a fault and options of ``server.py``; no two calls give the same one."""
        path = "/".join(filter(None, [fault, quote(Path(name).name)]))
        query = urlencode({"n": next(self._number), **options})
        return f"{self.root.replace('127.0.0.1', host)}/{path}?{query}"

    def requests(self, url: str = "") -> list[dict[str, Any]]:
        """All requests so far, in order, or those to one address and to where it led."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.root}/_log") as answer:
            log = json.load(answer)
        return [entry for entry in log if not url or number(entry["path"]) == number(url)]

    def sent(self, url: str = "") -> int:
        """Bytes of bodies sent so far, in all or for one address."""
        return sum(entry["sent"] for entry in self.requests(url))


@pytest.fixture(scope="session")
def media_server(media_folder: Path) -> Iterator[MediaServer]:
    """The server, in a process and a session of its own; it ends with the tests, however they end."""
    command = [sys.executable, "-S", str(Path(__file__).with_name("server.py")), str(media_folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        yield MediaServer(int(process.stdout.readline()), media_folder)
        process.kill()


@pytest.fixture(scope="session")
def guarded() -> Iterator[GuardedYoutubeDL]:
    """yt-dlp on the guarded network, which takes a third of a second for a time-out."""
    limits = Limits(allow_private=True, media=True)
    with GuardedYoutubeDL({"quiet": True, "socket_timeout": 0.3}, limits) as ydl:
        yield ydl


@pytest.fixture
def open_reader(guarded: GuardedYoutubeDL) -> Callable[..., RangeReader]:
    """``open_reader(url, time_limit_s=60, max_bytes=...)``: a reader on the guarded network."""

    def make(url: str, time_limit_s: float = 60, **options: Any) -> RangeReader:
        guarded.limits.deadline = time.monotonic() + time_limit_s
        return RangeReader(guarded.urlopen, url, **options)

    return make
