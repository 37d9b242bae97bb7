import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yt_dlp.networking.exceptions import HTTPError, RequestError

from audioclf.audio.decode import decode
from audioclf.fetch import reader as reader_module
from audioclf.fetch.failures import FetchError, Reason, classify
from audioclf.fetch.reader import FIRST_BLOCK, LARGEST_BLOCK, TRIES, NoRangesError

ERRORS = (FetchError, RequestError)  # ours, yt-dlp's: what counts is what they are taken for


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(reader_module, "_BACKOFF_S", 0.0)


@pytest.fixture(scope="module")
def path(media):
    return media("m4a")


def ranges(server, url) -> list[tuple[int, int]]:
    """What was asked for, the last byte excluded."""
    asked = [entry["range"].removeprefix("bytes=").split("-") for entry in server.requests(url)]
    return [(int(first), int(last) + 1) for first, last in asked]


@pytest.fixture(scope="module")
def big(media_folder):
    """A file of 3 MB."""
    path = media_folder / "big.bin"
    path.write_bytes(b"".join(i.to_bytes(4) for i in range(750_000)))
    return path


@pytest.fixture(scope="module")
def module_reader(guarded, media_server, big):
    return reader_module.RangeReader(guarded.urlopen, media_server.url(big))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-40_000, 3_100_000), st.integers(0, 90_000))))
def test_it_reads_as_the_file_itself_would(module_reader, big, moves):
    with big.open("rb") as file:
        module_reader.seek(0)
        for whence, offset, size in moves:
            places = []
            for opened in (file, module_reader):
                try:
                    places.append(opened.seek(offset if whence != 2 else -abs(offset), whence))
                except OSError:
                    places.append("refused")
                places.append(opened.tell())
            assert places[:2] == places[2:]
            buffered = io.BufferedReader(module_reader)  # asks until it has all
            assert buffered.read(size) == file.read(size)
            buffered.detach().seek(file.tell())


def test_blocks_double_while_reading_on_and_start_small_after_a_jump(media_server, open_reader, big):
    url = media_server.url(big)
    reader = open_reader(url)
    assert reader.size == 3_000_000
    while reader.tell() < 1_040_000:
        assert reader.read(10_000)
    sizes = [stop - start for start, stop in ranges(media_server, url)]
    assert sizes == [FIRST_BLOCK * 2**i for i in range(7)]
    assert sizes[-1] == LARGEST_BLOCK
    reader.seek(-10, 2)
    assert len(reader.read(100)) == 10
    reader.seek(5)
    assert reader.read(4) == big.read_bytes()[5:9]
    asked = ranges(media_server, url)
    assert asked[-1] == (2_999_990, 3_000_000)
    assert len(asked) == len(sizes) + 1
    assert reader.received == media_server.sent(url)


def test_a_block_ends_where_the_next_kept_one_begins(media_server, open_reader, big):
    url = media_server.url(big)
    reader = open_reader(url)
    for position in (1_000_000, 995_000):
        reader.seek(position)
        reader.read(6_000)
    assert ranges(media_server, url)[1:] == [(1_000_000, 1_000_000 + FIRST_BLOCK), (995_000, 1_000_000)]
    reader.read(6_000)
    assert len(ranges(media_server, url)) == 3


def test_what_is_kept_has_a_limit(monkeypatch, media_server, open_reader, big):
    monkeypatch.setattr(reader_module, "_CACHE", 3 * FIRST_BLOCK)
    url = media_server.url(big)
    reader = open_reader(url)
    for position in (0, 500_000, 0, 1_000_000, 0, 1_500_000, 0, 500_000):  # the beginning is used again and again
        reader.seek(position)
        assert reader.read(8) == big.read_bytes()[position : position + 8]
    assert [start for start, _ in ranges(media_server, url)] == [0, 500_000, 1_000_000, 1_500_000, 500_000]


def test_each_later_range_asks_for_the_version_of_the_first(media_server, open_reader, path):
    url = media_server.url(path)
    reader = open_reader(url)
    assert reader.read() == path.read_bytes()
    conditions = [entry["if_range"] for entry in media_server.requests(url)]
    assert conditions[0] is None
    assert len(set(conditions[1:])) == 1
    assert conditions[1].startswith('"')


def read_all(reader) -> bytes:
    reader.seek(0)
    return io.BufferedReader(reader).read()


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("no-validators", {}),
        ("redirect", {}),
        ("long", {}),  # Content-Range counts
        ("503", {"times": 2}),
        ("stall", {"times": 1}),
        ("hang", {"times": 1, "after": 9000}),
        ("cut", {"times": 2, "after": 9000}),
        ("reset", {"times": 1, "after": 9000}),
        ("short", {"times": 1}),
        ("short-range", {"times": 1}),
        ("wrong-range", {"times": 1}),
    ],
)
def test_what_passes_is_read_to_the_last_byte(media_server, open_reader, path, fault, options):
    url = media_server.url(path, fault, **options)
    assert read_all(open_reader(url)) == path.read_bytes()


