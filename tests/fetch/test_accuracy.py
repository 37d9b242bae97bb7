"""What a clip cut from a web server's file holds, and what it costs: every format that is served in ranges."""

import av
import numpy as np
import pytest

from audioclf.audio.decode import decode

KINDS = ["m4a", "faststart.m4a", "fragmented.m4a", "video.mp4", "webm", "opus", "ogg", "mp3", "vbr.mp3", "wav", "flac"]
STARTS = (0.0, 0.71, 3.3, 8.412, 12.345, 17.0, 22.2222, 28.9)
CLIP_S, LONG_S = 10.0, 614.4
SOURCE_RATE = dict.fromkeys(KINDS, 24_000) | {"webm": 48_000, "opus": 48_000}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_cut_to_2_ms_wherever_the_clip_starts(media, media_server, open_reader, offset_s, kind):
    reader = open_reader(media_server.url(media(kind)))
    for start_s in STARTS:
        decoded = decode(reader, start_s, start_s + 1.5, 44_100)
        assert abs(offset_s(decoded.samples, start_s)) <= 0.002
        assert (len(decoded.samples), decoded.source_rate, decoded.note) == (66_150, SOURCE_RATE[kind], "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_to_the_end_of_a_file_is_whole(media, media_server, open_reader, offset_s, kind):
    decoded = decode(open_reader(media_server.url(media(kind))), 25.72, None, 44_100)
    assert decoded.duration_s == pytest.approx(5.0, abs=0.002)
    assert abs(offset_s(decoded.samples[:44_100], 25.72)) <= 0.002


@pytest.mark.parametrize("kind", ["webm", "opus"])
def test_opus_at_0_s_lacks_no_frame(media, media_server, open_reader, sound, kind):
    decoded = decode(open_reader(media_server.url(media(kind))), 0.0, 1.0, 24_000)
    for first in (0, 120, 240, 480):  # 5 ms each
        heard, meant = decoded.samples[first : first + 120], sound[first : first + 120]
        assert np.corrcoef(heard, meant)[0, 1] > 0.85


def header_bytes(path) -> int:
    """What a file has before its first packet and behind its last one."""
    with av.open(str(path)) as container:
        first = next(packet for packet in container.demux() if packet.size).pos
        container.seek(round((LONG_S - 2) * 1e6))
        return (
            first + path.stat().st_size - max(packet.pos + packet.size for packet in container.demux() if packet.size)
        )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "vbr.mp3"])
def test_10_s_from_the_middle_of_10_minutes_cost_at_most_4_times_their_bytes(
    media, media_server, open_reader, offset_s, kind
):
    path = media(kind, long=True)
    url = media_server.url(path)
    decoded = decode(open_reader(url), 300.123, 300.123 + CLIP_S, 44_100)
    assert abs(offset_s(decoded.samples, 300.123)) <= 0.002
    assert len(decoded.samples) == 441_000
    assert media_server.sent(url) <= 4 * path.stat().st_size * CLIP_S / LONG_S + header_bytes(path)
    assert len(media_server.requests(url)) <= 10


def test_an_mp3_of_variable_bit_rate_is_read_from_its_beginning_to_the_clip(media, media_server, open_reader):
    path = media("vbr.mp3")
    url = media_server.url(path)
    decode(open_reader(url), 8.0, 9.0, 44_100)
    assert 8 / 30.72 < media_server.sent(url) / path.stat().st_size < 20 / 30.72


def test_neighbouring_clips_share_what_was_read(media, media_server, open_reader):
    url = media_server.url(media("webm"))
    reader = open_reader(url)
    decode(reader, 10.0, 14.0, 44_100)
    first = reader.received
    decode(reader, 12.0, 14.0, 44_100)
    assert reader.received == first == media_server.sent(url)