def test_a_broken_range_is_resumed_where_it_broke(media_server, open_reader, path):
    url = media_server.url(path, "cut", times=1, after=8192)
    open_reader(url)
    assert ranges(media_server, url) == [(0, FIRST_BLOCK), (8192, FIRST_BLOCK)]
    assert media_server.sent(url) == FIRST_BLOCK


def test_later_ranges_go_where_a_redirect_led(media_server, open_reader, path):
    url = media_server.url(path, "redirect")
    read_all(open_reader(url))
    assert [entry["status"] for entry in media_server.requests(url)].count(302) == 1


@pytest.mark.parametrize(
    ("fault", "options", "reason", "requests"),
    [
        ("cut", {"at": 40_000}, Reason.INCOMPLETE, None),
        ("reset", {"at": 40_000}, Reason.CONNECTION, None),
        ("hang", {"at": 40_000}, Reason.TIMEOUT, None),
        ("short", {}, Reason.INCOMPLETE, TRIES),
        ("short-range", {}, Reason.INCOMPLETE, TRIES),
        ("wrong-range", {}, Reason.INCOMPLETE, TRIES),
        ("etag", {}, Reason.CHANGED, 2),
        ("etag-ignored", {}, Reason.CHANGED, 2),
        ("changed", {}, Reason.CHANGED, 2),
        ("html", {}, Reason.NO_MEDIA, 1),
        ("bomb", {}, Reason.BROKEN, 1),
        ("stall", {}, Reason.TIMEOUT, TRIES),
        ("503", {}, Reason.SERVER_ERROR, TRIES),
        ("403", {}, Reason.FORBIDDEN, 1),
        ("429", {"retry_after": 7}, Reason.RATE_LIMITED, 1),
        ("loop", {}, Reason.REDIRECT_LOOP, None),
    ],
)
def test_every_fault_has_its_reason(media_server, open_reader, path, fault, options, reason, requests):
    url = media_server.url(path, fault, **options)
    with pytest.raises(ERRORS) as caught:
        read_all(open_reader(url))
    assert classify(caught.value, at_media=True).reason == reason
    if requests:
        assert len(media_server.requests(url)) == requests


@pytest.mark.parametrize("fault", ["no-ranges", "chunked", "endless"])
def test_an_answer_without_ranges_is_handed_over_unread(media_server, open_reader, path, fault):
    url = media_server.url(path, fault)
    with pytest.raises(NoRangesError) as caught:
        open_reader(url)
    with caught.value.response as response:
        assert response.read(50_000) == path.read_bytes()[:50_000]
    assert len(media_server.requests(url)) == 1


@pytest.mark.parametrize("fault", ["bare-range", "star-range", "416"])
def test_ranges_of_a_file_of_unknown_size_are_none(media_server, open_reader, path, fault):
    with pytest.raises(NoRangesError) as caught:
        open_reader(media_server.url(path, fault))
    assert caught.value.response is None


def test_no_more_is_received_than_allowed_until_more_is(media_server, open_reader, big):
    url = media_server.url(big)
    reader = open_reader(url, max_bytes=100_000)
    with pytest.raises(FetchError) as caught:
        reader.readall()
    assert caught.value.fault.reason == Reason.TOO_LARGE
    assert media_server.sent(url) <= 100_000
    reader.max_bytes = None
    reader.seek(0)
    assert reader.readall() == big.read_bytes()


def test_a_server_that_drips_runs_out_of_time(media_server, open_reader, path):
    with pytest.raises(ERRORS, match="time limit") as caught:
        open_reader(media_server.url(path, "drip"), time_limit_s=0.1)
    assert classify(caught.value, at_media=True).reason in (Reason.TOO_SLOW, Reason.TIMEOUT)


def test_an_error_costs_what_was_asked_for_and_nothing_else(media_server, open_reader, path):
    url = media_server.url(path, "cut", at=FIRST_BLOCK, times=1 + TRIES)
    reader = open_reader(url)
    reader.seek(FIRST_BLOCK)
    with pytest.raises(ERRORS):
        reader.read(10)
    for start in (10, FIRST_BLOCK):
        reader.seek(start)
        assert reader.read(10) == path.read_bytes()[start : start + 10]
    assert len(media_server.requests(url)) == 2 + TRIES


@pytest.mark.parametrize("kind", ["m4a", "faststart.m4a", "webm", "ogg", "mp3", "vbr.mp3", "wav", "flac"])
@pytest.mark.parametrize("fault", ["cut", "etag"])
def test_no_decoder_makes_a_clip_of_what_broke_off(media, media_server, open_reader, kind, fault):
    path = media(kind)
    size = path.stat().st_size
    reader = open_reader(media_server.url(path, fault, at=size * 2 // 3))
    with pytest.raises(ERRORS) as caught:
        decode(reader, 15.0, 25.0, 44_100)
    expected = Reason.INCOMPLETE if fault == "cut" else Reason.CHANGED
    assert classify(caught.value, at_media=True).reason == expected


def test_yt_dlps_own_errors_come_through(media_server, open_reader, path):
    started = time.monotonic()
    with pytest.raises(HTTPError) as caught:
        open_reader(media_server.url(path, "429", retry_after=7))
    assert caught.value.response.get_header("Retry-After") == "7"
    assert time.monotonic() - started < 7  # and are not waited for here
